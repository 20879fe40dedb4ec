/* dynamic8.c: the maps, and codes by look-up. */
#include "train/dynamic8.h"

#include <math.h>
#include <stdlib.h>

#include "base/halffloat.h"

#define ZERO 127 /* its code in the signed map */

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
    if (is_signed) d->midpoint[ZERO - 1] = 0; /* what has a sign keeps it: nothing negative gets the code of zero */
    for (uint32_t b = 0; b < DYNAMIC8_BUCKETS; b++) {
        uint32_t bits = (DYNAMIC8_LOWEST + b) << 16;
        d->first[b] = code_of(d, half_bits_to_f32(b ? bits : 1)); /* the lowest bucket holds all below it */
        d->first[DYNAMIC8_BUCKETS + b] = code_of(d, -half_bits_to_f32(bits | 0xffffu));
    }
}

void dynamic8_decode(const dynamic8 *d, float *x, const uint8_t *codes, float absmax, size_t n) {
    for (size_t i = 0; i < n; i++) x[i] = d->value[codes[i]] * absmax;
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

/* In two loops: the first is vectors, the second look-ups. Whatever is beyond 1 or not a number (from states that were never ours)
 * gets some code. */
void dynamic8_encode(const dynamic8 *d, uint8_t *codes, float *absmax, const float *x, size_t n) {
    float max = largest(x, n), divisor = max > 0 ? max : 1.0f, part[DYNAMIC8_BLOCK];
    int32_t place[DYNAMIC8_BLOCK];
    const uint8_t *first = d->first;
    *absmax = max;
    for (size_t i = 0; i < n; i++) {
        part[i] = x[i] / divisor;
        uint32_t bits = half_f32_to_bits(part[i]);
        int32_t bucket = (int32_t)((bits & 0x7fffffffu) >> 16) - (int32_t)DYNAMIC8_LOWEST;
        bucket = bucket < 0 ? 0 : bucket;
        bucket = bucket < (int32_t)DYNAMIC8_BUCKETS ? bucket : (int32_t)DYNAMIC8_BUCKETS - 1;
        place[i] = bucket + (bits >> 31 ? (int32_t)DYNAMIC8_BUCKETS : 0);
    }
    for (size_t i = 0; i < n; i++) {
        unsigned code = first[place[i]];
        codes[i] = (uint8_t)(code + (part[i] > d->midpoint[code]));
    }
}
