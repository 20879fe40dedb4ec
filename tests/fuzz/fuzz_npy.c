/* fuzz_npy.c: any bytes as a .npy; an accepted header describes exactly the bytes that follow it. */
#include <stdint.h>
#include <stdlib.h>

#include "io/npy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    npy_array a;
    size_t n_header;
    if (npy_parse(&a, data, size, "fuzz", "array") != PALI_OK) return 0;
    if (npy_header_bytes(&n_header, data, size < NPY_PREAMBLE ? size : NPY_PREAMBLE, "fuzz", "array") != PALI_OK || n_header != a.n_header_bytes) abort();
    if (a.n_header_bytes + a.n_bytes != size || a.n_dims > NPY_MAX_DIMS) abort();
    return 0;
}
