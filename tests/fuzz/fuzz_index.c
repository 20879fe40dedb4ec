/* fuzz_index.c: any bytes as model.safetensors.index.json; no accepted name may leave the directory. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "io/shards.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    shards s;
    if (shards_parse(&s, (const char *)data, size, "fuzz") != PALI_OK) return 0;
    for (size_t i = 0; i < s.n; i++)
        if (!s.names[i][0] || strchr(s.names[i], '/') || strchr(s.names[i], '\\') || strcmp(s.names[i], "..") == 0) abort();
    if (!s.n || s.n > SHARDS_MAX_FILES) abort();
    shards_free(&s);
    return 0;
}
