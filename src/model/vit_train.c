/* vit_train.c: see vit_train.h. */
#include "model/vit_train.h"

#include <string.h>

#include "model/vit_block.h"
#include "tensor/act.h"
#include "tensor/norm.h"

/* Intermediates of a block, and of its backward. */
typedef struct block {
    vit_acts a;                           /* h is the first branch's */
    float *mid, *h_mlp;                   /* [P, W] residual stream between the branches; the second's normed input */
    float *dq, *dk, *dv, *dmix, *dh;      /* [P, W] */
    float *dmlp;                          /* [P, F] */
} block;

/* Carves out of a block of memory; returns its floats. at may be NULL. */
static size_t block_carve(block *b, float *at, const vit_config *cfg) {
    size_t x = cfg->n_patches * cfg->width, n = 0;
    float **const narrow[] = {&b->a.x, &b->a.h, &b->a.q, &b->a.k, &b->a.v, &b->a.mix, &b->mid, &b->h_mlp, &b->dq, &b->dk, &b->dv, &b->dmix, &b->dh};
    float **const wide[] = {&b->a.mlp, &b->dmlp};
    for (size_t i = 0; i < sizeof narrow / sizeof *narrow; i++, n += x)
        if (at) *narrow[i] = at + n;
    for (size_t i = 0; i < sizeof wide / sizeof *wide; i++, n += cfg->n_patches * cfg->mlp_width)
        if (at) *wide[i] = at + n;
    return n;
}

static pali_status block_init(block *b, exec *e, const vit *v) {
    size_t floats = block_carve(b, NULL, &v->cfg);
    float *at = mem_scratch_get(&e->acts, floats, sizeof *at);
    if (!at) return status_no_memory(floats * sizeof *at);
    (void)block_carve(b, at, &v->cfg);
    return PALI_OK;
}

static pali_status patches_get(float **rows, exec *e, const vit *v) {
    size_t floats = v->cfg.n_patches * vit_patch_floats(&v->cfg);
    *rows = mem_scratch_get(&e->acts, floats, sizeof **rows);
    return *rows ? PALI_OK : status_no_memory(floats * sizeof **rows);
}

pali_status vit_embed(exec *e, const vit *v, float *x, const float *pixels) {
    float *rows;
    STATUS_TRY(patches_get(&rows, e, v));
    return vit_embed_patches(e, v, x, rows, pixels);
}

pali_status vit_embed_backward(exec *e, const vit *v, const linear_grad *patch, float *dposition, const float *dx, const float *pixels) {
    float *rows;
    if (dposition) e->k->add(dposition, dx, v->cfg.n_patches * v->cfg.width);
    STATUS_TRY(patches_get(&rows, e, v));
    vit_patches(rows, pixels, &v->cfg);
    return linear_backward(e, NULL, patch, dx, rows, &v->patch, v->cfg.n_patches, LINEAR_SET);
}

pali_status vit_block_forward(exec *e, const vit *v, size_t layer, float *x) {
    block b;
    STATUS_TRY(block_init(&b, e, v));
    b.a.x = x;
    return vit_block(e, &v->cfg, &v->layers[layer], &b.a);
}

/* The inside of the block up to what its second branch's GELU is applied to, which is in a.mlp. */
static pali_status block_again(exec *e, const vit_config *cfg, const vit_layer *l, const block *b, const float *x) {
    size_t n = cfg->n_patches, w = cfg->width;
    STATUS_TRY(vit_block_attention(e, cfg, l, &b->a, x));
    memcpy(b->mid, x, n * w * sizeof *x);
    STATUS_TRY(linear(e, b->mid, b->a.mix, &l->o, l->o_b, n, LINEAR_ADD));
    norm_layer(e, b->h_mlp, b->mid, l->norm2_w, l->norm2_b, n, w, cfg->norm_eps);
    return linear(e, b->a.mlp, b->h_mlp, &l->fc1, l->fc1_b, n, LINEAR_SET);
}

pali_status vit_block_backward(exec *e, const vit *v, size_t layer, float *dx, const vit_layer_grad *grad, const float *x, bool goes_on) {
    const vit_config *cfg = &v->cfg;
    const vit_layer *l = &v->layers[layer];
    size_t n = cfg->n_patches, w = cfg->width;
    block b;
    STATUS_TRY(block_init(&b, e, v));
    STATUS_TRY(block_again(e, cfg, l, &b, x));

    STATUS_TRY(linear_backward(e, b.dmlp, NULL, dx, NULL, &l->fc2, n, LINEAR_SET));
    act_gelu_backward(e, b.a.mlp, b.dmlp, n, cfg->mlp_width);
    STATUS_TRY(linear_backward(e, NULL, &grad->fc2, dx, b.dmlp, &l->fc2, n, LINEAR_SET));
    STATUS_TRY(linear_backward(e, b.dh, &grad->fc1, b.a.mlp, b.h_mlp, &l->fc1, n, LINEAR_SET));
    STATUS_TRY(norm_layer_backward(e, dx, grad->norm2_w, grad->norm2_b, b.dh, b.mid, l->norm2_w, n, w, cfg->norm_eps, true));

    const attention att = vit_attention(cfg, &b.a);
    const attention_grad att_grad = {b.dmix, b.dq, b.dk, b.dv};
    float *dh = goes_on || grad->norm1_w || grad->norm1_b ? b.dh : NULL;
    STATUS_TRY(linear_backward(e, b.dmix, &grad->o, dx, b.a.mix, &l->o, n, LINEAR_SET));
    STATUS_TRY(attention_backward(e, &att, &att_grad, 1));
    STATUS_TRY(linear_backward(e, dh, &grad->q, b.dq, b.a.h, &l->q, n, LINEAR_SET));
    STATUS_TRY(linear_backward(e, dh, &grad->k, b.dk, b.a.h, &l->k, n, LINEAR_ADD));
    STATUS_TRY(linear_backward(e, dh, &grad->v, b.dv, b.a.h, &l->v, n, LINEAR_ADD));
    if (!dh) return PALI_OK;
    return norm_layer_backward(e, dx, grad->norm1_w, grad->norm1_b, dh, x, l->norm1_w, n, w, cfg->norm_eps, true);
}

void vit_train_need(exec_need *need, exec *e, const vit *v) {
    size_t n = v->cfg.n_patches, floats = block_carve(&(block){0}, NULL, &v->cfg), patches = n * vit_patch_floats(&v->cfg);
    const attention att = vit_attention(&v->cfg, &(vit_acts){0});
    vit_need(need, e, v);
    exec_need_grow(&need->acts, (floats > patches ? floats : patches) * sizeof(float));
    norm_backward_need(need, n);
    attention_backward_need(need, e, &att, 1);
    linear_backward_need(need, e, &v->patch, n);
    for (size_t i = 0; i < v->cfg.n_layers; i++) {
        const vit_layer *l = &v->layers[i];
        const mat *const list[] = {&l->q, &l->k, &l->v, &l->o, &l->fc1, &l->fc2};
        for (size_t j = 0; j < sizeof list / sizeof *list; j++) linear_backward_need(need, e, list[j], n);
    }
}
