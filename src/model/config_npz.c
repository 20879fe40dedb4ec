#include "model/config_npz.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VIT SPEC_NPZ_VIT_LAYERS "/"
#define QKV "llm/layers/attn/qkv_einsum/w"

/* A size, and the dim of an array that it is. */
typedef struct size_field {
    const char *array;
    size_t n_dims, dim;
    size_t offset, max; /* offset: in config */
    const char *key;    /* in config.json */
    bool corrects;      /* wins over config.json, as in other formats */
} size_field;

#define AT(member) offsetof(config, member)
static const size_field k_sizes[] = {
    {"img/embedding/kernel", 4, 0, AT(vit.patch_size), CONFIG_MAX_IMAGE, "vision_config: patch_size", false},
    {"img/embedding/kernel", 4, 3, AT(vit.width), CONFIG_MAX_WIDTH, "vision_config: hidden_size", false},
    {"img/pos_embedding", 3, 1, AT(vit.n_patches), CONFIG_MAX_IMAGE * CONFIG_MAX_IMAGE, "vision_config: image_size", true},
    {VIT "MultiHeadDotProductAttention_0/query/kernel", 4, 0, AT(vit.n_layers), CONFIG_MAX_LAYERS, "vision_config: num_hidden_layers", false},
    {VIT "MultiHeadDotProductAttention_0/query/kernel", 4, 2, AT(vit.n_heads), CONFIG_MAX_HEADS, "vision_config: num_attention_heads", false},
    {VIT "MlpBlock_0/Dense_0/kernel", 3, 2, AT(vit.mlp_width), CONFIG_MAX_MLP_WIDTH, "vision_config: intermediate_size", false},
    {"llm/embedder/input_embedding", 2, 0, AT(text.vocab_size), CONFIG_MAX_VOCAB, "text_config: vocab_size", true},
    {"llm/embedder/input_embedding", 2, 1, AT(text.width), CONFIG_MAX_WIDTH, "text_config: hidden_size", false},
    {"llm/layers/mlp/linear", 3, 0, AT(text.n_layers), CONFIG_MAX_LAYERS, "text_config: num_hidden_layers", false},
    {"llm/layers/mlp/linear", 3, 1, AT(text.mlp_width), CONFIG_MAX_MLP_WIDTH, "text_config: intermediate_size", false},
    {"llm/layers/attn/attn_vec_einsum/w", 4, 1, AT(text.n_heads), CONFIG_MAX_HEADS, "text_config: num_attention_heads", false},
    {"llm/layers/attn/attn_vec_einsum/w", 4, 2, AT(text.head_dim), CONFIG_MAX_HEAD_DIM, "text_config: head_dim", false},
    {"llm/layers/attn/kv_einsum/w", 5, 2, AT(text.n_kv_heads), CONFIG_MAX_HEADS, "text_config: num_key_value_heads", false},
};
#define N_SIZES (sizeof k_sizes / sizeof k_sizes[0])

static size_t *size_of(config *c, const size_field *f) {
    return (size_t *)(void *)((char *)c + f->offset);
}

/* Layers of a tower that is not stacked: one more than the largest number of an encoderblock_N; 0: there is none. */
static size_t blocks_count(const weights *w) {
    static const char k_stem[] = SPEC_NPZ_VIT_LAYERS "_";
    size_t n = 0;
    for (size_t i = 0; i < w->n_entries; i++) {
        const char *name = w->entries[i].name, *digits = name + sizeof k_stem - 1;
        char *end;
        if (strncmp(name, k_stem, sizeof k_stem - 1) != 0 || *digits < '0' || *digits > '9') continue;
        unsigned long layer = strtoul(digits, &end, 10);
        if (*end != '/') continue;
        if (layer >= CONFIG_MAX_LAYERS) return CONFIG_MAX_LAYERS + 1;
        if (layer >= n) n = layer + 1;
    }
    return n;
}

static pali_status size_read(config *c, const weights *w, const size_field *f, const char *path) {
    const weights_entry *entry = weights_find(w, f->array);
    size_t n_dims = f->n_dims, dim = f->dim, size;
    if (!entry && f->offset == AT(text.n_kv_heads) && weights_find(w, QKV)) { /* as many as there are query heads */
        c->text.n_kv_heads = c->text.n_heads;
        return PALI_OK;
    }
    if (!entry && strncmp(f->array, VIT, sizeof VIT - 1) == 0 && blocks_count(w)) { /* an array for each layer, without the axis of layers */
        char name[SPEC_NPZ_NAME_MAX + 24];
        (void)snprintf(name, sizeof name, SPEC_NPZ_VIT_LAYERS "_0/%s", f->array + sizeof VIT - 1);
        entry = weights_find(w, name);
        n_dims--;
        dim--; /* not used for layers */
    }
    if (!entry) return status_fail(PALI_ERR_FORMAT, "%s: %s: array missing: expected a big_vision PaliGemma, img/ and llm/", path, f->array);
    if (entry->n_dims != n_dims)
        return status_fail(PALI_ERR_FORMAT, "%s: %s: %zu dims, expected %zu", path, entry->file_name, entry->n_dims, n_dims);
    size = n_dims < f->n_dims && f->dim == 0 ? blocks_count(w) : entry->dims[dim];
    if (size == 0 || size > f->max)
        return status_fail(size ? PALI_ERR_LIMIT : PALI_ERR_FORMAT, "%s: %s: %zu as %s, expected 1 to %zu", path, entry->file_name, size, f->key, f->max);
    *size_of(c, f) = size;
    return PALI_OK;
}

