/* linear_backward.c: gradients of products with weight matrices (spec training 2), by the micro-kernel of the forward.
 *
 *   dx = dy W      tasks of TILE_COLS columns of W: STEP of its rows at a time are expanded into panels that stay in L2, as they
 *                  lie, because here W is the right-hand side and needs no transposing; a block of rows of dy runs over them
 *                  (where the forward is one in 16-bit floats, pairs.h, this is too: dy is rounded by rows, panels when they are made)
 *   dw += dy^T x   tasks of TILE_ROWS by TILE_COLS weights, or less where that makes too few: STEP rows of dy, transposed, run over
 *                  panels of as many rows of x
 *
 * A sum has one order (rows of W, or of x, ascending), however the work was cut. */
#include "tensor/dropout.h"
#include "tensor/linear.h"
#include "tensor/pairs.h"

#define TILE_COLS 256u   /* a whole block of every type of weights */
#define TILE_ROWS 192u   /* of dw: transposed dy, 192 KiB, stays in L2 */
#define STEP 256u        /* depth of panels: 256 KiB for TILE_COLS columns */
#define EXPAND_ROWS 16u  /* of W at once: what is expanded is cut into panels while in L1 */
#define DYT_LD (STEP + 16u) /* of transposed dy: rows of 1024 bytes would share a few sets of L1 */
#define TILE_MIN 48u     /* rows or columns of dw a task at least, or packing costs more than it shares out */
#define BLOCK_M 96u      /* rows of dy that stay in L2 beside the panels while these take turns */
#define BLOCK_M_MIN 48u  /* rows of dy per task at least, or panels are not worth expanding */

_Static_assert(TILE_COLS % MAT_PART == 0 && TILE_COLS % KERNELS_NR_MAX == 0, "a tile is whole blocks of weights and whole panels");

typedef struct job {
    exec *e;
    float *out;
    const float *dy, *x;
    const uint32_t *dy_pairs; /* [m, pairs_ld] dy in 16-bit pairs, in blocks of STEP; NULL: use dy */
    const mat *w;
    size_t m, n, k, tile_m, n_tiles;
    size_t tile_rows, tile_cols; /* of dw; of db columns alone */
    bool accumulate;
} job;

static size_t min_of(size_t a, size_t b) {
    return a < b ? a : b;
}

/* Floats that can be used where they lie: those of a file may begin anywhere. */
static bool is_plain(const mat *w) {
    return w->dtype == PALI_DTYPE_F32 && (uintptr_t)w->data % sizeof(float) == 0;
}

/* Rows i0..i0+n of W, columns j0..j0+cols, as panels [n, nr] one after the other. */
static void panels_make(const job *p, float *panels, float *rows, size_t i0, size_t n, size_t j0, size_t cols) {
    const kernels *kn = p->e->k;
    if (is_plain(p->w)) {
        const float *at = (const float *)p->w->data + i0 * p->k + j0;
        for (size_t j = 0; j < cols; j += kn->nr) kn->panel_cols(panels + j * n, at + j, p->k, min_of(cols - j, kn->nr), n);
        return;
    }
    for (size_t i = 0; i < n; i += EXPAND_ROWS) {
        size_t n_rows = min_of(n - i, EXPAND_ROWS);
        mat_part_f32(kn, rows, p->w, i0 + i, n_rows, j0, cols);
        for (size_t j = 0; j < cols; j += kn->nr)
            kn->panel_cols(panels + j * n + i * kn->nr, rows + j, cols, min_of(cols - j, kn->nr), n_rows);
    }
}

/* Words of a panel of n rows in pairs. */
static size_t pairs_panel(const kernels *kn, size_t n) {
    return (1 + (n + 1) / 2) * kn->nr;
}

static void x_task(void *context, size_t task, size_t worker) {
    const job *p = context;
    const kernels *kn = p->e->k;
    size_t j0 = task % p->n_tiles * TILE_COLS, m0 = task / p->n_tiles * p->tile_m;
    size_t cols = min_of(p->k - j0, TILE_COLS), m = min_of(p->m - m0, p->tile_m), ld = pairs_ld(p->n, STEP);
    float *panels = p->e->worker[worker].data, *rows = panels + TILE_COLS * STEP;
    uint32_t *pairs = (uint32_t *)(void *)(rows + TILE_COLS * EXPAND_ROWS);
    for (size_t i = 0; i < p->n; i += STEP) {
        size_t n = min_of(p->n - i, STEP);
        panels_make(p, panels, rows, i, n, j0, cols);
        for (size_t j = 0; j < cols && p->dy_pairs; j += kn->nr) kn->panel_pairs(pairs + j / kn->nr * pairs_panel(kn, n), panels + j * n, n);
        for (size_t r = m0; r < m0 + m; r += BLOCK_M)
            for (size_t j = 0; j < cols; j += kn->nr) {
                float *c = p->out + r * p->k + j0 + j;
                const size_t block = min_of(m0 + m - r, BLOCK_M), nj = min_of(cols - j, kn->nr);
                const bool accumulate = p->accumulate || i > 0;
                if (p->dy_pairs)
                    kn->gemm_panel_pairs(c, p->k, p->dy_pairs + r * ld + i / STEP * pairs_block(STEP), ld, pairs + j / kn->nr * pairs_panel(kn, n),
                                         block, nj, (n + 1) / 2, accumulate);
                else
                    kn->gemm_panel(c, p->k, p->dy + r * p->n + i, p->n, panels + j * n, block, nj, n, accumulate);
            }
    }
}

