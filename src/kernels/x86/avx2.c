/* avx2.c: the loops in words of 8 lanes. Products of bytes are unsigned by signed and pairs of them saturate at 16 bits, so the
 * sign of an 8-bit weight goes to x: |w| <= 128, |x| <= 127, two products are at most 32,512. Those of 4-bit weights are so
 * small that a block's stay in 16 bits: 8 * 2 * 15 * 127 = 30,480.
 *
 * vpsignb takes the ports of the multipliers, so in panels a sign is a byte of ones, and x ^ ones = -x - 1: for w < 0 the sum
 * comes to w x - |w|, and sums start from the block's sum of those |w|. Two products are then -32,768 to 32,512. */
#include "kernels/x86/avx2_words.h"

#include "kernels/tmpl/loops.h"

#include "kernels/x86/avx2_codes.h"

#include "kernels/tmpl/codes_rows.h"

#define OFFSETS 0
#define PLANES 2
#define vi_panel8(w) _mm256_abs_epi8(w)
#define vi_signs8(w) _mm256_cmpgt_epi8(_mm256_setzero_si256(), w)

static inline __m256i dot8_pairs(__m256i w, __m256i x) {
    return _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
}

#define pairs_sum(x) _mm256_madd_epi16(x, _mm256_set1_epi16(1))
#define vi_dot8(acc, w, s, x) _mm256_add_epi32(acc, pairs_sum(_mm256_maddubs_epi16(w, _mm256_xor_si256(x, s))))
#define vi_start8(n, w) \
    _mm256_add_epi32(n, pairs_sum(_mm256_maddubs_epi16(_mm256_and_si256(vi_panel8(w), vi_signs8(w)), _mm256_set1_epi8(1))))
#define vi_dot4(acc, w, x) _mm256_add_epi16(acc, _mm256_maddubs_epi16(w, x))
#define vi_dot4_end(acc) pairs_sum(acc)
#define vw_dot8(w, x) pairs_sum(dot8_pairs(w, x))
#define vw_dot4(w, x) pairs_sum(_mm256_maddubs_epi16(w, x))
#include "kernels/x86/avx2_blocks.h"

#include "kernels/tmpl/blocks.h"
#include "kernels/tmpl/quantize.h"

void kernels_fill_avx2(kernels *k) {
    loops_fill(k);
    codes_fill(k);
    blocks_fill(k);
    quantize_fill(k);
}
