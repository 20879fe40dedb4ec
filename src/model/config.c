/* config.c: config.json -> hyper-parameters. Hub files leave most fields out, so the defaults of each class matter
 * (spec inference 1.4). Limits keep every later size computation far from overflow. */
#include "model/config.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "io/json.h"

/* The released shapes (spec 1.1), which are also the sources of the defaults. */
typedef struct released {
    const char *prefix, *title;
    gemma_config text;
    float query_scalar;
} released;

static const released k_shapes[] = {
    {"3b", "PaliGemma 3B",
     {.generation = 1, .width = 2048, .n_layers = 18, .n_heads = 8, .n_kv_heads = 1, .head_dim = 256, .mlp_width = 16384}, 256},
    {"pg2-3b", "PaliGemma 2 3B",
     {.generation = 2, .width = 2304, .n_layers = 26, .n_heads = 8, .n_kv_heads = 4, .head_dim = 256, .mlp_width = 9216}, 256},
    {"pg2-10b", "PaliGemma 2 10B",
     {.generation = 2, .width = 3584, .n_layers = 42, .n_heads = 16, .n_kv_heads = 8, .head_dim = 256, .mlp_width = 14336}, 256},
    {"pg2-28b", "PaliGemma 2 28B",
     {.generation = 2, .width = 4608, .n_layers = 46, .n_heads = 32, .n_kv_heads = 16, .head_dim = 128, .mlp_width = 36864}, 144},
};
#define N_SHAPES (sizeof k_shapes / sizeof k_shapes[0])

static const vit_config k_vit = {.image_size = 224, .patch_size = 14, .n_patches = 256, .width = 1152, .n_layers = 27,
                                 .n_heads = 16, .mlp_width = 4304, .norm_eps = 1e-6f};

void config_text_defaults(gemma_config *t) {
    t->norm_eps = 1e-6f;
    t->rope_theta = 10000;
    if (t->generation == 1) return;
    t->attn_softcap = 50;
    t->final_softcap = 30;
    t->sliding_window = 4096;
    for (size_t i = 0; i < CONFIG_MAX_LAYERS; i += 2) t->layer_slides[i] = true;
}

void config_defaults(config *c) {
    c->image_token = 257152;
    c->bos_token = 2;
    c->eos_token = 1;
    c->pad_token = 0;
    c->tied = true;
    c->resample = 3;
}

pali_status config_named(config *out, const char *shape) {
    for (size_t i = 0; i < N_SHAPES; i++) {
        for (size_t size = 224; size <= 896; size *= 2) {
            char name[32];
            (void)snprintf(name, sizeof name, "%s-%zu", k_shapes[i].prefix, size);
            if (strcmp(name, shape) != 0) continue;
            *out = (config){.vit = k_vit, .text = k_shapes[i].text};
            config_defaults(out);
            config_text_defaults(&out->text);
            out->text.vocab_size = 257216;
            out->text.attn_scale = 1.0f / sqrtf(k_shapes[i].query_scalar);
            out->vit.image_size = size;
            out->vit.n_patches = size / 14 * (size / 14);
            return PALI_OK;
        }
    }
    return status_fail(PALI_ERR_ARGUMENT,
                       "shape '%s': expected 3b, pg2-3b, pg2-10b or pg2-28b followed by -224, -448 or -896", shape);
}

/* The tanh approximation of GELU has several names; `legacy` also takes "gelu" for it, as the reference does for Gemma 1. */
static pali_status activation_check(const json_t *object, const char *key, bool legacy, const char *name) {
    static const char *const k_tanh[] = {"gelu_pytorch_tanh", "gelu_new", "gelu_fast", "gelu"};
    const char *is = k_tanh[0];
    STATUS_TRY(json_get_string(object, key, &is, name));
    for (size_t i = 0; i < (legacy ? 4u : 3u); i++)
        if (strcmp(is, k_tanh[i]) == 0) return PALI_OK;
    return status_fail(PALI_ERR_UNSUPPORTED, "%s: %s: '%s' is not supported, only gelu_pytorch_tanh", name, key, is);
}

