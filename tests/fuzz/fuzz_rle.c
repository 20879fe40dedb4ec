/* fuzz_rle.c: two bytes of size, then any bytes as a run-length string. What is accepted is a mask, and its own string, which
 * may be another one (runs of no length), gives the same mask. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "paligemma.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint8_t *mask, *again;
    char *counts, *own;
    if (size < 2) return 0;
    const int32_t width = data[0] + 1, height = data[1] + 1;
    const size_t n = (size_t)width * (size_t)height;
    counts = malloc(size - 1);
    if (!counts) return 0;
    memcpy(counts, data + 2, size - 2);
    counts[size - 2] = 0;
    if (pali_mask_from_rle(counts, width, height, &mask) == PALI_OK) {
        if (pali_mask_to_rle(mask, width, height, 128, &own) != PALI_OK) abort();
        if (pali_mask_from_rle(own, width, height, &again) != PALI_OK || memcmp(mask, again, n) != 0) abort();
        pali_free(again);
        pali_free(own);
        pali_free(mask);
    }
    free(counts);
    return 0;
}
