/* fuzz_npz.c: any bytes as a .npz file; whatever is accepted must lie inside the file, or inflate to the size it said. */
#include <stdint.h>
#include <stdlib.h>

#include "io/npz.h"

#define MAX_LOADED ((size_t)1 << 22) /* what is honest and large costs time and shows nothing */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    npz z;
    unsigned sum = 0;
    if (npz_parse(&z, data, size, "fuzz") != PALI_OK) return 0;
    for (size_t i = 0; i < z.n_arrays; i++) {
        npz_array *a = &z.arrays[i];
        if (npz_find(&z, a->name) != a) abort();
        if (a->member < data || a->member > data + size || a->member_bytes > (size_t)(data + size - a->member)) abort();
        if (a->array.n_bytes > MAX_LOADED || npz_load(&z, a) != PALI_OK) continue;
        (void)npz_check(&z, a);
        for (size_t k = 0; k < a->array.n_bytes; k++) sum += a->data[k];
    }
    npz_close(&z);
    return sum == 1 ? -1 : 0; /* so that the reads are made */
}
