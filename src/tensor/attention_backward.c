/* attention_backward.c: gradients of softmax(cap(scale q k^T)) v (spec training 2). Per kv head, with its G query heads as G T rows:
 *
 *   s = q k^T   p = softmax(cap(scale s))   dp = dout v^T   ds = p (dp - sum_j p dp) scale cap'   dq = ds k   dk = ds^T q   dv = p^T dout
 *
 * Two rounds, so that every output row has one owner and one order of its sums. By rows: blocks of rows against all their keys give
 * dq, and each row's statistics (the largest score, 1 / the sum, sum p dp). By keys: blocks of keys against blocks of rows, the
 * transposed products computed as such, give dk and dv. Scores are computed in both: 7 products for 5, and scratch is a tile.
 *
 * A short sequence is too little to be shared out: one task a kv head does everything in the first round, with p and ds transposed. */
#include <string.h>

#include "tensor/attention.h"

#define SCORE_FLOATS 98304u /* s, and dp, of a block of rows: 384 KiB each */
#define BLOCK_ROWS_MIN 16u
#define BLOCK_ROWS_MAX 96u
#define BLOCK_KEYS 48u /* few heads and short sequences still make tasks for several threads */
#define TILE_ROWS 128u /* rows at once against a block of keys */
#define SHORT_SCORES 65536u /* of a kv head of a short sequence: a fraction of a millisecond */

typedef struct job {
    exec *e;
    const attention *a;
    const attention_grad *g;
    float *max, *inv, *dot; /* [K, n_rows] statistics of each row */
    size_t group, n_keys, n_rows, block, n_blocks, n_key_blocks;
    bool is_short;
    size_t row_end, key_end; /* of its tasks of either round, which follow those of the jobs before it */
} job;

static size_t min_of(size_t a, size_t b) {
    return a < b ? a : b;
}

static size_t max_of(size_t a, size_t b) {
    return a > b ? a : b;
}

attention_run attention_queries_seeing(const attention *a, size_t key) {
    size_t n_keys = a->spans[0].len + a->spans[1].len, offset = n_keys - a->n_queries;
    size_t begin = key < a->n_prefix ? 0 : key, end = n_keys;
    if (a->window) end = min_of(n_keys, max_of(key + a->window, key < a->n_prefix ? a->n_prefix : 0));
    return (attention_run){max_of(begin, offset) - offset, max_of(end, offset) - offset};
}

/* Row r of kv head `head` in an array [T, N, H]. */
static size_t row_at(const job *w, size_t head, size_t row) {
    return (row / w->group * w->a->n_heads + head * w->group + row % w->group) * w->a->head_dim;
}

static void rows_gather(const job *w, float *to, const float *from, size_t head, size_t row0, size_t m) {
    size_t h = w->a->head_dim;
    for (size_t r = 0; r < m; r++) memcpy(to + r * h, from + row_at(w, head, row0 + r), h * sizeof *to);
}

/* c [m, n] (ldc) = a [m, H] (lda) b^T, b [n, H] (ldb). */
static void dots(const job *w, float *c, size_t ldc, const float *a, size_t lda, const float *b, size_t ldb, float *panel, size_t m, size_t n) {
    const kernels *kn = w->e->k;
    size_t h = w->a->head_dim;
    for (size_t j = 0; j < n; j += kn->nr) {
        size_t nj = min_of(n - j, kn->nr);
        kn->panel_rows[PALI_DTYPE_F32](panel, b + j * ldb, ldb, nj, h);
        kn->gemm_panel(c + j, ldc, a, lda, panel, m, nj, h, false);
    }
}

/* c [m, H] (ldc) = or += a [m, n] (lda) b, b [n, H] (ldb); n <= BLOCK_K at once. */
#define BLOCK_K 512u
static void sums(const job *w, float *c, size_t ldc, const float *a, size_t lda, const float *b, size_t ldb, float *panel, size_t m, size_t n,
                 bool accumulate) {
    const kernels *kn = w->e->k;
    size_t h = w->a->head_dim;
    for (size_t i = 0; i < n; i += BLOCK_K, accumulate = true) {
        size_t ni = min_of(n - i, BLOCK_K);
        for (size_t j = 0; j < h; j += kn->nr) {
            size_t nj = min_of(h - j, kn->nr);
            kn->panel_cols(panel, b + i * ldb + j, ldb, nj, ni);
            kn->gemm_panel(c + j, ldc, a + i, lda, panel, m, nj, ni, accumulate);
        }
    }
}

/* The job of a task: *task becomes its number within the job. */
static const job *job_find(const job *jobs, size_t *task, bool by_rows) {
    size_t begin = 0;
    for (;; jobs++) {
        size_t end = by_rows ? jobs->row_end : jobs->key_end;
        if (*task < end) break;
        begin = end;
    }
    *task -= begin;
    return jobs;
}

