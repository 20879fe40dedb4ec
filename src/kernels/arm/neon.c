/* neon.c: the loops in words of 4 lanes. Two products of bytes, |w| <= 128 and |x| <= 127, fit in 16 bits. */
#include "kernels/arm/neon_words.h"

#include "kernels/tmpl/loops.h"

#include "kernels/arm/neon_codes.h"

#include "kernels/tmpl/codes_rows.h"

static inline int32x4_t dot16(int32x4_t acc, int8x16_t w, int8x16_t x) {
    int16x8_t low = vmull_s8(vget_low_s8(w), vget_low_s8(x)), high = vmull_high_s8(w, x);
    return vpadalq_s16(acc, vpaddq_s16(low, high));
}
#include "kernels/arm/neon_blocks.h"

#include "kernels/tmpl/blocks.h"
#include "kernels/tmpl/quantize.h"

void kernels_fill_neon(kernels *k) {
    loops_fill(k);
    codes_fill(k);
    blocks_fill(k);
    quantize_fill(k);
}
