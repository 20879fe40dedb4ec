/* gemma_train.c: see gemma_train.h. Names are those of the formulas: dy of a branch is the gradient by its output. */
#include "model/gemma_train.h"

#include <string.h>

#include "model/gemma_block.h"
#include "tensor/act.h"
#include "tensor/attention.h"
#include "tensor/norm.h"

/* Intermediates of a block, and of its backward. */
typedef struct block {
    exec *e;
    const gemma *g;
    const gemma_layer *l;
    const gemma_rows *rows;
    size_t n; /* T */
    gemma_acts a;
    float *dq, *dmix; /* [T, N, H] */
    float *dk, *dv;   /* [T, K, H] */
    float *mid;       /* [T, D] residual stream between the branches */
    float *h_mlp, *dh, *dbranch; /* [T, D] */
    float *branch_attn, *branch_mlp; /* [T, D] before their norms in Gemma 2 */
    float *up, *dmlp; /* [min(T, GEMMA_MLP_ROWS), F]; the gate is in a.mlp */
} block;

/* Carves what forward needs, or backward as well, out of a block of memory; returns its floats. at may be NULL. */
static size_t block_carve(block *b, float *at, bool backward) {
    const gemma_config *cfg = &b->g->cfg;
    size_t q = b->n * cfg->n_heads * cfg->head_dim, kv = b->n * cfg->n_kv_heads * cfg->head_dim, x = b->n * cfg->width;
    size_t angles = b->n * cfg->head_dim / 2, mlp = (b->n < GEMMA_MLP_ROWS ? b->n : GEMMA_MLP_ROWS) * cfg->mlp_width;
    const struct {
        float **array;
        size_t n;
        bool backward;
    } list[] = {{&b->a.h, x, false},       {&b->a.q, q, false},   {&b->a.mix, q, false}, {&b->a.k, kv, false},  {&b->a.v, kv, false},
                {&b->a.mlp, mlp, false},   {&b->a.cos, angles, false}, {&b->a.sin, angles, false},
                {&b->dq, q, true},         {&b->dmix, q, true},   {&b->dk, kv, true},    {&b->dv, kv, true},    {&b->mid, x, true},
                {&b->h_mlp, x, true},      {&b->dh, x, true},     {&b->dbranch, x, true}, {&b->branch_attn, x, true},
                {&b->branch_mlp, x, true}, {&b->up, mlp, true},   {&b->dmlp, mlp, true}};
    size_t n = 0;
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        if (list[i].backward && !backward) continue;
        if (at) *list[i].array = at + n;
        n += list[i].n;
    }
    return n;
}

static void rope_table(const block *b) {
    size_t half = b->g->cfg.head_dim / 2;
    for (size_t i = 0; i < half; i++) {
        float frequency = gemma_rope_frequency(&b->g->cfg, i);
        size_t row = 0;
        for (size_t s = 0; s < b->rows->n_sequences; s++)
            for (size_t t = 0; t < b->rows->sequences[s].n_rows; t++, row++)
                gemma_rope_angle(&b->a.cos[row * half + i], &b->a.sin[row * half + i], frequency, t);
    }
}

static pali_status block_init(block *b, exec *e, const gemma *g, size_t layer, const gemma_rows *rows, bool backward) {
    *b = (block){.e = e, .g = g, .l = &g->layers[layer], .rows = rows, .n = rows->n_rows};
    size_t floats = block_carve(b, NULL, backward);
    float *at = mem_scratch_get(&e->acts, floats, sizeof *at);
    if (!at) return status_no_memory(floats * sizeof *at);
    (void)block_carve(b, at, backward);
    rope_table(b);
    return PALI_OK;
}

/* What sequence s, whose first row is `row`, looks at. */
static attention sequence_attention(const block *b, size_t s, size_t row, size_t layer) {
    const gemma_config *cfg = &b->g->cfg;
    const gemma_sequence *seq = &b->rows->sequences[s];
    size_t q = row * cfg->n_heads * cfg->head_dim, ld = cfg->n_kv_heads * cfg->head_dim;
    return (attention){.out = b->a.mix + q, .q = b->a.q + q, .n_queries = seq->n_rows, .n_heads = cfg->n_heads, .n_kv_heads = cfg->n_kv_heads,
                       .head_dim = cfg->head_dim, .spans = {{b->a.k + row * ld, b->a.v + row * ld, seq->n_rows, ld}},
                       .scale = cfg->attn_scale, .softcap = cfg->attn_softcap, .n_prefix = seq->n_prefix,
                       .window = cfg->layer_slides[layer] ? cfg->sliding_window : 0};
}

