#include "model/config_json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "io/json.h"

/* ---- A new one ---- */

/* attn_scale = scalar ^ -0.5: a whole number where it is one. */
static json_t *query_scalar(const gemma_config *t) {
    double exact = 1 / ((double)t->attn_scale * (double)t->attn_scale), whole = round(exact);
    bool same = 1.0f / sqrtf((float)whole) == t->attn_scale;
    return same ? json_integer((json_int_t)whole) : json_real(exact);
}

static json_t *layer_types(const gemma_config *t) {
    json_t *types = json_array();
    for (size_t i = 0; i < t->n_layers; i++) {
        bool slides = t->sliding_window && t->layer_slides[i];
        if (json_array_append_new(types, json_string(slides ? "sliding_attention" : "full_attention")) != 0) {
            json_decref(types);
            return NULL;
        }
    }
    return types;
}

/* A number of the config, written as the decimal that a person would have: 1e-06 for the float next to it. */
static json_t *number(float x) {
    char text[32];
    (void)snprintf(text, sizeof text, "%.7g", (double)x);
    double decimal = strtod(text, NULL);
    return json_real((float)decimal == x ? decimal : (double)x);
}

static json_t *cap(float x) { /* 0: none */
    return x > 0 ? number(x) : json_null();
}

static json_t *text_json(const config *c, const char *dtype) {
    const gemma_config *t = &c->text;
    json_t *text = json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:i, s:o, s:o, s:{s:o, s:s}, s:b, s:b, s:i, s:i, s:i, s:s}", "model_type",
                             t->generation == 1 ? "gemma" : "gemma2", "hidden_size", (json_int_t)t->width, "intermediate_size", (json_int_t)t->mlp_width,
                             "num_hidden_layers", (json_int_t)t->n_layers, "num_attention_heads", (json_int_t)t->n_heads, "num_key_value_heads",
                             (json_int_t)t->n_kv_heads, "head_dim", (json_int_t)t->head_dim, "vocab_size", (json_int_t)t->vocab_size, "num_image_tokens",
                             (json_int_t)c->vit.n_patches, "max_position_embeddings", 8192, "rms_norm_eps", number(t->norm_eps), "rope_theta",
                             number(t->rope_theta), "rope_parameters", "rope_theta", number(t->rope_theta), "rope_type", "default", "attention_bias", 0,
                             "tie_word_embeddings", (int)c->tied, "bos_token_id", (int)c->bos_token, "eos_token_id", (int)c->eos_token, "pad_token_id",
                             (int)c->pad_token, "torch_dtype", dtype);
    json_t *more = t->generation == 1
                       ? json_pack("{s:s, s:s}", "hidden_act", "gelu_pytorch_tanh", "hidden_activation", "gelu_pytorch_tanh")
                       : json_pack("{s:s, s:o, s:o, s:o, s:I, s:o}", "hidden_activation", "gelu_pytorch_tanh", "query_pre_attn_scalar", query_scalar(t),
                                   "attn_logit_softcapping", cap(t->attn_softcap), "final_logit_softcapping", cap(t->final_softcap), "sliding_window",
                                   (json_int_t)(t->sliding_window ? t->sliding_window : 4096), "layer_types", layer_types(t));
    bool ok = text && more && json_object_update(text, more) == 0;
    json_decref(more);
    if (ok) return text;
    json_decref(text);
    return NULL;
}

static json_t *vision_json(const config *c, const char *dtype) {
    const vit_config *v = &c->vit;
    return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:i, s:o, s:s, s:I, s:I, s:s, s:b, s:s}", "model_type", "siglip_vision_model", "hidden_size",
                     (json_int_t)v->width, "intermediate_size", (json_int_t)v->mlp_width, "num_hidden_layers", (json_int_t)v->n_layers, "num_attention_heads",
                     (json_int_t)v->n_heads, "image_size", (json_int_t)v->image_size, "patch_size", (json_int_t)v->patch_size, "num_channels", 3,
                     "layer_norm_eps", number(v->norm_eps), "hidden_act", "gelu_pytorch_tanh", "num_image_tokens", (json_int_t)v->n_patches, "projection_dim",
                     (json_int_t)c->text.width, "projector_hidden_act", "gelu_fast", "vision_use_head", 0, "torch_dtype", dtype);
}

static json_t *new_json(const config *c, const char *dtype) {
    return json_pack("{s:[s], s:s, s:i, s:i, s:i, s:i, s:i, s:I, s:I, s:I, s:b, s:s, s:o, s:o}", "architectures", "PaliGemmaForConditionalGeneration",
                     "model_type", "paligemma", "bos_token_id", (int)c->bos_token, "eos_token_id", (int)c->eos_token, "pad_token_id", (int)c->pad_token,
                     "image_token_index", (int)c->image_token, "ignore_index", -100, "hidden_size", (json_int_t)c->text.width, "projection_dim",
                     (json_int_t)c->text.width, "vocab_size", (json_int_t)c->text.vocab_size, "tie_word_embeddings", (int)c->tied, "torch_dtype", dtype,
                     "text_config", text_json(c, dtype), "vision_config", vision_json(c, dtype));
}

