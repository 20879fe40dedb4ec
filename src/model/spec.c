/* spec.c: the one table of tensors, and the names other writers give them. */
#include "model/spec.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"

#define PER_VIT_LAYER 16u
#define PER_GEMMA_LAYER 11u
#define FIXED 12u

#define ATTENTION "MultiHeadDotProductAttention_0/"

/* Where in the model a tensor is: what its names begin with, and its layer. */
typedef struct place {
    const char *hf, *gguf, *npz;
    size_t layer, n_layers; /* n_layers 0: in none */
} place;

/* The rest of its names. */
typedef struct names {
    const char *hf, *gguf, *npz;
} names;

static spec_tensor *append(spec *s, spec_group group, place at, names rest) {
    spec_tensor *t = &s->tensors[s->n++];
    *t = (spec_tensor){.group = group, .npz = {.layer = at.layer, .n_layers = at.n_layers}};
    if (at.n_layers == 0) {
        (void)snprintf(t->name, sizeof t->name, "%s%s", at.hf, rest.hf);
        (void)snprintf(t->gguf_name, sizeof t->gguf_name, "%s%s", at.gguf, rest.gguf);
    } else {
        (void)snprintf(t->name, sizeof t->name, "%s%zu.%s", at.hf, at.layer, rest.hf);
        (void)snprintf(t->gguf_name, sizeof t->gguf_name, "%s%zu.%s", at.gguf, at.layer, rest.gguf);
    }
    (void)snprintf(t->npz.name, sizeof t->npz.name, "%s%s", at.npz, rest.npz);
    return t;
}

/* The axes of its part of a big_vision array, and which of them is Hugging Face's first, second and so on: "120". */
static void npz_axes(spec_tensor *t, const char *order, const size_t dims[4]) {
    t->npz.n_dims = strlen(order);
    for (size_t i = 0; i < t->npz.n_dims; i++) {
        t->npz.dims[i] = dims[i];
        t->npz.axes[i] = (size_t)(order[i] - '0');
    }
}

static void npz_slot(spec_tensor *t, size_t slot, size_t n_slots) {
    t->npz.slot = slot;
    t->npz.n_slots = n_slots;
}

/* A matrix [rows, cols]; big_vision has it as [cols, rows], but for those with another npz_axes. */
static spec_tensor *matrix(spec *s, spec_group group, place at, names rest, mat *to, size_t rows, size_t cols) {
    spec_tensor *t = append(s, group, at, rest);
    t->n_dims = 2;
    t->dims[0] = to->rows = rows;
    t->dims[1] = to->cols = cols;
    t->matrix = to;
    npz_axes(t, "10", (const size_t[4]){cols, rows});
    return t;
}

/* A vector [n], kept in f32. */
static spec_tensor *vector(spec *s, spec_group group, place at, names rest, const float **to, size_t n) {
    spec_tensor *t = append(s, group, at, rest);
    t->n_dims = 1;
    t->dims[0] = n;
    t->vector = to;
    npz_axes(t, "0", t->dims);
    return t;
}

