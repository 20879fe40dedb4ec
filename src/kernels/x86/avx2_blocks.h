/* avx2_blocks.h: the words of tmpl/blocks.h in 256 bits. Whoever includes it has defined the dot products:
 * OFFSETS, vi_dot8, vi_panel8, vi_dot4, vi_dot4_end, vw_dot8, vw_dot4. */
#ifndef PALI_KERNELS_X86_AVX2_BLOCKS_H
#define PALI_KERNELS_X86_AVX2_BLOCKS_H

#include "kernels/x86/bytes.h"

#define BNV ((size_t)2)
#define BMR ((size_t)4)
#define SUMS_IN_MEMORY 1
#define WIDE ((size_t)1)

typedef __m256i vi;
typedef __m256i vw;

#define vi_zero() _mm256_setzero_si256()
#define vi_set1(x) _mm256_set1_epi32(x)
#define vi_add(a, b) _mm256_add_epi32(a, b)
#define vi_from_vu(x) (x)
#define v_from_vi(x) _mm256_cvtepi32_ps(x)
#define vu_and(a, b) _mm256_and_si256(a, b)
#define vu_or(a, b) _mm256_or_si256(a, b)
#define vu_shr(x, n) _mm256_srli_epi32(x, n)
#define vu_set1(x) _mm256_set1_epi32(x)
#define vw_load(p) load32(p)
#define vw_q8_0(p) vw_load(p)

#define vi_load4(p) _mm256_set1_epi32(load_i32(p))

/* Low nibbles in the lower half, high ones in the upper. */
static inline vw vw_q4(const uint8_t *p, size_t stride) {
    (void)stride;
    __m256i both = _mm256_broadcastsi128_si256(load16(p));
    return _mm256_and_si256(_mm256_srlv_epi32(both, _mm256_setr_epi32(0, 0, 0, 0, 4, 4, 4, 4)), _mm256_set1_epi8(15));
}

static inline vw vw_q4_k(const uint8_t *p, size_t half) {
    return _mm256_and_si256(_mm256_srl_epi32(vw_load(p), _mm_cvtsi32_si128(half ? 4 : 0)), _mm256_set1_epi8(15));
}

/* Two rows' partial sums to one vector of half as many: a0+a1, a2+a3, b0+b1, b2+b3 in each 128 bits. */
static inline __m256i pairs_add(__m256i a, __m256i b) {
    __m256 x = _mm256_castsi256_ps(a), y = _mm256_castsi256_ps(b);
    return _mm256_add_epi32(_mm256_castps_si256(_mm256_shuffle_ps(x, y, 0x88)), _mm256_castps_si256(_mm256_shuffle_ps(x, y, 0xdd)));
}

static inline void vw_sum_rows(vi out[1], const vi part[8]) {
    __m256i low = pairs_add(pairs_add(part[0], part[1]), pairs_add(part[2], part[3]));
    __m256i high = pairs_add(pairs_add(part[4], part[5]), pairs_add(part[6], part[7]));
    out[0] = _mm256_add_epi32(_mm256_permute2x128_si256(low, high, 0x20), _mm256_permute2x128_si256(low, high, 0x31));
}

static inline void vw_transpose(vu out[8], const vw r[8]) {
    for (int i = 0; i < 8; i++) out[i] = r[i];
    vu_transpose(out);
}

#define v_load_f16_each(p, at) _mm256_cvtph_ps(load_u16_each(p, at))

/* 16 bytes of each of 8 rows: rows j and j + 4 share a vector, then 4 x 4 in each half. */
static inline void vu_load_each(vu out[4], const uint8_t *const p[8], size_t at) {
    vu r[4], t[4];
    for (int j = 0; j < 4; j++)
        r[j] = _mm256_inserti128_si256(_mm256_castsi128_si256(load16(p[j] + at)),
                                       load16(p[j + 4] + at), 1);
    for (int i = 0; i < 2; i++) {
        t[2 * i] = _mm256_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm256_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
    }
    out[0] = _mm256_unpacklo_epi64(t[0], t[2]);
    out[1] = _mm256_unpackhi_epi64(t[0], t[2]);
    out[2] = _mm256_unpacklo_epi64(t[1], t[3]);
    out[3] = _mm256_unpackhi_epi64(t[1], t[3]);
}

static inline void v_store_i8(int8_t *p, vf x) {
    __m256i i = _mm256_cvtps_epi32(x);
    __m128i h = _mm_packs_epi32(_mm256_castsi256_si128(i), _mm256_extracti128_si256(i, 1));
    _mm_storel_epi64((__m128i *)(void *)p, _mm_packs_epi16(h, h));
}

#endif