/* dk and dv of all keys: = or += the share of a block of rows, whose p and ds are there. t [n_keys, block] */
static void keys_add(const job *w, size_t head, size_t row0, size_t m, const float *q, const float *d, const float *p, const float *ds, float *t, float *panel) {
    const attention_span *keys = &w->a->spans[0];
    size_t h = w->a->head_dim, at = head * h, n = w->n_keys;
    w->e->k->transpose(t, m, p, n, m, n);
    sums(w, w->g->dv + at, keys->ld, t, m, d, h, panel, n, m, row0 > 0);
    w->e->k->transpose(t, m, ds, n, m, n);
    sums(w, w->g->dk + at, keys->ld, t, m, q, h, panel, n, m, row0 > 0);
}

static void rows_block(const job *w, size_t head, size_t row0, size_t worker) {
    const attention *a = w->a;
    const attention_span *keys = &a->spans[0];
    size_t h = a->head_dim, m = min_of(w->n_rows - row0, w->block);
    float *q = w->e->worker[worker].data, *d = q + w->block * h, *s = d + w->block * h, *dp = s + w->block * w->n_keys;
    float *t = dp + w->block * w->n_keys, *panel = t + (w->is_short ? w->block * w->n_keys : 0);
    rows_gather(w, q, a->q, head, row0, m);
    rows_gather(w, d, w->g->dout, head, row0, m);
    dots(w, s, w->n_keys, q, h, keys->k + head * h, keys->ld, panel, m, w->n_keys);
    dots(w, dp, w->n_keys, d, h, keys->v + head * h, keys->ld, panel, m, w->n_keys);
    for (size_t r = 0; r < m; r++) {
        attention_run seen = attention_keys_seen(a, (row0 + r) / w->group);
        size_t i = head * w->n_rows + row0 + r, n = seen.end - seen.begin;
        float *row = s + r * w->n_keys, *d_row = dp + r * w->n_keys, stats[3];
        w->e->k->softmax_stats(stats, row + seen.begin, d_row + seen.begin, n, a->scale, a->softcap);
        w->max[i] = stats[0];
        w->inv[i] = 1.0f / stats[1];
        w->dot[i] = stats[2] * w->inv[i];
        w->e->k->softmax_backward(row + seen.begin, d_row + seen.begin, &w->max[i], &w->inv[i], &w->dot[i], 0, n, a->scale, a->softcap);
        memset(d_row, 0, seen.begin * sizeof *d_row);
        memset(d_row + seen.end, 0, (w->n_keys - seen.end) * sizeof *d_row);
        memset(row, 0, seen.begin * sizeof *row);
        memset(row + seen.end, 0, (w->n_keys - seen.end) * sizeof *row);
    }
    if (w->is_short) keys_add(w, head, row0, m, q, d, s, dp, t, panel);
    sums(w, q, h, dp, w->n_keys, keys->k + head * h, keys->ld, panel, m, w->n_keys, false);
    for (size_t r = 0; r < m; r++) memcpy(w->g->dq + row_at(w, head, row0 + r), q + r * h, h * sizeof *q);
}

static void rows_task(void *context, size_t task, size_t worker) {
    const job *w = job_find(context, &task, true);
    if (!w->is_short) rows_block(w, task / w->n_blocks, task % w->n_blocks * w->block, worker);
    for (size_t row0 = 0; w->is_short && row0 < w->n_rows; row0 += w->block) rows_block(w, task, row0, worker);
}

/* s^T and dp^T [n, m] of some keys and rows become p^T and ds^T. */
static void tile_softmax(const job *w, float *s, float *dp, size_t head, size_t key0, size_t n, size_t row0, size_t m) {
    for (size_t j = 0; j < n; j++, s += m, dp += m) {
        attention_run seeing = attention_queries_seeing(w->a, key0 + j);
        size_t begin = max_of(seeing.begin * w->group, row0), end = min_of(seeing.end * w->group, row0 + m), first = head * w->n_rows + begin;
        if (begin >= end) begin = end = row0;
        if (begin < end)
            w->e->k->softmax_backward(s + begin - row0, dp + begin - row0, w->max + first, w->inv + first, w->dot + first, 1, end - begin,
                                      w->a->scale, w->a->softcap);
        memset(s, 0, (begin - row0) * sizeof *s);
        memset(dp, 0, (begin - row0) * sizeof *dp);
        memset(s + end - row0, 0, (row0 + m - end) * sizeof *s);
        memset(dp + end - row0, 0, (row0 + m - end) * sizeof *dp);
    }
}

