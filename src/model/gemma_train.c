/* gemma_train.c: see gemma_train.h. Names are those of the formulas: dy of a branch is the gradient by its output. */
#include "model/gemma_train.h"

#include <string.h>

#include "model/gemma_block.h"
#include "tensor/act.h"
#include "tensor/attention.h"
#include "tensor/norm.h"

/* Intermediates of a block, and of its backward. Rows of the MLP's inside that exist at once: those kept are all, others as many as
 * GEMMA_MLP_ROWS. M is T but in the last block. */
typedef struct block {
    exec *e;
    const gemma *g;
    const gemma_layer *l;
    const gemma_rows *rows;
    size_t n, m, layer; /* T, M */
    bool kept;       /* what can be kept lies in the caller's memory */
    /* can be kept */
    gemma_acts a;    /* but for cos, sin and mlp; q and mix of M rows */
    float *mid, *h_mlp;              /* [M, D] residual stream between the branches; the MLP's normed input */
    float *branch_attn, *branch_mlp; /* [M, D] before their norms; Gemma 2 only */
    float *gate, *up;                /* [rows, F] */
    /* never kept */
    float *dmlp;          /* [min(M, GEMMA_MLP_ROWS), F] */
    float *dq, *dmix;     /* [M, N, H] */
    float *dk, *dv;       /* [T, K, H] */
    float *dh, *dbranch;  /* [T, D], [M, D] */
    float *h_out, *dh_out;    /* [M, D] normed input of the rows that are wanted; where M is T, h and dh themselves */
    float *cos_out, *sin_out; /* [M, H / 2] their angles */
} block;

typedef struct array {
    float **at;
    size_t n;
} array;

static size_t min_of(size_t a, size_t b) {
    return a < b ? a : b;
}

/* Points the arrays into a block of memory; returns its floats. at may be NULL. */
static size_t carve(float *at, const array *list, size_t n) {
    size_t floats = 0;
    for (size_t i = 0; i < n; i++) {
        if (at) *list[i].at = at + floats;
        floats += list[i].n;
    }
    return floats;
}

static size_t mlp_rows(const block *b) {
    return min_of(b->m, GEMMA_MLP_ROWS);
}

/* M of a layer. */
static size_t rows_wanted(const gemma *g, size_t layer, const gemma_rows *rows) {
    size_t n = rows->n_rows;
    for (size_t s = 0; s < rows->n_sequences && layer + 1 == g->cfg.n_layers; s++) n -= rows->sequences[s].n_unused;
    return n;
}

/* Rows unused of a sequence in this block. */
static size_t unused(const block *b, size_t s) {
    return b->m < b->n ? b->rows->sequences[s].n_unused : 0;
}

/* to [M, width] = the rows that are wanted of from [T, width]; may be in place. */
static void rows_gather(const block *b, float *to, const float *from, size_t width) {
    for (size_t s = 0; s < b->rows->n_sequences; s++) {
        size_t skip = unused(b, s), n = b->rows->sequences[s].n_rows - skip;
        memmove(to, from + skip * width, n * width * sizeof *to);
        to += n * width;
        from += (skip + n) * width;
    }
}

/* x [T, width] = its first M rows where they belong, zeros between them. */
static void rows_spread(const block *b, float *x, size_t width) {
    float *to = x + b->n * width;
    const float *from = x + b->m * width;
    for (size_t s = b->rows->n_sequences; s-- > 0;) {
        size_t skip = unused(b, s), n = b->rows->sequences[s].n_rows - skip;
        to -= n * width;
        from -= n * width;
        memmove(to, from, n * width * sizeof *to);
        to -= skip * width;
        memset(to, 0, skip * width * sizeof *to);
    }
}

/* y [T, width] += x [M, width]. */
static void rows_add(const block *b, float *y, const float *x, size_t width) {
    for (size_t s = 0; s < b->rows->n_sequences; s++) {
        size_t skip = unused(b, s), n = b->rows->sequences[s].n_rows - skip;
        b->e->k->add(y + skip * width, x, n * width);
        y += (skip + n) * width;
        x += n * width;
    }
}

