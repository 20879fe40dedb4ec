#include "tensor/exec.h"

#include <stdio.h>

#define ROWS_INLINE_FLOATS 16384u /* below this, waking threads costs more than it saves */

pali_status exec_init(exec *e, int n_threads) {
    cpu_level level;
    *e = (exec){0};
    STATUS_TRY(cpu_level_chosen(&level));
    e->k = kernels_get(level);
    if (!e->k) return status_fail(PALI_ERR_UNSUPPORTED, "PALI_CPU: this machine cannot run level %s", cpu_level_name(level));
    STATUS_TRY(pool_new(&e->pool, n_threads));
    e->n_workers = pool_size(e->pool);
    e->worker = mem_calloc(e->n_workers, sizeof *e->worker);
    if (!e->worker) {
        exec_free(e);
        return status_no_memory(sizeof *e->worker);
    }
    return PALI_OK;
}

void exec_free(exec *e) {
    if (e->worker)
        for (size_t i = 0; i < e->n_workers; i++) mem_scratch_free(&e->worker[i]);
    mem_free(e->worker);
    mem_scratch_free(&e->shared);
    mem_scratch_free(&e->acts);
    pool_free(e->pool);
    *e = (exec){0};
}

pali_status exec_check_cancel(const exec *e) {
    if (e->cancel && atomic_load_explicit(e->cancel, memory_order_relaxed)) return status_fail(PALI_ERR_CANCELLED, "cancelled");
    return PALI_OK;
}

pali_status exec_worker_scratch(exec *e, size_t n_bytes) {
    for (size_t i = 0; i < e->n_workers; i++)
        if (!mem_scratch_get(&e->worker[i], n_bytes, 1)) return status_no_memory(n_bytes);
    return PALI_OK;
}

#define SUM_COLS_MAX 256u

typedef struct rows_job {
    const exec *e;
    exec_rows_fn fn;
    void *context;
    size_t n_rows, block;
} rows_job;

static void rows_task(void *context, size_t task, size_t worker) {
    (void)worker;
    const rows_job *job = context;
    size_t begin = task * job->block, end = begin + job->block;
    job->fn(job->e, job->context, begin, end < job->n_rows ? end : job->n_rows);
}

void exec_rows(exec *e, size_t n_rows, size_t cols, exec_rows_fn fn, void *context) {
    size_t block = n_rows * cols <= ROWS_INLINE_FLOATS ? n_rows : (n_rows + 4 * e->n_workers - 1) / (4 * e->n_workers);
    if (n_rows == 0) return;
    rows_job job = {e, fn, context, n_rows, block};
    pool_run(e->pool, (n_rows + block - 1) / block, rows_task, &job);
}

size_t exec_sum_cols(const exec *e, size_t n) {
    size_t cols = (n / (2 * e->n_workers) + 15) & ~(size_t)15; /* cache lines */
    return cols < 16 ? 16 : cols > SUM_COLS_MAX ? SUM_COLS_MAX : cols;
}

void exec_tap(const exec *e, const char *name, int layer, const float *x, size_t rows, size_t cols) {
    if (!e->tap) return;
    char full[64];
    if (layer >= 0) {
        (void)snprintf(full, sizeof full, "%s.%d", name, layer);
        name = full;
    }
    e->tap(e->tap_user, name, x, rows, cols);
}
