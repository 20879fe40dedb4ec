/* fuzz_safetensors.c: any bytes as a .safetensors file; whatever is accepted must lie inside the file. */
#include <stdint.h>
#include <stdlib.h>

#include "io/safetensors.h"
#include "model/spec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    safetensors st;
    if (safetensors_parse(&st, data, size, "fuzz") != PALI_OK) return 0;
    for (size_t i = 0; i < st.n_tensors; i++) {
        const st_tensor *t = &st.tensors[i];
        char name[SPEC_NAME_MAX];
        (void)spec_canonical_name(name, sizeof name, t->name);
        if (t->data < data || t->data > data + size || t->n_bytes > (size_t)(data + size - t->data)) abort();
    }
    safetensors_close(&st);
    return 0;
}
