/* linear.c: y = x W^T with W as it lies in the checkpoint.
 *
 *   few rows of x   each weight row is streamed once and dotted with every x row: bound by memory
 *                   (and of decode, however many sequences it has: a tile of weights stays in L2 while their rows take turns)
 *   many rows of x  for a tile of nr outputs, blocks of k are expanded into a panel that stays in L2, and all rows of x
 *                   run over it: bound by arithmetic
 *
 * Work is cut into tasks of (tile of outputs, block of rows); each output is summed in an order that depends only on k,
 * so threads and tiling never change a bit. Where the kernels have something faster in 16 bits for the type of the weights
 * (kernels.h, pairs), the second way rounds x to that first, at least as finely as the reference's bf16 run does.
 *
 * Block-quantized weights take the same two ways with x rounded to 8 bits (kernels/blocks_plain.h); there both ways give the
 * same bits.
 *
 * Adapters (mat.h): u = s A x [m, R] comes first, a product of its own; then each tile adds B u to what the base gave it, before
 * what follows (GELU), while it is in cache. That is again the first or second way, whatever the base's types are. */
#include "tensor/linear.h"

#include <string.h>

#include "kernels/blocks_plain.h"
#include "tensor/dropout.h"
#include "tensor/pairs.h"

#define FEW_ROWS_BLOCKS 3u       /* the same for block-quantized weights, whose panels are cheap (a guess by counts of instructions) */
#define STREAM_TILE_BYTES 131072u /* of weights per task when streaming: long enough to run ahead, short enough to balance */
#define PANEL_BYTES 98304u       /* of a panel: all of x runs over it from L2 at full speed; 290 KiB ran at 60 % */
#define PANEL_BLOCKS_BYTES 20480u /* of block-quantized weights: stays in L1 while x streams from L2 */
#define GROUP_MAX 4u             /* panels per task at most: their block of x stays in L2 while they take turns on it */
#define BLOCK_M_MIN 48u          /* rows per task at least, or the panel is not worth expanding */

typedef enum rounding { ROUND_NONE, ROUND_PAIRS, ROUND_BLOCKS } rounding; /* of x before a product */

typedef struct product {
    exec *e;
    float *y;          /* [m, n] */
    const float *x;    /* [m, k] */
    const uint32_t *x_pairs; /* [m, pairs_ld] x in 16-bit pairs, each block of `step` with its header; NULL: use x */
    const char *x_blocks;    /* [m] rows of x rounded to 8 bits; NULL: use x */
    void *rounded;           /* where either of them is made: shared scratch, behind u */
    const mat *w, *up; /* up: NULL but for GeGLU */
    const float *u, *u_up; /* [m, R] s A x of each adapter of w and up, one after the other */
    const float *bias;
    size_t m, tile_n, tile_m, n_tiles;
    size_t step;       /* height of panels in k */
    linear_op op;
    bool stream;       /* the first way */
    bool lora_stream;  /* the same for adapters */
    rounding rounding;
} product;

static size_t max_of(size_t a, size_t b) {
    return a > b ? a : b;
}

/* Height of the panels: even blocks of k, whole vectors. Pairs have a row of headers as well. */
static size_t panel_step(const kernels *kn, size_t k, bool pairs) {
    size_t max = pairs ? PANEL_BYTES / (kn->nr * sizeof(uint16_t)) - 16 : PANEL_BYTES / (kn->nr * sizeof(float));
    size_t n_blocks = (k + max - 1) / max;
    return ((k + n_blocks - 1) / n_blocks + 15) & ~(size_t)15;
}

/* c [m, n] (ldc) = or += rows m0.. of x times rows j0..j0+n of w. */
static void tile_stream(const product *p, const mat *w, float *c, size_t ldc, size_t j0, size_t n, size_t m0, size_t m, bool accumulate) {
    size_t k = w->cols;
    coded_at at;
    for (size_t r = 0; r < m; r += KERNELS_DOT_ROWS) {
        size_t mr = m - r < KERNELS_DOT_ROWS ? m - r : KERNELS_DOT_ROWS;
        if (p->x_blocks) {
            size_t ldx = x_row_bytes(k);
            p->e->k->dot_blocks[w->dtype](c + r * ldc, ldc, p->x_blocks + (m0 + r) * ldx, ldx, mat_row(w, j0), mat_row_bytes(w), mr, n, k, accumulate);
            continue;
        }
        p->e->k->dot_rows[w->dtype](c + r * ldc, ldc, p->x + (m0 + r) * k, k, mat_at(w, j0, 0, &at), k, mr, n, k, accumulate);
    }
}