static void w_task(void *context, size_t task, size_t worker) {
    const job *p = context;
    const kernels *kn = p->e->k;
    size_t j0 = task % p->n_tiles * p->tile_cols, r0 = task / p->n_tiles * p->tile_rows;
    size_t cols = min_of(p->k - j0, p->tile_cols), n = min_of(p->n - r0, p->tile_rows);
    float *dyt = p->e->worker[worker].data, *panel = dyt + TILE_ROWS * DYT_LD;
    for (size_t t = 0; t < p->m; t += STEP) {
        size_t m = min_of(p->m - t, STEP);
        kn->transpose(dyt, DYT_LD, p->dy + t * p->n + r0, p->n, m, n);
        for (size_t j = 0; j < cols; j += kn->nr) {
            size_t nj = min_of(cols - j, kn->nr);
            kn->panel_cols(panel, p->x + t * p->k + j0 + j, p->k, nj, m);
            kn->gemm_panel(p->out + r0 * p->k + j0 + j, p->k, dyt, DYT_LD, panel, n, nj, m, true);
        }
    }
}

static void b_task(void *context, size_t task, size_t worker) {
    const job *p = context;
    size_t c0 = task * p->tile_cols, cols = min_of(p->n - c0, p->tile_cols);
    (void)worker;
    for (size_t r = 0; r < p->m; r++) p->e->k->add(p->out + c0, p->dy + r * p->n + c0, cols);
}

static size_t worker_bytes(const exec *e) {
    size_t for_x = TILE_COLS * (STEP + EXPAND_ROWS), for_w = TILE_ROWS * DYT_LD + STEP * e->k->nr;
    if (e->k->panel_pairs) for_x += TILE_COLS / e->k->nr * pairs_panel(e->k, STEP);
    return (for_x > for_w ? for_x : for_w) * sizeof(float);
}

/* Bytes of dy in pairs, or 0. */
static size_t pairs_bytes(const exec *e, const mat *w, size_t m) {
    return m > LINEAR_FEW_ROWS && e->k->panel_pairs && pairs_wanted(e->k, w) ? m * pairs_ld(w->rows, STEP) * sizeof(uint32_t) : 0;
}

/* Even tiles of dw, [n, k], and how many side by side. */
static size_t w_tiles(job *p) {
    size_t n_rows = (p->n + TILE_ROWS - 1) / TILE_ROWS, n_cols = (p->k + TILE_COLS - 1) / TILE_COLS, wanted = exec_n_tasks(p->e, 2);
    while (n_rows * n_cols < wanted) {
        size_t rows = p->n / n_rows, cols = p->k / n_cols;
        if (rows < 2 * TILE_MIN && cols < 2 * TILE_MIN) break;
        if (cols > rows) n_cols *= 2;
        else n_rows *= 2;
    }
    p->tile_rows = (p->n + n_rows - 1) / n_rows;
    p->tile_cols = ((p->k + n_cols - 1) / n_cols + p->e->k->nr - 1) / p->e->k->nr * p->e->k->nr;
    p->n_tiles = (p->k + p->tile_cols - 1) / p->tile_cols;
    return p->n_tiles * ((p->n + p->tile_rows - 1) / p->tile_rows);
}

