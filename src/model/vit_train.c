/* vit_train.c: see vit_train.h. */
#include "model/vit_train.h"

#include <string.h>

#include "model/vit_block.h"
#include "tensor/act.h"
#include "tensor/norm.h"

#define VIT_TRAIN_ROWS 1024u /* of a group, unless one picture has more */

/* Intermediates of a block, and of its backward, of a group of pictures. */
typedef struct block {
    vit_acts a;                           /* h is the first branch's; mlp: what GELU is applied to */
    float *mid, *h_mlp;                   /* [rows, W] residual stream between the branches; the second's normed input */
    float *dq, *dk, *dv, *dmix, *dh;      /* [rows, W] */
    float *dmlp;                          /* [rows, F] */
    size_t n, rows;                       /* pictures; n P */
} block;

static size_t min_of(size_t a, size_t b) {
    return a < b ? a : b;
}

/* Pictures of a group. */
static size_t group_of(const vit_config *cfg, size_t n) {
    size_t at_once = min_of(VIT_TRAIN_ROWS / cfg->n_patches, ATTENTION_MAX);
    return min_of(n, at_once ? at_once : 1);
}

/* Both point their arrays into a block of memory, and return its floats. at may be NULL. Kept or made again: */
static size_t carve_keep(block *b, float *at, const vit_config *cfg) {
    size_t x = b->rows * cfg->width;
    float **const narrow[] = {&b->a.h, &b->a.q, &b->a.k, &b->a.v, &b->a.mix, &b->mid, &b->h_mlp};
    const size_t n_narrow = sizeof narrow / sizeof *narrow;
    for (size_t i = 0; i < n_narrow && at; i++) *narrow[i] = at + i * x;
    if (at) b->a.mlp = at + n_narrow * x;
    return n_narrow * x + b->rows * cfg->mlp_width;
}

static size_t carve_rest(block *b, float *at, const vit_config *cfg) {
    size_t x = b->rows * cfg->width;
    float **const narrow[] = {&b->dq, &b->dk, &b->dv, &b->dmix, &b->dh};
    const size_t n_narrow = sizeof narrow / sizeof *narrow;
    for (size_t i = 0; i < n_narrow && at; i++) *narrow[i] = at + i * x;
    if (at) b->dmlp = at + n_narrow * x;
    return n_narrow * x + b->rows * cfg->mlp_width;
}

static pali_status block_init(block *b, exec *e, const vit_config *cfg, float *keep, size_t n) {
    *b = (block){.n = n, .rows = n * cfg->n_patches};
    size_t rest = carve_rest(b, NULL, cfg), floats = rest + (keep ? 0 : carve_keep(b, NULL, cfg));
    float *at = mem_scratch_get(&e->acts, floats, sizeof *at);
    if (!at) return status_no_memory(floats * sizeof *at);
    (void)carve_rest(b, at, cfg);
    (void)carve_keep(b, keep ? keep : at + rest, cfg);
    return PALI_OK;
}

size_t vit_block_keep_floats(const vit_config *cfg, size_t n) {
    return carve_keep(&(block){.rows = n * cfg->n_patches}, NULL, cfg);
}

static size_t patches_floats(const vit_config *cfg, size_t n) {
    return n * cfg->n_patches * vit_patch_floats(cfg);
}

static pali_status patches_get(float **rows, exec *e, const vit *v, size_t n) {
    size_t floats = patches_floats(&v->cfg, n);
    *rows = mem_scratch_get(&e->acts, floats, sizeof **rows);
    return *rows ? PALI_OK : status_no_memory(floats * sizeof **rows);
}

pali_status vit_embed(exec *e, const vit *v, float *x, const float *const *pixels, size_t n) {
    size_t group = group_of(&v->cfg, n), picture = v->cfg.n_patches * v->cfg.width;
    float *rows;
    STATUS_TRY(patches_get(&rows, e, v, group));
    for (size_t i = 0; i < n; i += group) STATUS_TRY(vit_embed_patches(e, v, x + i * picture, rows, pixels + i, min_of(n - i, group)));
    return PALI_OK;
}

