/* codes.h: weights of bitsandbytes as they lie in its files: codes under scales, used in place (spec inference 8.2, 8.3).
 *
 *   NF4, FP4   two codes a byte, the first in the high half; one f32 scale for each 64 weights of the flattened matrix, so that
 *              blocks, and with an odd number of columns bytes too, run on over the ends of rows
 *                  w = round(table[code] * scale)      to the type that the weights were quantized from
 *   INT8       one code a byte, one f32 scale (the largest magnitude) a row
 *                  w = code * scale * (1/127)          two multiplications in f32, in this order, as the library does
 *
 * Kernels compute with exactly these weights, in the order of sums that f32 weights have: the result is the same to the bit.
 * In place of a plain pointer to weights they get a codes_at, because the scale of a weight follows from where in the whole
 * matrix it is. */
#ifndef PALI_KERNELS_CODES_H
#define PALI_KERNELS_CODES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/halffloat.h"
#include "paligemma.h"

#define CODES_BLOCK 64u /* weights under one scale */
#define CODES_INT8_STEP 7.874015718698502e-3f /* 1/127 */

typedef struct codes {
    const uint8_t *data;   /* of the whole matrix [rows, cols] */
    const uint8_t *scales; /* f32 at any alignment, for a file decides it */
    size_t cols;
    float table[16];       /* NF4, FP4: the values of the codes */
    pali_dtype rounding;   /* F32, BF16 or F16: what the weights are rounded to; INT8: F32 */
} codes;

/* A place in the matrix; what kernels are given as weights. */
typedef struct codes_at {
    const codes *of;
    size_t row, col;
} codes_at;

static inline bool dtype_is_codes(pali_dtype dtype) {
    return dtype == PALI_DTYPE_NF4 || dtype == PALI_DTYPE_FP4 || dtype == PALI_DTYPE_INT8;
}

static inline float codes_scale(const codes *c, size_t i) {
    float scale;
    memcpy(&scale, c->scales + i * sizeof scale, sizeof scale);
    return scale;
}

static inline float codes_round(float x, pali_dtype rounding) {
    return rounding == PALI_DTYPE_BF16 ? half_from_bf16(half_to_bf16(x)) : rounding == PALI_DTYPE_F16 ? half_from_f16(half_to_f16(x)) : x;
}

/* Weight e of the flattened matrix. */
static inline float codes_4bit(const codes *c, size_t e) {
    unsigned code = e % 2 ? c->data[e / 2] & 15u : c->data[e / 2] >> 4;
    return codes_round(c->table[code] * codes_scale(c, e / CODES_BLOCK), c->rounding);
}
static inline float codes_int8(const codes *c, size_t e) {
    return (float)(int8_t)c->data[e] * codes_scale(c, e / c->cols) * CODES_INT8_STEP;
}

#endif