/* Forward, or backward, of all sequences, ATTENTION_MAX at a time. */
static pali_status sequences_attend(const block *b, size_t layer, bool backward) {
    const gemma_config *cfg = &b->g->cfg;
    attention list[ATTENTION_MAX];
    attention_grad grads[ATTENTION_MAX];
    size_t q_row = cfg->n_heads * cfg->head_dim, kv_row = cfg->n_kv_heads * cfg->head_dim, row = 0, n = 0;
    for (size_t s = 0; s < b->rows->n_sequences; row += b->rows->sequences[s++].n_rows) {
        list[n] = sequence_attention(b, s, row, layer);
        grads[n++] = (attention_grad){b->dmix + row * q_row, b->dq + row * q_row, b->dk + row * kv_row, b->dv + row * kv_row};
        if (n < ATTENTION_MAX && s + 1 < b->rows->n_sequences) continue;
        STATUS_TRY(backward ? attention_backward(b->e, list, grads, n) : attention_forward(b->e, list, n));
        n = 0;
    }
    return PALI_OK;
}

pali_status gemma_block_forward(exec *e, const gemma *g, size_t layer, float *x, const gemma_rows *rows) {
    block b;
    STATUS_TRY(block_init(&b, e, g, layer, rows, false));
    STATUS_TRY(gemma_block_in(e, g, layer, x, &b.a, b.n));
    STATUS_TRY(sequences_attend(&b, layer, false));
    return gemma_block_out(e, g, layer, x, &b.a, b.n);
}

/* The gradient by the output of a branch's last product: dy itself, or through Gemma 2's norm of `branch`, into out. */
static pali_status branch_backward(const block *b, const float **dbranch, float *out, float *dnorm, const float *dy, const float *branch,
                                   const float *norm_w, size_t n) {
    *dbranch = norm_w ? out : dy;
    if (!norm_w) return PALI_OK;
    return norm_rms_backward(b->e, out, dnorm, dy, branch, norm_w, n, b->g->cfg.width, b->g->cfg.norm_eps, false);
}

/* dx, by the block's output, becomes that by mid. Rows t.. of the MLP, whose inside is computed again. */
static pali_status mlp_backward(const block *b, float *dx, const gemma_layer_grad *grad, size_t t, size_t n) {
    exec *e = b->e;
    const gemma_layer *l = b->l;
    const gemma_config *cfg = &b->g->cfg;
    size_t d = cfg->width;
    float *gate = b->a.mlp, *h = b->h_mlp + t * d, *dh = b->dh + t * d, *branch = b->branch_mlp + t * d;
    const float *dy;
    STATUS_TRY(linear(e, gate, h, &l->gate, NULL, n, LINEAR_SET));
    STATUS_TRY(linear(e, b->up, h, &l->up, NULL, n, LINEAR_SET));
    if (l->norm_mlp_out) {
        STATUS_TRY(linear_geglu(e, b->dmlp, h, &l->gate, &l->up, n, LINEAR_SET));
        STATUS_TRY(linear(e, branch, b->dmlp, &l->down, NULL, n, LINEAR_SET));
    }
    STATUS_TRY(branch_backward(b, &dy, b->dbranch + t * d, grad->norm_mlp_out, dx + t * d, branch, l->norm_mlp_out, n));
    STATUS_TRY(linear_backward(e, b->dmlp, NULL, dy, NULL, &l->down, n, LINEAR_SET));
    act_geglu_backward(e, gate, b->up, b->dmlp, n, cfg->mlp_width);
    STATUS_TRY(linear_backward(e, NULL, &grad->down, dy, b->dmlp, &l->down, n, LINEAR_SET));
    STATUS_TRY(linear_backward(e, dh, &grad->gate, gate, h, &l->gate, n, LINEAR_SET));
    STATUS_TRY(linear_backward(e, dh, &grad->up, b->up, h, &l->up, n, LINEAR_ADD));
    return norm_rms_backward(e, dx + t * d, grad->norm_mlp_in, dh, b->mid + t * d, l->norm_mlp_in, n, d, cfg->norm_eps, true);
}

