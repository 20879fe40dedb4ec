/* panel.h: what every file that makes panels needs: transposing weight rows of any alignment. Uses the words of loops.h. */
#ifndef PALI_KERNELS_TMPL_PANEL_H
#define PALI_KERNELS_TMPL_PANEL_H

#include <string.h>

#include "kernels/kernels.h"

#if defined(PALI_SANITIZED) /* every check unrolled with its loop is minutes of compiling */
#define UNROLL
#elif defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 64")
#endif
#define NR (NV * VL)

/* Loads one vector of 32-bit patterns, of which n_bytes exist; the rest is zero. */
static inline vu load_bytes(const char *p, size_t n_bytes) {
    if (n_bytes >= VL * 4) return vu_load(p);
    char block[VL * 4];
    memset(block, 0, sizeof block);
    memcpy(block, p, n_bytes);
    return vu_load(block);
}

/* Transposes VL weight rows: of each 4 VL bytes from byte `at`, of which n_bytes exist; rows beyond n are zero. */
static inline void rows_transpose(vu r[], const char *w, size_t row_bytes, size_t n, size_t at, size_t n_bytes) {
    UNROLL
    for (size_t j = 0; j < VL; j++) r[j] = j < n ? load_bytes(w + j * row_bytes + at, n_bytes) : vu_zero();
    vu_transpose(r);
}

/* A panel of 16-bit weights in pairs along k, as they are: panel[(i / 2) * NR + j] holds elements i (low half) and i + 1 of
 * row j; zero after an odd end and in columns from n on. */
static inline void pairs_transpose(uint32_t *panel, const void *w, size_t ld, size_t n, size_t k) {
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

#endif
