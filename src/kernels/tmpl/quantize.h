/* quantize.h: f32 rows to block-quantized rows. The searches run over eight blocks side by side, in the compiler's own vectors
 * of eight floats: no sum crosses lanes, and every instruction set gives the same bytes.
 *
 * Q8_0 rounds as the GGUF tools do: d = max |x| / 127, q = x / d half away from zero. The 4-bit types look for the scale and
 * minimum of least squared error: nine ways of clipping the range (each end at 1, 0.9, 0.8), each followed by the least-squares
 * fit of (s, m) to the rounded q, then one more round from the best. Measured error (SPEED.md) beside other choices:
 * Q4_K 7.2 % of the weights' standard deviation for normal weights at 4.5 bits, Q4_0 8.6 % at the same size, NF4 9.2 %. */
#include <string.h>

#include "kernels/blocks_plain.h"

#define LANES 8u
typedef float lanes __attribute__((vector_size(LANES * 4)));
typedef int32_t lanes_mask __attribute__((vector_size(LANES * 4)));

/* Macros, because a function's argument of this type has another ABI on each instruction set. */
#define PICK(mask, a, b) ((lanes)(((mask) & (lanes_mask)(a)) | (~(mask) & (lanes_mask)(b))))
#define ALL(x) ((lanes){0} + (x))

static inline void f16_put(uint8_t *p, float x) {
    uint16_t h = half_to_f16(x);
    memcpy(p, &h, sizeof h);
}

/* A block with an infinity or a NaN gets a scale that is none either, so that damage shows in the results. */
static void from_f32_q8_0(void *y, const float *x, size_t n) {
    uint8_t *p = y;
    for (size_t b = 0; b < n; b += BLOCK, p += Q8_0_BYTES) {
        float block[BLOCK] = {0}, d;
        uint32_t bits[BLOCK], max = 0;
        memcpy(block, x + b, (n - b < BLOCK ? n - b : BLOCK) * sizeof *x);
        memcpy(bits, block, sizeof bits);
        for (size_t i = 0; i < BLOCK; i++) max = (bits[i] & 0x7fffffffu) > max ? bits[i] & 0x7fffffffu : max;
        memcpy(&d, &max, sizeof d);
        d /= 127.0f;
        float inv = max < 0x7f800000u && d > 0 ? 1.0f / d : 0;
        f16_put(p, d);
        for (size_t i = 0; i < BLOCK; i++) {
            float r = block[i] * inv;
            r = r < -127 ? -127 : r <= 127 ? r : r > 127 ? 127 : 0; /* 1 / d of a tiny d is infinite; NaN is 0 */
            p[2 + i] = (uint8_t)(int8_t)(r + (r < 0 ? -0.5f : 0.5f)); /* half away from zero: truncation follows */
        }
    }
}

/* Eight blocks: x[i][l] is weight i of block l; those beyond the row's end are zero. */
static inline void lanes_load(lanes x[BLOCK], const float *row, size_t n) {
    float block[LANES * BLOCK] = {0};
    memcpy(block, row, (n < LANES * BLOCK ? n : LANES * BLOCK) * sizeof *row);
    for (size_t i = 0; i < BLOCK; i++)
        for (size_t l = 0; l < LANES; l++) x[i][l] = block[l * BLOCK + i];
}

typedef struct q4_fit {
    lanes s, m, error;
} q4_fit;

/* q = round((x - m) / s) in 0..15; what is not a number counts as 0. */
static inline void q4_round(lanes q[BLOCK], const lanes x[BLOCK], const q4_fit *fit) {
    lanes inv = PICK(fit->s > 0, 1.0f / fit->s, ALL(0));
    for (size_t i = 0; i < BLOCK; i++) {
        lanes r = (x[i] - fit->m) * inv + 0.5f;
        r = PICK(r >= 0, r, ALL(0));
        r = PICK(r < 15, r, ALL(15));
        q[i] = __builtin_convertvector(__builtin_convertvector(r, lanes_mask), lanes);
    }
}

/* The least-squares scale and minimum for the q that *from rounds to; kept where better than *best. */
static inline void q4_try(q4_fit *best, const lanes x[BLOCK], const q4_fit *from, bool m_negative) {
    lanes q[BLOCK], sq = {0}, sqq = {0}, sx = {0}, sqx = {0}, error = {0};
    q4_round(q, x, from);
    for (size_t i = 0; i < BLOCK; i++) {
        sq += q[i];
        sqq += q[i] * q[i];
        sx += x[i];
        sqx += q[i] * x[i];
    }
    const float n = BLOCK;
    lanes det = n * sqq - sq * sq;
    lanes s = PICK(det > 0, (n * sqx - sq * sx) / det, from->s);
    lanes m = PICK(det > 0, (sx - s * sq) / n, from->m);
    if (m_negative) {
        lanes_mask above = m > 0;
        s = PICK(above, PICK(sqq > 0, sqx / sqq, ALL(0)), s);
        m = PICK(above, ALL(0), m);
    }
    for (size_t i = 0; i < BLOCK; i++) {
        lanes e = s * q[i] + m - x[i];
        error += e * e;
    }
    lanes_mask better = (s > 0) & (error < best->error);
    best->s = PICK(better, s, best->s);
    best->m = PICK(better, m, best->m);
    best->error = PICK(better, error, best->error);
}

