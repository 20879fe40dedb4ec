/* exec.h: what a computation runs with: kernels, threads, scratch, and a tap for tests. One per session. */
#ifndef PALI_TENSOR_EXEC_H
#define PALI_TENSOR_EXEC_H

#include <stdatomic.h>

#include "base/mem.h"
#include "base/pool.h"

struct kernels;

/* Sees every named intermediate, named as in the reference ("vision.layer.3", "text.layer.0.attn"). [rows, cols]. */
typedef void (*exec_tap_fn)(void *user, const char *name, const float *x, size_t rows, size_t cols);

typedef struct exec {
    const struct kernels *k;
    pool *pool;
    size_t n_workers;
    mem_scratch *worker;     /* [n_workers] one block each, sized by the op that runs */
    mem_scratch shared;      /* converted activations of the current linear */
    exec_tap_fn tap;         /* NULL: off */
    void *tap_user;
    const atomic_int *cancel; /* NULL, or non-zero means stop: checked between layers */
} exec;

/* n_threads 0: physical cores. Reads PALI_CPU. */
pali_status exec_init(exec *e, int n_threads);
void exec_free(exec *e);
pali_status exec_check_cancel(const exec *e);

#endif