static pali_status base_backward(exec *e, float *dx, const linear_grad *g, const float *dy, const float *x, const mat *w, size_t m,
                                 linear_op op) {
    job p = {.e = e, .dy = dy, .x = x, .w = w, .m = m, .n = w->rows, .k = w->cols, .accumulate = op == LINEAR_ADD};
    STATUS_TRY(exec_worker_scratch(e, worker_bytes(e)));
    p.n_tiles = (p.k + TILE_COLS - 1) / TILE_COLS;
    if (dx) {
        const size_t bytes = pairs_bytes(e, w, m); /* of adapters 0: their shared scratch is in use */
        uint32_t *pairs = bytes ? mem_scratch_get(&e->shared, bytes, 1) : NULL;
        if (bytes && !pairs) return status_no_memory(bytes);
        if (pairs) pairs_round(e, pairs, dy, m, p.n, STEP);
        p.dy_pairs = pairs;
        size_t cuts = (exec_n_tasks(e, 4) + p.n_tiles - 1) / p.n_tiles;
        p.tile_m = (m + cuts - 1) / cuts;
        if (p.tile_m < BLOCK_M_MIN) p.tile_m = BLOCK_M_MIN;
        p.out = dx;
        pool_run(e->pool, p.n_tiles * ((m + p.tile_m - 1) / p.tile_m), x_task, &p);
    }
    if (g->w) {
        p.out = g->w;
        const size_t n_tasks = w_tiles(&p);
        pool_run(e->pool, n_tasks, w_task, &p);
    }
    if (g->b) {
        p.out = g->b;
        p.tile_cols = exec_sum_cols(e, p.n);
        pool_run(e->pool, (p.n + p.tile_cols - 1) / p.tile_cols, b_task, &p);
    }
    return PALI_OK;
}

/* y += u B^T + bias with u = s (x A^T): B is a matrix with input u, A one with input x. A slice of w has a slice of B. u is computed
 * again: it is small. */
static size_t lora_floats(const lora *l, size_t m) {
    return 2 * m * l->a.rows + (l->dropout ? m * l->a.cols : 0);
}

static pali_status lora_backward(exec *e, float *dx, const lora_grad *g, const float *dy, const float *x, const mat *w, const lora *l, size_t m) {
    size_t rank = l->a.rows, k = l->a.cols;
    mat b = mat_slice(&l->b, w->lora_row, w->rows);
    linear_grad grad_a = {.w = g->a}, grad_b = {.w = g->b ? g->b + w->lora_row * rank : NULL, .b = g->bias ? g->bias + w->lora_row : NULL};
    float *u = mem_scratch_get(&e->shared, lora_floats(l, m), sizeof *u);
    if (!u) return status_no_memory(lora_floats(l, m) * sizeof *u);
    float *du = dx || g->a ? u + m * rank : NULL, *dropped = l->dropout && l->dropout->p > 0 ? u + 2 * m * rank : NULL;
    if (dropped && (g->a || g->b)) {
        dropout_apply(e, dropped, x, m, k, l->dropout, l->site, false);
        x = dropped;
    }
    if (g->b) {
        STATUS_TRY(linear(e, u, x, &l->a, NULL, m, LINEAR_SET)); /* in f32, without shared scratch */
        e->k->scale(u, u, m * rank, l->scale);
    }
    STATUS_TRY(base_backward(e, du, &grad_b, dy, u, &b, m, LINEAR_SET));
    if (!du) return PALI_OK;
    e->k->scale(du, du, m * rank, l->scale);
    if (!dropped || !dx) return base_backward(e, dx, &grad_a, du, x, &l->a, m, LINEAR_ADD);
    STATUS_TRY(base_backward(e, NULL, &grad_a, du, x, &l->a, m, LINEAR_SET));
    STATUS_TRY(base_backward(e, dropped, &(linear_grad){0}, du, NULL, &l->a, m, LINEAR_SET));
    dropout_apply(e, dx, dropped, m, k, l->dropout, l->site, true);
    return PALI_OK;
}

pali_status linear_backward(exec *e, float *dx, const linear_grad *g, const float *dy, const float *x, const mat *w, size_t m, linear_op op) {
    static const linear_grad k_frozen = {0};
    static const lora_grad k_frozen_lora = {0};
    if (!g) g = &k_frozen;
    if (m == 0) return PALI_OK;
    STATUS_TRY(base_backward(e, dx, g, dy, x, w, m, op));
    const lora_grad *grad = g->lora;
    for (const lora *l = w->lora; l && (dx || g->lora); l = l->next)
        STATUS_TRY(lora_backward(e, dx, grad ? grad++ : &k_frozen_lora, dy, x, w, l, m));
    return PALI_OK;
}

void linear_backward_need(exec_need *need, exec *e, const mat *w, size_t m) {
    exec_need_grow(&need->worker, worker_bytes(e));
    exec_need_grow(&need->shared, pairs_bytes(e, w, m));
    for (const lora *l = w->lora; l; l = l->next) {
        linear_need(need, e, &l->a, NULL, m, LINEAR_SET);
        exec_need_grow(&need->shared, lora_floats(l, m) * sizeof(float));
    }
}