/* Where row t of gate and up is. */
static size_t mlp_at(const block *b, size_t t) {
    return b->kept ? t * b->g->cfg.mlp_width : 0;
}

static size_t carve_keep(block *b, float *at) {
    const gemma_config *cfg = &b->g->cfg;
    size_t q = b->m * cfg->n_heads * cfg->head_dim, kv = b->n * cfg->n_kv_heads * cfg->head_dim, x = b->n * cfg->width, out = b->m * cfg->width;
    size_t branch = b->l->norm_attn_out ? out : 0, mlp = (b->kept ? b->m : mlp_rows(b)) * cfg->mlp_width;
    const array list[] = {{&b->a.h, x},     {&b->a.q, q},   {&b->a.mix, q},            {&b->a.k, kv},               {&b->a.v, kv},  {&b->mid, out},
                          {&b->h_mlp, out}, {&b->gate, mlp}, {&b->branch_attn, branch}, {&b->branch_mlp, branch}, {&b->up, mlp}};
    return carve(at, list, sizeof list / sizeof *list);
}

static size_t carve_rest(block *b, float *at) {
    const gemma_config *cfg = &b->g->cfg;
    size_t q = b->m * cfg->n_heads * cfg->head_dim, kv = b->n * cfg->n_kv_heads * cfg->head_dim, x = b->n * cfg->width, out = b->m * cfg->width;
    size_t angles = b->n * cfg->head_dim / 2, angles_out = b->m < b->n ? b->m * cfg->head_dim / 2 : 0, some = b->m < b->n ? out : 0;
    const array list[] = {{&b->a.cos, angles}, {&b->a.sin, angles}, {&b->dmlp, mlp_rows(b) * cfg->mlp_width}, {&b->dq, q}, {&b->dmix, q},
                          {&b->dk, kv},        {&b->dv, kv},        {&b->dh, x},                              {&b->dbranch, out},
                          {&b->h_out, some},   {&b->dh_out, some},  {&b->cos_out, angles_out},                {&b->sin_out, angles_out}};
    return carve(at, list, sizeof list / sizeof *list);
}

/* Every sequence begins at the same position: what the longest one so far has is copied. */
static void rope_table(const block *b) {
    size_t half = b->g->cfg.head_dim / 2, longest = 0, longest_row = 0, row = 0;
    for (size_t s = 0; s < b->rows->n_sequences; row += b->rows->sequences[s++].n_rows) {
        size_t n = b->rows->sequences[s].n_rows, known = min_of(n, longest);
        float *cosines = b->a.cos + row * half, *sines = b->a.sin + row * half;
        memcpy(cosines, b->a.cos + longest_row * half, known * half * sizeof *cosines);
        memcpy(sines, b->a.sin + longest_row * half, known * half * sizeof *sines);
        for (size_t i = 0; i < half && known < n; i++) {
            float frequency = gemma_rope_frequency(&b->g->cfg, i);
            for (size_t t = known; t < n; t++) gemma_rope_angle(&cosines[t * half + i], &sines[t * half + i], frequency, t);
        }
        if (n <= longest) continue;
        longest = n;
        longest_row = row;
    }
}

static pali_status block_init(block *b, exec *e, const gemma *g, size_t layer, float *keep, const gemma_rows *rows) {
    *b = (block){.e = e, .g = g, .l = &g->layers[layer], .rows = rows, .n = rows->n_rows, .m = rows_wanted(g, layer, rows), .layer = layer, .kept = keep != NULL};
    size_t rest = carve_rest(b, NULL), floats = rest + (keep ? 0 : carve_keep(b, NULL));
    float *at = mem_scratch_get(&e->acts, floats, sizeof *at);
    if (!at) return status_no_memory(floats * sizeof *at);
    (void)carve_rest(b, at);
    (void)carve_keep(b, keep ? keep : at + rest);
    rope_table(b);
    if (b->m < b->n) {
        rows_gather(b, b->cos_out, b->a.cos, g->cfg.head_dim / 2);
        rows_gather(b, b->sin_out, b->a.sin, g->cfg.head_dim / 2);
    } else {
        b->h_out = b->a.h;
        b->dh_out = b->dh;
        b->cos_out = b->a.cos;
        b->sin_out = b->a.sin;
    }
    return PALI_OK;
}

