/* spec.c: the one table of tensors, and the names other writers give them. */
#include "model/spec.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"

#define PER_VIT_LAYER 16u
#define PER_GEMMA_LAYER 11u
#define FIXED 12u

/* Where in the model a tensor is: what its names begin with, and its layer. */
typedef struct place {
    const char *hf, *gguf;
    size_t layer; /* SIZE_MAX: none */
} place;

static spec_tensor *append(spec *s, spec_group group, place at, const char *hf, const char *gguf) {
    spec_tensor *t = &s->tensors[s->n++];
    *t = (spec_tensor){.group = group};
    if (at.layer == SIZE_MAX) {
        (void)snprintf(t->name, sizeof t->name, "%s%s", at.hf, hf);
        (void)snprintf(t->gguf_name, sizeof t->gguf_name, "%s%s", at.gguf, gguf);
    } else {
        (void)snprintf(t->name, sizeof t->name, "%s%zu.%s", at.hf, at.layer, hf);
        (void)snprintf(t->gguf_name, sizeof t->gguf_name, "%s%zu.%s", at.gguf, at.layer, gguf);
    }
    return t;
}

/* A matrix [rows, cols]. */
static spec_tensor *matrix(spec *s, spec_group group, place at, const char *hf, const char *gguf, mat *to, size_t rows, size_t cols) {
    spec_tensor *t = append(s, group, at, hf, gguf);
    t->n_dims = 2;
    t->dims[0] = to->rows = rows;
    t->dims[1] = to->cols = cols;
    t->matrix = to;
    return t;
}

/* A vector [n], kept in f32. */
static spec_tensor *vector(spec *s, spec_group group, place at, const char *hf, const char *gguf, const float **to, size_t n) {
    spec_tensor *t = append(s, group, at, hf, gguf);
    t->n_dims = 1;
    t->dims[0] = n;
    t->vector = to;
    return t;
}

static void vit_list(spec *s, vit *v) {
    const vit_config *c = &v->cfg;
    const place top = {"vision_tower.", "v.", SIZE_MAX};
    size_t w = c->width, f = c->mlp_width;
    spec_tensor *patch = matrix(s, SPEC_IMG, top, "embeddings.patch_embedding.weight", "patch_embd.weight", &v->patch, w, 3 * c->patch_size * c->patch_size);
    patch->n_dims = 4; /* [W, 3, p, p] in the file: the same bytes */
    patch->dims[1] = 3;
    patch->dims[2] = patch->dims[3] = c->patch_size;
    vector(s, SPEC_IMG, top, "embeddings.patch_embedding.bias", "patch_embd.bias", &v->patch_b, w);
    spec_tensor *position = vector(s, SPEC_IMG, top, "embeddings.position_embedding.weight", "position_embd.weight", &v->position, c->n_patches);
    position->n_dims = 2;
    position->dims[1] = w;
    for (size_t i = 0; i < c->n_layers; i++) {
        const place at = {"vision_tower.encoder.layers.", "v.blk.", i};
        vit_layer *l = &v->layers[i];
        vector(s, SPEC_IMG, at, "layer_norm1.weight", "ln1.weight", &l->norm1_w, w);
        vector(s, SPEC_IMG, at, "layer_norm1.bias", "ln1.bias", &l->norm1_b, w);
        matrix(s, SPEC_IMG, at, "self_attn.q_proj.weight", "attn_q.weight", &l->q, w, w);
        vector(s, SPEC_IMG, at, "self_attn.q_proj.bias", "attn_q.bias", &l->q_b, w);
        matrix(s, SPEC_IMG, at, "self_attn.k_proj.weight", "attn_k.weight", &l->k, w, w);
        vector(s, SPEC_IMG, at, "self_attn.k_proj.bias", "attn_k.bias", &l->k_b, w);
        matrix(s, SPEC_IMG, at, "self_attn.v_proj.weight", "attn_v.weight", &l->v, w, w);
        vector(s, SPEC_IMG, at, "self_attn.v_proj.bias", "attn_v.bias", &l->v_b, w);
        matrix(s, SPEC_IMG, at, "self_attn.out_proj.weight", "attn_out.weight", &l->o, w, w);
        vector(s, SPEC_IMG, at, "self_attn.out_proj.bias", "attn_out.bias", &l->o_b, w);
        vector(s, SPEC_IMG, at, "layer_norm2.weight", "ln2.weight", &l->norm2_w, w);
        vector(s, SPEC_IMG, at, "layer_norm2.bias", "ln2.bias", &l->norm2_b, w);
        matrix(s, SPEC_IMG, at, "mlp.fc1.weight", "ffn_up.weight", &l->fc1, f, w);
        vector(s, SPEC_IMG, at, "mlp.fc1.bias", "ffn_up.bias", &l->fc1_b, f);
        matrix(s, SPEC_IMG, at, "mlp.fc2.weight", "ffn_down.weight", &l->fc2, w, f);
        vector(s, SPEC_IMG, at, "mlp.fc2.bias", "ffn_down.bias", &l->fc2_b, w);
    }
    vector(s, SPEC_IMG, top, "post_layernorm.weight", "post_ln.weight", &v->post_w, w);
    vector(s, SPEC_IMG, top, "post_layernorm.bias", "post_ln.bias", &v->post_b, w);
}