pali_status vit_embed_backward(exec *e, const vit *v, const linear_grad *patch, float *dposition, const float *dx, const float *const *pixels, size_t n) {
    const vit_config *cfg = &v->cfg;
    size_t group = group_of(cfg, n), picture = cfg->n_patches * cfg->width;
    float *rows;
    for (size_t i = 0; dposition && i < n; i++) e->k->add(dposition, dx + i * picture, picture);
    STATUS_TRY(patches_get(&rows, e, v, group));
    for (size_t i = 0; i < n; i += group) {
        size_t n_group = min_of(n - i, group);
        for (size_t j = 0; j < n_group; j++) vit_patches(rows + patches_floats(cfg, j), pixels[i + j], cfg);
        STATUS_TRY(linear_backward(e, NULL, patch, dx + i * picture, rows, &v->patch, n_group * cfg->n_patches, LINEAR_SET));
    }
    return PALI_OK;
}

/* The inside of the block up to what its second branch's GELU is applied to, which is in a.mlp. */
static pali_status block_inside(exec *e, const vit_config *cfg, const vit_layer *l, const block *b, const float *x) {
    STATUS_TRY(vit_block_attention(e, cfg, l, &b->a, x, b->n));
    memcpy(b->mid, x, b->rows * cfg->width * sizeof *x);
    STATUS_TRY(linear(e, b->mid, b->a.mix, &l->o, l->o_b, b->rows, LINEAR_ADD));
    norm_layer(e, b->h_mlp, b->mid, l->norm2_w, l->norm2_b, b->rows, cfg->width, cfg->norm_eps);
    return linear(e, b->a.mlp, b->h_mlp, &l->fc1, l->fc1_b, b->rows, LINEAR_SET);
}

static pali_status group_forward(exec *e, const vit_config *cfg, const vit_layer *l, float *x, float *keep, size_t n) {
    block b;
    STATUS_TRY(block_init(&b, e, cfg, keep, n));
    b.a.x = x;
    if (!keep) return vit_block(e, cfg, l, &b.a, n);
    STATUS_TRY(block_inside(e, cfg, l, &b, x));
    memcpy(x, b.mid, b.rows * cfg->width * sizeof *x);
    act_gelu(e, b.dmlp, b.a.mlp, b.rows, cfg->mlp_width);
    return linear(e, x, b.dmlp, &l->fc2, l->fc2_b, b.rows, LINEAR_ADD);
}

pali_status vit_block_forward(exec *e, const vit *v, size_t layer, float *x, float *keep, size_t n) {
    size_t group = group_of(&v->cfg, n), picture = v->cfg.n_patches * v->cfg.width;
    for (size_t i = 0; i < n; i += group) {
        float *kept = keep ? keep + vit_block_keep_floats(&v->cfg, i) : NULL;
        STATUS_TRY(exec_check_cancel(e));
        STATUS_TRY(group_forward(e, &v->cfg, &v->layers[layer], x + i * picture, kept, min_of(n - i, group)));
    }
    return PALI_OK;
}

