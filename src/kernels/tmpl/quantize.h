/* quantize.h: f32 rows to block-quantized rows. Plain C over arrays of 16 partial sums, so that every instruction set's
 * compiler makes vectors of it and all give the same bytes.
 *
 * Q8_0 rounds as the GGUF tools do: d = max |x| / 127, q = x / d half away from zero. The 4-bit types look for the scale and
 * minimum of least squared error: nine ways of clipping the range (each end at 1, 0.9, 0.8), each followed by the least-squares
 * fit of (s, m) to the rounded q, then one more round from the best. Measured error (SPEED.md) beside other choices:
 * Q4_K 7.2 % of the weights' standard deviation for normal weights at 4.5 bits, Q4_0 8.1 % at the same size, NF4 9.2 %. */
#include <string.h>

#include "kernels/blocks_plain.h"

#define LANES 16u

static inline float lanes_sum(const float x[LANES]) {
    float t[LANES];
    memcpy(t, x, sizeof t);
    for (size_t half = LANES / 2; half > 0; half /= 2)
        for (size_t i = 0; i < half; i++) t[i] += t[i + half];
    return t[0];
}

static inline void f16_put(uint8_t *p, float x) {
    uint16_t h = half_to_f16(x);
    memcpy(p, &h, sizeof h);
}

static void from_f32_q8_0(void *y, const float *x, size_t n) {
    uint8_t *p = y;
    for (size_t b = 0; b < n; b += BLOCK, p += Q8_0_BYTES) {
        float block[BLOCK] = {0}, max = 0;
        memcpy(block, x + b, (n - b < BLOCK ? n - b : BLOCK) * sizeof *x);
        for (size_t i = 0; i < BLOCK; i++) max = fabsf(block[i]) > max ? fabsf(block[i]) : max;
        float d = max / 127.0f, inv = d > 0 ? 1.0f / d : 0;
        f16_put(p, d);
        for (size_t i = 0; i < BLOCK; i++) {
            float r = block[i] * inv;
            p[2 + i] = (uint8_t)(int8_t)(r + (r < 0 ? -0.5f : 0.5f)); /* half away from zero: truncation follows */
        }
    }
}

/* q = round((x - m) / s) in 0..15. */
static inline void q4_round(float q[BLOCK], const float x[BLOCK], float s, float m) {
    float inv = s > 0 ? 1.0f / s : 0;
    for (size_t i = 0; i < BLOCK; i++) {
        float r = (x[i] - m) * inv + 0.5f;
        r = r < 0 ? 0 : r;
        r = r > 15 ? 15 : r;
        q[i] = (float)(int32_t)r;
    }
}

typedef struct q4_fit {
    float s, m, error;
} q4_fit;

/* The least-squares scale and minimum for the q that (s, m) rounds to; kept if better than *best. */
static inline void q4_try(q4_fit *best, const float x[BLOCK], float s, float m, bool m_negative) {
    float q[BLOCK], sq[LANES] = {0}, sqq[LANES] = {0}, sx[LANES] = {0}, sqx[LANES] = {0}, se[LANES] = {0};
    q4_round(q, x, s, m);
    for (size_t h = 0; h < BLOCK; h += LANES) {
        for (size_t i = 0; i < LANES; i++) {
            sq[i] += q[h + i];
            sqq[i] += q[h + i] * q[h + i];
            sx[i] += x[h + i];
            sqx[i] += q[h + i] * x[h + i];
        }
    }
    float n = BLOCK, a = lanes_sum(sq), b = lanes_sum(sqq), c = lanes_sum(sx), d = lanes_sum(sqx), det = n * b - a * a;
    if (det > 0) {
        s = (n * d - a * c) / det;
        m = (c - s * a) / n;
        if (m_negative && m > 0) {
            m = 0;
            s = b > 0 ? d / b : 0;
        }
    }
    if (!(s > 0)) return;
    for (size_t h = 0; h < BLOCK; h += LANES) {
        for (size_t i = 0; i < LANES; i++) {
            float e = s * q[h + i] + m - x[h + i];
            se[i] += e * e;
        }
    }
    float error = lanes_sum(se);
    if (error < best->error) *best = (q4_fit){s, m, error};
}

/* Scale and minimum of a block; m_negative: minima above zero cannot be told (Q4_K). */
static inline q4_fit q4_search(const float x[BLOCK], bool m_negative) {
    static const float k_clip[] = {1.0f, 0.9f, 0.8f};
    float lo = x[0], hi = x[0];
    for (size_t i = 1; i < BLOCK; i++) {
        lo = x[i] < lo ? x[i] : lo;
        hi = x[i] > hi ? x[i] : hi;
    }
    if (m_negative && lo > 0) lo = 0;
    q4_fit best = {0, lo, INFINITY};
    if (!(hi > lo)) return best; /* all alike: the minimum alone says it */
    for (size_t i = 0; i < 3; i++)
        for (size_t j = 0; j < 3; j++) q4_try(&best, x, (hi * k_clip[j] - lo * k_clip[i]) / 15.0f, lo * k_clip[i], m_negative);
    q4_try(&best, x, best.s, best.m, m_negative);
    return best;
}

