/* xent.c: see xent.h. Two passes over the head for a block of rows. The first keeps for each row the running maximum and sum of
 * exponentials and the target's logit; the second computes the logits again, turns them into gradients in place, and multiplies
 * these by the chunk of the head while it is near. 3 products of 2 M V D flop, and one less if the head is one chunk: then they are
 * still there. */
#include "tensor/xent.h"

#include <math.h>

#include "tensor/linear.h"

#define ROWS 512u        /* 16 MiB of logits with the next */
#define VOCABULARY 8192u /* rows of the head at once */

/* What is known of a row's softmax. */
typedef struct row_stats {
    double sum;    /* of exp(z - max) */
    double total;  /* of z; only with smoothing */
    float max, target; /* logits */
} row_stats;

typedef struct pass {
    const xent *x;
    row_stats *stats;       /* [n_rows] */
    float *z;               /* [n_rows, n] logits of this chunk */
    size_t row0, first, n;  /* the chunk: classes first..first+n */
    bool there;             /* z are the logits, capped, before the second pass */
    double off, on;         /* target distribution: every class, and what the target gets besides */
} pass;

/* The target's column in this chunk; n if it is not here. */
static size_t target_column(const pass *p, size_t row) {
    size_t target = (size_t)p->x->targets[p->row0 + row];
    return target >= p->first && target - p->first < p->n ? target - p->first : p->n;
}

static void stats_rows(const exec *e, void *context, size_t begin, size_t end) {
    const pass *p = context;
    for (size_t r = begin; r < end; r++) {
        float *z = p->z + r * p->n, chunk[3];
        row_stats *s = &p->stats[r];
        size_t t = target_column(p, r);
        if (p->x->softcap > 0) e->k->softcap(z, p->n, p->x->softcap);
        e->k->softmax_stats(chunk, z, NULL, p->n, 1, 0);
        if (p->first == 0) *s = (row_stats){.max = chunk[0]};
        float max = chunk[0] > s->max ? chunk[0] : s->max;
        s->sum = s->sum * exp((double)s->max - (double)max) + (double)chunk[1] * exp((double)chunk[0] - (double)max);
        s->max = max;
        if (t < p->n) s->target = z[t];
        for (size_t j = 0; j < p->n && p->x->smoothing > 0; j++) s->total += (double)z[j];
    }
}

static void gradient_rows(const exec *e, void *context, size_t begin, size_t end) {
    const pass *p = context;
    for (size_t r = begin; r < end; r++) {
        float *z = p->z + r * p->n, weight = p->x->weights[p->row0 + r], cap = p->x->softcap;
        const row_stats *s = &p->stats[r];
        size_t t = target_column(p, r);
        if (cap > 0 && !p->there) e->k->softcap(z, p->n, cap);
        e->k->xent_backward(z, p->n, s->max, (float)(1 / s->sum), (float)p->off, weight, cap);
        if (t == p->n) continue;
        double slope = cap > 0 ? 1 - pow((double)s->target / (double)cap, 2) : 1;
        double probability = exp((double)s->target - (double)s->max) / s->sum;
        z[t] = (float)((double)weight * (probability - p->off - p->on) * slope);
    }
}

static void block_result(const pass *p, size_t n_rows, xent_result *out) {
    for (size_t r = 0; r < n_rows; r++) {
        const row_stats *s = &p->stats[r];
        double loss = log(s->sum) + (double)s->max - p->on * (double)s->target - p->off * s->total;
        out->loss += (double)p->x->weights[p->row0 + r] * loss;
        if (out->row_loss) out->row_loss[p->row0 + r] = loss;
        if (out->row_right) out->row_right[p->row0 + r] = s->target >= s->max;
    }
}

static size_t min_of(size_t a, size_t b) {
    return a < b ? a : b;
}

/* One pass over the head for a block of rows. */
static pali_status head_pass(exec *e, pass *p, size_t n_rows, exec_rows_fn fn, float *dhidden, float *dhead) {
    const xent *x = p->x;
    size_t d = x->head->cols;
    const float *hidden = x->hidden + p->row0 * d;
    for (p->first = 0; p->first < x->head->rows; p->first += VOCABULARY) {
        p->n = min_of(x->head->rows - p->first, VOCABULARY);
        mat part = mat_slice(x->head, p->first, p->n);
        STATUS_TRY(exec_check_cancel(e));
        if (!p->there) STATUS_TRY(linear(e, p->z, hidden, &part, NULL, n_rows, LINEAR_SET));
        exec_rows(e, n_rows, p->n, fn, p);
        if (!dhidden) continue;
        linear_grad grad = {.w = dhead ? dhead + p->first * d : NULL};
        STATUS_TRY(linear_backward(e, dhidden + p->row0 * d, &grad, p->z, hidden, &part, n_rows, p->first ? LINEAR_ADD : LINEAR_SET));
    }
    return PALI_OK;
}

static size_t acts_bytes(const mat *head, size_t n_rows) {
    size_t rows = min_of(n_rows, ROWS);
    return rows * (sizeof(row_stats) + min_of(head->rows, VOCABULARY) * sizeof(float));
}

pali_status xent_forward_backward(exec *e, xent_result *out, float *dhidden, float *dhead, const xent *x) {
    size_t v = x->head->rows;
    pass p = {.x = x, .off = (double)x->smoothing / (double)v, .on = 1 - (double)x->smoothing};
    if (x->spread == XENT_SPREAD_OTHERS && v > 1) {
        p.off = (double)x->smoothing / (double)(v - 1);
        p.on -= p.off;
    }
    out->loss = 0;
    if (x->n_rows == 0) return PALI_OK;
    for (size_t r = 0; r < x->n_rows; r++)
        if (x->targets[r] < 0 || (size_t)x->targets[r] >= v)
            return status_fail(PALI_ERR_ARGUMENT, "target %d: the head has %zu rows", (int)x->targets[r], v);
    p.stats = mem_scratch_get(&e->acts, acts_bytes(x->head, x->n_rows), 1);
    if (!p.stats) return status_no_memory(acts_bytes(x->head, x->n_rows));
    p.z = (float *)(void *)(p.stats + min_of(x->n_rows, ROWS));
    for (p.row0 = 0; p.row0 < x->n_rows; p.row0 += ROWS) {
        size_t n_rows = min_of(x->n_rows - p.row0, ROWS);
        p.there = false;
        STATUS_TRY(head_pass(e, &p, n_rows, stats_rows, NULL, NULL));
        block_result(&p, n_rows, out);
        p.there = v <= VOCABULARY;
        if (dhidden) STATUS_TRY(head_pass(e, &p, n_rows, gradient_rows, dhidden, dhead));
    }
    return PALI_OK;
}

void xent_need(exec_need *need, exec *e, const mat *head, size_t n_rows) {
    mat part = *head;
    part.rows = min_of(head->rows, VOCABULARY);
    exec_need_grow(&need->acts, acts_bytes(head, n_rows));
    linear_need(need, e, &part, NULL, min_of(n_rows, ROWS), LINEAR_SET);
    linear_backward_need(need, e, &part, min_of(n_rows, ROWS));
}