/* k outside, panels inside: the block of x that a panel needs is still in L2 when the next panel wants it. */
static void tile_gemm(const product *p, const mat *w, float *c, size_t ldc, size_t j0, size_t n, size_t m0, size_t m, void *panel,
                      bool accumulate) {
    const kernels *kn = p->e->k;
    size_t k = w->cols, step = p->step;
    for (size_t k0 = 0; k0 < k; k0 += step, accumulate = true) {
        size_t kb = k - k0 < step ? k - k0 : step;
        for (size_t j = 0; j < n; j += kn->nr) {
            size_t nb = n - j < kn->nr ? n - j : kn->nr;
            coded_at at;
            const void *rows = mat_at(w, j0 + j, k0, &at);
            if (p->x_pairs) {
                size_t ldx = pairs_ld(k, step);
                kn->panel_rows_pairs[w->dtype](panel, rows, k, nb, kb);
                kn->gemm_panel_pairs(c + j, ldc, p->x_pairs + m0 * ldx + k0 / step * pairs_block(step), ldx, panel, m, nb, (kb + 1) / 2,
                                     accumulate);
            } else {
                kn->panel_rows[w->dtype](panel, rows, k, nb, kb);
                kn->gemm_panel(c + j, ldc, p->x + m0 * k + k0, k, panel, m, nb, kb, accumulate);
            }
        }
    }
}

/* The same for blocks. */
static void tile_gemm_blocks(const product *p, const mat *w, float *c, size_t ldc, size_t j0, size_t n, size_t m0, size_t m, void *panel,
                             bool accumulate) {
    const kernels *kn = p->e->k;
    size_t k = w->cols, n_blocks = (k + BLOCK - 1) / BLOCK, ldx = x_row_bytes(k);
    for (size_t r = 0; r < m && !accumulate; r++) memset(c + r * ldc, 0, n * sizeof *c);
    const size_t slice = PANEL_BLOCKS_BYTES / kn->panel_block_bytes[dtype_has_minima(w->dtype)] & ~(size_t)1;
    for (size_t b0 = 0; b0 < n_blocks; b0 += slice) {
        size_t nb = n_blocks - b0 < slice ? n_blocks - b0 : slice;
        for (size_t j = 0; j < n; j += kn->blocks_nr) {
            size_t nj = n - j < kn->blocks_nr ? n - j : kn->blocks_nr;
            kn->panel_blocks[w->dtype](panel, mat_row(w, j0 + j), mat_row_bytes(w), nj, b0, nb);
            kn->gemm_blocks(c + j, ldc, p->x_blocks + m0 * ldx, ldx, panel, m, nj, k, b0, nb, dtype_has_minima(w->dtype));
        }
    }
}

/* One tile of one matrix, by whichever way the product was planned. */
static void tile_run(const product *p, const mat *w, float *c, size_t ldc, size_t j0, size_t n, size_t m0, size_t m, void *panel,
                     bool accumulate) {
    if (p->stream)
        tile_stream(p, w, c, ldc, j0, n, m0, m, accumulate);
    else if (p->x_blocks)
        tile_gemm_blocks(p, w, c, ldc, j0, n, m0, m, panel, accumulate);
    else
        tile_gemm(p, w, c, ldc, j0, n, m0, m, panel, accumulate);
}

/* What the adapters of w add to the tile: c += rows m0.. of u times rows j0.. of B. */
static void tile_lora(const product *p, const mat *w, const float *u, float *c, size_t ldc, size_t j0, size_t n, size_t m0, size_t m,
                      void *panel) {
    size_t row = w->lora_row + j0;
    for (const lora *l = w->lora; l; u += p->m * l->a.rows, l = l->next) {
        const product q = {.e = p->e, .x = u, .w = &l->b, .stream = p->lora_stream, .step = panel_step(p->e->k, l->a.rows, false)};
        tile_run(&q, &l->b, c, ldc, row, n, m0, m, panel, true);
        for (size_t r = 0; l->bias && r < m; r++) p->e->k->add(c + r * ldc, l->bias + row, n);
    }
}

/* Bytes that a panel of B needs, which takes the place of the base's. */
static size_t lora_panel_bytes(const product *p, const mat *w) {
    size_t bytes = 0;
    for (const lora *l = w && !p->lora_stream ? w->lora : NULL; l; l = l->next)
        bytes = max_of(bytes, p->e->k->nr * panel_step(p->e->k, l->a.rows, false) * sizeof(float));
    return bytes;
}

