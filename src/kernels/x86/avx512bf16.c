/* avx512bf16.c: the matrix product on pairs of bf16 (vdpbf16ps): twice the rate of fp32 FMA where the level is taken by
 * default (base/cpu.c). Both products of a pair are added to the fp32 accumulator, denormals count as zero. */
#include "kernels/x86/avx512_words.h"

#include "kernels/tmpl/panel.h"

static void panel_rows_pairs(uint32_t *panel, const void *w, size_t ld, size_t n, size_t k) {
    for (size_t j0 = 0; j0 < NR; j0 += VL) {
        const char *rows = (const char *)w + j0 * ld * 2;
        for (size_t i = 0; i < k; i += 2 * VL) {
            vu r[VL];
            size_t left = k - i < 2 * VL ? k - i : 2 * VL;
            rows_transpose(r, rows, ld * 2, n > j0 ? n - j0 : 0, i * 2, left * 2);
            for (size_t c = 0; c < (left + 1) / 2; c++) vu_store(panel + (i / 2 + c) * NR + j0, r[c]);
        }
    }
}

#define TILE_TYPE uint32_t
#define TILE_VECTOR vu
#define TILE_BROADCAST(a) _mm512_set1_epi32((int)(a))
#define TILE_LOAD(p) vu_load(p)
#define TILE_MULTIPLY(acc, a, b) _mm512_dpbf16_ps(acc, (__m512bh)(a), (__m512bh)(b))
#include "kernels/tmpl/tile.h"

void kernels_fill_avx512bf16(kernels *k) {
    k->panel_rows_pairs = panel_rows_pairs;
    k->gemm_panel_pairs = tiles_run;
}