size_t gemma_block_keep_floats(const gemma *g, const gemma_rows *rows) {
    block b = {.g = g, .l = &g->layers[0], .n = rows->n_rows, .m = rows->n_rows, .kept = true};
    return carve_keep(&b, NULL);
}

/* What sequence s, whose first row of x is `row` and whose first that is wanted `out`, looks at. */
static attention sequence_attention(const block *b, size_t s, size_t row, size_t out) {
    const gemma_config *cfg = &b->g->cfg;
    const gemma_sequence *seq = &b->rows->sequences[s];
    size_t q = out * cfg->n_heads * cfg->head_dim, ld = cfg->n_kv_heads * cfg->head_dim;
    return (attention){.out = b->a.mix + q, .q = b->a.q + q, .n_queries = seq->n_rows - unused(b, s), .n_heads = cfg->n_heads, .n_kv_heads = cfg->n_kv_heads,
                       .head_dim = cfg->head_dim, .spans = {{b->a.k + row * ld, b->a.v + row * ld, seq->n_rows, ld}},
                       .scale = cfg->attn_scale, .softcap = cfg->attn_softcap, .n_prefix = seq->n_prefix,
                       .window = cfg->layer_slides[b->layer] ? cfg->sliding_window : 0};
}

/* Forward, or backward, of all sequences, ATTENTION_MAX at a time. */
static pali_status sequences_attend(const block *b, bool backward) {
    const gemma_config *cfg = &b->g->cfg;
    attention list[ATTENTION_MAX];
    attention_grad grads[ATTENTION_MAX];
    size_t q_row = cfg->n_heads * cfg->head_dim, kv_row = cfg->n_kv_heads * cfg->head_dim, row = 0, out = 0, n = 0;
    for (size_t s = 0; s < b->rows->n_sequences; row += b->rows->sequences[s++].n_rows) {
        list[n] = sequence_attention(b, s, row, out);
        out += list[n].n_queries;
        grads[n] = (attention_grad){b->dmix + (out - list[n].n_queries) * q_row, b->dq + (out - list[n].n_queries) * q_row, b->dk + row * kv_row, b->dv + row * kv_row};
        n++;
        if (n < ATTENTION_MAX && s + 1 < b->rows->n_sequences) continue;
        STATUS_TRY(backward ? attention_backward(b->e, list, grads, n) : attention_forward(b->e, list, n));
        n = 0;
    }
    return PALI_OK;
}

static bool drops(const block *b) {
    return b->rows->drop.p > 0;
}

/* Which mask the attention's output gets, and rows t... of the MLP's. */
static size_t attention_site(const block *b) {
    return 2 * b->layer;
}

static size_t mlp_site(const block *b, size_t t) {
    return 2 * (t / GEMMA_MLP_ROWS * b->g->cfg.n_layers + b->layer) + 1;
}

/* y += norm(branch), after dropout if there is any; `spare` has room for a branch. */
static void norm_add(const block *b, float *y, float *spare, const float *branch, const float *norm_w, size_t n, size_t site) {
    const gemma_config *cfg = &b->g->cfg;
    if (drops(b)) {
        norm_rms(b->e, spare, branch, norm_w, n, cfg->width, cfg->norm_eps);
        dropout_apply(b->e, y, spare, n, cfg->width, &b->rows->drop, site, true);
        return;
    }
    memcpy(spare, branch, n * cfg->width * sizeof *spare);
    norm_rms_add(b->e, y, spare, norm_w, n, cfg->width, cfg->norm_eps);
}

