/* blocks_plain.h: block-quantized weights one block at a time in plain C: what the reference kernels are made of, and what
 * the vector kernels use for the few rows that do not fill a vector. Also the layout of activations rounded to 8 bits.
 *
 * A product of x with block-quantized weights is defined as this sequence of operations, and every instruction set gives
 * these bits (integers are exact; the rest has one order):
 *
 *   y = 0 or the value to add to
 *   for each group g of X_GROUP columns:
 *       a = 0
 *       for each block b of 32 in g:   a = fma(float(sum q_w q_x), s_b, a);  if the type has minima: a = fma(m_b, float(sum q_x), a)
 *       y = fma(a, d_g, y)
 *
 * with weights w = s_b q_w + m_b and activations x = d_g q_x, d_g = max |x| / 127 over the group. One scale for 128
 * activations costs an eighth of the scaling work of one for 32; its error beside theirs stands in SPEED.md. */
#ifndef PALI_KERNELS_BLOCKS_PLAIN_H
#define PALI_KERNELS_BLOCKS_PLAIN_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "base/halffloat.h"
#include "kernels/blocks.h"

#define X_GROUP 128u /* activations under one scale */
#define X_GROUP_BLOCKS (X_GROUP / BLOCK)

/* ---- Activations: one row of k, padded with zeros to whole groups ---- */

static inline size_t x_padded(size_t k) {
    return (k + X_GROUP - 1) / X_GROUP * X_GROUP;
}
/* int8 q[padded], f32 d[groups], i32 offset[blocks] = -128 sum q (what weights made unsigned by +128 add too much),
 * f32 sum[blocks] = sum q; then to whole cache lines, and one more so that rows do not share an L1 set. */
static inline size_t x_row_bytes(size_t k) {
    size_t n = x_padded(k);
    return (n + n / X_GROUP * 4 + n / BLOCK * 8 + 127) / 64 * 64;
}
static inline const float *x_scales(const void *row, size_t k) {
    return (const float *)(const void *)((const char *)row + x_padded(k));
}
static inline const int32_t *x_offsets(const void *row, size_t k) {
    return (const int32_t *)(const void *)(x_scales(row, k) + x_padded(k) / X_GROUP);
}
static inline const float *x_sums(const void *row, size_t k) {
    return (const float *)(const void *)(x_offsets(row, k) + x_padded(k) / BLOCK);
}

/* Sets the scale of group g from the bits of its largest magnitude and returns what x is to be multiplied with. A group with
 * an infinity or a NaN has the scale NaN, so that damage shows in the results; what is below X_TINY counts as zero. */
#define X_TINY 1e-30f
static inline float x_group_begin(void *row, size_t k, size_t g, uint32_t max_bits) {
    float max, *d = (float *)(uintptr_t)x_scales(row, k);
    memcpy(&max, &max_bits, sizeof max);
    bool finite = max_bits < 0x7f800000u, any = finite && max >= X_TINY;
    d[g] = any ? max / 127.0f : finite ? 0 : NAN;
    return any ? 127.0f / max : 0;
}

/* Fills in what follows from the bytes of group g. */
static inline void x_group_end(void *row, size_t k, size_t g) {
    int32_t *offset = (int32_t *)(uintptr_t)x_offsets(row, k);
    float *sum = (float *)(uintptr_t)x_sums(row, k);
    for (size_t b = g * X_GROUP_BLOCKS; b < (g + 1) * X_GROUP_BLOCKS; b++) {
        const int8_t *q = (const int8_t *)row + b * BLOCK;
        int32_t total = 0;
        for (size_t i = 0; i < BLOCK; i++) total += q[i];
        offset[b] = -128 * total;
        sum[b] = (float)total;
    }
}

