/* compensate.h: rounding to 4 bits that minds what the weights will be multiplied with.
 *
 * Rounded one by one, weights err alike whatever x is. Here those of a row are rounded from left to right, and what an error does to
 * the product is taken back, as far as that can be done, by the weights to its right, which are still to be rounded. The measure is
 * sum over x of ((w - rounded w) x)^2, so that all there is to know of x is H = sum of x x^T. With H + damping = V V^T, V upper
 * triangular, U = V^-1, an error e of column i is answered by w_j -= e U_ij / U_ii for all j > i.
 * Source: Frantar et al. 2022, GPTQ, arXiv 2210.17323; scales and minima are those that the encoder finds for a block when it is
 * reached.
 *
 * Columns go in spans, which know nothing of each other: H of a span of 2048 is 16 MiB, that of all 16384 would be 1 GiB. */
#ifndef PALI_TENSOR_COMPENSATE_H
#define PALI_TENSOR_COMPENSATE_H

#include "kernels/blocks.h"
#include "kernels/kernels.h"

#define COMPENSATE_SPAN 2048u   /* a multiple of SUPER_BLOCK */
#define COMPENSATE_DAMPING 0.1  /* of the mean of H's diagonal, added to it, because what was seen is a sample; 0.01 is worse after few rows */
#define COMPENSATE_ROWS 32u     /* rows that take turns on a part of the factors while it is in cache */

#define COMPENSATE_PANEL 32u    /* columns, and rows, that are factored together */

_Static_assert(COMPENSATE_SPAN % SUPER_BLOCK == 0, "a span is whole blocks");

/* cols > 0 everywhere. */
static inline size_t compensate_n_spans(size_t cols) {
    return (cols + COMPENSATE_SPAN - 1) / COMPENSATE_SPAN;
}
static inline size_t compensate_span_cols(size_t cols, size_t span) {
    size_t left = cols - span * COMPENSATE_SPAN;
    return left < COMPENSATE_SPAN ? left : COMPENSATE_SPAN;
}
/* Where a span's [n, n] begin. */
static inline size_t compensate_offset(size_t span) {
    return span * COMPENSATE_SPAN * COMPENSATE_SPAN;
}
/* Floats that those of all spans are. */
static inline size_t compensate_floats(size_t cols) {
    size_t last = compensate_n_spans(cols) - 1, n = compensate_span_cols(cols, last);
    return compensate_offset(last) + n * n;
}

static inline size_t compensate_scratch(size_t n) {
    return n * n + COMPENSATE_PANEL * n;
}

/* Types whose rows can be rounded so. */
static inline bool compensate_has(pali_dtype dtype) {
    return dtype == PALI_DTYPE_Q4_0 || dtype == PALI_DTYPE_Q4_1 || dtype == PALI_DTYPE_Q4_K;
}

/* H of a span to its factors, in place: row i has -U_ij / U_ii at j > i, and zeros. `scratch` has
 * compensate_scratch(n) doubles. An H of zeros, of
 * columns that were never seen, gives zeros: nothing is compensated. false: not a number. */
bool compensate_factor(float *h, size_t n, double *scratch);

/* Rounds n rows of floats [n, cols], which are used up, into `out`. */
void compensate_rows(const kernels *k, void *out, pali_dtype dtype, const float *factors, float *rows, size_t n, size_t cols);

#endif
