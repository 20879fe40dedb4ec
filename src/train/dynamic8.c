/* dynamic8.c: the maps, and codes by look-up. */
#include "train/dynamic8.h"

#include <math.h>
#include <stdlib.h>

#include "base/halffloat.h"

static int ascending(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* torch.linspace(0.1, 1, n + 1) in f32: from both ends to the middle, with fused multiplications. */
static float boundary(unsigned i, unsigned n) {
    float step = (1.0f - 0.1f) / (float)n;
    return i < (n + 1) / 2 ? fmaf(step, (float)i, 0.1f) : fmaf(-step, (float)(n - i), 1.0f);
}

static uint8_t code_of(const dynamic8 *d, float x) {
    unsigned code = 0;
    while (x > d->midpoint[code]) code++;
    return (uint8_t)code;
}

void dynamic8_init(dynamic8 *d, bool is_signed) {
    size_t count = 0;
    d->value[count++] = 0.0f;
    d->value[count++] = 1.0f;
    for (unsigned decade = 0; decade < 7; decade++) {
        static const float k_powers[] = {1e-6f, 1e-5f, 1e-4f, 1e-3f, 1e-2f, 1e-1f, 1};
        unsigned n = 1u << (decade + !is_signed);
        for (unsigned i = 0; i < n; i++) {
            float mean = (boundary(i, n) + boundary(i + 1, n)) / 2.0f;
            float x = k_powers[decade] * mean;
            d->value[count++] = x;
            if (is_signed) d->value[count++] = -x;
        }
    }
    qsort(d->value, count, sizeof *d->value, ascending); /* 256 of them, signed or not */
    for (size_t i = 0; i + 1 < 256; i++) d->midpoint[i] = (d->value[i] + d->value[i + 1]) * 0.5f;
    d->midpoint[255] = INFINITY;
    for (uint32_t b = 0; b < DYNAMIC8_BUCKETS; b++) {
        uint32_t bits = (DYNAMIC8_LOWEST + b) << 16;
        d->first[0][b] = b ? code_of(d, half_bits_to_f32(bits)) : code_of(d, 0.0f); /* the lowest bucket holds all below it */
        d->first[1][b] = code_of(d, -half_bits_to_f32(bits | 0xffffu));
    }
}

void dynamic8_decode(const dynamic8 *d, float *x, const uint8_t *codes, float absmax, size_t n) {
    for (size_t i = 0; i < n; i++) x[i] = d->value[codes[i]] * absmax;
}

/* x in [-1, 1]; whatever else (not a number, from states that were never ours) gets some code. */
static inline uint8_t nearest(const dynamic8 *d, float x) {
    uint32_t bits = half_f32_to_bits(x), bucket = (bits & 0x7fffffffu) >> 16;
    bucket = bucket < DYNAMIC8_LOWEST ? 0 : bucket - DYNAMIC8_LOWEST;
    bucket = bucket < DYNAMIC8_BUCKETS ? bucket : DYNAMIC8_BUCKETS - 1;
    unsigned code = d->first[bits >> 31][bucket];
    return (uint8_t)(code + (x > d->midpoint[code]));
}

/* As integers, which compare as their magnitudes do and which vectors can reduce. */
static float largest(const float *x, size_t n) {
    int32_t max = 0;
    for (size_t i = 0; i < n; i++) {
        int32_t bits = (int32_t)(half_f32_to_bits(x[i]) & 0x7fffffffu);
        max = bits > max ? bits : max;
    }
    return half_bits_to_f32((uint32_t)max);
}

void dynamic8_encode(const dynamic8 *d, uint8_t *codes, float *absmax, const float *x, size_t n) {
    float max = largest(x, n), divisor = max > 0 ? max : 1.0f;
    *absmax = max;
    for (size_t i = 0; i < n; i++) {
        uint8_t code = nearest(d, x[i] / divisor);
        codes[i] = (uint8_t)(code - (x[i] < 0 && d->value[code] >= 0));
    }
}