/* Rounds one row. `out` has x_row_bytes(k), 64-aligned. */
static inline void x_quantize(void *out, const float *x, size_t k) {
    int8_t *q = out;
    for (size_t g = 0; g < x_padded(k); g += X_GROUP) {
        float group[X_GROUP] = {0};
        uint32_t bits[X_GROUP], max = 0;
        memcpy(group, x + g, (k - g < X_GROUP ? k - g : X_GROUP) * sizeof *x);
        memcpy(bits, group, sizeof bits);
        for (size_t i = 0; i < X_GROUP; i++) max = (bits[i] & 0x7fffffffu) > max ? bits[i] & 0x7fffffffu : max;
        float inv = x_group_begin(out, k, g / X_GROUP, max);
        for (size_t i = 0; i < X_GROUP; i++) {
            float r = group[i] * inv;
            q[g + i] = r == r ? (int8_t)(int32_t)nearbyintf(r) : 0;
        }
        x_group_end(out, k, g / X_GROUP);
    }
}

/* ---- Weights ---- */

static inline float f16_at(const uint8_t *p) {
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return half_from_f16(h);
}

/* Scale and minimum of sub-block j of a Q4_K super-block: 6 bits each, the upper two of the later four apart. */
static inline void q4_k_scale(const uint8_t *p, size_t j, float *s, float *m) {
    const uint8_t *t = p + 4;
    unsigned scale = j < 4 ? t[j] & 63u : (t[j + 4] & 15u) | (t[j - 4] >> 6 << 4);
    unsigned min = j < 4 ? t[j + 4] & 63u : (unsigned)(t[j + 4] >> 4) | (t[j] >> 6 << 4);
    *s = f16_at(p) * (float)scale;
    *m = -(f16_at(p + 2) * (float)min);
}

/* Block b of a row: w = s q + m. */
static inline void block_get(pali_dtype dtype, const void *row, size_t b, int8_t q[BLOCK], float *s, float *m) {
    const uint8_t *p = row;
    *m = 0;
    if (dtype == PALI_DTYPE_Q8_0) {
        p += b * Q8_0_BYTES;
        *s = f16_at(p);
        memcpy(q, p + 2, BLOCK);
        return;
    }
    if (dtype == PALI_DTYPE_Q4_K) {
        p += b / 8 * Q4_K_BYTES;
        q4_k_scale(p, b % 8, s, m);
        p += 16 + b % 8 / 2 * BLOCK;
        for (size_t i = 0; i < BLOCK; i++) q[i] = (int8_t)(b % 2 ? p[i] >> 4 : p[i] & 15);
        return;
    }
    p += b * (dtype == PALI_DTYPE_Q4_0 ? Q4_0_BYTES : Q4_1_BYTES);
    *s = f16_at(p);
    *m = dtype == PALI_DTYPE_Q4_0 ? -8.0f * *s : f16_at(p + 2);
    p += dtype == PALI_DTYPE_Q4_0 ? 2 : 4;
    for (size_t i = 0; i < BLOCK / 2; i++) {
        q[i] = (int8_t)(p[i] & 15);
        q[i + BLOCK / 2] = (int8_t)(p[i] >> 4);
    }
}

static inline bool dtype_has_minima(pali_dtype dtype) {
    return dtype != PALI_DTYPE_Q8_0;
}

/* One output. */
static inline float block_dot(pali_dtype dtype, float y, const void *x, const void *row, size_t k) {
    const int8_t *q = x;
    const float *d = x_scales(x, k), *sum = x_sums(x, k);
    size_t n = (k + BLOCK - 1) / BLOCK;
    for (size_t g = 0; g * X_GROUP_BLOCKS < n; g++) {
        float a = 0;
        for (size_t b = g * X_GROUP_BLOCKS; b < n && b < (g + 1) * X_GROUP_BLOCKS; b++) {
            int8_t w[BLOCK];
            float s, m;
            int32_t dot = 0;
            block_get(dtype, row, b, w, &s, &m);
            for (size_t i = 0; i < BLOCK; i++) dot += w[i] * q[b * BLOCK + i];
            a = fmaf((float)dot, s, a);
            if (dtype_has_minima(dtype)) a = fmaf(m, sum[b], a);
        }
        y = fmaf(a, d[g], y);
    }
    return y;
}

#endif
