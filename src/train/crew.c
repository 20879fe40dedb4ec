/* crew.c: see crew.h. */
#include "train/crew.h"

#include <string.h>

#include "base/mem.h"

#define PIECE 16384u /* elements of a gradient that a task sums up: those of all shares stay in cache */

typedef struct share {
    const backprop_item *items;
    size_t n, n_rows, n_targets;
    backprop_result result;
    pali_status status;
    char *message; /* of a failure, on the thread it happened on */
} share;

/* ---- What is cut ---- */

/* Whether an item begins with the picture that the one before it ends with: they stay together, so that it is computed once. */
static bool same_picture(const backprop_item *a, const backprop_item *b) {
    if (a->n_pictures == 0 || b->n_pictures == 0) return false;
    const backprop_picture *last = &a->pictures[a->n_pictures - 1], *first = &b->pictures[0];
    return last->pixels == first->pixels && last->features == first->features;
}

/* Shares of about as many rows; returns their number. */
static size_t shares_cut(share *out, const crew *c, const backprop_item *items, size_t n) {
    size_t n_rows = 0, wanted = 1, n_shares = 0;
    for (size_t i = 0; i < n; i++) n_rows += items[i].text->n;
    while (2 * wanted <= c->n_walks && n_rows / (2 * wanted) >= CREW_SHARE_ROWS) wanted *= 2;
    share s = {.items = items};
    for (size_t i = 0, rows = 0; i < n; i++) {
        s.n++;
        s.n_rows += items[i].text->n;
        s.n_targets += sample_n_targets(items[i].text);
        const bool full = rows + s.n_rows >= (n_shares + 1) * n_rows / wanted;
        if (i + 1 < n && (!full || same_picture(&items[i], &items[i + 1]))) continue;
        rows += s.n_rows;
        out[n_shares++] = s;
        s = (share){.items = items + i + 1};
    }
    return n_shares;
}

/* ---- Running ---- */

typedef struct job {
    crew *c;
    share *shares;
    size_t n_shares;
    backprop_options o;
    const kernels *k;
} job;

static void share_task(void *context, size_t task, size_t worker) {
    const job *j = context;
    share *s = &j->shares[task];
    backprop_options o = j->o;
    o.drop.key += task; /* rows are counted from 0 in each share */
    s->status = backprop_run(&j->c->walks[task], &j->c->execs[worker], &s->result, s->items, s->n, &o);
    if (s->status != PALI_OK) s->message = mem_copy_string(status_message());
}

/* A piece of the gradients: those of the shares after the first are added to its, and are zero again. */
static void sum_task(void *context, size_t task, size_t worker) {
    const job *j = context;
    const params_piece piece = params_piece_at(j->c->p, 0, PIECE, task);
    const size_t n = piece.end - piece.begin;
    (void)worker;
    for (size_t i = 1; i < j->n_shares; i++) {
        float *grad = j->c->twins[i].items[piece.item].grad + piece.begin;
        j->k->add(j->c->p->items[piece.item].grad + piece.begin, grad, n);
        memset(grad, 0, n * sizeof *grad);
    }
}

/* The first failure's message becomes this thread's. */
static pali_status shares_status(share *shares, size_t n) {
    pali_status status = PALI_OK;
    for (size_t i = 0; i < n; i++) {
        if (status == PALI_OK && shares[i].status != PALI_OK)
            status = shares[i].message ? status_fail(shares[i].status, "%s", shares[i].message) : status_no_memory(1);
        mem_free(shares[i].message);
    }
    return status;
}

pali_status crew_run(crew *c, exec *e, backprop_result *out, const backprop_item *items, size_t n, const backprop_options *o) {
    share shares[CREW_MAX_SHARES];
    job j = {c, shares, shares_cut(shares, c, items, n), *o, e->k};
    if (j.n_shares <= 1) return backprop_run(&c->walks[0], e, out, items, n, o);
    j.o.keep_bytes /= j.n_shares;
    out->n_targets = 0;
    for (size_t i = 0; i < j.n_shares; out->n_targets += shares[i++].n_targets) {
        shares[i].result.row_loss = out->row_loss ? out->row_loss + out->n_targets : NULL;
        shares[i].result.row_right = out->row_right ? out->row_right + out->n_targets : NULL;
    }
    for (size_t i = 0; i < c->n_execs; i++) c->execs[i].cancel = e->cancel;
    pool_run(e->pool, j.n_shares, share_task, &j);
    if (!o->loss_only) pool_run(e->pool, params_n_pieces(c->p, 0, c->p->n, PIECE), sum_task, &j);
    out->loss = 0;
    for (size_t i = 0; i < j.n_shares; i++) out->loss += shares[i].result.loss;
    return shares_status(shares, j.n_shares);
}

/* ---- Making ---- */

static bool is_small(const model *m, const params *p) {
    for (size_t i = 0; i < p->n; i++)
        if (!p->items[i].grad) return false; /* gradients in bf16 are there because memory is not */
    return config_n_parameters(&m->cfg) <= CREW_MAX_PARAMETERS;
}

static pali_status execs_new(crew *c, size_t n) {
    c->execs = mem_calloc(n, sizeof *c->execs);
    if (!c->execs) return status_no_memory(n * sizeof *c->execs);
    while (c->n_execs < n) STATUS_TRY(exec_init(&c->execs[c->n_execs++], 1));
    return PALI_OK;
}

pali_status crew_init(crew *c, const exec *e, const model *m, const params *p) {
    *c = (crew){.p = p, .n_walks = 1};
    STATUS_TRY(backprop_init(&c->walks[0], m, p));
    if (!is_small(m, p)) return PALI_OK;
    STATUS_TRY(execs_new(c, e->n_workers));
    for (; c->n_walks < CREW_MAX_SHARES; c->n_walks++) {
        STATUS_TRY(params_twin(&c->twins[c->n_walks], p));
        STATUS_TRY(backprop_init(&c->walks[c->n_walks], m, &c->twins[c->n_walks]));
    }
    return PALI_OK;
}

void crew_free(crew *c) {
    for (size_t i = 0; i < CREW_MAX_SHARES; i++) {
        backprop_free(&c->walks[i]);
        params_free(&c->twins[i]);
    }
    for (size_t i = 0; i < c->n_execs; i++) exec_free(&c->execs[i]);
    mem_free(c->execs);
    *c = (crew){0};
}

/* What is not cut: as many items as are too few for it. */
static size_t uncut(const crew *c, const backprop_item *items, size_t n) {
    size_t rows = 0, i = 0;
    while (i < n && (c->n_walks == 1 || rows < 2 * CREW_SHARE_ROWS)) rows += items[i++].text->n;
    return i;
}

pali_status crew_need(exec_need *need, uint64_t *n_bytes, exec *e, crew *c, const backprop_item *items, size_t n, const backprop_options *o) {
    share shares[CREW_MAX_SHARES];
    const size_t n_shares = shares_cut(shares, c, items, n);
    STATUS_TRY(backprop_need(need, n_bytes, e, &c->walks[0], items, uncut(c, items, n), o));
    for (size_t i = 0; i < n_shares && n_shares > 1; i++) {
        exec_need own = {0};
        uint64_t own_bytes = 0;
        STATUS_TRY(backprop_need(&own, &own_bytes, &c->execs[0], &c->walks[i], shares[i].items, shares[i].n, o));
        *n_bytes += own_bytes + (i > 0 ? params_twin_bytes(c->p) : 0);
        exec_need_grow(&need->worker, own.acts + own.shared + own.worker);
    }
    return PALI_OK;
}