/* y += x W^T, after dropout if there is any. */
static pali_status product_add(const block *b, float *y, float *spare, const float *x, const mat *w, size_t n, size_t site) {
    if (!drops(b)) return linear(b->e, y, x, w, NULL, n, LINEAR_ADD);
    STATUS_TRY(linear(b->e, spare, x, w, NULL, n, LINEAR_SET));
    dropout_apply(b->e, y, spare, n, b->g->cfg.width, &b->rows->drop, site, true);
    return PALI_OK;
}

/* Attention's output, mix, of the rows that are wanted. */
static pali_status attention_mix(const block *b, const float *x) {
    const gemma_config *cfg = &b->g->cfg;
    if (b->m == b->n) {
        STATUS_TRY(gemma_block_in(b->e, b->g, b->layer, x, &b->a, b->n));
        return sequences_attend(b, false);
    }
    norm_rms(b->e, b->a.h, x, b->l->norm_attn_in, b->n, cfg->width, cfg->norm_eps);
    rows_gather(b, b->h_out, b->a.h, cfg->width);
    STATUS_TRY(linear(b->e, b->a.q, b->h_out, &b->l->q, NULL, b->m, LINEAR_SET));
    STATUS_TRY(linear(b->e, b->a.k, b->a.h, &b->l->k, NULL, b->n, LINEAR_SET));
    STATUS_TRY(linear(b->e, b->a.v, b->a.h, &b->l->v, NULL, b->n, LINEAR_SET));
    gemma_rope(b->e, cfg, b->a.q, NULL, b->cos_out, b->sin_out, b->m);
    gemma_rope(b->e, cfg, NULL, b->a.k, b->a.cos, b->a.sin, b->n);
    return sequences_attend(b, false);
}

/* Everything up to the MLP's normed input. */
static pali_status attention_inside(const block *b, const float *x) {
    const gemma_config *cfg = &b->g->cfg;
    STATUS_TRY(attention_mix(b, x));
    rows_gather(b, b->mid, x, cfg->width);
    if (b->l->norm_attn_out) {
        STATUS_TRY(linear(b->e, b->branch_attn, b->a.mix, &b->l->o, NULL, b->m, LINEAR_SET));
        norm_add(b, b->mid, b->dh, b->branch_attn, b->l->norm_attn_out, b->m, attention_site(b));
    } else {
        STATUS_TRY(product_add(b, b->mid, b->dh, b->a.mix, &b->l->o, b->m, attention_site(b)));
    }
    norm_rms(b->e, b->h_mlp, b->mid, b->l->norm_mlp_in, b->m, cfg->width, cfg->norm_eps);
    return PALI_OK;
}

/* Of rows t..t+n, the MLP's gate and up, and in Gemma 2 what it gives. */
static pali_status mlp_inside(const block *b, size_t t, size_t n) {
    const float *h = b->h_mlp + t * b->g->cfg.width;
    float *gate = b->gate + mlp_at(b, t), *up = b->up + mlp_at(b, t);
    STATUS_TRY(linear(b->e, gate, h, &b->l->gate, NULL, n, LINEAR_SET));
    STATUS_TRY(linear(b->e, up, h, &b->l->up, NULL, n, LINEAR_SET));
    if (!b->l->norm_mlp_out) return PALI_OK;
    act_geglu(b->e, b->dmlp, gate, up, n, b->g->cfg.mlp_width);
    return linear(b->e, b->branch_mlp + t * b->g->cfg.width, b->dmlp, &b->l->down, NULL, n, LINEAR_SET);
}

/* x = mid + the MLP's branch, of rows t..t+n. */
static pali_status mlp_out(const block *b, float *x, size_t t, size_t n) {
    size_t d = b->g->cfg.width;
    memcpy(x + t * d, b->mid + t * d, n * d * sizeof *x);
    if (b->l->norm_mlp_out) {
        norm_add(b, x + t * d, b->dh, b->branch_mlp + t * d, b->l->norm_mlp_out, n, mlp_site(b, t));
        return PALI_OK;
    }
    act_geglu(b->e, b->dmlp, b->gate + mlp_at(b, t), b->up + mlp_at(b, t), n, b->g->cfg.mlp_width);
    return product_add(b, x + t * d, b->dh, b->dmlp, &b->l->down, n, mlp_site(b, t));
}

