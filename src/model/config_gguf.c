/* config_gguf.c: one table of fields that reading and writing both go through. */
#include "model/config_gguf.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

typedef enum field_kind { FIELD_SIZE, FIELD_FLOAT, FIELD_INT32 } field_kind;

typedef struct field {
    const char *key; /* one that begins with a dot stands behind the architecture's name */
    field_kind kind;
    size_t offset;   /* in config */
    double min, max;
    bool required;   /* else what config.c takes by default */
    bool gemma2;     /* not in Gemma */
} field;

#define AT(member) offsetof(config, member)
static const field k_fields[] = {
    {".embedding_length", FIELD_SIZE, AT(text.width), 1, CONFIG_MAX_WIDTH, true, false},
    {".block_count", FIELD_SIZE, AT(text.n_layers), 1, CONFIG_MAX_LAYERS, true, false},
    {".feed_forward_length", FIELD_SIZE, AT(text.mlp_width), 1, CONFIG_MAX_MLP_WIDTH, true, false},
    {".attention.head_count", FIELD_SIZE, AT(text.n_heads), 1, CONFIG_MAX_HEADS, true, false},
    {".attention.head_count_kv", FIELD_SIZE, AT(text.n_kv_heads), 1, CONFIG_MAX_HEADS, true, false},
    {".attention.key_length", FIELD_SIZE, AT(text.head_dim), 2, CONFIG_MAX_HEAD_DIM, true, false},
    {".attention.layer_norm_rms_epsilon", FIELD_FLOAT, AT(text.norm_eps), 0, 1, false, false},
    {".attention.scale", FIELD_FLOAT, AT(text.attn_scale), 1e-4, 1e4, false, false},
    {".rope.freq_base", FIELD_FLOAT, AT(text.rope_theta), 1, 1e12, false, false},
    {".vocab_size", FIELD_SIZE, AT(text.vocab_size), 1, CONFIG_MAX_VOCAB, false, false},
    {".attn_logit_softcapping", FIELD_FLOAT, AT(text.attn_softcap), 0, 1e6, false, true},
    {".final_logit_softcapping", FIELD_FLOAT, AT(text.final_softcap), 0, 1e6, false, true},
    {".attention.sliding_window", FIELD_SIZE, AT(text.sliding_window), 0, 1 << 30, false, true},
    {"clip.vision.image_size", FIELD_SIZE, AT(vit.image_size), 1, CONFIG_MAX_IMAGE, true, false},
    {"clip.vision.patch_size", FIELD_SIZE, AT(vit.patch_size), 1, CONFIG_MAX_IMAGE, true, false},
    {"clip.vision.embedding_length", FIELD_SIZE, AT(vit.width), 1, CONFIG_MAX_WIDTH, true, false},
    {"clip.vision.block_count", FIELD_SIZE, AT(vit.n_layers), 1, CONFIG_MAX_LAYERS, true, false},
    {"clip.vision.attention.head_count", FIELD_SIZE, AT(vit.n_heads), 1, CONFIG_MAX_HEADS, true, false},
    {"clip.vision.feed_forward_length", FIELD_SIZE, AT(vit.mlp_width), 1, CONFIG_MAX_MLP_WIDTH, true, false},
    {"clip.vision.attention.layer_norm_epsilon", FIELD_FLOAT, AT(vit.norm_eps), 0, 1, false, false},
    {"paligemma.resample", FIELD_INT32, AT(resample), 0, 5, false, false},
    {"paligemma.image_token_id", FIELD_INT32, AT(image_token), 0, INT32_MAX, false, false},
    {"tokenizer.ggml.bos_token_id", FIELD_INT32, AT(bos_token), 0, INT32_MAX, false, false},
    {"tokenizer.ggml.eos_token_id", FIELD_INT32, AT(eos_token), 0, INT32_MAX, false, false},
    {"tokenizer.ggml.padding_token_id", FIELD_INT32, AT(pad_token), 0, INT32_MAX, false, false},
};
#define N_FIELDS (sizeof k_fields / sizeof k_fields[0])

