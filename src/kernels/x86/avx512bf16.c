/* avx512bf16.c: the matrix product on pairs of bf16 (vdpbf16ps): twice the rate of fp32 FMA where the level is taken by
 * default (base/cpu.c). Both products of a pair are added to the fp32 accumulator, denormals count as zero. */
#include "kernels/x86/avx512_words.h"

#include <string.h>

#include "kernels/kernels.h"

#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 64")
#endif
#define NR (NV * VL)

static inline vu load_bytes(const char *p, size_t n_bytes) {
    if (n_bytes >= VL * 4) return vu_load(p);
    char block[64] = {0};
    memcpy(block, p, n_bytes);
    return vu_load(block);
}

static void panel_rows_pairs(uint32_t *panel, const void *w, size_t ld, size_t n, size_t k) {
    for (size_t j0 = 0; j0 < NR; j0 += VL) {
        const char *rows = (const char *)w + j0 * ld * 2;
        for (size_t i = 0; i < k; i += 2 * VL) {
            vu r[16];
            size_t left = k - i < 2 * VL ? k - i : 2 * VL;
            UNROLL
            for (size_t j = 0; j < VL; j++) r[j] = j0 + j < n ? load_bytes(rows + j * ld * 2 + i * 2, left * 2) : vu_zero();
            vu_transpose(r);
            for (size_t c = 0; c < (left + 1) / 2; c++) vu_store(panel + (i / 2 + c) * NR + j0, r[c]);
        }
    }
}

#define TILE_TYPE uint32_t
#define TILE_MULTIPLY(acc, a, b) _mm512_dpbf16_ps(acc, (__m512bh)_mm512_set1_epi32((int)(a)), (__m512bh)vu_load(b))
#include "kernels/tmpl/tile.h"

void kernels_fill_avx512bf16(kernels *k) {
    k->panel_rows_pairs = panel_rows_pairs;
    k->gemm_panel_pairs = tiles_run;
}