/* ---- From a source ---- */

/* Sets a field, if `changed`; false: no memory. */
static bool update(json_t *object, const char *key, bool changed, json_t *value) {
    if (changed) return json_object_set_new(object, key, value) == 0;
    json_decref(value);
    return true;
}

static bool update_size(json_t *object, const char *key, size_t was, size_t is) {
    return update(object, key, was != is, json_integer((json_int_t)is));
}

/* Both names of the type, where they are. */
static bool update_dtype(json_t *object, const char *dtype) {
    return update(object, "torch_dtype", json_object_get(object, "torch_dtype") != NULL, json_string(dtype)) &&
           update(object, "dtype", json_object_get(object, "dtype") != NULL, json_string(dtype));
}

static bool update_tied(json_t *object, bool tied) {
    return update(object, "tie_word_embeddings", !tied || json_object_get(object, "tie_word_embeddings"), json_boolean(tied));
}

static bool text_update(json_t *text, const gemma_config *was, const gemma_config *is) {
    bool no_window = was->sliding_window && !is->sliding_window, no_cap = was->final_softcap > 0 && !(is->final_softcap > 0);
    return update_size(text, "vocab_size", was->vocab_size, is->vocab_size) && update_size(text, "head_dim", was->head_dim, is->head_dim) &&
           update_size(text, "num_key_value_heads", was->n_kv_heads, is->n_kv_heads) && update(text, "layer_types", no_window, layer_types(is)) &&
           update(text, "final_logit_softcapping", no_cap, json_null());
}

static bool source_update(json_t *root, const config *was, const config *is, const char *dtype) {
    json_t *text = json_object_get(root, "text_config"), *vision = json_object_get(root, "vision_config");
    json_t *const parts[] = {root, text, vision};
    bool has_id = json_object_get(root, "image_token_id") != NULL, other_patches = was->vit.n_patches != is->vit.n_patches, ok = true;
    (void)json_object_del(root, "quantization_config");
    for (size_t i = 0; i < 3; i++) {
        ok = ok && update_dtype(parts[i], dtype);
        ok = ok && update(parts[i], "num_image_tokens", other_patches && json_object_get(parts[i], "num_image_tokens"), json_integer((json_int_t)is->vit.n_patches));
    }
    return ok && update(root, "torch_dtype", !json_object_get(root, "torch_dtype") && !json_object_get(root, "dtype"), json_string(dtype)) &&
           update_tied(root, is->tied) && update_tied(text, is->tied) && text_update(text, &was->text, &is->text) &&
           update_size(vision, "image_size", was->vit.image_size, is->vit.image_size) &&
           update_size(root, has_id ? "image_token_id" : "image_token_index", (size_t)was->image_token, (size_t)is->image_token) &&
           update_size(root, "bos_token_id", (size_t)was->bos_token, (size_t)is->bos_token) &&
           update_size(root, "eos_token_id", (size_t)was->eos_token, (size_t)is->eos_token);
}

static pali_status root_get(json_t **out, const config *c, const char *dtype, const char *source) {
    config was;
    if (c->text.generation == 1 && c->text.attn_scale != 1.0f / sqrtf((float)c->text.head_dim))
        return status_fail(PALI_ERR_UNSUPPORTED, "config.json: a Gemma of another attention scale than head_dim ^ -0.5 cannot be described");
    if (!source) {
        *out = new_json(c, dtype);
        return *out ? PALI_OK : status_no_memory(1);
    }
    STATUS_TRY(config_load(&was, source)); /* also: the document has the parts that are updated */
    STATUS_TRY(json_read(out, source));
    return source_update(*out, &was, c, dtype) ? PALI_OK : status_no_memory(1);
}

pali_status config_json_text(char **out, const config *c, const char *dtype, const char *source, json_t *quantization) {
    json_t *root = NULL;
    *out = NULL;
    pali_status s = root_get(&root, c, dtype, source);
    if (s == PALI_OK && quantization && json_object_set(root, "quantization_config", quantization) != 0) s = status_no_memory(1);
    json_decref(quantization);
    if (s == PALI_OK) return json_print(out, root);
    json_decref(root);
    return s;
}

pali_status config_json_preprocessor(char **out, const config *c) {
    json_int_t size = (json_int_t)c->vit.image_size;
    return json_print(
        out, json_pack("{s:b, s:b, s:b, s:b, s:[f, f, f], s:[f, f, f], s:s, s:I, s:s, s:i, s:f, s:{s:I, s:I}}", "do_convert_rgb", 1, "do_resize", 1,
                       "do_rescale", 1, "do_normalize", 1, "image_mean", 0.5, 0.5, 0.5, "image_std", 0.5, 0.5, 0.5, "image_processor_type",
                       "SiglipImageProcessor", "image_seq_length", (json_int_t)c->vit.n_patches, "processor_class", "PaliGemmaProcessor", "resample",
                       c->resample, "rescale_factor", 1 / 255.0, "size", "height", size, "width", size));
}