/* Bytes of u for all adapters of w, whole cache lines. */
static size_t lora_bytes(const product *p, const mat *w) {
    size_t rank = 0;
    for (const lora *l = w ? w->lora : NULL; l; l = l->next) rank += l->a.rows;
    return (p->m * rank * sizeof(float) + 63) & ~(size_t)63;
}

/* Bytes at the start of worker scratch that hold a panel; the up tile of GeGLU follows. */
static size_t panel_bytes(const product *p) {
    size_t base = p->stream ? 0 : p->rounding == ROUND_BLOCKS ? PANEL_BLOCKS_BYTES : PANEL_BYTES;
    return max_of(base, max_of(lora_panel_bytes(p, p->w), lora_panel_bytes(p, p->up)));
}

static void product_task(void *context, size_t task, size_t worker) {
    const product *p = context;
    const kernels *kn = p->e->k;
    size_t ldc = p->w->rows, j0 = task % p->n_tiles * p->tile_n, m0 = task / p->n_tiles * p->tile_m;
    size_t n = ldc - j0 < p->tile_n ? ldc - j0 : p->tile_n, m = p->m - m0 < p->tile_m ? p->m - m0 : p->tile_m;
    float *c = p->y + m0 * ldc + j0;
    char *scratch = p->e->worker[worker].data;
    bool accumulate = p->op == LINEAR_ADD || p->bias;
    if (p->bias) {
        for (size_t r = 0; r < m; r++) {
            if (p->op == LINEAR_ADD)
                kn->add(c + r * ldc, p->bias + j0, n);
            else
                memcpy(c + r * ldc, p->bias + j0, n * sizeof *c);
        }
    }
    tile_run(p, p->w, c, ldc, j0, n, m0, m, scratch, accumulate);
    tile_lora(p, p->w, p->u, c, ldc, j0, n, m0, m, scratch);
    if (p->up) {
        float *up = (float *)(void *)(scratch + panel_bytes(p));
        tile_run(p, p->up, up, n, j0, n, m0, m, scratch, false);
        tile_lora(p, p->up, p->u_up, up, n, j0, n, m0, m, scratch);
        for (size_t r = 0; r < m; r++) kn->geglu(c + r * ldc, up + r * n, n);
    } else if (p->op == LINEAR_GELU) {
        for (size_t r = 0; r < m; r++) kn->gelu(c + r * ldc, n);
    }
}

/* Rounds into the place that x_blocks will point to. */
static void blocks_rows(const exec *e, void *context, size_t begin, size_t end) {
    const product *p = context;
    size_t k = p->w->cols, ldx = x_row_bytes(k);
    for (size_t r = begin; r < end; r++) e->k->quantize_x((char *)p->rounded + r * ldx, p->x + r * k, k);
}

/* Adds what computing u takes: A in f32 is never rounded, so that is no shared scratch. */
static void lora_need(exec_need *need, const product *p, const mat *w, linear_op op) {
    for (const lora *l = w ? w->lora : NULL; l; l = l->next) linear_need(need, p->e, &l->a, NULL, p->m, op);
}

static bool has_dropout(const mat *w) {
    for (const lora *l = w ? w->lora : NULL; l; l = l->next)
        if (l->dropout) return true;
    return false;
}

/* u of all adapters of w, in the shared scratch before what is rounded; `dropped` is room for x after dropout. */
static pali_status lora_inputs(product *p, const float **out, const mat *w, float *dropped, linear_op op) {
    if (!w || !w->lora) return PALI_OK;
    float *u = p->rounded;
    *out = u;
    p->rounded = (char *)p->rounded + lora_bytes(p, w);
    for (const lora *l = w->lora; l; l = l->next) {
        size_t n = p->m * l->a.rows;
        bool drops = l->dropout && l->dropout->p > 0;
        if (drops) dropout_apply(p->e, dropped, p->x, p->m, w->cols, l->dropout, l->site, false);
        STATUS_TRY(linear(p->e, u, drops ? dropped : p->x, &l->a, NULL, p->m, op));
        p->e->k->scale(u, u, n, l->scale);
        u += n;
    }
    return PALI_OK;
}