static pali_status vit_read(vit_config *v, const json_t *vision, const char *name) {
    /* What the reference's SiglipVisionConfig takes for an absent field, not the released shape. */
    *v = (vit_config){.image_size = 224, .patch_size = 16, .width = 768, .n_layers = 12, .n_heads = 12, .mlp_width = 3072,
                      .norm_eps = 1e-6f};
    size_t n_channels = 3;
    STATUS_TRY(json_get_size(vision, "image_size", &v->image_size, 1, CONFIG_MAX_IMAGE, name));
    STATUS_TRY(json_get_size(vision, "patch_size", &v->patch_size, 1, CONFIG_MAX_IMAGE, name));
    STATUS_TRY(json_get_size(vision, "hidden_size", &v->width, 1, CONFIG_MAX_WIDTH, name));
    STATUS_TRY(json_get_size(vision, "num_hidden_layers", &v->n_layers, 1, CONFIG_MAX_LAYERS, name));
    STATUS_TRY(json_get_size(vision, "num_attention_heads", &v->n_heads, 1, CONFIG_MAX_HEADS, name));
    STATUS_TRY(json_get_size(vision, "intermediate_size", &v->mlp_width, 1, CONFIG_MAX_MLP_WIDTH, name));
    STATUS_TRY(json_get_float(vision, "layer_norm_eps", &v->norm_eps, 0, 1, name));
    STATUS_TRY(json_get_size(vision, "num_channels", &n_channels, 3, 3, name));
    STATUS_TRY(activation_check(vision, "hidden_act", false, name));
    if (v->image_size < v->patch_size)
        return status_fail(PALI_ERR_FORMAT, "%s: image_size: %zu is less than patch_size %zu", name, v->image_size,
                           v->patch_size);
    if (v->width % v->n_heads != 0)
        return status_fail(PALI_ERR_FORMAT, "%s: hidden_size: %zu is not a multiple of num_attention_heads %zu", name,
                           v->width, v->n_heads);
    v->n_patches = v->image_size / v->patch_size * (v->image_size / v->patch_size);
    return PALI_OK;
}

/* Which layers slide: layer_types if given, else every other one. */
static pali_status layer_types_read(gemma_config *t, const json_t *text, const char *name) {
    const json_t *types = json_object_get(text, "layer_types");
    if (!types || json_is_null(types)) return PALI_OK;
    if (!json_is_array(types) || json_array_size(types) != t->n_layers)
        return status_fail(PALI_ERR_FORMAT, "%s: layer_types: expected a list of %zu", name, t->n_layers);
    for (size_t i = 0; i < t->n_layers; i++) {
        const char *type = json_string_value(json_array_get(types, i));
        bool slides = type && strcmp(type, "sliding_attention") == 0;
        if (!slides && (!type || strcmp(type, "full_attention") != 0))
            return status_fail(PALI_ERR_FORMAT, "%s: layer_types: %zu: expected sliding_attention or full_attention", name,
                               i);
        t->layer_slides[i] = slides;
    }
    return PALI_OK;
}

