/* exec.h: what a computation runs with: kernels, threads, scratch, and a tap for tests. One per session. */
#ifndef PALI_TENSOR_EXEC_H
#define PALI_TENSOR_EXEC_H

#include <stdatomic.h>

#include "base/mem.h"
#include "base/pool.h"
#include "kernels/kernels.h"

/* Sees every named intermediate: "vision.embed", "vision.layer.3", "vision.post", "projector", "text.embed",
 * "text.layer.0", "text.norm", "logits". x is [rows, cols]. */
typedef void (*exec_tap_fn)(void *user, const char *name, const float *x, size_t rows, size_t cols);

typedef struct exec exec;

/* Sees what goes into the linear layers of the text model's blocks: x [rows, cols] is input `which` (model/gemma.h) of a layer, its
 * first n_pictures rows are of pictures. */
typedef pali_status (*exec_input_fn)(void *user, exec *e, size_t layer, size_t which, const float *x, size_t rows, size_t n_pictures);

struct exec {
    const kernels *k;
    pool *pool;
    size_t n_workers;
    mem_scratch *worker;      /* [n_workers] one block each, sized by the op that runs */
    mem_scratch shared;       /* activations of the current linear in the kernel's own format */
    mem_scratch acts;         /* activations of the running model function */
    exec_tap_fn tap;          /* NULL: off */
    void *tap_user;
    exec_input_fn input;      /* NULL: off */
    void *input_user;
    const atomic_int *cancel; /* NULL, or non-zero means stop: checked between layers */
};

/* Bytes of the scratch above that a computation will ask for: what the memory plan adds up. `worker` is for each. */
typedef struct exec_need {
    size_t worker, shared, acts;
} exec_need;

static inline void exec_need_grow(size_t *need, size_t n_bytes) {
    if (n_bytes > *need) *need = n_bytes;
}

/* n_threads 0: physical cores. Reads PALI_CPU. */
pali_status exec_init(exec *e, int n_threads);
void exec_free(exec *e);
pali_status exec_check_cancel(const exec *e);

/* Gives every worker a scratch block of at least n_bytes (before a pool_run whose tasks use e->worker[i].data). */
pali_status exec_worker_scratch(exec *e, size_t n_bytes);

/* Calls fn on blocks of rows [begin, end) in parallel; `cols` is the work per row, so that little work stays inline. */
typedef void (*exec_rows_fn)(const exec *e, void *context, size_t begin, size_t end);
void exec_rows(exec *e, size_t n_rows, size_t cols, exec_rows_fn fn, void *context);

/* Tasks that work is cut into at least, so that all threads are busy until its end; `each`: a thread. For one it need not be cut. */
static inline size_t exec_n_tasks(const exec *e, size_t each) {
    return e->n_workers == 1 ? 1 : each * e->n_workers;
}

/* Columns a task of sums down the rows of [rows, n], which whoever runs it adds up in order: all threads have some. */
size_t exec_sum_cols(const exec *e, size_t n);

/* Reports x to the tap; `layer` < 0: no number in the name. */
void exec_tap(const exec *e, const char *name, int layer, const float *x, size_t rows, size_t cols);

#endif
