/* attention.c: see attention.h. Query heads that share a kv head are rows of the same product, so that Gemma's single
 * kv head is expanded once for all eight. Task = (sequence, kv head, block of its rows); row r is query r / G, head r % G. */
#include "tensor/attention.h"

#include <string.h>

#define FEW_ROWS 8u               /* decode: dot products straight from the cache, no panels */
#define SCORE_FLOATS 196608u      /* scores of a block: 768 KiB */
#define BLOCK_ROWS_MIN 32u
#define BLOCK_ROWS_MAX 192u
#define BLOCK_K 1024u             /* keys per panel of values */

typedef struct job {
    exec *e;
    const attention *a;
    size_t group, n_keys, n_rows, block, n_blocks;
    size_t end; /* of its tasks, which follow those of the jobs before it */
} job;

static size_t max_of(size_t a, size_t b) {
    return a > b ? a : b;
}

/* s [m, n_keys] = q [m, H] k^T over both spans. */
static void scores(const job *w, float *s, const float *q, float *panel, size_t head, size_t m) {
    const kernels *kn = w->e->k;
    size_t h = w->a->head_dim, at = 0;
    for (size_t i = 0; i < 2; at += w->a->spans[i++].len) {
        const attention_span *span = &w->a->spans[i];
        for (size_t j = 0; j < span->len; j += kn->nr) {
            size_t n = span->len - j < kn->nr ? span->len - j : kn->nr;
            const float *k = span->k + j * span->ld + head * h;
            if (m <= FEW_ROWS) {
                for (size_t r = 0; r < m; r += KERNELS_DOT_ROWS)
                    kn->dot_rows[PALI_DTYPE_F32](s + r * w->n_keys + at + j, w->n_keys, q + r * h, h, k, span->ld,
                                                 m - r < KERNELS_DOT_ROWS ? m - r : KERNELS_DOT_ROWS, n, h, false);
            } else {
                kn->panel_rows[PALI_DTYPE_F32](panel, k, span->ld, n, h);
                kn->gemm_panel(s + at + j, w->n_keys, q, h, panel, m, n, h, false);
            }
        }
    }
}

/* o [m, H] = s [m, n_keys] v over both spans. */
static void values(const job *w, float *o, const float *s, float *panel, size_t head, size_t m) {
    const kernels *kn = w->e->k;
    size_t h = w->a->head_dim, at = 0;
    bool accumulate = false;
    for (size_t i = 0; i < 2; at += w->a->spans[i++].len) {
        const attention_span *span = &w->a->spans[i];
        for (size_t j = 0; j < span->len; j += BLOCK_K, accumulate = true) {
            size_t n_keys = span->len - j < BLOCK_K ? span->len - j : BLOCK_K;
            const float *v = span->v + j * span->ld + head * h;
            if (m <= FEW_ROWS) {
                for (size_t r = 0; r < m; r++) kn->sum_rows(o + r * h, s + r * w->n_keys + at + j, v, span->ld, n_keys, h, accumulate);
                continue;
            }
            for (size_t c = 0; c < h; c += kn->nr) {
                size_t n = h - c < kn->nr ? h - c : kn->nr;
                kn->panel_cols(panel, v + c, span->ld, n, n_keys);
                kn->gemm_panel(o + c, h, s + at + j, w->n_keys, panel, m, n, n_keys, accumulate);
            }
        }
    }
}

attention_run attention_keys_seen(const attention *a, size_t query) {
    size_t position = a->spans[0].len + a->spans[1].len - a->n_queries + query;
    if (position < a->n_prefix) return (attention_run){0, a->n_prefix};
    attention_run run = {0, position + 1};
    if (a->window && run.end > a->window) run.begin = run.end - a->window;
    return run;
}

/* Softmax of one query's row over the keys it sees; the others get probability 0. */
static void mask_softmax(const job *w, float *s, size_t query) {
    attention_run seen = attention_keys_seen(w->a, query);
    memset(s, 0, seen.begin * sizeof *s);
    w->e->k->softmax(s + seen.begin, seen.end - seen.begin, w->a->scale, w->a->softcap);
    memset(s + seen.end, 0, (w->n_keys - seen.end) * sizeof *s);
}

static void block_task(void *context, size_t task, size_t worker) {
    const job *w = context;
    size_t begin = 0;
    for (; task >= w->end; w++) begin = w->end;
    task -= begin;
    const attention *a = w->a;
    size_t h = a->head_dim, head = task / w->n_blocks, row0 = task % w->n_blocks * w->block;
    size_t m = w->n_rows - row0 < w->block ? w->n_rows - row0 : w->block;
    float *q = w->e->worker[worker].data, *o = q + w->block * h, *s = o + w->block * h, *panel = s + w->block * w->n_keys;
    for (size_t r = 0; r < m; r++) {
        size_t row = row0 + r;
        memcpy(q + r * h, a->q + (row / w->group * a->n_heads + head * w->group + row % w->group) * h, h * sizeof *q);
    }
    scores(w, s, q, panel, head, m);
    for (size_t r = 0; r < m; r++) mask_softmax(w, s + r * w->n_keys, (row0 + r) / w->group);
    values(w, o, s, panel, head, m);
    for (size_t r = 0; r < m; r++) {
        size_t row = row0 + r;
        memcpy(a->out + (row / w->group * a->n_heads + head * w->group + row % w->group) * h, o + r * h, h * sizeof *o);
    }
}

/* Cuts a sequence into tasks; returns the floats of scratch that one of them needs. */
static size_t job_init(job *w, exec *e, const attention *a) {
    *w = (job){.e = e, .a = a, .group = a->n_heads / a->n_kv_heads, .n_keys = a->spans[0].len + a->spans[1].len};
    w->n_rows = a->n_queries * w->group;
    if (w->n_rows == 0) return 0;
    if (w->n_rows <= FEW_ROWS) { /* as many tasks as dot_rows can make use of */
        w->block = w->n_rows < KERNELS_DOT_ROWS ? w->n_rows : KERNELS_DOT_ROWS;
    } else {
        w->block = SCORE_FLOATS / w->n_keys;
        w->block = w->block < BLOCK_ROWS_MIN ? BLOCK_ROWS_MIN : w->block > BLOCK_ROWS_MAX ? BLOCK_ROWS_MAX : w->block;
        if (w->block > w->n_rows) w->block = w->n_rows;
    }
    w->n_blocks = (w->n_rows + w->block - 1) / w->block;
    return w->block * (2 * a->head_dim + w->n_keys) + max_of(BLOCK_K, a->head_dim) * e->k->nr;
}

pali_status attention_forward(exec *e, const attention *a, size_t n) {
    job jobs[ATTENTION_MAX];
    size_t floats = 0, n_tasks = 0;
    if (n > ATTENTION_MAX) return status_fail(PALI_ERR_INTERNAL, "attention: %zu sequences at once", n);
    for (size_t i = 0; i < n; i++) {
        floats = max_of(floats, job_init(&jobs[i], e, &a[i]));
        jobs[i].end = n_tasks += a[i].n_kv_heads * jobs[i].n_blocks;
    }
    if (n_tasks == 0) return PALI_OK;
    STATUS_TRY(exec_worker_scratch(e, floats * sizeof(float)));
    pool_run(e->pool, n_tasks, block_task, jobs);
    return PALI_OK;
}

void attention_need(exec_need *need, exec *e, const attention *a) {
    job w;
    exec_need_grow(&need->worker, job_init(&w, e, a) * sizeof(float));
}
