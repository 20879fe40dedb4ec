/* dotprod.c: products with block-quantized weights by sdot: four byte products a lane in one instruction. */
#include "kernels/arm/neon_words.h"

#define dot16(acc, w, x) vdotq_s32(acc, w, x)
#include "kernels/arm/neon_blocks.h"

#include "kernels/tmpl/blocks.h"

void kernels_fill_dotprod(kernels *k) {
    blocks_fill(k);
}
