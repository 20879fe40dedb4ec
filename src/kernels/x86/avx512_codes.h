/* avx512_codes.h: the words of tmpl/codes.h in 512 bits: a register holds the whole table. */
#ifndef PALI_KERNELS_X86_AVX512_CODES_H
#define PALI_KERNELS_X86_AVX512_CODES_H

#include <stdbool.h>

#include "kernels/x86/bytes.h"

#define CODES ((size_t)4)

typedef vf vt;

static inline vf v_round_bf16(vf x) {
    vu bits = _mm512_castps_si512(x), odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    vu rounded = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd); /* finite scales: no NaN */
    return _mm512_castsi512_ps(_mm512_and_si512(rounded, _mm512_set1_epi32((int)0xffff0000u)));
}
#define v_round_f16(x) _mm512_cvtph_ps(_mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC))
#define v_load_i8(p) _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(load16(p)))
#define vt_make(t, s, r) v_rounded(v_mul(v_load(t), v_set1(s)), r)

/* Each lane gets the 4 bytes that its code is in, by two broadcasts from memory, and shifts it down; of what is above, the
 * permutation takes no notice. */
static inline void v_decode(vf out[4], vt t, const uint8_t *p, const bool bf16) {
    const vu shift = _mm512_setr_epi32(4, 0, 12, 8, 20, 16, 28, 24, 4, 0, 12, 8, 20, 16, 28, 24);
    (void)bf16;
    for (size_t i = 0; i < 4; i++) {
        vu low = _mm512_set1_epi32(load_i32(p + 8 * i));
        vu code = _mm512_srlv_epi32(_mm512_mask_set1_epi32(low, 0xff00, load_i32(p + 8 * i + 4)), shift);
        out[i] = _mm512_permutexvar_ps(code, t);
    }
}

#endif
