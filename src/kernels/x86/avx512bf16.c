/* avx512bf16.c: the matrix product on pairs of bf16 (vdpbf16ps): twice the rate of fp32 FMA where the level is taken by
 * default (base/cpu.c). x is rounded to bf16. Both products of a pair are added to the fp32 accumulator, denormals count as
 * zero. The headers of pairs stay unused. */
#include "kernels/x86/avx512_words.h"

#include "kernels/tmpl/panel.h"

#include "kernels/x86/avx512_codes.h"

#include "kernels/tmpl/codes_pairs.h"

static void pairs_x(uint32_t *out, const float *x, size_t k) {
    uint16_t *halves = (uint16_t *)(out + KERNELS_PAIRS_HEADER);
    for (size_t i = 0; i < k; i += VL) v_store_bf16(halves + i, v_load_n(x + i, k - i < VL ? k - i : VL));
}

static void panel_rows_pairs(uint32_t *panel, const void *w, size_t ld, size_t n, size_t k) {
    pairs_transpose(panel + NR, w, ld, n, k);
}

/* Weights that are rounded to bf16, so that nothing is lost. */
static void panel_rows_pairs_4bit(uint32_t *panel, const void *w, size_t ld, size_t n, size_t k) {
    (void)ld;
    codes_pairs_transpose(panel + NR, w, n, k);
}

static void panel_pairs(uint32_t *out, const float *panel, size_t k) {
    uint16_t halves[2][VL];
    for (size_t i = 0; i < k; i += 2)
        for (size_t j = 0; j < NR; j += VL) {
            v_store_bf16(halves[0], v_load(panel + i * NR + j));
            v_store_bf16(halves[1], i + 1 < k ? v_load(panel + (i + 1) * NR + j) : v_zero());
            vu_store(out + NR + i / 2 * NR + j, pairs_of(halves[0], halves[1]));
        }
}

#define TILE_TYPE uint32_t
#define TILE_VECTOR vu
#define TILE_BROADCAST(a) _mm512_set1_epi32((int)(a))
#define TILE_LOAD(p) vu_load(p)
#define TILE_MULTIPLY(acc, a, b) _mm512_dpbf16_ps(acc, (__m512bh)(a), (__m512bh)(b))
#include "kernels/tmpl/tile.h"

static void gemm_panel_pairs(float *c, size_t ldc, const uint32_t *x, size_t ldx, const uint32_t *panel, size_t m, size_t n, size_t k_pairs,
                             bool accumulate) {
    tiles_run(c, ldc, x + KERNELS_PAIRS_HEADER, ldx, panel + NR, m, n, k_pairs, accumulate);
}

void kernels_fill_avx512bf16(kernels *k) {
    k->pairs_x = pairs_x;
    k->panel_rows_pairs[PALI_DTYPE_BF16] = panel_rows_pairs;
    k->panel_rows_pairs[PALI_DTYPE_NF4] = panel_rows_pairs_4bit;
    k->panel_rows_pairs[PALI_DTYPE_FP4] = panel_rows_pairs_4bit;
    k->panel_pairs = panel_pairs;
    k->gemm_panel_pairs = gemm_panel_pairs;
}
