/* codes.h: weights of bitsandbytes as they lie in its files: codes under scales, used in place (spec inference 8.2, 8.3).
 *
 *   NF4, FP4   two codes a byte, the first in the high half; one f32 scale for each 64 weights of the flattened matrix, so that
 *              blocks, and with an odd number of columns bytes too, run on over the ends of rows
 *                  w = round(table[code] * scale)      to the type that the weights were quantized from
 *   INT8       one code a byte, one f32 scale (the largest magnitude) a row
 *                  w = code * scale * (1/127)          two multiplications in f32, in this order, as the library does
 *
 * Kernels compute with exactly these weights, in the order of sums that f32 weights have: the result is the same to the bit.
 * In place of a plain pointer to weights they get a coded_at, because the scale of a weight follows from where in the whole
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

typedef struct coded {
    const uint8_t *data;   /* of the whole matrix [rows, cols] */
    const uint8_t *scales; /* f32 at any alignment, for a file decides it */
    size_t cols;
    float table[16];       /* NF4, FP4: the values of the codes */
    pali_dtype rounding;   /* F32, BF16 or F16: what the weights are rounded to; INT8: F32 */
} coded;

/* A place in the matrix; what kernels are given as weights. */
typedef struct coded_at {
    const coded *of;
    size_t row, col;
} coded_at;

static inline bool dtype_is_codes(pali_dtype dtype) {
    return dtype == PALI_DTYPE_NF4 || dtype == PALI_DTYPE_FP4 || dtype == PALI_DTYPE_INT8;
}

/* Bytes of codes, and scales, of a matrix. */
static inline size_t codes_bytes(pali_dtype dtype, size_t rows, size_t cols) {
    return dtype == PALI_DTYPE_INT8 ? rows * cols : (rows * cols + 1) / 2;
}
static inline size_t codes_n_scales(pali_dtype dtype, size_t rows, size_t cols) {
    return dtype == PALI_DTYPE_INT8 ? rows : (rows * cols + CODES_BLOCK - 1) / CODES_BLOCK;
}

static inline float codes_scale(const coded *c, size_t i) {
    float scale;
    memcpy(&scale, c->scales + i * sizeof scale, sizeof scale);
    return scale;
}

static inline float codes_round(float x, pali_dtype rounding) {
    return rounding == PALI_DTYPE_BF16 ? half_from_bf16(half_to_bf16(x)) : rounding == PALI_DTYPE_F16 ? half_from_f16(half_to_f16(x)) : x;
}

/* Weight e of the flattened matrix. */
static inline float codes_4bit(const coded *c, size_t e) {
    unsigned code = e % 2 ? c->data[e / 2] & 15u : c->data[e / 2] >> 4;
    return codes_round(c->table[code] * codes_scale(c, e / CODES_BLOCK), c->rounding);
}
static inline float codes_int8(const coded *c, size_t e) {
    return (float)(int8_t)c->data[e] * codes_scale(c, e / c->cols) * CODES_INT8_STEP;
}

/* The tables as the library has them; FP4: codes 9..15 are the negatives of 1..7. */
extern const float k_codes_nf4[16], k_codes_fp4[16];

/* What the library's quantizers make of weights (ref/codes.c): the bytes are theirs. One block of n <= 64 of the flattened matrix;
 * a short one, the
 * matrix's last, is divided by its scale where others are multiplied with its inverse. An odd end is followed by the code of zero. */
void codes_quantize_4bit(uint8_t *data, float *scale, const float *x, size_t n, pali_dtype dtype);
/* One row, which is rounded to f16 first. */
void codes_quantize_int8(uint8_t *data, float *scale, const float *x, size_t n);

#endif
