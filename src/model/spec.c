/* spec.c: the one table of tensors, and the names other writers give them. */
#include "model/spec.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"

#define PER_VIT_LAYER 16u
#define PER_GEMMA_LAYER 11u
#define FIXED 12u

static spec_tensor *append(spec *s, spec_group group, const char *prefix, size_t layer, const char *rest) {
    spec_tensor *t = &s->tensors[s->n++];
    *t = (spec_tensor){.group = group};
    if (layer == SIZE_MAX)
        (void)snprintf(t->name, sizeof t->name, "%s%s", prefix, rest);
    else
        (void)snprintf(t->name, sizeof t->name, "%s%zu.%s", prefix, layer, rest);
    return t;
}

/* A matrix [rows, cols]. */
static spec_tensor *matrix(spec *s, spec_group group, const char *prefix, size_t layer, const char *rest, mat *to, size_t rows, size_t cols) {
    spec_tensor *t = append(s, group, prefix, layer, rest);
    t->n_dims = 2;
    t->dims[0] = to->rows = rows;
    t->dims[1] = to->cols = cols;
    t->matrix = to;
    return t;
}

/* A vector [n], kept in f32. */
static spec_tensor *vector(spec *s, spec_group group, const char *prefix, size_t layer, const char *rest, const float **to, size_t n) {
    spec_tensor *t = append(s, group, prefix, layer, rest);
    t->n_dims = 1;
    t->dims[0] = n;
    t->vector = to;
    return t;
}

static void vit_list(spec *s, vit *v) {
    const vit_config *c = &v->cfg;
    const char *top = "vision_tower.", *layers = "vision_tower.encoder.layers.";
    size_t w = c->width, f = c->mlp_width, none = SIZE_MAX;
    spec_tensor *patch = matrix(s, SPEC_IMG, top, none, "embeddings.patch_embedding.weight", &v->patch, w, 3 * c->patch_size * c->patch_size);
    patch->n_dims = 4; /* [W, 3, p, p] in the file: the same bytes */
    patch->dims[1] = 3;
    patch->dims[2] = patch->dims[3] = c->patch_size;
    vector(s, SPEC_IMG, top, none, "embeddings.patch_embedding.bias", &v->patch_b, w);
    spec_tensor *position = vector(s, SPEC_IMG, top, none, "embeddings.position_embedding.weight", &v->position, c->n_patches);
    position->n_dims = 2;
    position->dims[1] = w;
    for (size_t i = 0; i < c->n_layers; i++) {
        vit_layer *l = &v->layers[i];
        vector(s, SPEC_IMG, layers, i, "layer_norm1.weight", &l->norm1_w, w);
        vector(s, SPEC_IMG, layers, i, "layer_norm1.bias", &l->norm1_b, w);
        matrix(s, SPEC_IMG, layers, i, "self_attn.q_proj.weight", &l->q, w, w);
        vector(s, SPEC_IMG, layers, i, "self_attn.q_proj.bias", &l->q_b, w);
        matrix(s, SPEC_IMG, layers, i, "self_attn.k_proj.weight", &l->k, w, w);
        vector(s, SPEC_IMG, layers, i, "self_attn.k_proj.bias", &l->k_b, w);
        matrix(s, SPEC_IMG, layers, i, "self_attn.v_proj.weight", &l->v, w, w);
        vector(s, SPEC_IMG, layers, i, "self_attn.v_proj.bias", &l->v_b, w);
        matrix(s, SPEC_IMG, layers, i, "self_attn.out_proj.weight", &l->o, w, w);
        vector(s, SPEC_IMG, layers, i, "self_attn.out_proj.bias", &l->o_b, w);
        vector(s, SPEC_IMG, layers, i, "layer_norm2.weight", &l->norm2_w, w);
        vector(s, SPEC_IMG, layers, i, "layer_norm2.bias", &l->norm2_b, w);
        matrix(s, SPEC_IMG, layers, i, "mlp.fc1.weight", &l->fc1, f, w);
        vector(s, SPEC_IMG, layers, i, "mlp.fc1.bias", &l->fc1_b, f);
        matrix(s, SPEC_IMG, layers, i, "mlp.fc2.weight", &l->fc2, w, f);
        vector(s, SPEC_IMG, layers, i, "mlp.fc2.bias", &l->fc2_b, w);
    }
    vector(s, SPEC_IMG, top, none, "post_layernorm.weight", &v->post_w, w);
    vector(s, SPEC_IMG, top, none, "post_layernorm.bias", &v->post_b, w);
}