#define PATTERN ".attention.sliding_window_pattern" /* an array: whether each layer has the window */

static const char *arch_name(int generation) {
    return generation == 1 ? "gemma" : "gemma2";
}

static void key_print(char out[64], const char *key, int generation) {
    (void)snprintf(out, 64, "%s%s", *key == '.' ? arch_name(generation) : "", key);
}

/* ---- Reading ---- */

/* "gemma" or "gemma2"; the others that people have near a PaliGemma get a word of their own. */
static pali_status generation_read(int *out, const gguf *g) {
    const char *arch = NULL;
    size_t n = 0;
    STATUS_TRY(gguf_get_string(g, "general.architecture", &arch, &n));
    if (!arch) return status_fail(PALI_ERR_FORMAT, "%s: general.architecture: missing", g->path);
    for (*out = 1; *out <= 2; ++*out)
        if (n == strlen(arch_name(*out)) && memcmp(arch, arch_name(*out), n) == 0) return PALI_OK;
    if (n == 4 && memcmp(arch, "clip", 4) == 0)
        return status_fail(PALI_ERR_UNSUPPORTED, "%s: general.architecture: clip: a vision tower alone, expected the file of its text model", g->path);
    return status_fail(PALI_ERR_UNSUPPORTED, "%s: general.architecture: '%.*s' is neither gemma nor gemma2", g->path, (int)(n < 64 ? n : 64), arch);
}

/* The file that a key is looked for in. */
static const gguf *file_of(const weights_values *files, const char *key) {
    return strncmp(key, "clip.", 5) == 0 ? files->vision : files->text;
}

static pali_status field_read(config *c, const weights_values *files, const field *f) {
    const gguf *g = file_of(files, f->key);
    char key[64];
    char *to = (char *)c + f->offset;
    key_print(key, f->key, c->text.generation);
    if (f->required && !gguf_find(g, key)) return status_fail(PALI_ERR_FORMAT, "%s: %s: missing", g->path, key);
    if (f->kind == FIELD_FLOAT) return gguf_get_float(g, key, (float *)(void *)to, f->min, f->max);
    if (f->kind == FIELD_INT32) {
        size_t x = (size_t)*(int32_t *)(void *)to;
        STATUS_TRY(gguf_get_size(g, key, &x, (size_t)f->min, (size_t)f->max));
        *(int32_t *)(void *)to = (int32_t)x;
        return PALI_OK;
    }
    return gguf_get_size(g, key, (size_t *)(void *)to, (size_t)f->min, (size_t)f->max);
}

/* A key that may be there, but must have this value. */
static pali_status size_is(const weights_values *files, const char *key, size_t want) {
    const gguf *g = file_of(files, key);
    size_t x = want;
    STATUS_TRY(gguf_get_size(g, key, &x, 0, SIZE_MAX));
    return x == want ? PALI_OK : status_fail(PALI_ERR_FORMAT, "%s: %s: %zu, expected %zu", g->path, key, x, want);
}

static pali_status is_true(const gguf *g, const char *key) {
    bool x = true;
    STATUS_TRY(gguf_get_bool(g, key, &x));
    return x ? PALI_OK : status_fail(PALI_ERR_UNSUPPORTED, "%s: %s: false is not supported", g->path, key);
}

static pali_status halves_check(const gguf *g, const char *key) {
    const gguf_value *v;
    STATUS_TRY(gguf_get_array(g, key, GGUF_F32, &v));
    bool same = !v || v->n == 3;
    for (size_t i = 0; v && same && i < 3; i++) same = gguf_array_f32(v, i) == 0.5f;
    return same ? PALI_OK : status_fail(PALI_ERR_UNSUPPORTED, "%s: %s: only 0.5 for each channel is supported", g->path, key);
}