static void keys_task(void *context, size_t task, size_t worker) {
    const job *w = job_find(context, &task, false);
    const attention *a = w->a;
    const attention_span *keys = &a->spans[0];
    size_t h = a->head_dim, head = task / w->n_key_blocks, key0 = task % w->n_key_blocks * BLOCK_KEYS, n = min_of(w->n_keys - key0, BLOCK_KEYS);
    size_t at = key0 * keys->ld + head * h;
    float *q = w->e->worker[worker].data, *d = q + TILE_ROWS * h, *s = d + TILE_ROWS * h, *dp = s + BLOCK_KEYS * TILE_ROWS;
    float *panel = dp + BLOCK_KEYS * TILE_ROWS;
    for (size_t row0 = 0; row0 < w->n_rows; row0 += TILE_ROWS) {
        size_t m = min_of(w->n_rows - row0, TILE_ROWS);
        rows_gather(w, q, a->q, head, row0, m);
        rows_gather(w, d, w->g->dout, head, row0, m);
        dots(w, s, m, keys->k + at, keys->ld, q, h, panel, n, m);
        dots(w, dp, m, keys->v + at, keys->ld, d, h, panel, n, m);
        tile_softmax(w, s, dp, head, key0, n, row0, m);
        sums(w, w->g->dv + at, keys->ld, s, m, d, h, panel, n, m, row0 > 0);
        sums(w, w->g->dk + at, keys->ld, dp, m, q, h, panel, n, m, row0 > 0);
    }
}

/* Cuts a sequence into tasks; returns the floats of scratch that one of them needs. */
static size_t job_init(job *w, const exec *e, const attention *a) {
    size_t h = a->head_dim;
    *w = (job){.a = a, .group = a->n_heads / a->n_kv_heads, .n_keys = a->spans[0].len};
    w->n_rows = a->n_queries * w->group;
    if (w->n_rows == 0) return 0;
    w->block = min_of(w->n_rows, min_of(BLOCK_ROWS_MAX, max_of(BLOCK_ROWS_MIN, SCORE_FLOATS / w->n_keys)));
    w->is_short = w->n_rows * w->n_keys <= SHORT_SCORES;
    w->n_blocks = w->is_short ? 1 : (w->n_rows + w->block - 1) / w->block;
    w->n_key_blocks = w->is_short ? 0 : (w->n_keys + BLOCK_KEYS - 1) / BLOCK_KEYS;
    if (w->is_short) return w->block * (2 * h + 3 * w->n_keys) + max_of(BLOCK_K, h) * e->k->nr;
    return max_of(w->block * 2 * (h + w->n_keys), TILE_ROWS * 2 * (h + BLOCK_KEYS)) + max_of(BLOCK_K, h) * e->k->nr;
}

static size_t stats_floats(const attention *a) {
    return 3 * a->n_heads * a->n_queries;
}

pali_status attention_backward(exec *e, const attention *a, const attention_grad *g, size_t n) {
    job jobs[ATTENTION_MAX];
    size_t floats = 0, n_rows_tasks = 0, n_keys_tasks = 0, n_stats = 0;
    if (n > ATTENTION_MAX) return status_fail(PALI_ERR_INTERNAL, "attention: %zu sequences at once", n);
    for (size_t i = 0; i < n; i++) {
        if (a[i].spans[1].len || a[i].n_queries > a[i].spans[0].len)
            return status_fail(PALI_ERR_INTERNAL, "attention backward: the keys of a sequence are one span");
        floats = max_of(floats, job_init(&jobs[i], e, &a[i]));
        jobs[i].e = e;
        jobs[i].g = &g[i];
        jobs[i].row_end = n_rows_tasks += a[i].n_kv_heads * jobs[i].n_blocks;
        jobs[i].key_end = n_keys_tasks += a[i].n_kv_heads * jobs[i].n_key_blocks;
        n_stats += stats_floats(&a[i]);
    }
    if (n_rows_tasks == 0) return PALI_OK;
    float *stats = mem_scratch_get(&e->shared, n_stats, sizeof *stats);
    if (!stats) return status_no_memory(n_stats * sizeof *stats);
    for (size_t i = 0; i < n; stats += stats_floats(&a[i++])) {
        jobs[i].max = stats;
        jobs[i].inv = stats + stats_floats(&a[i]) / 3;
        jobs[i].dot = stats + stats_floats(&a[i]) / 3 * 2;
    }
    STATUS_TRY(exec_worker_scratch(e, floats * sizeof(float)));
    pool_run(e->pool, n_rows_tasks, rows_task, jobs);
    pool_run(e->pool, n_keys_tasks, keys_task, jobs);
    return PALI_OK;
}

void attention_backward_need(exec_need *need, const exec *e, const attention *a, size_t n) {
    size_t n_stats = 0;
    for (size_t i = 0; i < n; i++) {
        job w;
        exec_need_grow(&need->worker, job_init(&w, e, &a[i]) * sizeof(float));
        n_stats += stats_floats(&a[i]);
    }
    exec_need_grow(&need->shared, n_stats * sizeof(float));
}
