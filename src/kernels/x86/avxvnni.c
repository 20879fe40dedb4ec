/* avxvnni.c: products with block-quantized weights by vpdpbusd in 256 bits: four byte products a lane in one instruction. */
#include "kernels/x86/avx2_words.h"

#define OFFSETS 1
#define PLANES 1
#define vi_panel8(x) _mm256_xor_si256(x, _mm256_set1_epi8(-128))
#define vi_dot8(acc, w, s, x) _mm256_dpbusd_avx_epi32(acc, w, x)
#define vi_dot4(acc, w, x) _mm256_dpbusd_avx_epi32(acc, w, x)
#define vi_dot4_end(acc) (acc)
#define vw_dot8(w, x) _mm256_dpbusd_avx_epi32(vi_zero(), vi_panel8(w), x)
#define vw_dot4(w, x) _mm256_dpbusd_avx_epi32(vi_zero(), w, x)
#include "kernels/x86/avx2_blocks.h"

#include "kernels/tmpl/blocks.h"

void kernels_fill_avxvnni(kernels *k) {
    blocks_fill(k);
}
