/* optim_muon.c: Muon (K. Jordan, 2024; the scale is that of Moonlight, arXiv 2502.16982): momentum of a matrix, made nearly orthogonal.
 *
 *   m = b m + (1 - b) g,  u = b m + (1 - b) g,  X = u / |u|,  5 times: A = X X^T, X = 3.4445 X + (-4.7750 A + 2.0315 A A) X
 *   p = p (1 - lr wd) - 0.2 sqrt(max(rows, cols)) lr X
 *
 * The polynomial brings singular values from anywhere in (0, 1] to between 0.68 and 1.13, so all directions of a matrix learn at one
 * rate. The factor gives an update the size that AdamW's have (a root mean square of 0.2), so that rates fit both. X lies on its
 * side where p is higher than wide. A thread does a matrix by itself: of models for which this optimizer is affordable they are
 * small and many. Vectors, tables and the patches' kernel are AdamW's (optim.h). */
#include <math.h>
#include <string.h>

#include "train/clip.h"
#include "train/optim_state.h"

#define STEPS 5u
#define EPS 1e-7
#define UPDATE_RMS 0.2

static const float k_polynomial[3] = {3.4445f, -4.7750f, 2.0315f};

bool optim_is_muon(const optim_options *o, const param *p) {
    return o->kind == OPTIM_MUON && p->n_dims == 2 && !p->embedding;
}

/* A matrix's scratch: x, y [rows, cols] with rows <= cols, a, b [rows, rows], one panel. */
typedef struct muon_room {
    float *x, *y, *a, *b, *panel;
    size_t rows, cols, n;
} muon_room;

static muon_room room_of(const kernels *k, const param *p, float *at) {
    muon_room r = {.rows = p->dims[0], .cols = p->dims[1]};
    if (r.rows > r.cols) r = (muon_room){.rows = r.cols, .cols = r.rows};
    const size_t matrix = r.rows * r.cols, square = r.rows * r.rows;
    float **parts[] = {&r.x, &r.y, &r.a, &r.b, &r.panel};
    const size_t sizes[] = {matrix, matrix, square, square, r.cols * k->nr};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        *parts[i] = at ? at + r.n : NULL;
        r.n += (sizes[i] + MEM_ALIGN / sizeof(float) - 1) / (MEM_ALIGN / sizeof(float)) * (MEM_ALIGN / sizeof(float));
    }
    return r;
}

size_t optim_worker_bytes(const optim_options *o, const params *p, const kernels *k) {
    size_t most = 0;
    for (size_t i = 0; i < p->n; i++) {
        const size_t n = optim_is_muon(o, &p->items[i]) ? room_of(k, &p->items[i], NULL).n : 0;
        if (n > most) most = n;
    }
    return most * sizeof(float);
}

/* c [n, n] = a a^T of a [n, k]: what lies on the diagonal's panels and above, and its mirror image. */
static void product_with_itself(const kernels *kern, float *c, const float *a, float *panel, size_t n, size_t k) {
    for (size_t j = 0; j < n; j += kern->nr) {
        const size_t width = n - j < kern->nr ? n - j : kern->nr;
        kern->panel_rows[PALI_DTYPE_F32](panel, a + j * k, k, width, k);
        kern->gemm_panel(c + j, n, a, k, panel, j + width, width, k, false);
        kern->transpose(c + j * n, n, c + j, n, j, width);
    }
}

/* c [m, n] += a [m, k] b [k, n] */
static void product_add(const kernels *kern, float *c, const float *a, const float *b, float *panel, size_t m, size_t n, size_t k) {
    for (size_t j = 0; j < n; j += kern->nr) {
        const size_t width = n - j < kern->nr ? n - j : kern->nr;
        kern->panel_cols(panel, b + j, n, width, k);
        kern->gemm_panel(c + j, n, a, k, panel, m, width, k, true);
    }
}

/* The momentum is brought up to date, and u written in the matrix's own shape. */
static void momentum(const optim *o, const param *p, const state *s, float *u) {
    float room[2][OPTIM_CHUNK];
    const float keep = (float)o->opt.momentum, add = (float)(1 - o->opt.momentum);
    for (size_t at = 0; at < p->n; at += OPTIM_CHUNK) {
        const size_t n = p->n - at < OPTIM_CHUNK ? p->n - at : OPTIM_CHUNK;
        float *g = room[0], *m = optim_moment(o, &s->m, NULL, at, n, room[1]);
        optim_grad(o, p, at, n, g);
        for (size_t i = 0; i < n; i++) {
            m[i] = keep * m[i] + add * g[i];
            u[at + i] = keep * m[i] + add * g[i];
        }
        optim_moment_store(o, &s->m, NULL, at, n, m);
    }
}

static void orthogonalize(const kernels *k, muon_room *r) {
    const size_t n = r->rows * r->cols, n_square = r->rows * r->rows;
    k->scale(r->x, r->x, n, (float)(1 / fmax(sqrt(clip_sum_squares(r->x, n)), EPS)));
    for (unsigned step = 0; step < STEPS; step++) {
        product_with_itself(k, r->a, r->x, r->panel, r->rows, r->cols);
        product_with_itself(k, r->b, r->a, r->panel, r->rows, r->rows); /* A is symmetric */
        for (size_t i = 0; i < n_square; i++) r->b[i] = k_polynomial[1] * r->a[i] + k_polynomial[2] * r->b[i];
        k->scale(r->y, r->x, n, k_polynomial[0]);
        product_add(k, r->y, r->b, r->x, r->panel, r->rows, r->cols, r->rows);
        float *x = r->x;
        r->x = r->y;
        r->y = x;
    }
}

static void apply(const optim *o, const param *p, const float *x) {
    float room[OPTIM_CHUNK];
    const double lr = o->rate.lr * o->rate.factor, longer = (double)(p->dims[0] > p->dims[1] ? p->dims[0] : p->dims[1]);
    const float before = (float)(1 - lr * optim_decay(o, p)), step = (float)(UPDATE_RMS * sqrt(longer) * lr);
    for (size_t at = 0; at < p->n; at += OPTIM_CHUNK) {
        const size_t n = p->n - at < OPTIM_CHUNK ? p->n - at : OPTIM_CHUNK;
        float *value = optim_value(o, p, at, n, room);
        for (size_t i = 0; i < n; i++) value[i] = value[i] * before - step * x[at + i];
        optim_value_store(o, p, at, n, value);
    }
}

void muon_update(const optim *o, const param *p, const state *s, void *scratch) {
    const size_t rows = p->dims[0], cols = p->dims[1];
    muon_room r = room_of(o->k, p, scratch);
    if (rows <= cols) {
        momentum(o, p, s, r.x);
    } else {
        momentum(o, p, s, r.y);
        o->k->transpose(r.x, rows, r.y, cols, rows, cols);
    }
    orthogonalize(o->k, &r);
    if (rows > cols) {
        o->k->transpose(r.y, cols, r.x, rows, cols, rows);
        r.x = r.y;
    }
    apply(o, p, r.x);
}
