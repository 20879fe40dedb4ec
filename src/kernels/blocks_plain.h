/* blocks_plain.h: block-quantized weights one block at a time in plain C: what the reference kernels are made of, and what
 * the vector kernels use for the few rows that do not fill a vector. Also the layout of activations rounded to 8 bits.
 *
 * A product of x with block-quantized weights is defined as this sequence of operations, and every instruction set gives
 * these bits (integers are exact; the rest has one order):
 *
 *   y = 0 or the value to add to
 *   for each block b of 32:   y = fma(float(sum q_w q_x), s_b * d_b, y);  if the type has minima: y = fma(m_b, t_b, y)
 *
 * with weights w = s_b q_w + m_b, activations x = d_b q_x, d_b = max |x| / 127 over the block, t_b = d_b float(sum q_x). One
 * scale for 128 activations would save a quarter of an instruction in eleven and double the error (SPEED.md). */
#ifndef PALI_KERNELS_BLOCKS_PLAIN_H
#define PALI_KERNELS_BLOCKS_PLAIN_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "base/halffloat.h"
#include "kernels/blocks.h"

/* ---- Activations: one row of k, padded with zeros to pairs of blocks ---- */

static inline size_t x_padded(size_t k) {
    return (k + 2 * BLOCK - 1) / (2 * BLOCK) * 2 * BLOCK;
}
/* int8 q[padded], f32 d[blocks], i32 offset[blocks] = -128 sum q (what weights made unsigned by +128 add too much),
 * f32 t[blocks] = d sum q; then to whole cache lines, and one more so that rows do not share an L1 set. */
static inline size_t x_row_bytes(size_t k) {
    size_t n = x_padded(k);
    return (n + n / BLOCK * 12 + 127) / 64 * 64;
}
static inline const float *x_scales(const void *row, size_t k) {
    return (const float *)(const void *)((const char *)row + x_padded(k));
}
static inline const int32_t *x_offsets(const void *row, size_t k) {
    return (const int32_t *)(const void *)(x_scales(row, k) + x_padded(k) / BLOCK);
}
static inline const float *x_sums(const void *row, size_t k) {
    return (const float *)(const void *)(x_offsets(row, k) + x_padded(k) / BLOCK);
}

/* Sets the scale of block b, whose largest magnitude is max, and returns what x is to be multiplied with before rounding.
 * Less than X_TINY counts as zero. */
#define X_TINY 1e-30f
static inline float x_block_begin(void *row, size_t k, size_t b, float max) {
    bool any = max >= X_TINY && max <= 3.4e38f;
    ((float *)(uintptr_t)x_scales(row, k))[b] = any ? max / 127.0f : max < X_TINY ? 0 : NAN;
    return any ? 127.0f / max : 0;
}

/* total: of the rounded values; not a number if x had an infinity or a NaN, and then the scale is none either, so that damage
 * shows in the results. */
static inline void x_block_end(void *row, size_t k, size_t b, float total) {
    float *d = (float *)(uintptr_t)x_scales(row, k);
    if (total != total) {
        d[b] = NAN;
        total = 0;
    }
    ((int32_t *)(uintptr_t)x_offsets(row, k))[b] = -128 * (int32_t)total;
    ((float *)(uintptr_t)x_sums(row, k))[b] = d[b] * total;
}

/* Rounds one row. `out` has x_row_bytes(k), 64-aligned. */
static inline void x_quantize(void *out, const float *x, size_t k) {
    int8_t *q = out;
    for (size_t i0 = 0; i0 < x_padded(k); i0 += BLOCK) {
        float block[BLOCK] = {0}, max = 0, total = 0;
        size_t n = k > i0 ? k - i0 : 0;
        memcpy(block, x + (n ? i0 : 0), (n < BLOCK ? n : BLOCK) * sizeof *x);
        for (size_t i = 0; i < BLOCK; i++) max = fabsf(block[i]) > max ? fabsf(block[i]) : max;
        float inv = x_block_begin(out, k, i0 / BLOCK, max);
        for (size_t i = 0; i < BLOCK; i++) {
            float r = nearbyintf(block[i] * inv);
            q[i0 + i] = r == r ? (int8_t)(int32_t)r : 0;
            total += r;
        }
        x_block_end(out, k, i0 / BLOCK, total);
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
    unsigned scale = j < 4 ? t[j] & 63u : (t[j + 4] & 15u) | (unsigned)(t[j - 4] >> 6 << 4);
    unsigned min = j < 4 ? t[j + 4] & 63u : (unsigned)(t[j + 4] >> 4) | (unsigned)(t[j] >> 6 << 4);
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

/* The codes of block b of a 4-bit type, in place of those that are there. */
static inline void block_put(pali_dtype dtype, void *row, size_t b, const int8_t q[BLOCK]) {
    uint8_t *p = row;
    if (dtype == PALI_DTYPE_Q4_K) {
        p += b / 8 * Q4_K_BYTES + 16 + b % 8 / 2 * BLOCK;
        for (size_t i = 0; i < BLOCK; i++) p[i] = (uint8_t)(b % 2 ? (p[i] & 15) | q[i] << 4 : (p[i] & 240) | q[i]);
        return;
    }
    p += dtype == PALI_DTYPE_Q4_0 ? b * Q4_0_BYTES + 2 : b * Q4_1_BYTES + 4;
    for (size_t i = 0; i < BLOCK / 2; i++) p[i] = (uint8_t)(q[i] | q[i + BLOCK / 2] << 4);
}

static inline bool dtype_has_minima(pali_dtype dtype) {
    return dtype != PALI_DTYPE_Q8_0;
}

/* One output. */
static inline float block_dot(pali_dtype dtype, float y, const void *x, const void *row, size_t k) {
    const int8_t *q = x;
    for (size_t b = 0; b * BLOCK < k; b++) {
        int8_t w[BLOCK];
        float s, m;
        int32_t dot = 0;
        block_get(dtype, row, b, w, &s, &m);
        for (size_t i = 0; i < BLOCK; i++) dot += w[i] * q[b * BLOCK + i];
        y = fmaf((float)dot, s * x_scales(x, k)[b], y);
        if (dtype_has_minima(dtype)) y = fmaf(m, x_sums(x, k)[b], y);
    }
    return y;
}

#endif