pali_status gemma_block_forward(exec *e, const gemma *g, size_t layer, float *x, float *keep, const gemma_rows *rows) {
    block b;
    STATUS_TRY(block_init(&b, e, g, layer, keep, rows));
    if (!keep && !drops(&b)) {
        b.a.mlp = b.dmlp;
        STATUS_TRY(attention_mix(&b, x));
        rows_gather(&b, x, x, g->cfg.width);
        return gemma_block_out(e, g, layer, x, &b.a, b.m);
    }
    STATUS_TRY(attention_inside(&b, x));
    for (size_t t = 0; t < b.m; t += GEMMA_MLP_ROWS) {
        STATUS_TRY(mlp_inside(&b, t, min_of(b.m - t, GEMMA_MLP_ROWS)));
        STATUS_TRY(mlp_out(&b, x, t, min_of(b.m - t, GEMMA_MLP_ROWS)));
    }
    return PALI_OK;
}

/* The gradient by the output of a branch's last product: dy itself, or through dropout and Gemma 2's norm of `branch`, into out. */
static pali_status branch_backward(const block *b, const float **dbranch, float *out, float *spare, float *dnorm, const float *dy, const float *branch,
                                   const float *norm_w, size_t n, size_t site) {
    float *dropped = norm_w ? spare : out;
    if (drops(b)) dropout_apply(b->e, dropped, dy, n, b->g->cfg.width, &b->rows->drop, site, false);
    if (drops(b)) dy = dropped;
    *dbranch = norm_w ? out : dy;
    if (!norm_w) return PALI_OK;
    return norm_rms_backward(b->e, out, dnorm, dy, branch, norm_w, n, b->g->cfg.width, b->g->cfg.norm_eps, false);
}

/* dx, by the block's output, becomes that by mid: rows t..t+n, whose gate and up are there. */
static pali_status mlp_backward(const block *b, float *dx, const gemma_layer_grad *grad, size_t t, size_t n) {
    exec *e = b->e;
    const gemma_layer *l = b->l;
    const gemma_config *cfg = &b->g->cfg;
    size_t d = cfg->width;
    float *gate = b->gate + mlp_at(b, t), *up = b->up + mlp_at(b, t), *h = b->h_mlp + t * d, *dh = b->dh + t * d;
    const float *dy;
    STATUS_TRY(branch_backward(b, &dy, b->dbranch + t * d, dh, grad->norm_mlp_out, dx + t * d, b->branch_mlp + t * d, l->norm_mlp_out, n, mlp_site(b, t)));
    STATUS_TRY(linear_backward(e, b->dmlp, NULL, dy, NULL, &l->down, n, LINEAR_SET));
    act_geglu_backward(e, gate, up, b->dmlp, n, cfg->mlp_width);
    STATUS_TRY(linear_backward(e, NULL, &grad->down, dy, b->dmlp, &l->down, n, LINEAR_SET));
    STATUS_TRY(linear_backward(e, dh, &grad->gate, gate, h, &l->gate, n, LINEAR_SET));
    STATUS_TRY(linear_backward(e, dh, &grad->up, up, h, &l->up, n, LINEAR_ADD));
    return norm_rms_backward(e, dx + t * d, grad->norm_mlp_in, dh, b->mid + t * d, l->norm_mlp_in, n, d, cfg->norm_eps, true);
}