static void vit_list(spec *s, vit *v) {
    const vit_config *c = &v->cfg;
    const place top = {"vision_tower.", "v.", "img/", 0, 0}, last = {"vision_tower.", "v.", "img/Transformer/encoder_norm/", 0, 0};
    size_t w = c->width, f = c->mlp_width, p = c->patch_size;
    const size_t heads[4] = {c->n_heads, w / c->n_heads}, to_heads[4] = {w, heads[0], heads[1]}, from_heads[4] = {heads[0], heads[1], w};
    spec_tensor *patch = matrix(s, SPEC_IMG, top, (names){"embeddings.patch_embedding.weight", "patch_embd.weight", "embedding/kernel"}, &v->patch, w, 3 * p * p);
    patch->n_dims = 4; /* [W, 3, p, p] in the file: the same bytes */
    patch->dims[1] = 3;
    patch->dims[2] = patch->dims[3] = p;
    npz_axes(patch, "3201", (const size_t[4]){p, p, 3, w});
    vector(s, SPEC_IMG, top, (names){"embeddings.patch_embedding.bias", "patch_embd.bias", "embedding/bias"}, &v->patch_b, w);
    spec_tensor *position = vector(s, SPEC_IMG, top, (names){"embeddings.position_embedding.weight", "position_embd.weight", "pos_embedding"}, &v->position, c->n_patches);
    position->n_dims = 2;
    position->dims[1] = w;
    npz_axes(position, "01", position->dims);
    npz_slot(position, 0, 1); /* the axis of a batch */
    for (size_t i = 0; i < c->n_layers; i++) {
        const place at = {"vision_tower.encoder.layers.", "v.blk.", SPEC_NPZ_VIT_LAYERS "/", i, c->n_layers};
        vit_layer *l = &v->layers[i];
        const struct {
            names weight, bias;
            mat *to;
            const float **to_bias;
        } heads_of[3] = {
            {{"self_attn.q_proj.weight", "attn_q.weight", ATTENTION "query/kernel"}, {"self_attn.q_proj.bias", "attn_q.bias", ATTENTION "query/bias"}, &l->q, &l->q_b},
            {{"self_attn.k_proj.weight", "attn_k.weight", ATTENTION "key/kernel"}, {"self_attn.k_proj.bias", "attn_k.bias", ATTENTION "key/bias"}, &l->k, &l->k_b},
            {{"self_attn.v_proj.weight", "attn_v.weight", ATTENTION "value/kernel"}, {"self_attn.v_proj.bias", "attn_v.bias", ATTENTION "value/bias"}, &l->v, &l->v_b},
        };
        vector(s, SPEC_IMG, at, (names){"layer_norm1.weight", "ln1.weight", "LayerNorm_0/scale"}, &l->norm1_w, w);
        vector(s, SPEC_IMG, at, (names){"layer_norm1.bias", "ln1.bias", "LayerNorm_0/bias"}, &l->norm1_b, w);
        for (size_t j = 0; j < 3; j++) {
            npz_axes(matrix(s, SPEC_IMG, at, heads_of[j].weight, heads_of[j].to, w, w), "120", to_heads);
            npz_axes(vector(s, SPEC_IMG, at, heads_of[j].bias, heads_of[j].to_bias, w), "01", heads);
        }
        npz_axes(matrix(s, SPEC_IMG, at, (names){"self_attn.out_proj.weight", "attn_out.weight", ATTENTION "out/kernel"}, &l->o, w, w), "201", from_heads);
        vector(s, SPEC_IMG, at, (names){"self_attn.out_proj.bias", "attn_out.bias", ATTENTION "out/bias"}, &l->o_b, w);
        vector(s, SPEC_IMG, at, (names){"layer_norm2.weight", "ln2.weight", "LayerNorm_1/scale"}, &l->norm2_w, w);
        vector(s, SPEC_IMG, at, (names){"layer_norm2.bias", "ln2.bias", "LayerNorm_1/bias"}, &l->norm2_b, w);
        matrix(s, SPEC_IMG, at, (names){"mlp.fc1.weight", "ffn_up.weight", "MlpBlock_0/Dense_0/kernel"}, &l->fc1, f, w);
        vector(s, SPEC_IMG, at, (names){"mlp.fc1.bias", "ffn_up.bias", "MlpBlock_0/Dense_0/bias"}, &l->fc1_b, f);
        matrix(s, SPEC_IMG, at, (names){"mlp.fc2.weight", "ffn_down.weight", "MlpBlock_0/Dense_1/kernel"}, &l->fc2, w, f);
        vector(s, SPEC_IMG, at, (names){"mlp.fc2.bias", "ffn_down.bias", "MlpBlock_0/Dense_1/bias"}, &l->fc2_b, w);
    }
    vector(s, SPEC_IMG, last, (names){"post_layernorm.weight", "post_ln.weight", "scale"}, &v->post_w, w);
    vector(s, SPEC_IMG, last, (names){"post_layernorm.bias", "post_ln.bias", "bias"}, &v->post_b, w);
}

static void projector_list(spec *s, vit *v, size_t text_width) {
    const place top = {"multi_modal_projector.", "mm.", "img/head/", 0, 0};
    matrix(s, SPEC_PROJ, top, (names){"linear.weight", "0.weight", "kernel"}, &v->projector, text_width, v->cfg.width);
    vector(s, SPEC_PROJ, top, (names){"linear.bias", "0.bias", "bias"}, &v->projector_b, text_width);
}

