/* avx512_words.h: the vector words of tmpl/loops.h for AVX-512. 24 accumulators + 4 panel vectors + 1 broadcast = 29 of 32
 * registers. */
#ifndef PALI_KERNELS_X86_AVX512_WORDS_H
#define PALI_KERNELS_X86_AVX512_WORDS_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#define VL ((size_t)16)
#define NV ((size_t)4)
#define MR ((size_t)6)
#define DOT_ACC ((size_t)4)
#define DOT_ROWS ((size_t)4)

typedef __m512 vf;
typedef __m512i vu;

static inline __mmask16 v_first(size_t n) {
    return (__mmask16)((1u << n) - 1u);
}

#define v_opaque(x) __asm__("" : "+v"(x))
#define v_zero() _mm512_setzero_ps()
#define v_set1(x) _mm512_set1_ps(x)
#define v_load(p) _mm512_loadu_ps(p)
#define v_store(p, x) _mm512_storeu_ps(p, x)
#define v_load_n(p, n) _mm512_maskz_loadu_ps(v_first(n), p)
#define v_store_n(p, x, n) _mm512_mask_storeu_ps(p, v_first(n), x)
#define v_keep_n(x, n) _mm512_maskz_mov_ps(v_first(n), x)
#define v_add(a, b) _mm512_add_ps(a, b)
#define v_sub(a, b) _mm512_sub_ps(a, b)
#define v_mul(a, b) _mm512_mul_ps(a, b)
#define v_div(a, b) _mm512_div_ps(a, b)
#define v_fma(a, b, c) _mm512_fmadd_ps(a, b, c)
#define v_fnma(a, b, c) _mm512_fnmadd_ps(a, b, c)
#define v_max(a, b) _mm512_max_ps(a, b)
#define v_min(a, b) _mm512_min_ps(a, b)
#define v_hsum(x) _mm512_reduce_add_ps(x)
#define v_hmax(x) _mm512_reduce_max_ps(x)
#define v_round(x) _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)
#define v_pow2(n) _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127)), 23))
#define v_abs(x) _mm512_abs_ps(x)
#define v_sign_of(a, b) _mm512_or_ps(a, _mm512_and_ps(b, _mm512_set1_ps(-0.0f)))
#define v_pick_less(a, b, x, y) _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), y, x)
#define v_load_f32(p) _mm512_loadu_ps((const void *)(p))
#define v_load_bf16(p) _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)(p))), 16))
#define v_load_f16(p) _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)(p)))

/* Adding 0x7fff and the bit that decides ties rounds to nearest even; NaN keeps its upper half, made quiet. */
static inline void v_store_bf16(uint16_t *p, vf x) {
    __m512i bits = _mm512_castps_si512(x), high = _mm512_srli_epi32(bits, 16);
    __m512i rounded = _mm512_srli_epi32(_mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), _mm512_and_si512(high, _mm512_set1_epi32(1))), 16);
    __m512i nan = _mm512_or_si512(high, _mm512_set1_epi32(0x40));
    rounded = _mm512_mask_mov_epi32(rounded, _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), nan);
    _mm256_storeu_si256((__m256i *)(void *)p, _mm512_cvtepi32_epi16(rounded));
}

#define v_store_f16(p, x) _mm256_storeu_si256((__m256i *)(void *)(p), _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC))

/* Lane j: even[j] in the low half, odd[j] in the high one. */
static inline __m512i pairs_of(const uint16_t even[16], const uint16_t odd[16]) {
    __m512i low = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)even));
    __m512i high = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)odd));
    return _mm512_or_si512(low, _mm512_slli_epi32(high, 16));
}

#define vu_zero() _mm512_setzero_si512()
#define vu_load(p) _mm512_loadu_si512(p)
#define vu_store(p, x) _mm512_storeu_si512(p, x)
#define vu_even_bf16(x) _mm512_castsi512_ps(_mm512_slli_epi32(x, 16))
#define vu_odd_bf16(x) _mm512_castsi512_ps(_mm512_and_si512(x, _mm512_set1_epi32((int)0xffff0000u)))
#define vu_even_f16(x) _mm512_cvtph_ps(_mm512_cvtepi32_epi16(x))
#define vu_odd_f16(x) _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32(x, 16)))

/* 16 x 16 in four rounds: interleave 32-bit lanes, 64-bit lanes, then exchange 128-bit quarters twice. */
static inline void vu_transpose(vu r[16]) {
    vu t[16];
#define EACH(n) _Pragma("GCC unroll 16") for (int i = 0; i < (n); i++)
    EACH(8) {
        t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
    }
    /* r[4 g + c]: column c of each 128-bit quarter for rows 4 g .. 4 g + 3 */
    EACH(4) {
        r[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
        r[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
        r[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
        r[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
    }
    EACH(4) {
        t[i] = _mm512_shuffle_i32x4(r[i], r[4 + i], 0x88);           /* quarters 0, 2 of row groups 0, 1 */
        t[4 + i] = _mm512_shuffle_i32x4(r[i], r[4 + i], 0xdd);       /* quarters 1, 3 */
        t[8 + i] = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0x88);  /* the same of row groups 2, 3 */
        t[12 + i] = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0xdd);
    }
    EACH(4) {
        r[i] = _mm512_shuffle_i32x4(t[i], t[8 + i], 0x88);
        r[8 + i] = _mm512_shuffle_i32x4(t[i], t[8 + i], 0xdd);
        r[4 + i] = _mm512_shuffle_i32x4(t[4 + i], t[12 + i], 0x88);
        r[12 + i] = _mm512_shuffle_i32x4(t[4 + i], t[12 + i], 0xdd);
    }
#undef EACH
}

#endif
