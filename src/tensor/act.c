#include "tensor/act.h"

#include <string.h>

typedef struct job {
    float *x, *up, *dy;
    size_t n;
} job;

typedef struct forward_job {
    float *y;
    const float *gate, *up; /* up NULL: GELU of gate */
    size_t n;
} forward_job;

static void forward_rows(const exec *e, void *context, size_t begin, size_t end) {
    const forward_job *j = context;
    size_t n = (end - begin) * j->n;
    memcpy(j->y + begin * j->n, j->gate + begin * j->n, n * sizeof *j->y);
    if (j->up)
        e->k->geglu(j->y + begin * j->n, j->up + begin * j->n, n);
    else
        e->k->gelu(j->y + begin * j->n, n);
}

void act_gelu(exec *e, float *y, const float *x, size_t rows, size_t n) {
    forward_job j = {y, x, NULL, n};
    exec_rows(e, rows, n, forward_rows, &j);
}

void act_geglu(exec *e, float *y, const float *gate, const float *up, size_t rows, size_t n) {
    forward_job j = {y, gate, up, n};
    exec_rows(e, rows, n, forward_rows, &j);
}

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