/* Query, key and value are [heads, D, H] in big_vision: key and value in one array, or all three where they have as many heads. */
static void gemma_heads_list(spec *s, place at, gemma_layer *l, const gemma_config *c) {
    const bool alike = c->n_kv_heads == c->n_heads;
    const size_t d = c->width, h = c->head_dim, q[4] = {c->n_heads, d, h}, kv[4] = {c->n_kv_heads, d, h};
    const char *q_name = alike ? "attn/qkv_einsum/w" : "attn/q_einsum/w", *kv_name = alike ? q_name : "attn/kv_einsum/w";
    spec_tensor *query = matrix(s, SPEC_LLM_ATTN, at, (names){"self_attn.q_proj.weight", "attn_q.weight", q_name}, &l->q, c->n_heads * h, d);
    spec_tensor *key = matrix(s, SPEC_LLM_ATTN, at, (names){"self_attn.k_proj.weight", "attn_k.weight", kv_name}, &l->k, c->n_kv_heads * h, d);
    spec_tensor *value = matrix(s, SPEC_LLM_ATTN, at, (names){"self_attn.v_proj.weight", "attn_v.weight", kv_name}, &l->v, c->n_kv_heads * h, d);
    key->sensitive = value->sensitive = c->n_kv_heads == 1 && c->n_heads > 1;
    npz_axes(query, "021", q);
    npz_axes(key, "021", kv);
    npz_axes(value, "021", kv);
    if (alike) npz_slot(query, 0, 3);
    npz_slot(key, alike ? 1 : 0, alike ? 3 : 2);
    npz_slot(value, alike ? 2 : 1, alike ? 3 : 2);
}

static void gemma_list(spec *s, gemma *g) {
    const gemma_config *c = &g->cfg;
    const place top = {"language_model.", "", "llm/", 0, 0}, out = {"", "", "", 0, 0};
    size_t d = c->width, f = c->mlp_width;
    spec_tensor *table = matrix(s, SPEC_EMBED, top, (names){"embed_tokens.weight", "token_embd.weight", "embedder/input_embedding"}, &g->embed, c->vocab_size, d);
    npz_axes(table, "01", table->dims);
    for (size_t i = 0; i < c->n_layers; i++) {
        const place at = {"language_model.layers.", "blk.", "llm/layers/", i, c->n_layers};
        gemma_layer *l = &g->layers[i];
        gemma_heads_list(s, at, l, c);
        spec_tensor *o = matrix(s, SPEC_LLM_ATTN, at, (names){"self_attn.o_proj.weight", "attn_output.weight", "attn/attn_vec_einsum/w"}, &l->o, d, c->n_heads * c->head_dim);
        o->sensitive = true;
        npz_axes(o, "201", (const size_t[4]){c->n_heads, c->head_dim, d}); /* square in PaliGemma 1, where only this tells it from its transpose */
        npz_slot(matrix(s, SPEC_LLM_MLP, at, (names){"mlp.gate_proj.weight", "ffn_gate.weight", "mlp/gating_einsum"}, &l->gate, f, d), 0, 2);
        npz_slot(matrix(s, SPEC_LLM_MLP, at, (names){"mlp.up_proj.weight", "ffn_up.weight", "mlp/gating_einsum"}, &l->up, f, d), 1, 2);
        matrix(s, SPEC_LLM_MLP, at, (names){"mlp.down_proj.weight", "ffn_down.weight", "mlp/linear"}, &l->down, d, f);
        vector(s, SPEC_LLM_NORM, at, (names){"input_layernorm.weight", "attn_norm.weight", "pre_attention_norm/scale"}, &l->norm_attn_in, d);
        /* The same Hugging Face name plays another role in Gemma 2 (spec 2.8); the others name the roles. */
        if (c->generation == 1) {
            vector(s, SPEC_LLM_NORM, at, (names){"post_attention_layernorm.weight", "ffn_norm.weight", "pre_ffw_norm/scale"}, &l->norm_mlp_in, d);
        } else {
            vector(s, SPEC_LLM_NORM, at, (names){"post_attention_layernorm.weight", "post_attention_norm.weight", "post_attention_norm/scale"}, &l->norm_attn_out, d);
            vector(s, SPEC_LLM_NORM, at, (names){"pre_feedforward_layernorm.weight", "ffn_norm.weight", "pre_ffw_norm/scale"}, &l->norm_mlp_in, d);
            vector(s, SPEC_LLM_NORM, at, (names){"post_feedforward_layernorm.weight", "post_ffw_norm.weight", "post_ffw_norm/scale"}, &l->norm_mlp_out, d);
        }
    }
    vector(s, SPEC_LLM_NORM, top, (names){"norm.weight", "output_norm.weight", "final_norm/scale"}, &g->norm_final, d);
    matrix(s, SPEC_EMBED, out, (names){"lm_head.weight", "output.weight", ""}, &g->head, c->vocab_size, d)->optional = true;
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
    return layout == SPEC_GGUF ? t->gguf_name : layout == SPEC_NPZ ? t->npz.name : t->name;
}