/* dx, by mid, becomes that by x. */
static pali_status attention_branch_backward(const block *b, float *dx, const gemma_layer_grad *grad, const float *x, bool goes_on) {
    exec *e = b->e;
    const gemma_layer *l = b->l;
    const gemma_config *cfg = &b->g->cfg;
    const float *dy;
    const bool some = b->m < b->n, wanted = goes_on || grad->norm_attn_in;
    float *dh = wanted ? b->dh : NULL;
    STATUS_TRY(branch_backward(b, &dy, b->dbranch, b->dh, grad->norm_attn_out, dx, b->branch_attn, l->norm_attn_out, b->m, attention_site(b)));
    STATUS_TRY(linear_backward(e, b->dmix, &grad->o, dy, b->a.mix, &l->o, b->m, LINEAR_SET));
    STATUS_TRY(sequences_attend(b, true));
    e->k->scale(b->a.sin, b->a.sin, b->n * cfg->head_dim / 2, -1);
    if (some) {
        e->k->scale(b->sin_out, b->sin_out, b->m * cfg->head_dim / 2, -1);
        rows_gather(b, b->h_out, b->a.h, cfg->width); /* not kept */
    }
    gemma_rope(e, cfg, b->dq, NULL, b->cos_out, b->sin_out, b->m);
    gemma_rope(e, cfg, NULL, b->dk, b->a.cos, b->a.sin, b->n);
    STATUS_TRY(linear_backward(e, wanted ? b->dh_out : NULL, &grad->q, b->dq, b->h_out, &l->q, b->m, LINEAR_SET));
    STATUS_TRY(linear_backward(e, dh, &grad->k, b->dk, b->a.h, &l->k, b->n, some ? LINEAR_SET : LINEAR_ADD));
    STATUS_TRY(linear_backward(e, dh, &grad->v, b->dv, b->a.h, &l->v, b->n, LINEAR_ADD));
    if (!dh) return PALI_OK;
    if (some) {
        rows_add(b, dh, b->dh_out, cfg->width);
        rows_spread(b, dx, cfg->width);
    }
    return norm_rms_backward(e, dx, grad->norm_attn_in, dh, x, l->norm_attn_in, b->n, cfg->width, cfg->norm_eps, true);
}

pali_status gemma_block_backward(exec *e, const gemma *g, size_t layer, float *dx, const gemma_layer_grad *grad, const float *x, float *keep,
                                 const gemma_rows *rows, bool goes_on) {
    block b;
    STATUS_TRY(block_init(&b, e, g, layer, keep, rows));
    if (!keep) STATUS_TRY(attention_inside(&b, x));
    for (size_t t = 0; t < b.m; t += GEMMA_MLP_ROWS) {
        size_t n = min_of(b.m - t, GEMMA_MLP_ROWS);
        if (!keep) STATUS_TRY(mlp_inside(&b, t, n));
        STATUS_TRY(mlp_backward(&b, dx, grad, t, n));
    }
    return attention_branch_backward(&b, dx, grad, x, goes_on);
}

void gemma_block_need(exec_need *need, exec *e, const gemma *g, size_t layer, const gemma_rows *rows) {
    block b = {.e = e, .g = g, .l = &g->layers[layer], .rows = rows, .n = rows->n_rows, .m = rows_wanted(g, layer, rows), .layer = layer};
    size_t n = b.n, n_mlp = mlp_rows(&b);
    const struct {
        const mat *w, *up;
        size_t n;
    } list[] = {{&b.l->q, NULL, b.m}, {&b.l->k, NULL, n}, {&b.l->v, NULL, n}, {&b.l->o, NULL, b.m}, {&b.l->gate, NULL, n_mlp}, {&b.l->up, NULL, n_mlp},
                {&b.l->gate, &b.l->up, n_mlp}, {&b.l->down, NULL, n_mlp}};
    exec_need_grow(&need->acts, (carve_rest(&b, NULL) + carve_keep(&b, NULL)) * sizeof(float));
    norm_backward_need(need, n);
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        linear_need(need, e, list[i].w, list[i].up, list[i].n, LINEAR_SET);
        linear_backward_need(need, e, list[i].w, list[i].n);
    }
    attention batch[ATTENTION_MAX];
    for (size_t s = 0; s < rows->n_sequences; s += ATTENTION_MAX) {
        size_t n_batch = rows->n_sequences - s < ATTENTION_MAX ? rows->n_sequences - s : ATTENTION_MAX;
        for (size_t i = 0; i < n_batch; i++) {
            batch[i] = sequence_attention(&b, s + i, 0, 0);
            attention_need(need, e, &batch[i]);
        }
        attention_backward_need(need, e, batch, n_batch);
    }
}