static pali_status pattern_read(gemma_config *t, const gguf *g) {
    char key[64];
    const gguf_value *v;
    key_print(key, PATTERN, t->generation);
    STATUS_TRY(gguf_get_array(g, key, GGUF_BOOL, &v));
    if (v && v->n != t->n_layers) return status_fail(PALI_ERR_FORMAT, "%s: %s: %zu values, expected %zu", g->path, key, v->n, t->n_layers);
    for (size_t i = 0; v && i < v->n; i++) t->layer_slides[i] = v->data[i] != 0;
    return PALI_OK;
}

/* a is a multiple of b. */
static pali_status multiple_check(const weights_values *files, const config *c, const char *key_a, size_t a, const char *key_b, size_t b) {
    char of[64], by[64];
    if (a % b == 0) return PALI_OK;
    key_print(of, key_a, c->text.generation);
    key_print(by, key_b, c->text.generation);
    return status_fail(PALI_ERR_FORMAT, "%s: %s: %zu is not a multiple of %s, %zu", file_of(files, key_a)->path, of, a, by, b);
}

static pali_status vocab_from_table(gemma_config *t, const gguf *g, const weights *w) {
    const weights_entry *table = weights_find(w, "token_embd.weight");
    if (!table) return status_fail(PALI_ERR_FORMAT, "%s: token_embd.weight: tensor missing", g->path);
    t->vocab_size = table->dims[0];
    return t->vocab_size <= CONFIG_MAX_VOCAB ? PALI_OK
        : status_fail(PALI_ERR_LIMIT, "%s: token_embd.weight: %zu rows, more than the limit of %u", g->path, t->vocab_size, CONFIG_MAX_VOCAB);
}

/* Of files without a key for it, as other readers know it: Gemma 2 27B, told by its layers, scales by width / heads. */
static float scale_by_default(const gemma_config *t) {
    return 1.0f / sqrtf(t->generation == 2 && t->n_layers == 46 ? (float)(t->width / t->n_heads) : (float)t->head_dim);
}

static pali_status fields_check(const config *c, const weights_values *files) {
    const vit_config *v = &c->vit;
    const gemma_config *t = &c->text;
    char key[64];
    STATUS_TRY(multiple_check(files, c, "clip.vision.image_size", v->image_size, "clip.vision.patch_size", v->patch_size));
    STATUS_TRY(multiple_check(files, c, "clip.vision.embedding_length", v->width, "clip.vision.attention.head_count", v->n_heads));
    STATUS_TRY(multiple_check(files, c, ".attention.head_count", t->n_heads, ".attention.head_count_kv", t->n_kv_heads));
    key_print(key, ".attention.key_length", t->generation);
    if (t->head_dim % 2 != 0) return status_fail(PALI_ERR_FORMAT, "%s: %s: %zu is odd", files->text->path, key, t->head_dim);
    key_print(key, ".attention.value_length", t->generation);
    STATUS_TRY(size_is(files, key, t->head_dim));
    STATUS_TRY(size_is(files, "clip.vision.projection_dim", t->width));
    STATUS_TRY(is_true(files->vision, "clip.has_vision_encoder"));
    STATUS_TRY(is_true(files->vision, "clip.use_gelu"));
    STATUS_TRY(halves_check(files->vision, "clip.vision.image_mean"));
    return halves_check(files->vision, "clip.vision.image_std");
}