void spec_hub_name(char out[SPEC_NAME_MAX], const spec_tensor *t) {
    static const struct {
        const char *ours, *theirs;
    } k_heads[] = {{"vision_tower.", "vision_tower.vision_model."}, {"language_model.", "language_model.model."}, {"lm_head.", "language_model.lm_head."}, {"", ""}};
    size_t i = 0;
    while (strncmp(t->name, k_heads[i].ours, strlen(k_heads[i].ours)) != 0) i++;
    (void)snprintf(out, SPEC_NAME_MAX, "%s%s", k_heads[i].theirs, t->name + strlen(k_heads[i].ours));
}

void spec_exact_name(char out[SPEC_GGUF_NAME_MAX], const spec_tensor *norm) {
    int stem = (int)(strlen(norm->gguf_name) - strlen(".weight"));
    (void)snprintf(out, SPEC_GGUF_NAME_MAX, "%.*s.exact", stem, norm->gguf_name);
}

bool spec_npz_unstacked_name(char *out, size_t n, const spec_npz *z) {
    const size_t n_stem = strlen(SPEC_NPZ_VIT_LAYERS);
    if (strncmp(z->name, SPEC_NPZ_VIT_LAYERS "/", n_stem + 1) != 0) return false;
    int length = snprintf(out, n, "%s_%zu%s", SPEC_NPZ_VIT_LAYERS, z->layer, z->name + n_stem);
    return length >= 0 && (size_t)length < n;
}

size_t spec_npz_shape(size_t dims[SPEC_NPZ_MAX_DIMS], const spec_npz *z, bool stacked) {
    size_t n = 0;
    if (z->n_layers && stacked) dims[n++] = z->n_layers;
    if (z->n_slots) dims[n++] = z->n_slots;
    for (size_t i = 0; i < z->n_dims; i++) dims[n++] = z->dims[i];
    return n;
}

size_t spec_n_elements(const spec_tensor *t) {
    size_t n = 1;
    for (size_t i = 0; i < t->n_dims; i++) n *= t->dims[i]; /* bounded by config.c's limits */
    return n;
}

size_t spec_held_bytes(const spec_tensor *t) {
    return t->matrix ? mat_bytes(t->matrix) + mat_scale_bytes(t->matrix) : spec_n_elements(t) * sizeof(float);
}

const spec_tensor *spec_of(const spec *s, const mat *matrix) {
    size_t i = 0;
    while (i < s->n && s->tensors[i].matrix != matrix) i++;
    return i < s->n ? &s->tensors[i] : NULL;
}

pali_dtype spec_dtype(const spec_tensor *t, spec_dtypes asked) {
    bool text = t->group == SPEC_LLM_ATTN || t->group == SPEC_LLM_MLP || t->group == SPEC_LLM_NORM;
    pali_dtype own = text ? PALI_DTYPE_AUTO : t->group == SPEC_EMBED ? asked.embed : asked.vision;
    pali_dtype dtype = own != PALI_DTYPE_AUTO ? own : !text && dtype_is_blocks(asked.all) ? PALI_DTYPE_Q8_0 : asked.all;
    if (dtype_is_codes(dtype)) return t->matrix && t->n_dims == 2 && t->group != SPEC_EMBED ? dtype : PALI_DTYPE_AUTO;
    if (!t->matrix || !dtype_is_blocks(dtype)) return dtype;
    if (t->n_dims == 4) return PALI_DTYPE_AUTO;
    if (t->sensitive) return PALI_DTYPE_Q8_0;
    return dtype == PALI_DTYPE_Q4_K && t->matrix->cols % SUPER_BLOCK ? PALI_DTYPE_Q4_1 : dtype;
}

static bool has_ending(const char *name, const char *ending) {
    size_t n = strlen(name), m = strlen(ending);
    return n >= m && strcmp(name + n - m, ending) == 0;
}

bool spec_is_computed(const char *name) {
    return has_ending(name, ".rotary_emb.inv_freq") || has_ending(name, ".position_ids");
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