static void from_f32_q4_1(void *y, const float *x, size_t n) {
    uint8_t *p = y;
    for (size_t b = 0; b < n; b += BLOCK, p += Q4_1_BYTES) {
        float block[BLOCK] = {0}, q[BLOCK];
        memcpy(block, x + b, (n - b < BLOCK ? n - b : BLOCK) * sizeof *x);
        q4_fit fit = q4_search(block, false);
        f16_put(p, fit.s);
        f16_put(p + 2, fit.m);
        q4_round(q, block, f16_at(p), f16_at(p + 2));
        for (size_t i = 0; i < BLOCK / 2; i++) p[4 + i] = (uint8_t)((unsigned)q[i] | (unsigned)q[i + BLOCK / 2] << 4);
    }
}

/* Symmetric about the code 8; the end of larger magnitude gets -8. Not what q4 chooses, but others' files have it. */
static void from_f32_q4_0(void *y, const float *x, size_t n) {
    uint8_t *p = y;
    for (size_t b = 0; b < n; b += BLOCK, p += Q4_0_BYTES) {
        float block[BLOCK] = {0}, q[BLOCK], end = 0;
        memcpy(block, x + b, (n - b < BLOCK ? n - b : BLOCK) * sizeof *x);
        for (size_t i = 0; i < BLOCK; i++) end = fabsf(block[i]) > fabsf(end) ? block[i] : end;
        float d = end / -8.0f, inv = end != 0 ? 1.0f / d : 0;
        f16_put(p, d);
        for (size_t i = 0; i < BLOCK; i++) {
            float r = block[i] * inv + 8.5f;
            q[i] = r > 15 ? 15 : (float)(int32_t)r;
        }
        for (size_t i = 0; i < BLOCK / 2; i++) p[2 + i] = (uint8_t)((unsigned)q[i] | (unsigned)q[i + BLOCK / 2] << 4);
    }
}

/* x / d rounded to 6 bits. */
static inline unsigned six_bits(float x, float d) {
    float r = d > 0 ? x / d + 0.5f : 0;
    return r > 63 ? 63 : (unsigned)r;
}

static void from_f32_q4_k(void *y, const float *x, size_t n) {
    uint8_t *p = y;
    for (size_t b = 0; b < n; b += SUPER_BLOCK, p += Q4_K_BYTES) {
        float block[SUPER_BLOCK] = {0}, s_max = 0, m_max = 0;
        q4_fit fit[8];
        memcpy(block, x + b, (n - b < SUPER_BLOCK ? n - b : SUPER_BLOCK) * sizeof *x);
        for (size_t j = 0; j < 8; j++) {
            fit[j] = q4_search(block + j * BLOCK, true);
            s_max = fit[j].s > s_max ? fit[j].s : s_max;
            m_max = -fit[j].m > m_max ? -fit[j].m : m_max;
        }
        f16_put(p, s_max / 63.0f);
        f16_put(p + 2, m_max / 63.0f);
        memset(p + 4, 0, 12);
        for (size_t j = 0; j < 8; j++) {
            unsigned s = six_bits(fit[j].s, f16_at(p)), m = six_bits(-fit[j].m, f16_at(p + 2));
            if (j < 4) {
                p[4 + j] |= (uint8_t)s;
                p[8 + j] |= (uint8_t)m;
            } else {
                p[8 + j] = (uint8_t)((s & 15u) | (m & 15u) << 4);
                p[j] |= (uint8_t)(s >> 4 << 6);
                p[4 + j] |= (uint8_t)(m >> 4 << 6);
            }
        }
        for (size_t j = 0; j < 8; j++) {
            float q[BLOCK], s, m;
            uint8_t *to = p + 16 + j / 2 * BLOCK;
            q4_k_scale(p, j, &s, &m);
            q4_round(q, block + j * BLOCK, s, m);
            for (size_t i = 0; i < BLOCK; i++) to[i] = (uint8_t)(j % 2 ? to[i] | (unsigned)q[i] << 4 : (unsigned)q[i]);
        }
    }
}

static void quantize_fill(kernels *k) {
    k->from_f32[PALI_DTYPE_Q8_0] = from_f32_q8_0;
    k->from_f32[PALI_DTYPE_Q4_0] = from_f32_q4_0;
    k->from_f32[PALI_DTYPE_Q4_1] = from_f32_q4_1;
    k->from_f32[PALI_DTYPE_Q4_K] = from_f32_q4_k;
}
