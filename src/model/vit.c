/* vit.c: pixels [3, R, R] -> patches [P, 3 p p] -> tokens [P, W] -> n_layers pre-norm blocks -> post norm (spec 2.1 - 2.3).
 * Full attention between the patches of one picture, none across pictures. */
#include "model/vit.h"

#include <string.h>

#include <math.h>

#include "model/vit_block.h"
#include "tensor/linear.h"
#include "tensor/norm.h"

void vit_patches(float *rows, const float *pixels, const vit_config *cfg) {
    size_t p = cfg->patch_size, r = cfg->image_size, grid = r / p;
    for (size_t t = 0; t < cfg->n_patches; t++)
        for (size_t ch = 0; ch < 3; ch++)
            for (size_t i = 0; i < p; i++, rows += p)
                memcpy(rows, pixels + (ch * r + t / grid * p + i) * r + t % grid * p, p * sizeof *rows);
}

/* Floats of all activations. */
static size_t acts_floats(const vit_config *cfg) {
    size_t patch = vit_patch_floats(cfg), wide = cfg->mlp_width > patch ? cfg->mlp_width : patch;
    return cfg->n_patches * (6 * cfg->width + wide);
}

attention vit_attention(const vit_config *cfg, const vit_acts *a, size_t picture) {
    size_t head_dim = cfg->width / cfg->n_heads, at = picture * cfg->n_patches * cfg->width;
    return (attention){.out = a->mix + at, .q = a->q + at, .n_queries = cfg->n_patches, .n_heads = cfg->n_heads, .n_kv_heads = cfg->n_heads,
                       .head_dim = head_dim, .spans = {{.k = a->k + at, .v = a->v + at, .len = cfg->n_patches, .ld = cfg->width}},
                       .scale = 1.0f / sqrtf((float)head_dim), .n_prefix = cfg->n_patches};
}

pali_status vit_block_attention(exec *e, const vit_config *cfg, const vit_layer *l, const vit_acts *a, const float *x, size_t n) {
    size_t rows = n * cfg->n_patches;
    attention list[ATTENTION_MAX];
    for (size_t i = 0; i < n; i++) list[i] = vit_attention(cfg, a, i);
    norm_layer(e, a->h, x, l->norm1_w, l->norm1_b, rows, cfg->width, cfg->norm_eps);
    STATUS_TRY(linear(e, a->q, a->h, &l->q, l->q_b, rows, LINEAR_SET));
    STATUS_TRY(linear(e, a->k, a->h, &l->k, l->k_b, rows, LINEAR_SET));
    STATUS_TRY(linear(e, a->v, a->h, &l->v, l->v_b, rows, LINEAR_SET));
    return attention_forward(e, list, n);
}

pali_status vit_block(exec *e, const vit_config *cfg, const vit_layer *l, const vit_acts *a, size_t n) {
    size_t rows = n * cfg->n_patches;
    STATUS_TRY(vit_block_attention(e, cfg, l, a, a->x, n));
    STATUS_TRY(linear(e, a->x, a->mix, &l->o, l->o_b, rows, LINEAR_ADD));
    norm_layer(e, a->h, a->x, l->norm2_w, l->norm2_b, rows, cfg->width, cfg->norm_eps);
    STATUS_TRY(linear(e, a->mlp, a->h, &l->fc1, l->fc1_b, rows, LINEAR_GELU));
    return linear(e, a->x, a->mlp, &l->fc2, l->fc2_b, rows, LINEAR_ADD);
}

pali_status vit_embed_patches(exec *e, const vit *v, float *x, float *rows, const float *const *pixels, size_t n) {
    const size_t p = v->cfg.n_patches, w = v->cfg.width;
    for (size_t i = 0; i < n; i++) {
        vit_patches(rows + i * p * vit_patch_floats(&v->cfg), pixels[i], &v->cfg);
        memcpy(x + i * p * w, v->position, p * w * sizeof *x);
    }
    return linear(e, x, rows, &v->patch, v->patch_b, n * p, LINEAR_ADD);
}

pali_status vit_forward(exec *e, const vit *v, float *vision, const float *pixels) {
    const vit_config *cfg = &v->cfg;
    size_t n = cfg->n_patches, w = cfg->width;
    float *at = mem_scratch_get(&e->acts, acts_floats(cfg), sizeof *at);
    if (!at) return status_no_memory(acts_floats(cfg) * sizeof *at);
    vit_acts a = {.x = at, .h = at + n * w, .q = at + 2 * n * w, .k = at + 3 * n * w, .v = at + 4 * n * w, .mix = at + 5 * n * w,
                  .mlp = at + 6 * n * w};
    STATUS_TRY(vit_embed_patches(e, v, a.x, a.mlp, &pixels, 1));
    exec_tap(e, "vision.embed", -1, a.x, n, w);
    for (size_t i = 0; i < cfg->n_layers; i++) {
        STATUS_TRY(exec_check_cancel(e));
        STATUS_TRY(vit_block(e, cfg, &v->layers[i], &a, 1));
        exec_tap(e, "vision.layer", (int)i, a.x, n, w);
    }
    norm_layer(e, vision, a.x, v->post_w, v->post_b, n, w, cfg->norm_eps);
    exec_tap(e, "vision.post", -1, vision, n, w);
    return PALI_OK;
}

pali_status vit_project(exec *e, const vit *v, float *out, const float *vision, size_t n) {
    STATUS_TRY(linear(e, out, vision, &v->projector, v->projector_b, n, LINEAR_SET));
    exec_tap(e, "projector", -1, out, n, v->projector.rows);
    return PALI_OK;
}

void vit_need(exec_need *need, exec *e, const vit *v) {
    const vit_config *cfg = &v->cfg;
    size_t n = cfg->n_patches;
    const attention att = vit_attention(cfg, &(vit_acts){0}, 0);
    exec_need_grow(&need->acts, acts_floats(cfg) * sizeof(float));
    attention_need(need, e, &att);
    linear_need(need, e, &v->patch, NULL, n, LINEAR_ADD);
    for (size_t i = 0; i < cfg->n_layers; i++) {
        const vit_layer *l = &v->layers[i];
        const mat *const list[] = {&l->q, &l->k, &l->v, &l->o, &l->fc1, &l->fc2};
        for (size_t j = 0; j < sizeof list / sizeof *list; j++) linear_need(need, e, list[j], NULL, n, LINEAR_ADD);
    }
    linear_need(need, e, &v->projector, NULL, n, LINEAR_SET);
}
