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