static pali_status text_read(gemma_config *t, const json_t *text, const char *name) {
    const char *type = "gemma";
    const json_t *rope;
    float query_scalar = 0;
    STATUS_TRY(json_get_string(text, "model_type", &type, name));
    if (strcmp(type, "gemma") != 0 && strcmp(type, "gemma2") != 0)
        return status_fail(PALI_ERR_UNSUPPORTED, "%s: model_type: '%s' is neither gemma nor gemma2", name, type);
    if (strcmp(type, "gemma") == 0) {
        *t = (gemma_config){.generation = 1, .width = 3072, .mlp_width = 24576, .n_layers = 28, .n_heads = 16,
                            .n_kv_heads = 16, .head_dim = 256};
    } else {
        *t = k_shapes[1].text;
        query_scalar = 256;
    }
    config_text_defaults(t);
    t->vocab_size = 256000;
    STATUS_TRY(json_get_size(text, "hidden_size", &t->width, 1, CONFIG_MAX_WIDTH, name));
    STATUS_TRY(json_get_size(text, "intermediate_size", &t->mlp_width, 1, CONFIG_MAX_MLP_WIDTH, name));
    STATUS_TRY(json_get_size(text, "num_hidden_layers", &t->n_layers, 1, CONFIG_MAX_LAYERS, name));
    STATUS_TRY(json_get_size(text, "num_attention_heads", &t->n_heads, 1, CONFIG_MAX_HEADS, name));
    STATUS_TRY(json_get_size(text, "num_key_value_heads", &t->n_kv_heads, 1, CONFIG_MAX_HEADS, name));
    STATUS_TRY(json_get_size(text, "head_dim", &t->head_dim, 2, CONFIG_MAX_HEAD_DIM, name));
    STATUS_TRY(json_get_size(text, "vocab_size", &t->vocab_size, 1, CONFIG_MAX_VOCAB, name));
    STATUS_TRY(json_get_float(text, "rms_norm_eps", &t->norm_eps, 0, 1, name));
    STATUS_TRY(json_get_float(text, "rope_theta", &t->rope_theta, 1, 1e12, name));
    STATUS_TRY(json_get_object(text, "rope_parameters", &rope, name));
    if (rope) {
        const char *kind = "default";
        STATUS_TRY(json_get_string(rope, "rope_type", &kind, name));
        if (strcmp(kind, "default") != 0)
            return status_fail(PALI_ERR_UNSUPPORTED, "%s: rope_parameters.rope_type: '%s' is not supported", name, kind);
        STATUS_TRY(json_get_float(rope, "rope_theta", &t->rope_theta, 1, 1e12, name));
    }
    if (json_is_object(json_object_get(text, "rope_scaling")))
        return status_fail(PALI_ERR_UNSUPPORTED, "%s: rope_scaling: not supported", name);
    if (t->generation == 1) {
        STATUS_TRY(activation_check(text, "hidden_act", true, name));
    } else {
        STATUS_TRY(activation_check(text, "hidden_activation", false, name));
        /* A cap or window that is null is off; one that is absent has its default. */
        if (json_is_null(json_object_get(text, "sliding_window"))) t->sliding_window = 0;
        if (json_is_null(json_object_get(text, "attn_logit_softcapping"))) t->attn_softcap = 0;
        if (json_is_null(json_object_get(text, "final_logit_softcapping"))) t->final_softcap = 0;
        STATUS_TRY(json_get_float(text, "attn_logit_softcapping", &t->attn_softcap, 0, 1e6, name));
        STATUS_TRY(json_get_float(text, "final_logit_softcapping", &t->final_softcap, 0, 1e6, name));
        STATUS_TRY(json_get_float(text, "query_pre_attn_scalar", &query_scalar, 1e-6, 1e6, name));
        STATUS_TRY(json_get_size(text, "sliding_window", &t->sliding_window, 1, (size_t)1 << 30, name));
        STATUS_TRY(layer_types_read(t, text, name));
    }
    t->attn_scale = 1.0f / sqrtf(query_scalar > 0 ? query_scalar : (float)t->head_dim);
    if (t->n_heads % t->n_kv_heads != 0)
        return status_fail(PALI_ERR_FORMAT, "%s: num_attention_heads: %zu is not a multiple of num_key_value_heads %zu",
                           name, t->n_heads, t->n_kv_heads);
    if (t->head_dim % 2 != 0) return status_fail(PALI_ERR_FORMAT, "%s: head_dim: %zu is odd", name, t->head_dim);
    bool bias = false;
    STATUS_TRY(json_get_bool(text, "attention_bias", &bias, name));
    if (bias)
        return status_fail(PALI_ERR_UNSUPPORTED, "%s: attention_bias: biases in the text model are not supported", name);
    return PALI_OK;
}

static pali_status token_read(const json_t *root, const char *key, int32_t *out, const char *name) {
    size_t id = (size_t)*out;
    const json_t *value = json_object_get(root, key);
    if (json_is_array(value) && json_array_size(value) == 1 && json_is_integer(json_array_get(value, 0))) {
        json_int_t only = json_integer_value(json_array_get(value, 0));
        if (only < 0 || only > INT32_MAX)
            return status_fail(PALI_ERR_FORMAT, "%s: %s: %" JSON_INTEGER_FORMAT " is not an id", name, key, only);
        *out = (int32_t)only;
        return PALI_OK;
    }
    STATUS_TRY(json_get_size(root, key, &id, 0, INT32_MAX, name));
    *out = (int32_t)id;
    return PALI_OK;
}