static void gemma_list(spec *s, gemma *g) {
    const gemma_config *c = &g->cfg;
    const char *top = "language_model.", *layers = "language_model.layers.";
    size_t d = c->width, q = c->n_heads * c->head_dim, kv = c->n_kv_heads * c->head_dim, f = c->mlp_width, none = SIZE_MAX;
    matrix(s, SPEC_EMBED, top, none, "embed_tokens.weight", &g->embed, c->vocab_size, d);
    for (size_t i = 0; i < c->n_layers; i++) {
        gemma_layer *l = &g->layers[i];
        matrix(s, SPEC_LLM_ATTN, layers, i, "self_attn.q_proj.weight", &l->q, q, d);
        matrix(s, SPEC_LLM_ATTN, layers, i, "self_attn.k_proj.weight", &l->k, kv, d);
        matrix(s, SPEC_LLM_ATTN, layers, i, "self_attn.v_proj.weight", &l->v, kv, d);
        matrix(s, SPEC_LLM_ATTN, layers, i, "self_attn.o_proj.weight", &l->o, d, q);
        matrix(s, SPEC_LLM_MLP, layers, i, "mlp.gate_proj.weight", &l->gate, f, d);
        matrix(s, SPEC_LLM_MLP, layers, i, "mlp.up_proj.weight", &l->up, f, d);
        matrix(s, SPEC_LLM_MLP, layers, i, "mlp.down_proj.weight", &l->down, d, f);
        vector(s, SPEC_LLM_NORM, layers, i, "input_layernorm.weight", &l->norm_attn_in, d);
        /* The same name plays another role in Gemma 2 (spec 2.8). */
        vector(s, SPEC_LLM_NORM, layers, i, "post_attention_layernorm.weight", c->generation == 1 ? &l->norm_mlp_in : &l->norm_attn_out, d);
        if (c->generation == 2) {
            vector(s, SPEC_LLM_NORM, layers, i, "pre_feedforward_layernorm.weight", &l->norm_mlp_in, d);
            vector(s, SPEC_LLM_NORM, layers, i, "post_feedforward_layernorm.weight", &l->norm_mlp_out, d);
        }
    }
    vector(s, SPEC_LLM_NORM, top, none, "norm.weight", &g->norm_final, d);
    matrix(s, SPEC_EMBED, "", none, "lm_head.weight", &g->head, c->vocab_size, d)->optional = true;
}

pali_status spec_build(spec *out, vit *v, gemma *g) {
    size_t max = FIXED + PER_VIT_LAYER * v->cfg.n_layers + PER_GEMMA_LAYER * g->cfg.n_layers;
    *out = (spec){.tensors = mem_calloc(max, sizeof *out->tensors)};
    if (!out->tensors) return status_no_memory(max * sizeof *out->tensors);
    vit_list(out, v);
    matrix(out, SPEC_PROJ, "multi_modal_projector.", SIZE_MAX, "linear.weight", &v->projector, g->cfg.width, v->cfg.width);
    vector(out, SPEC_PROJ, "multi_modal_projector.", SIZE_MAX, "linear.bias", &v->projector_b, g->cfg.width);
    gemma_list(out, g);
    return PALI_OK;
}

void spec_free(spec *s) {
    mem_free(s->tensors);
    *s = (spec){0};
}

pali_dtype spec_dtype(const spec_tensor *t, pali_dtype asked) {
    if (!t->matrix || !dtype_is_blocks(asked)) return asked;
    if (t->n_dims == 4) return PALI_DTYPE_AUTO;
    if (t->group != SPEC_LLM_ATTN && t->group != SPEC_LLM_MLP) return PALI_DTYPE_Q8_0;
    return asked == PALI_DTYPE_Q4_K && t->matrix->cols % SUPER_BLOCK ? PALI_DTYPE_Q4_1 : asked;
}

static bool skip(const char **name, const char *prefix) {
    size_t n = strlen(prefix);
    if (strncmp(*name, prefix, n) != 0) return false;
    *name += n;
    return true;
}

bool spec_canonical_name(char *out, size_t n, const char *file_name) {
    static const char *const k_outer[] = {"base_model.model.", "paligemma_with_expert.", "paligemma.", "model."};
    const char *name = file_name, *head = "";
    for (size_t i = 0; i < sizeof k_outer / sizeof k_outer[0];) /* wrappers nest in any order */
        i = skip(&name, k_outer[i]) ? 0 : i + 1;
    if (skip(&name, "vision_tower.")) {
        head = "vision_tower.";
        (void)skip(&name, "vision_model.");
    } else if (skip(&name, "language_model.")) {
        if (strncmp(name, "lm_head.", 8) != 0) head = "language_model.";
        (void)skip(&name, "model.");
    }
    int length = snprintf(out, n, "%s%s", head, name);
    return length >= 0 && (size_t)length < n;
}