/* What other sizes follow from, or must agree. */
static pali_status sizes_check(config *c, const char *path) {
    vit_config *v = &c->vit;
    const gemma_config *t = &c->text;
    size_t grid = 1;
    while (grid * grid < v->n_patches && grid < CONFIG_MAX_IMAGE / v->patch_size) grid++;
    if (grid * grid != v->n_patches)
        return status_fail(PALI_ERR_FORMAT, "%s: img/pos_embedding: %zu rows are not a square grid of patches of a picture of at most %u pixels a side", path,
                           v->n_patches, CONFIG_MAX_IMAGE);
    v->image_size = grid * v->patch_size;
    if (v->width % v->n_heads != 0)
        return status_fail(PALI_ERR_FORMAT, "%s: " VIT "MultiHeadDotProductAttention_0/query/kernel: %zu heads do not divide the width of %zu", path, v->n_heads, v->width);
    if (t->n_heads % t->n_kv_heads != 0)
        return status_fail(PALI_ERR_FORMAT, "%s: llm/layers/attn/kv_einsum/w: %zu heads do not divide the %zu of queries", path, t->n_kv_heads, t->n_heads);
    if (t->head_dim % 2 != 0)
        return status_fail(PALI_ERR_FORMAT, "%s: llm/layers/attn/attn_vec_einsum/w: a head dim of %zu is odd", path, t->head_dim);
    return PALI_OK;
}

/* The text of the config that a file of ours brings along. */
static pali_status array_parse(config *out, weights_entry *array, const char *path) {
    if (strcmp(array->dtype_name, "u8") != 0 || array->n_dims != 1)
        return status_fail(PALI_ERR_FORMAT, "%s: %s: expected one dim of bytes", path, array->file_name);
    array->used = true;
    if (array->unpack) STATUS_TRY(array->unpack(array));
    pali_status s = config_parse(out, (const char *)array->data, array->n_bytes, path);
    if (array->unpack) array->release(array);
    return s;
}

/* The sizes stay those of the arrays, the rest is what config.json, or the array of that name, has stated. */
static pali_status config_adopt(config *c, config stated, const char *path, const char *config_path) {
    if (stated.text.generation != c->text.generation)
        return status_fail(PALI_ERR_FORMAT, "%s: text_config: model_type: Gemma %d, but %s has the norms of Gemma %d", config_path, stated.text.generation, path,
                           c->text.generation);
    stated.vit.image_size = c->vit.image_size;
    for (size_t i = 0; i < N_SIZES; i++) {
        const size_field *f = &k_sizes[i];
        if (f->corrects) *size_of(&stated, f) = *size_of(c, f);
        if (*size_of(&stated, f) != *size_of(c, f))
            return status_fail(PALI_ERR_FORMAT, "%s: %s: %zu, but %s has %zu", config_path, f->key, *size_of(&stated, f), path, *size_of(c, f));
    }
    *c = stated;
    return PALI_OK;
}

pali_status config_npz_read(config *out, weights *w, const char *path, const char *config_path) {
    config *c = out;
    *c = (config){0};
    for (size_t i = 0; i < N_SIZES; i++) STATUS_TRY(size_read(c, w, &k_sizes[i], path));
    STATUS_TRY(sizes_check(c, path));
    c->text.generation = weights_find(w, "llm/layers/post_attention_norm/scale") || weights_find(w, "llm/layers/post_ffw_norm/scale") ? 2 : 1;
    config_defaults(c);
    config_text_defaults(&c->text);
    c->vit.norm_eps = 1e-6f;
    if (config_text_released(&c->text)) return PALI_OK;
    c->text.attn_scale = 1.0f / sqrtf((float)c->text.head_dim);
    weights_entry *array = weights_find(w, CONFIG_NPZ_ARRAY);
    config stated;
    if (array) {
        STATUS_TRY(array_parse(&stated, array, path));
        return config_adopt(c, stated, path, path);
    }
    if (config_path) {
        STATUS_TRY(config_load(&stated, config_path));
        return config_adopt(c, stated, path, config_path);
    }
    if (c->text.generation == 1) return PALI_OK;
    return status_fail(PALI_ERR_FORMAT, "%s: a Gemma 2 of no released size (width %zu, %zu layers): expected a config.json beside it", path, c->text.width, c->text.n_layers);
}
