/* pairs.h: products in 16-bit floats (kernels.h, pairs): of which matrices, and how rows of the left operand lie.
 *
 *   row   step columns: header, pairs | the next step columns: header, pairs | ..
 *
 * The headers also keep the rows of a tile, often 4096 bytes long, from sharing one L1 set. */
#ifndef PALI_TENSOR_PAIRS_H
#define PALI_TENSOR_PAIRS_H

#include "tensor/exec.h"
#include "tensor/mat.h"

#define PAIRS_MIN_WEIGHTS 262144u /* smaller matrices gain nothing from 16-bit products and keep the other operand in full precision */

/* Weights of 16 bits, and codes that are rounded to such a type. */
static inline bool pairs_wanted(const kernels *kn, const mat *w) {
    return w->rows * w->cols >= PAIRS_MIN_WEIGHTS && kn->panel_rows_pairs[w->dtype] && (!w->codes || kn->panel_rows_pairs[w->codes->rounding]);
}

/* Words of a block of a row, and of a row of k columns. step is a multiple of 16. */
static inline size_t pairs_block(size_t step) {
    return KERNELS_PAIRS_HEADER + step / 2;
}

static inline size_t pairs_ld(size_t k, size_t step) {
    return (k + step - 1) / step * pairs_block(step);
}

/* out [m, pairs_ld] = x [m, k] */
typedef struct pairs_rounding {
    uint32_t *out;
    const float *x;
    size_t k, step;
} pairs_rounding;

static inline void pairs_round_rows(const exec *e, void *context, size_t begin, size_t end) {
    const pairs_rounding *p = context;
    for (size_t r = begin; r < end; r++) {
        uint32_t *out = p->out + r * pairs_ld(p->k, p->step);
        for (size_t k0 = 0; k0 < p->k; k0 += p->step, out += pairs_block(p->step))
            e->k->pairs_x(out, p->x + r * p->k + k0, p->k - k0 < p->step ? p->k - k0 : p->step);
    }
}

static inline void pairs_round(exec *e, uint32_t *out, const float *x, size_t m, size_t k, size_t step) {
    pairs_rounding p = {out, x, k, step};
    exec_rows(e, m, k, pairs_round_rows, &p);
}

#endif