/* Of bitsandbytes nothing more is needed: the tensors say how each is stored (weights_bnb.c). */
static pali_status quantization_check(const json_t *root, const char *name) {
    const json_t *quantization;
    const char *method = "";
    STATUS_TRY(json_get_object(root, "quantization_config", &quantization, name));
    if (!quantization) return PALI_OK;
    STATUS_TRY(json_get_string(quantization, "quant_method", &method, name));
    if (strcmp(method, "bitsandbytes") != 0 && *method)
        return status_fail(PALI_ERR_UNSUPPORTED, "%s: quantization_config: quant_method '%s' is not supported, only bitsandbytes", name, method);
    return PALI_OK;
}

static pali_status config_read(config *c, const json_t *root, const char *name) {
    const json_t *vision, *text;
    const char *type = "paligemma";
    char where[512];
    if (!json_is_object(root)) return status_fail(PALI_ERR_FORMAT, "%s: expected an object", name);
    STATUS_TRY(json_get_string(root, "model_type", &type, name));
    if (strcmp(type, "paligemma") != 0)
        return status_fail(PALI_ERR_UNSUPPORTED, "%s: model_type: '%s' is not paligemma", name, type);
    STATUS_TRY(quantization_check(root, name));
    STATUS_TRY(json_get_object(root, "vision_config", &vision, name));
    STATUS_TRY(json_get_object(root, "text_config", &text, name));
    if (!vision || !text)
        return status_fail(PALI_ERR_FORMAT, "%s: %s: missing", name, vision ? "text_config" : "vision_config");
    config_defaults(c);
    (void)snprintf(where, sizeof where, "%s: vision_config", name);
    STATUS_TRY(vit_read(&c->vit, vision, where));
    (void)snprintf(where, sizeof where, "%s: text_config", name);
    STATUS_TRY(text_read(&c->text, text, where));
    STATUS_TRY(token_read(root, "image_token_index", &c->image_token, name));
    STATUS_TRY(token_read(root, "image_token_id", &c->image_token, name));
    STATUS_TRY(token_read(root, "bos_token_id", &c->bos_token, name));
    STATUS_TRY(token_read(root, "pad_token_id", &c->pad_token, name));
    return token_read(root, "eos_token_id", &c->eos_token, name);
}

pali_status config_parse(config *out, const char *json, size_t n_bytes, const char *name) {
    json_t *root;
    *out = (config){0};
    STATUS_TRY(json_parse(&root, json, n_bytes, name));
    pali_status s = config_read(out, root, name);
    json_decref(root);
    return s;
}

pali_status config_load(config *out, const char *path) {
    json_t *root;
    *out = (config){0};
    STATUS_TRY(json_read(&root, path));
    pali_status s = config_read(out, root, path);
    json_decref(root);
    return s;
}

/* A number, or a list of one for each channel, that must be 0.5. */
static pali_status half_check(const json_t *object, const char *key, const char *name) {
    const json_t *value = json_object_get(object, key);
    size_t n = json_array_size(value);
    bool same = !value || json_is_null(value) || (json_is_array(value) ? n == 3 : json_number_value(value) == 0.5);
    for (size_t i = 0; same && i < n; i++) same = json_number_value(json_array_get(value, i)) == 0.5;
    return same ? PALI_OK : status_fail(PALI_ERR_UNSUPPORTED, "%s: %s: only 0.5 for each channel is supported", name, key);
}

/* {"height": R, "width": R}, or the older plain R. */
static pali_status size_check(const json_t *object, size_t image_size, const char *name) {
    const json_t *size = json_object_get(object, "size");
    char where[512];
    size_t height = image_size, width = image_size;
    (void)snprintf(where, sizeof where, "%s: size", name);
    if (json_is_integer(size)) {
        STATUS_TRY(json_get_size(object, "size", &height, 1, CONFIG_MAX_IMAGE, name));
        width = height;
    } else if (json_is_object(size)) {
        if (!json_object_get(size, "height") || !json_object_get(size, "width"))
            return status_fail(PALI_ERR_UNSUPPORTED, "%s: only a fixed height and width are supported", where);
        STATUS_TRY(json_get_size(size, "height", &height, 1, CONFIG_MAX_IMAGE, where));
        STATUS_TRY(json_get_size(size, "width", &width, 1, CONFIG_MAX_IMAGE, where));
    }
    if (height != image_size || width != image_size)
        return status_fail(PALI_ERR_FORMAT, "%s: %zu x %zu, but the model takes %zu x %zu", where, height, width,
                           image_size, image_size);
    return PALI_OK;
}

