/* mask_formula.h: the masks that tools/make_codec_goldens.py and the tests make alike, and the hash they compare. */
#ifndef PALI_TESTS_MASK_FORMULA_H
#define PALI_TESTS_MASK_FORMULA_H

#include <stdint.h>
#include <stdlib.h>

#include "paligemma.h"

static inline uint64_t fnv1a(const void *data, size_t n) {
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++) h = (h ^ ((const uint8_t *)data)[i]) * 0x100000001b3u;
    return h;
}

/* mask [64, 64]: kind 0 is noise beyond -1..1, kind 1 a disc. */
static inline void formula_mask(float *mask, int kind) {
    for (int y = 0; y < PALI_MASK_SIDE; y++) {
        for (int x = 0; x < PALI_MASK_SIDE; x++)
            mask[y * PALI_MASK_SIDE + x] = kind == 0 ? (float)((x * x + 3 * y * y + 7 * x * y) % 512 - 256) / 200.0f
                                                     : 1.0f - (float)((x - 30) * (x - 30) + (y - 34) * (y - 34)) / 400.0f;
    }
}

/* [height, width] 8-bit, free(): 0 a disc, 1 noise, 2 a checkerboard, 3 black, 4 white. */
static inline uint8_t *formula_picture(size_t width, size_t height, int kind) {
    const int64_t w = (int64_t)width, h = (int64_t)height;
    uint8_t *mask = malloc(width * height);
    if (!mask) abort();
    for (int64_t y = 0; y < h; y++) {
        for (int64_t x = 0; x < w; x++) {
            const int64_t dx = 2 * x - w, dy = 2 * y - h;
            mask[y * w + x] = (uint8_t)(kind == 0   ? (dx * dx * h * h + dy * dy * w * w < w * w * h * h ? 255 : 0)
                                        : kind == 1 ? x * 7 + y * 13 + x * y
                                        : kind == 2 ? (x + y) % 2 * 255
                                        : kind == 3 ? 0
                                                    : 255);
        }
    }
    return mask;
}

#endif
