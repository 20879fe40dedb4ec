/* bytes.h: loads of pieces of weight rows, at any alignment. */
#ifndef PALI_KERNELS_X86_BYTES_H
#define PALI_KERNELS_X86_BYTES_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline __m128i load16(const void *p) {
    return _mm_loadu_si128((const __m128i *)p);
}

static inline __m256i load32(const void *p) {
    return _mm256_loadu_si256((const __m256i *)p);
}

static inline int32_t load_i32(const void *p) {
    int32_t x;
    memcpy(&x, p, sizeof x);
    return x;
}

/* Lane j: the 16 bits at p[j] + at. */
static inline __m128i load_u16_each(const uint8_t *const p[8], size_t at) {
    short h[8];
    for (int j = 0; j < 8; j++) memcpy(&h[j], p[j] + at, 2);
    return _mm_setr_epi16(h[0], h[1], h[2], h[3], h[4], h[5], h[6], h[7]);
}

#endif