/* dx, by mid, becomes that by x. */
static pali_status attention_branch_backward(const block *b, float *dx, const gemma_layer_grad *grad, const float *x, size_t layer, bool goes_on) {
    exec *e = b->e;
    const gemma_layer *l = b->l;
    const gemma_config *cfg = &b->g->cfg;
    const float *dy;
    float *dh = goes_on || grad->norm_attn_in ? b->dh : NULL;
    STATUS_TRY(branch_backward(b, &dy, b->dbranch, grad->norm_attn_out, dx, b->branch_attn, l->norm_attn_out, b->n));
    STATUS_TRY(linear_backward(e, b->dmix, &grad->o, dy, b->a.mix, &l->o, b->n, LINEAR_SET));
    STATUS_TRY(sequences_attend(b, layer, true));
    e->k->scale(b->a.sin, b->a.sin, b->n * cfg->head_dim / 2, -1);
    gemma_rope(e, cfg, b->dq, b->dk, b->a.cos, b->a.sin, b->n);
    STATUS_TRY(linear_backward(e, dh, &grad->q, b->dq, b->a.h, &l->q, b->n, LINEAR_SET));
    STATUS_TRY(linear_backward(e, dh, &grad->k, b->dk, b->a.h, &l->k, b->n, LINEAR_ADD));
    STATUS_TRY(linear_backward(e, dh, &grad->v, b->dv, b->a.h, &l->v, b->n, LINEAR_ADD));
    if (!dh) return PALI_OK;
    return norm_rms_backward(e, dx, grad->norm_attn_in, dh, x, l->norm_attn_in, b->n, cfg->width, cfg->norm_eps, true);
}

pali_status gemma_block_backward(exec *e, const gemma *g, size_t layer, float *dx, const gemma_layer_grad *grad, const float *x,
                                 const gemma_rows *rows, bool goes_on) {
    const gemma_config *cfg = &g->cfg;
    block b;
    STATUS_TRY(block_init(&b, e, g, layer, rows, true));
    STATUS_TRY(gemma_block_in(e, g, layer, x, &b.a, b.n));
    STATUS_TRY(sequences_attend(&b, layer, false));
    memcpy(b.mid, x, b.n * cfg->width * sizeof *x);
    if (b.l->norm_attn_out) {
        STATUS_TRY(linear(e, b.branch_attn, b.a.mix, &b.l->o, NULL, b.n, LINEAR_SET));
        norm_rms(e, b.dh, b.branch_attn, b.l->norm_attn_out, b.n, cfg->width, cfg->norm_eps);
        e->k->add(b.mid, b.dh, b.n * cfg->width);
    } else {
        STATUS_TRY(linear(e, b.mid, b.a.mix, &b.l->o, NULL, b.n, LINEAR_ADD));
    }
    norm_rms(e, b.h_mlp, b.mid, b.l->norm_mlp_in, b.n, cfg->width, cfg->norm_eps);
    for (size_t t = 0; t < b.n; t += GEMMA_MLP_ROWS) STATUS_TRY(mlp_backward(&b, dx, grad, t, b.n - t < GEMMA_MLP_ROWS ? b.n - t : GEMMA_MLP_ROWS));
    return attention_branch_backward(&b, dx, grad, x, layer, goes_on);
}

void gemma_block_need(exec_need *need, exec *e, const gemma *g, size_t layer, const gemma_rows *rows) {
    block b = {.e = e, .g = g, .l = &g->layers[layer], .rows = rows, .n = rows->n_rows};
    size_t n = b.n, mlp_rows = n < GEMMA_MLP_ROWS ? n : GEMMA_MLP_ROWS;
    const struct {
        const mat *w, *up;
        size_t n;
    } list[] = {{&b.l->q, NULL, n}, {&b.l->k, NULL, n}, {&b.l->v, NULL, n}, {&b.l->o, NULL, n}, {&b.l->gate, NULL, mlp_rows}, {&b.l->up, NULL, mlp_rows},
                {&b.l->gate, &b.l->up, mlp_rows}, {&b.l->down, NULL, mlp_rows}};
    exec_need_grow(&need->acts, block_carve(&b, NULL, true) * sizeof(float));
    norm_backward_need(need, n);
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        linear_need(need, e, list[i].w, list[i].up, list[i].n, LINEAR_SET);
        linear_backward_need(need, e, list[i].w, list[i].n);
    }
    attention batch[ATTENTION_MAX];
    for (size_t s = 0; s < rows->n_sequences; s += ATTENTION_MAX) {
        size_t n_batch = rows->n_sequences - s < ATTENTION_MAX ? rows->n_sequences - s : ATTENTION_MAX;
        for (size_t i = 0; i < n_batch; i++) {
            batch[i] = sequence_attention(&b, s + i, 0, layer);
            attention_need(need, e, &batch[i]);
        }
        attention_backward_need(need, e, batch, n_batch);
    }
}