static pali_status preprocessor_read(config *c, const json_t *root, const char *name) {
    static const char *const k_steps[] = {"do_resize", "do_rescale", "do_normalize"};
    float scale = 1.0f / 255;
    size_t resample = (size_t)c->resample;
    if (!json_is_object(root)) return status_fail(PALI_ERR_FORMAT, "%s: expected an object", name);
    for (size_t i = 0; i < sizeof k_steps / sizeof k_steps[0]; i++) {
        bool on = true;
        STATUS_TRY(json_get_bool(root, k_steps[i], &on, name));
        if (!on) return status_fail(PALI_ERR_UNSUPPORTED, "%s: %s: false is not supported", name, k_steps[i]);
    }
    STATUS_TRY(half_check(root, "image_mean", name));
    STATUS_TRY(half_check(root, "image_std", name));
    STATUS_TRY(json_get_float(root, "rescale_factor", &scale, 0, 1, name));
    if (fabsf(scale - 1.0f / 255) > 1e-6f)
        return status_fail(PALI_ERR_UNSUPPORTED, "%s: rescale_factor: only 1/255 is supported", name);
    STATUS_TRY(size_check(root, c->vit.image_size, name));
    STATUS_TRY(json_get_size(root, "resample", &resample, 0, 5, name));
    c->resample = (int)resample;
    return PALI_OK;
}

pali_status config_parse_preprocessor(config *c, const char *json, size_t n_bytes, const char *name) {
    json_t *root;
    const json_t *nested;
    char where[512];
    (void)snprintf(where, sizeof where, "%s: image_processor", name);
    STATUS_TRY(json_parse(&root, json, n_bytes, name));
    pali_status s = json_get_object(root, "image_processor", &nested, name);
    if (s == PALI_OK) s = nested ? preprocessor_read(c, nested, where) : preprocessor_read(c, root, name);
    json_decref(root);
    return s;
}

/* The nested form wins in the reference, so it is read last. */
pali_status config_load_preprocessor(config *c, const char *dir) {
    static const char *const k_files[] = {"preprocessor_config.json", "processor_config.json"};
    pali_status s = PALI_OK;
    for (size_t i = 0; i < 2 && s == PALI_OK; i++) {
        char *path = file_join(dir, k_files[i]), *json;
        size_t n;
        if (!path) return status_no_memory(strlen(dir));
        if (file_exists(path) && (s = file_read(&json, &n, path, JSON_MAX_FILE_BYTES)) == PALI_OK) {
            s = config_parse_preprocessor(c, json, n, path);
            mem_free(json);
        }
        mem_free(path);
    }
    return s;
}

uint64_t config_n_parameters(const config *c) {
    const vit_config *v = &c->vit;
    const gemma_config *t = &c->text;
    uint64_t w = v->width, f = v->mlp_width, d = t->width, patch = 3 * v->patch_size * v->patch_size;
    uint64_t vision = patch * w + w + v->n_patches * w + v->n_layers * (4 * (w * w + w) + 4 * w + w * f + f + f * w + w) +
                      2 * w;
    uint64_t q = t->n_heads * t->head_dim, kv = t->n_kv_heads * t->head_dim, norms = t->generation == 1 ? 2 : 4;
    return vision + w * d + d + (c->tied ? 1u : 2u) * t->vocab_size * d +
           t->n_layers * (2 * d * q + 2 * d * kv + 3 * d * t->mlp_width + norms * d) + d;
}

/* The released model of these sizes; NULL: there is none. */
static const released *released_of(const gemma_config *t) {
    for (size_t i = 0; i < N_SHAPES; i++) {
        const gemma_config *known = &k_shapes[i].text;
        if (t->generation == known->generation && t->width == known->width && t->n_layers == known->n_layers && t->mlp_width == known->mlp_width)
            return &k_shapes[i];
    }
    return NULL;
}

bool config_text_released(gemma_config *t) {
    const released *s = released_of(t);
    if (s) t->attn_scale = 1.0f / sqrtf(s->query_scalar);
    return s != NULL;
}

void config_name(const config *c, char *out, size_t n) {
    const released *s = released_of(&c->text);
    if (s)
        (void)snprintf(out, n, "%s %zu", s->title, c->vit.image_size);
    else
        (void)snprintf(out, n, "PaliGemma %d (custom) %zu", c->text.generation, c->vit.image_size);
}