static void projector_list(spec *s, vit *v, size_t text_width) {
    const place top = {"multi_modal_projector.", "mm.", SIZE_MAX};
    matrix(s, SPEC_PROJ, top, "linear.weight", "0.weight", &v->projector, text_width, v->cfg.width);
    vector(s, SPEC_PROJ, top, "linear.bias", "0.bias", &v->projector_b, text_width);
}

static void gemma_list(spec *s, gemma *g) {
    const gemma_config *c = &g->cfg;
    const place top = {"language_model.", "", SIZE_MAX}, out = {"", "", SIZE_MAX};
    size_t d = c->width, q = c->n_heads * c->head_dim, kv = c->n_kv_heads * c->head_dim, f = c->mlp_width;
    matrix(s, SPEC_EMBED, top, "embed_tokens.weight", "token_embd.weight", &g->embed, c->vocab_size, d);
    for (size_t i = 0; i < c->n_layers; i++) {
        const place at = {"language_model.layers.", "blk.", i};
        gemma_layer *l = &g->layers[i];
        matrix(s, SPEC_LLM_ATTN, at, "self_attn.q_proj.weight", "attn_q.weight", &l->q, q, d);
        matrix(s, SPEC_LLM_ATTN, at, "self_attn.k_proj.weight", "attn_k.weight", &l->k, kv, d);
        matrix(s, SPEC_LLM_ATTN, at, "self_attn.v_proj.weight", "attn_v.weight", &l->v, kv, d);
        matrix(s, SPEC_LLM_ATTN, at, "self_attn.o_proj.weight", "attn_output.weight", &l->o, d, q);
        matrix(s, SPEC_LLM_MLP, at, "mlp.gate_proj.weight", "ffn_gate.weight", &l->gate, f, d);
        matrix(s, SPEC_LLM_MLP, at, "mlp.up_proj.weight", "ffn_up.weight", &l->up, f, d);
        matrix(s, SPEC_LLM_MLP, at, "mlp.down_proj.weight", "ffn_down.weight", &l->down, d, f);
        vector(s, SPEC_LLM_NORM, at, "input_layernorm.weight", "attn_norm.weight", &l->norm_attn_in, d);
        /* The same Hugging Face name plays another role in Gemma 2 (spec 2.8); GGUF names the roles. */
        if (c->generation == 1) {
            vector(s, SPEC_LLM_NORM, at, "post_attention_layernorm.weight", "ffn_norm.weight", &l->norm_mlp_in, d);
        } else {
            vector(s, SPEC_LLM_NORM, at, "post_attention_layernorm.weight", "post_attention_norm.weight", &l->norm_attn_out, d);
            vector(s, SPEC_LLM_NORM, at, "pre_feedforward_layernorm.weight", "ffn_norm.weight", &l->norm_mlp_in, d);
            vector(s, SPEC_LLM_NORM, at, "post_feedforward_layernorm.weight", "post_ffw_norm.weight", &l->norm_mlp_out, d);
        }
    }
    vector(s, SPEC_LLM_NORM, top, "norm.weight", "output_norm.weight", &g->norm_final, d);
    matrix(s, SPEC_EMBED, out, "lm_head.weight", "output.weight", &g->head, c->vocab_size, d)->optional = true;
}

pali_status spec_build(spec *out, vit *v, gemma *g) {
    size_t max = FIXED + PER_VIT_LAYER * v->cfg.n_layers + PER_GEMMA_LAYER * g->cfg.n_layers;
    *out = (spec){.tensors = mem_calloc(max, sizeof *out->tensors)};
    if (!out->tensors) return status_no_memory(max * sizeof *out->tensors);
    vit_list(out, v);
    projector_list(out, v, g->cfg.width);
    gemma_list(out, g);
    return PALI_OK;
}

void spec_free(spec *s) {
    mem_free(s->tensors);
    *s = (spec){0};
}

const char *spec_name(const spec_tensor *t, spec_layout layout) {
    return layout == SPEC_GGUF ? t->gguf_name : t->name;
}

void spec_exact_name(char out[SPEC_GGUF_NAME_MAX], const spec_tensor *norm) {
    int stem = (int)(strlen(norm->gguf_name) - strlen(".weight"));
    (void)snprintf(out, SPEC_GGUF_NAME_MAX, "%.*s.exact", stem, norm->gguf_name);
}

const spec_tensor *spec_of(const spec *s, const mat *matrix) {
    size_t i = 0;
    while (i < s->n && s->tensors[i].matrix != matrix) i++;
    return i < s->n ? &s->tensors[i] : NULL;
}

pali_dtype spec_dtype(const spec_tensor *t, spec_dtypes asked) {
    bool text = t->group == SPEC_LLM_ATTN || t->group == SPEC_LLM_MLP;
    pali_dtype own = text ? PALI_DTYPE_AUTO : t->group == SPEC_EMBED ? asked.embed : asked.vision;
    pali_dtype dtype = own != PALI_DTYPE_AUTO ? own : !text && dtype_is_blocks(asked.all) ? PALI_DTYPE_Q8_0 : asked.all;
    if (!t->matrix || !dtype_is_blocks(dtype)) return dtype;
    if (t->n_dims == 4) return PALI_DTYPE_AUTO;
    return dtype == PALI_DTYPE_Q4_K && t->matrix->cols % SUPER_BLOCK ? PALI_DTYPE_Q4_1 : dtype;
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
