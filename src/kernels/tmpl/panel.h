/* panel.h: what every file that makes panels needs: transposing weight rows of any alignment. Uses the words of loops.h. */
#ifndef PALI_KERNELS_TMPL_PANEL_H
#define PALI_KERNELS_TMPL_PANEL_H

#include <string.h>

#include "kernels/kernels.h"

#if defined(__clang__)
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

#endif
