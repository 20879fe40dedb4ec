/* optim_state.h: what the optimizers' files share: the states, and chunks of a parameter as f32. Not for others. */
#ifndef PALI_TRAIN_OPTIM_STATE_H
#define PALI_TRAIN_OPTIM_STATE_H

#include "train/dynamic8.h"
#include "train/optim.h"

#define OPTIM_CHUNK 1024u /* elements converted at a time: whole blocks of 8-bit states; five of them fit a first-level cache */

/* A running mean [n] in one of three forms. */
typedef struct moment {
    optim_dtype dtype;
    void *data;   /* [n]; NULL: there is none */
    void *absmax; /* f32 [ceil(n / 256)] of 8-bit codes */
} moment;

typedef struct state {
    moment m, v;
    void *row, *col; /* Adafactor: f32 means of g^2 along columns and along rows, of each block of the grid; NULL: not factored */
} state;

/* A parameter as Adafactor sees it: a matrix of [rows, cols] cut into a grid of blocks, each factored by itself: heads, or
 * what comes before the last two axes. */
typedef struct grid {
    size_t rows, cols, row_blocks, col_blocks; /* rows and cols of the whole; 0 rows: not factored */
} grid;

/* Adafactor's scratch for one parameter at a time. */
typedef struct factors {
    float *row, *col;       /* u = g * row * col */
    double *partial;        /* [tasks, cols] sums of g^2 along rows */
    double *sums;           /* [tasks] of u^2 */
} factors;

/* What all of Adam's variants come down to:
 * p = (p * before - step * m / (sqrt(v) * root + eps)) * after */
typedef struct adam_rate {
    float before, after, step, root, eps;
} adam_rate;

struct optim {
    optim_options opt;
    params *list;
    state *states; /* one a parameter */
    void *memory;
    size_t memory_bytes;
    scratchfile file;
    const kernels *k; /* of the update that runs */
    uint64_t step;
    optim_rate rate;
    dynamic8 map_m, map_v;
    factors scratch; /* at the start of memory */
};

static inline bool optim_is_bv(const optim *o) {
    return o->opt.kind == OPTIM_ADAM_BV || o->opt.kind == OPTIM_ADAFACTOR_BV;
}
static inline bool optim_is_adafactor(optim_kind kind) {
    return kind == OPTIM_ADAFACTOR || kind == OPTIM_ADAFACTOR_BV;
}
/* Weight decay of a parameter under the optimizer's rule. */
static inline double optim_decay(const optim *o, const param *p) {
    return (optim_is_bv(o) ? p->kernel : p->decay) ? o->opt.weight_decay : 0;
}

/* Elements at..at+n of a parameter, n <= OPTIM_CHUNK, as f32: where they are if they are, or in `room`. */
float *optim_value(const optim *o, const param *p, size_t at, size_t n, float *room);
/* Back again, rounded as the storage wants. */
void optim_value_store(const optim *o, const param *p, size_t at, size_t n, const float *value);
/* The gradient times grad_scale, in room. */
void optim_grad(const optim *o, const param *p, size_t at, size_t n, float *room);
float *optim_moment(const optim *o, const moment *m, const dynamic8 *map, size_t at, size_t n, float *room);
void optim_moment_store(const optim *o, const moment *m, const dynamic8 *map, size_t at, size_t n, const float *x);

/* Updates elements begin..end, a multiple of OPTIM_CHUNK apart or the last. */
void adam_range(const optim *o, const param *p, const state *s, size_t begin, size_t end);
void sgd_range(const optim *o, const param *p, const state *s, size_t begin, size_t end);

/* Whether Muon makes the parameter's updates orthogonal. */
bool optim_is_muon(const optim_options *o, const param *p);
/* Updates all of it, with scratch of optim_worker_bytes. */
void muon_update(const optim *o, const param *p, const state *s, void *scratch);

grid adafactor_grid(const optim_options *o, const param *p);
/* Elements of scratch: of row, col, partial and sums together, in bytes. */
size_t adafactor_scratch_bytes(const optim_options *o, const params *p);
void adafactor_scratch_place(optim *o);
void adafactor_update(optim *o, exec *e, const param *p, const state *s);

#endif