/* Chooses the way, cuts the work into tasks, and says what scratch that takes. */
static exec_need product_plan(product *p) {
    const kernels *kn = p->e->k;
    size_t n = p->w->rows, k = p->w->cols, nr = kn->nr;
    exec_need need = {0};
    bool blocks = dtype_is_blocks(p->w->dtype); /* both ways give the same bits: the number of rows may decide */
    linear_op alone = p->op & LINEAR_ALONE;
    p->lora_stream = p->m <= LINEAR_FEW_ROWS || alone;
    p->stream = blocks ? p->m <= FEW_ROWS_BLOCKS : p->lora_stream;
    p->op &= ~(unsigned)LINEAR_ALONE;
    p->rounding = ROUND_NONE;
    if (blocks) {
        p->rounding = ROUND_BLOCKS;
        need.shared = p->m * x_row_bytes(k);
        nr = kn->blocks_nr;
    }
    if (p->stream) {
        size_t rows = STREAM_TILE_BYTES / (mat_row_bytes(p->w) + 1);
        p->tile_n = rows < 16 ? 16 : rows & ~(size_t)15;
        p->tile_m = p->m;
    } else {
        size_t n_tiles = (n + nr - 1) / nr, wanted = 4 * p->e->n_workers;
        size_t cuts = n_tiles >= wanted ? 1 : (wanted + n_tiles - 1) / n_tiles, group = n_tiles / wanted;
        p->tile_n = nr * (group < 1 ? 1 : group > GROUP_MAX ? GROUP_MAX : group);
        p->tile_m = (p->m + cuts - 1) / cuts;
        if (p->tile_m < BLOCK_M_MIN) p->tile_m = BLOCK_M_MIN;
        bool pairs = pairs_wanted(kn, p->w) && (!p->up || pairs_wanted(kn, p->up));
        p->step = panel_step(kn, k, pairs);
        if (pairs) {
            p->rounding = ROUND_PAIRS;
            need.shared = p->m * pairs_ld(k, p->step) * sizeof *p->x_pairs;
        }
    }
    p->n_tiles = (n + p->tile_n - 1) / p->tile_n;
    need.worker = panel_bytes(p) + (p->up ? p->tile_m * p->tile_n * sizeof(float) : 0);
    if (has_dropout(p->w) || has_dropout(p->up)) need.shared = max_of(need.shared, p->m * k * sizeof(float)); /* before x is rounded */
    need.shared += lora_bytes(p, p->w) + lora_bytes(p, p->up);
    lora_need(&need, p, p->w, alone);
    lora_need(&need, p, p->up, alone);
    return need;
}

static pali_status product_run(product *p) {
    exec *e = p->e;
    size_t k = p->w->cols;
    linear_op alone = p->op & LINEAR_ALONE;
    if (p->m == 0) return PALI_OK;
    exec_need need = product_plan(p);
    if (need.shared && !mem_scratch_get(&e->shared, need.shared, 1)) return status_no_memory(need.shared);
    p->rounded = e->shared.data;
    float *dropped = has_dropout(p->w) || has_dropout(p->up) ? (float *)p->rounded + (lora_bytes(p, p->w) + lora_bytes(p, p->up)) / sizeof(float) : NULL;
    STATUS_TRY(lora_inputs(p, &p->u, p->w, dropped, alone));
    STATUS_TRY(lora_inputs(p, &p->u_up, p->up, dropped, alone));
    if (p->rounding == ROUND_BLOCKS) {
        exec_rows(e, p->m, k, blocks_rows, p);
        p->x_blocks = p->rounded;
    } else if (p->rounding == ROUND_PAIRS) {
        pairs_round(e, p->rounded, p->x, p->m, k, p->step);
        p->x_pairs = p->rounded;
    }
    if (need.worker) STATUS_TRY(exec_worker_scratch(e, need.worker));
    pool_run(e->pool, p->n_tiles * ((p->m + p->tile_m - 1) / p->tile_m), product_task, p);
    return PALI_OK;
}

void linear_need(exec_need *need, exec *e, const mat *w, const mat *up, size_t m, linear_op op) {
    product p = {.e = e, .w = w, .up = up, .m = m, .op = op};
    if (m == 0) return;
    exec_need own = product_plan(&p);
    exec_need_grow(&need->shared, own.shared);
    exec_need_grow(&need->worker, own.worker);
}

pali_status linear(exec *e, float *y, const float *x, const mat *w, const float *bias, size_t m, linear_op op) {
    product p = {.e = e, .y = y, .x = x, .w = w, .bias = bias, .m = m, .op = op};
    return product_run(&p);
}

pali_status linear_geglu(exec *e, float *y, const float *x, const mat *gate, const mat *up, size_t m, linear_op op) {
    if (dtype_is_blocks(gate->dtype) != dtype_is_blocks(up->dtype))
        return status_fail(PALI_ERR_UNSUPPORTED, "gate and up projection: one is quantized in blocks, the other is not");
    product p = {.e = e, .y = y, .x = x, .w = gate, .up = up, .m = m, .op = op};
    return product_run(&p);
}
