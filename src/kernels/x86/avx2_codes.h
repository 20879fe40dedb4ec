/* avx2_codes.h: the words of tmpl/codes.h in 256 bits. A table lies in four registers, one for each byte of its floats: a byte
 * shuffle looks up 32 codes at once. (Two shuffles of 8 floats each and a choice between them, for 8 codes, are no faster, and
 * leave no use for the zeros of bf16.) */
#ifndef PALI_KERNELS_X86_AVX2_CODES_H
#define PALI_KERNELS_X86_AVX2_CODES_H

#include <stdbool.h>

#include "kernels/x86/bytes.h"

#define CODES ((size_t)4)

typedef struct vt {
    __m256i byte[4]; /* of all 16 floats, the same in both halves */
} vt;

static inline vf v_round_bf16(vf x) {
    vu bits = _mm256_castps_si256(x), odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    vu rounded = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd); /* finite scales: no NaN */
    return _mm256_castsi256_ps(_mm256_and_si256(rounded, _mm256_set1_epi32((int)0xffff0000u)));
}
#define v_round_f16(x) _mm256_cvtph_ps(_mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC))
#define v_load_i8(p) _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)(p))))

#define vt_make(t, s, r) vt_from(v_rounded(v_mul(v_load(t), v_set1(s)), r), v_rounded(v_mul(v_load((t) + 8), v_set1(s)), r))
static inline vt vt_from(vf low, vf high) {
    const vu bytes = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    const vu even = _mm256_setr_epi32(0, 4, 1, 5, 0, 4, 1, 5), odd = _mm256_setr_epi32(2, 6, 3, 7, 2, 6, 3, 7);
    vu a = _mm256_shuffle_epi8(_mm256_castps_si256(low), bytes), b = _mm256_shuffle_epi8(_mm256_castps_si256(high), bytes);
    vu c = _mm256_unpacklo_epi32(a, b), d = _mm256_unpackhi_epi32(a, b); /* bytes 0 and 1, bytes 2 and 3 */
    return (vt){{_mm256_permutevar8x32_epi32(c, even), _mm256_permutevar8x32_epi32(c, odd), _mm256_permutevar8x32_epi32(d, even),
                 _mm256_permutevar8x32_epi32(d, odd)}};
}

/* 32 codes of 16 bytes, those of weights 4 i .. 4 i + 3 in the lower half for even i, in the upper one for odd: interleaving within
 * halves then leaves 8 neighbours in each vector. */
static inline void v_decode(vf out[4], vt t, const uint8_t *p, const bool bf16) {
    const vu pairs = _mm256_setr_epi8(0, 0, 1, 1, 4, 4, 5, 5, 8, 8, 9, 9, 12, 12, 13, 13, 2, 2, 3, 3, 6, 6, 7, 7, 10, 10, 11, 11, 14, 14, 15, 15);
    vu twice = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(load16(p)), pairs), low[2] = {vu_zero(), vu_zero()};
    vu code = _mm256_or_si256(_mm256_and_si256(twice, _mm256_set1_epi16(0x0f00)),
                              _mm256_and_si256(_mm256_srli_epi16(twice, 4), _mm256_set1_epi16(0x000f)));
    if (!bf16) {
        vu a = _mm256_shuffle_epi8(t.byte[0], code), b = _mm256_shuffle_epi8(t.byte[1], code);
        low[0] = _mm256_unpacklo_epi8(a, b);
        low[1] = _mm256_unpackhi_epi8(a, b);
    }
    vu a = _mm256_shuffle_epi8(t.byte[2], code), b = _mm256_shuffle_epi8(t.byte[3], code);
    vu high[2] = {_mm256_unpacklo_epi8(a, b), _mm256_unpackhi_epi8(a, b)};
    for (size_t i = 0; i < 2; i++) {
        out[2 * i] = _mm256_castsi256_ps(_mm256_unpacklo_epi16(low[i], high[i]));
        out[2 * i + 1] = _mm256_castsi256_ps(_mm256_unpackhi_epi16(low[i], high[i]));
    }
}

#endif