/* The vision tower's file, where it is one of its own. Other models have other projectors behind a tower like ours. */
static pali_status vision_check(const weights_values *files, const weights *w) {
    const gguf *g = files->vision;
    const char *arch = "";
    size_t n = 0;
    if (!g)
        return status_fail(PALI_ERR_UNSUPPORTED, "%s: a text model without vision tower (clip.vision.image_size and v.patch_embd.weight): "
                           "expected a mmproj file beside it (*mmproj*.gguf), or its path", files->text->path);
    if (g == files->text) return PALI_OK;
    STATUS_TRY(gguf_get_string(g, "general.architecture", &arch, &n));
    if (n != 4 || memcmp(arch, "clip", 4) != 0)
        return status_fail(PALI_ERR_UNSUPPORTED, "%s: general.architecture: '%.*s', expected clip, a vision tower", g->path, (int)(n < 64 ? n : 64), arch);
    for (size_t i = 0; i < w->n_entries; i++)
        if (strncmp(w->entries[i].name, "mm.", 3) == 0 && strncmp(w->entries[i].name, "mm.0.", 5) != 0)
            return status_fail(PALI_ERR_UNSUPPORTED, "%s: %s: a projector of another kind, expected one linear layer, mm.0 or mm.input_projection",
                               w->entries[i].file, w->entries[i].file_name);
    return PALI_OK;
}

pali_status config_gguf_read(config *out, const weights_values *values, const weights *w) {
    config *c = out;
    *c = (config){0};
    STATUS_TRY(generation_read(&c->text.generation, values->text));
    STATUS_TRY(vision_check(values, w));
    config_defaults(c);
    config_text_defaults(&c->text);
    c->vit.norm_eps = 1e-6f;
    for (size_t i = 0; i < N_FIELDS; i++)
        if (!k_fields[i].gemma2 || c->text.generation == 2) STATUS_TRY(field_read(c, values, &k_fields[i]));
    if (c->text.generation == 2) STATUS_TRY(pattern_read(&c->text, values->text));
    if (c->text.vocab_size == 0) STATUS_TRY(vocab_from_table(&c->text, values->text, w));
    STATUS_TRY(fields_check(c, values));
    if (!(c->text.attn_scale > 0)) c->text.attn_scale = scale_by_default(&c->text);
    c->vit.n_patches = c->vit.image_size / c->vit.patch_size * (c->vit.image_size / c->vit.patch_size);
    return PALI_OK;
}

/* ---- Writing ---- */

static void halves_put(gguf_writer *w, const char *key) {
    gguf_put_array(w, key, GGUF_F32, 3);
    for (size_t i = 0; i < 3; i++) gguf_item_f32(w, 0.5f);
}

void config_gguf_write(const config *c, gguf_writer *w) {
    const gemma_config *t = &c->text;
    char key[64];
    gguf_put_string(w, "general.architecture", arch_name(t->generation));
    for (size_t i = 0; i < N_FIELDS; i++) {
        const field *f = &k_fields[i];
        const void *from = (const char *)c + f->offset;
        if (f->gemma2 && t->generation == 1) continue;
        key_print(key, f->key, t->generation);
        if (f->kind == FIELD_FLOAT)
            gguf_put_f32(w, key, *(const float *)from);
        else
            gguf_put_u32(w, key, f->kind == FIELD_INT32 ? (uint32_t)*(const int32_t *)from : (uint32_t)*(const size_t *)from);
    }
    key_print(key, ".attention.value_length", t->generation);
    gguf_put_u32(w, key, (uint32_t)t->head_dim);
    key_print(key, ".context_length", t->generation); /* what the model was trained with; tools of text models ask for it */
    gguf_put_u32(w, key, 8192);
    if (t->generation == 2) {
        key_print(key, PATTERN, t->generation);
        gguf_put_array(w, key, GGUF_BOOL, t->n_layers);
        for (size_t i = 0; i < t->n_layers; i++) gguf_item_bool(w, t->layer_slides[i]);
    }
    gguf_put_bool(w, "clip.has_vision_encoder", true);
    gguf_put_bool(w, "clip.use_gelu", true);
    gguf_put_string(w, "clip.projector_type", "paligemma");
    gguf_put_u32(w, "clip.vision.projection_dim", (uint32_t)t->width);
    halves_put(w, "clip.vision.image_mean");
    halves_put(w, "clip.vision.image_std");
}