/* Scales and minima of eight blocks; m_negative: minima above zero cannot be told (Q4_K). */
static inline void q4_search(q4_fit *best, const lanes x[BLOCK], bool m_negative) {
    static const float k_clip[] = {1.0f, 0.9f, 0.8f};
    lanes lo = x[0], hi = x[0];
    for (size_t i = 1; i < BLOCK; i++) {
        lo = PICK(x[i] < lo, x[i], lo);
        hi = PICK(x[i] > hi, x[i], hi);
    }
    if (m_negative) lo = PICK(lo > 0, ALL(0), lo);
    /* Blocks of one value: the minimum alone says it, and no error is below theirs. */
    *best = (q4_fit){.s = {0}, .m = lo, .error = PICK(hi > lo, ALL(INFINITY), ALL(-1))};
    for (size_t i = 0; i < 3; i++) {
        for (size_t j = 0; j < 3; j++) {
            q4_fit from = {.s = (hi * k_clip[j] - lo * k_clip[i]) / 15.0f, .m = lo * k_clip[i]};
            q4_try(best, x, &from, m_negative);
        }
    }
    q4_fit from = *best;
    q4_try(best, x, &from, m_negative);
    lanes damage = {0}; /* becomes NaN */
    for (size_t i = 0; i < BLOCK; i++) damage += x[i] * 0.0f;
    best->s += damage;
    best->m += damage;
}

/* Block l's nibbles: its first 16 weights low, the others high. */
static inline void nibbles_put(uint8_t to[BLOCK / 2], const lanes q[BLOCK], size_t l) {
    for (size_t i = 0; i < BLOCK / 2; i++) to[i] = (uint8_t)((unsigned)q[i][l] | (unsigned)q[i + BLOCK / 2][l] << 4);
}

static void from_f32_q4_1(void *y, const float *x, size_t n) {
    uint8_t *p = y;
    for (size_t b = 0; b < n; b += LANES * BLOCK) {
        lanes block[BLOCK], q[BLOCK];
        q4_fit fit;
        size_t count = (n - b + BLOCK - 1) / BLOCK < LANES ? (n - b + BLOCK - 1) / BLOCK : LANES;
        lanes_load(block, x + b, n - b);
        q4_search(&fit, block, false);
        for (size_t l = 0; l < count; l++) { /* what the file can hold is what q is rounded for */
            f16_put(p + l * Q4_1_BYTES, fit.s[l]);
            f16_put(p + l * Q4_1_BYTES + 2, fit.m[l]);
            fit.s[l] = f16_at(p + l * Q4_1_BYTES);
            fit.m[l] = f16_at(p + l * Q4_1_BYTES + 2);
        }
        q4_round(q, block, &fit);
        for (size_t l = 0; l < count; l++, p += Q4_1_BYTES) nibbles_put(p + 4, q, l);
    }
}

/* Symmetric about the code 8; the end of larger magnitude gets -8. Not what q4 chooses, but others' files have it. */
static void from_f32_q4_0(void *y, const float *x, size_t n) {
    uint8_t *p = y;
    for (size_t b = 0; b < n; b += BLOCK, p += Q4_0_BYTES) {
        float block[BLOCK] = {0}, q[BLOCK], end = 0, damage = 0;
        memcpy(block, x + b, (n - b < BLOCK ? n - b : BLOCK) * sizeof *x);
        for (size_t i = 0; i < BLOCK; i++) {
            end = fabsf(block[i]) > fabsf(end) ? block[i] : end;
            damage += block[i] * 0; /* becomes NaN */
        }
        float d = end / -8.0f + damage, inv = end != 0 ? 1.0f / d : 0;
        f16_put(p, d);
        for (size_t i = 0; i < BLOCK; i++) {
            float r = block[i] * inv + 8.5f;
            q[i] = r > 15 ? 15 : r > 0 ? (float)(int32_t)r : 0;
        }
        for (size_t i = 0; i < BLOCK / 2; i++) p[2 + i] = (uint8_t)((unsigned)q[i] | (unsigned)q[i + BLOCK / 2] << 4);
    }
}

/* x / d rounded to 6 bits. */
static inline unsigned six_bits(float x, float d) {
    float r = d > 0 ? x / d + 0.5f : 0;
    return r > 63 ? 63 : r > 0 ? (unsigned)r : 0;
}

static void from_f32_q4_k(void *y, const float *x, size_t n) {
    uint8_t *p = y;
    for (size_t b = 0; b < n; b += SUPER_BLOCK, p += Q4_K_BYTES) {
        lanes block[BLOCK], q[BLOCK];
        q4_fit fit;
        float s_max = 0, m_max = 0;
        lanes_load(block, x + b, n - b);
        q4_search(&fit, block, true);
        for (size_t j = 0; j < 8; j++) {
            s_max = fit.s[j] <= s_max || s_max != s_max ? s_max : fit.s[j]; /* a NaN stays */
            m_max = -fit.m[j] > m_max ? -fit.m[j] : m_max;
        }
        f16_put(p, s_max / 63.0f);
        f16_put(p + 2, m_max / 63.0f);
        memset(p + 4, 0, 12);
        for (size_t j = 0; j < 8; j++) {
            unsigned s = six_bits(fit.s[j], f16_at(p)), m = six_bits(-fit.m[j], f16_at(p + 2));
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
            float s, m;
            q4_k_scale(p, j, &s, &m);
            fit.s[j] = s;
            fit.m[j] = m;
        }
        q4_round(q, block, &fit);
        for (size_t j = 0; j < 8; j += 2) /* a pair of blocks: the first one low, the second high */
            for (size_t i = 0; i < BLOCK; i++) p[16 + j / 2 * BLOCK + i] = (uint8_t)((unsigned)q[i][j] | (unsigned)q[i][j + 1] << 4);
    }
}

static void quantize_fill(kernels *k) {
    k->from_f32[PALI_DTYPE_Q8_0] = from_f32_q8_0;
    k->from_f32[PALI_DTYPE_Q4_0] = from_f32_q4_0;
    k->from_f32[PALI_DTYPE_Q4_1] = from_f32_q4_1;
    k->from_f32[PALI_DTYPE_Q4_K] = from_f32_q4_k;
}