static pali_status group_backward(exec *e, const vit_config *cfg, const vit_layer *l, float *dx, const vit_layer_grad *grad, const float *x, float *keep,
                                  size_t n_pictures, bool goes_on) {
    size_t w = cfg->width;
    block b;
    STATUS_TRY(block_init(&b, e, cfg, keep, n_pictures));
    if (!keep) STATUS_TRY(block_inside(e, cfg, l, &b, x));

    size_t n = b.rows;
    STATUS_TRY(linear_backward(e, b.dmlp, NULL, dx, NULL, &l->fc2, n, LINEAR_SET));
    act_gelu_backward(e, b.a.mlp, b.dmlp, n, cfg->mlp_width);
    STATUS_TRY(linear_backward(e, NULL, &grad->fc2, dx, b.dmlp, &l->fc2, n, LINEAR_SET));
    STATUS_TRY(linear_backward(e, b.dh, &grad->fc1, b.a.mlp, b.h_mlp, &l->fc1, n, LINEAR_SET));
    STATUS_TRY(norm_layer_backward(e, dx, grad->norm2_w, grad->norm2_b, b.dh, b.mid, l->norm2_w, n, w, cfg->norm_eps, true));

    attention list[ATTENTION_MAX];
    attention_grad grads[ATTENTION_MAX];
    float *dh = goes_on || grad->norm1_w || grad->norm1_b ? b.dh : NULL;
    for (size_t i = 0; i < n_pictures; i++) {
        size_t at = i * cfg->n_patches * w;
        list[i] = vit_attention(cfg, &b.a, i);
        grads[i] = (attention_grad){b.dmix + at, b.dq + at, b.dk + at, b.dv + at};
    }
    STATUS_TRY(linear_backward(e, b.dmix, &grad->o, dx, b.a.mix, &l->o, n, LINEAR_SET));
    STATUS_TRY(attention_backward(e, list, grads, n_pictures));
    STATUS_TRY(linear_backward(e, dh, &grad->q, b.dq, b.a.h, &l->q, n, LINEAR_SET));
    STATUS_TRY(linear_backward(e, dh, &grad->k, b.dk, b.a.h, &l->k, n, LINEAR_ADD));
    STATUS_TRY(linear_backward(e, dh, &grad->v, b.dv, b.a.h, &l->v, n, LINEAR_ADD));
    if (!dh) return PALI_OK;
    return norm_layer_backward(e, dx, grad->norm1_w, grad->norm1_b, dh, x, l->norm1_w, n, w, cfg->norm_eps, true);
}

pali_status vit_block_backward(exec *e, const vit *v, size_t layer, float *dx, const vit_layer_grad *grad, const float *x, float *keep, size_t n,
                               bool goes_on) {
    size_t group = group_of(&v->cfg, n), picture = v->cfg.n_patches * v->cfg.width;
    for (size_t i = 0; i < n; i += group) {
        float *kept = keep ? keep + vit_block_keep_floats(&v->cfg, i) : NULL;
        STATUS_TRY(exec_check_cancel(e));
        STATUS_TRY(group_backward(e, &v->cfg, &v->layers[layer], dx + i * picture, grad, x + i * picture, kept, min_of(n - i, group), goes_on));
    }
    return PALI_OK;
}

void vit_train_need(exec_need *need, exec *e, const vit *v, size_t n) {
    const vit_config *cfg = &v->cfg;
    size_t group = group_of(cfg, n), rows = group * cfg->n_patches, patches = patches_floats(cfg, group);
    block b = {.n = group, .rows = rows};
    size_t floats = carve_keep(&b, NULL, cfg) + carve_rest(&b, NULL, cfg);
    if (n == 0) return;
    attention list[ATTENTION_MAX];
    for (size_t i = 0; i < group; i++) list[i] = vit_attention(cfg, &b.a, 0);
    exec_need_grow(&need->acts, (floats > patches ? floats : patches) * sizeof(float));
    norm_backward_need(need, rows);
    attention_need(need, e, &list[0]);
    attention_backward_need(need, e, list, group);
    linear_need(need, e, &v->patch, NULL, rows, LINEAR_ADD);
    linear_backward_need(need, e, &v->patch, rows);
    for (size_t i = 0; i < cfg->n_layers; i++) {
        const vit_layer *l = &v->layers[i];
        const mat *const list_of[] = {&l->q, &l->k, &l->v, &l->o, &l->fc1, &l->fc2};
        for (size_t j = 0; j < sizeof list_of / sizeof *list_of; j++) {
            linear_need(need, e, list_of[j], NULL, rows, LINEAR_ADD);
            linear_backward_need(need, e, list_of[j], rows);
        }
    }
}
