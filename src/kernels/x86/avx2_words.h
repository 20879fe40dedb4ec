/* avx2_words.h: the vector words of tmpl/loops.h for AVX2, FMA and F16C. 12 accumulators + 2 panel vectors + 1 broadcast of 16
 * registers. */
#ifndef PALI_KERNELS_X86_AVX2_WORDS_H
#define PALI_KERNELS_X86_AVX2_WORDS_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#define VL ((size_t)8)
#define NV ((size_t)2)
#define MR ((size_t)6)
#define DOT_ACC ((size_t)2)
#define DOT_ROWS ((size_t)4)

typedef __m256 vf;
typedef __m256i vu;

static inline __m256i v_first(size_t n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

#define v_opaque(x) __asm__("" : "+x"(x))
#define v_zero() _mm256_setzero_ps()
#define v_set1(x) _mm256_set1_ps(x)
#define v_load(p) _mm256_loadu_ps(p)
#define v_store(p, x) _mm256_storeu_ps(p, x)
#define v_load_n(p, n) ((n) < VL ? _mm256_maskload_ps(p, v_first(n)) : _mm256_loadu_ps(p))
#define v_store_n(p, x, n) ((n) < VL ? _mm256_maskstore_ps(p, v_first(n), x) : _mm256_storeu_ps(p, x)) /* masks are slow on some */
#define v_keep_n(x, n) _mm256_and_ps(x, _mm256_castsi256_ps(v_first(n)))
#define v_add(a, b) _mm256_add_ps(a, b)
#define v_sub(a, b) _mm256_sub_ps(a, b)
#define v_mul(a, b) _mm256_mul_ps(a, b)
#define v_div(a, b) _mm256_div_ps(a, b)
#define v_fma(a, b, c) _mm256_fmadd_ps(a, b, c)
#define v_fnma(a, b, c) _mm256_fnmadd_ps(a, b, c)
#define v_max(a, b) _mm256_max_ps(a, b)
#define v_min(a, b) _mm256_min_ps(a, b)
#define v_round(x) _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)
#define v_pow2(n) _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23))
#define v_abs(x) _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x)
#define v_sign_of(a, b) _mm256_or_ps(a, _mm256_and_ps(b, _mm256_set1_ps(-0.0f)))
#define v_pick_less(a, b, x, y) _mm256_blendv_ps(y, x, _mm256_cmp_ps(a, b, _CMP_LT_OQ))
#define v_load_f32(p) _mm256_loadu_ps((const float *)(const void *)(p))
#define v_load_bf16(p) _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)(p))), 16))
#define v_load_f16(p) _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(p)))

static inline float v_hsum(vf x) {
    __m128 half = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    half = _mm_add_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
}

static inline float v_hmax(vf x) {
    __m128 half = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    half = _mm_max_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_max_ss(half, _mm_movehdup_ps(half)));
}

/* The low halves of 8 lanes whose high halves are zero. */
static inline __m128i narrow(__m256i x) {
    return _mm_packus_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
}

/* Adding 0x7fff and the bit that decides ties rounds to nearest even; NaN keeps its upper half, made quiet. */
static inline void v_store_bf16(uint16_t *p, vf x) {
    __m256i bits = _mm256_castps_si256(x), high = _mm256_srli_epi32(bits, 16), one = _mm256_set1_epi32(1);
    __m256i rounded = _mm256_srli_epi32(_mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), _mm256_and_si256(high, one)), 16);
    __m256i nan = _mm256_or_si256(high, _mm256_set1_epi32(0x40)), is_nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    _mm_storeu_si128((__m128i *)(void *)p, narrow(_mm256_blendv_epi8(rounded, nan, is_nan)));
}

#define vu_zero() _mm256_setzero_si256()
#define vu_load(p) _mm256_loadu_si256((const __m256i *)(const void *)(p))
#define vu_store(p, x) _mm256_storeu_si256((__m256i *)(void *)(p), x)
#define vu_even_bf16(x) _mm256_castsi256_ps(_mm256_slli_epi32(x, 16))
#define vu_odd_bf16(x) _mm256_castsi256_ps(_mm256_and_si256(x, _mm256_set1_epi32((int)0xffff0000u)))
#define vu_even_f16(x) _mm256_cvtph_ps(narrow(_mm256_and_si256(x, _mm256_set1_epi32(0xffff))))
#define vu_odd_f16(x) _mm256_cvtph_ps(narrow(_mm256_srli_epi32(x, 16)))

/* 8 x 8: interleave 32-bit lanes, then 64-bit lanes, then exchange 128-bit halves. */
static inline void vu_transpose(vu r[8]) {
    vu t[8];
    for (int i = 0; i < 4; i++) {
        t[2 * i] = _mm256_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm256_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
    }
    for (int i = 0; i < 2; i++) {
        r[4 * i] = _mm256_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
        r[4 * i + 1] = _mm256_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
        r[4 * i + 2] = _mm256_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
        r[4 * i + 3] = _mm256_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        vu low = _mm256_permute2x128_si256(r[i], r[4 + i], 0x20), high = _mm256_permute2x128_si256(r[i], r[4 + i], 0x31);
        r[i] = low;
        r[4 + i] = high;
    }
}

#endif
