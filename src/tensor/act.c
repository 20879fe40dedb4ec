#include "tensor/act.h"

typedef struct job {
    float *x, *up, *dy;
    size_t n;
} job;

static void gelu_rows(const exec *e, void *context, size_t begin, size_t end) {
    const job *j = context;
    e->k->gelu_backward(j->x + begin * j->n, j->dy + begin * j->n, (end - begin) * j->n);
}

static void geglu_rows(const exec *e, void *context, size_t begin, size_t end) {
    const job *j = context;
    e->k->geglu_backward(j->x + begin * j->n, j->up + begin * j->n, j->dy + begin * j->n, (end - begin) * j->n);
}

void act_gelu_backward(exec *e, float *x, float *dy, size_t rows, size_t n) {
    job j = {x, NULL, dy, n};
    exec_rows(e, rows, n, gelu_rows, &j);
}

void act_geglu_backward(exec *e, float *gate, float *up, float *dy, size_t rows, size_t n) {
    job j = {gate, up, dy, n};
    exec_rows(e, rows, n, geglu_rows, &j);
}
