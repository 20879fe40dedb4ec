#include "tensor/norm.h"

typedef struct job {
    float *y, *branch;
    const float *x, *w, *b;
    size_t n;
    float eps;
} job;

static void rms_rows(const exec *e, void *context, size_t begin, size_t end) {
    const job *j = context;
    for (size_t r = begin; r < end; r++) e->k->rms_norm(j->y + r * j->n, j->x + r * j->n, j->w, j->n, j->eps);
}

static void rms_add_rows(const exec *e, void *context, size_t begin, size_t end) {
    const job *j = context;
    for (size_t r = begin; r < end; r++) {
        float *branch = j->branch + r * j->n;
        e->k->rms_norm(branch, branch, j->w, j->n, j->eps);
        e->k->add(j->y + r * j->n, branch, j->n);
    }
}

static void layer_rows(const exec *e, void *context, size_t begin, size_t end) {
    const job *j = context;
    for (size_t r = begin; r < end; r++) e->k->layer_norm(j->y + r * j->n, j->x + r * j->n, j->w, j->b, j->n, j->eps);
}

void norm_rms(exec *e, float *y, const float *x, const float *w, size_t rows, size_t n, float eps) {
    job j = {.y = y, .x = x, .w = w, .n = n, .eps = eps};
    exec_rows(e, rows, n, rms_rows, &j);
}

void norm_rms_add(exec *e, float *y, float *x, const float *w, size_t rows, size_t n, float eps) {
    job j = {.y = y, .branch = x, .w = w, .n = n, .eps = eps};
    exec_rows(e, rows, n, rms_add_rows, &j);
}

void norm_layer(exec *e, float *y, const float *x, const float *w, const float *b, size_t rows, size_t n, float eps) {
    job j = {.y = y, .x = x, .w = w, .b = b, .n = n, .eps = eps};
    exec_rows(e, rows, n, layer_rows, &j);
}

/* ---- Backward ---- */

typedef struct backward_job {
    exec *e;
    float *dx, *dw, *db;
    float *stats; /* [rows, 2] mean, 1 / deviation */
    const float *dy, *x, *w;
    size_t rows, n, sum_cols;
    float eps;
    bool layer, accumulate;
} backward_job;

static void backward_rows(const exec *e, void *context, size_t begin, size_t end) {
    const backward_job *j = context;
    for (size_t r = begin; r < end; r++)
        (j->layer ? e->k->layer_norm_backward : e->k->rms_norm_backward)(j->dx + r * j->n, j->stats + 2 * r, j->dy + r * j->n,
                                                                         j->x + r * j->n, j->w, j->n, j->eps, j->accumulate);
}

static void weight_task(void *context, size_t task, size_t worker) {
    const backward_job *j = context;
    size_t c = task * j->sum_cols, n = j->n - c < j->sum_cols ? j->n - c : j->sum_cols;
    (void)worker;
    for (size_t r = 0; r < j->rows; r++) {
        const float *dy = j->dy + r * j->n + c;
        if (j->dw) j->e->k->norm_weight_backward(j->dw + c, dy, j->x + r * j->n + c, j->stats[2 * r], j->stats[2 * r + 1], n);
        if (j->db) j->e->k->add(j->db + c, dy, n);
    }
}

static size_t stats_floats(size_t rows) {
    return 2 * rows;
}

static pali_status backward_run(backward_job *j) {
    exec *e = j->e;
    if (j->rows == 0) return PALI_OK;
    j->stats = mem_scratch_get(&e->shared, stats_floats(j->rows), sizeof *j->stats);
    if (!j->stats) return status_no_memory(stats_floats(j->rows) * sizeof *j->stats);
    exec_rows(e, j->rows, j->n, backward_rows, j);
    j->sum_cols = exec_sum_cols(e, j->n);
    if (j->dw || j->db) pool_run(e->pool, (j->n + j->sum_cols - 1) / j->sum_cols, weight_task, j);
    return PALI_OK;
}

pali_status norm_rms_backward(exec *e, float *dx, float *dw, const float *dy, const float *x, const float *w, size_t rows, size_t n,
                              float eps, bool accumulate) {
    backward_job j = {.e = e, .dx = dx, .dw = dw, .dy = dy, .x = x, .w = w, .rows = rows, .n = n, .eps = eps, .accumulate = accumulate};
    return backward_run(&j);
}

pali_status norm_layer_backward(exec *e, float *dx, float *dw, float *db, const float *dy, const float *x, const float *w, size_t rows,
                                size_t n, float eps, bool accumulate) {
    backward_job j = {.e = e, .dx = dx, .dw = dw, .db = db, .dy = dy, .x = x, .w = w, .rows = rows, .n = n, .eps = eps, .layer = true,
                      .accumulate = accumulate};
    return backward_run(&j);
}

void norm_backward_need(exec_need *need, size_t rows) {
    exec_need_grow(&need->shared, stats_floats(rows) * sizeof(float));
}
