#include "checkpoint.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/halffloat.h"

void checkpoint_config(checkpoint *c, int generation) {
    (void)snprintf(
        c->config, sizeof c->config,
        "{\"model_type\":\"paligemma\",\"image_token_index\":39,\"vision_config\":{\"hidden_size\":12,\"intermediate_"
        "size\":20,\"num_attention_heads\":2,"
        "\"num_hidden_layers\":2,\"patch_size\":2,\"image_size\":8},\"text_config\":{\"model_type\":\"%s\",\"hidden_size\":"
        "10,\"intermediate_size\":14,"
        "\"num_attention_heads\":4,\"num_key_value_heads\":2,\"head_dim\":6,\"num_hidden_layers\":2,\"vocab_size\":40}}",
        generation == 1 ? "gemma" : "gemma2");
}

tensor *checkpoint_find(checkpoint *c, const char *name) {
    for (size_t i = 0; i < c->n; i++)
        if (strcmp(c->tensors[i].name, name) == 0) return &c->tensors[i];
    fail_msg("no tensor %s", name);
    return NULL;
}

tensor *checkpoint_add(checkpoint *c, const char *name, const char *dtype, size_t n_dims, const size_t *dims) {
    assert_true(c->n < MAX_TENSORS);
    tensor *t = &c->tensors[c->n++];
    *t = (tensor){.dtype = dtype, .n_dims = n_dims, .n = 1};
    (void)snprintf(t->name, sizeof t->name, "%s", name);
    for (size_t i = 0; i < n_dims; i++) t->n *= t->dims[i] = dims[i];
    t->values = malloc((t->n ? t->n : 1) * sizeof *t->values);
    assert_non_null(t->values);
    for (size_t i = 0; i < t->n; i++) {
        float x = rng_normal(&c->r);
        t->values[i] = *dtype == 'B'               ? half_from_bf16(half_to_bf16(x))
                       : strcmp(dtype, "F16") == 0 ? half_from_f16(half_to_f16(x))
                                                   : x;
    }
    return t;
}

void checkpoint_drop(checkpoint *c, const char *name) {
    tensor *t = checkpoint_find(c, name);
    free(t->values);
    *t = c->tensors[--c->n];
}

void checkpoint_reshape(checkpoint *c, const char *name, size_t n_dims, size_t d0, size_t d1) {
    size_t dims[2] = {d0, d1};
    const char *dtype = checkpoint_find(c, name)->dtype;
    checkpoint_drop(c, name);
    (void)checkpoint_add(c, name, dtype, n_dims, dims);
}

void checkpoint_new(checkpoint *c, int generation, const char *dtype) {
    static const char *const k_turns[] = {"F32", "BF16", "F16"};
    config cfg;
    spec s;
    *c = (checkpoint){.dir = "/tmp/test_weights_XXXXXX"};
    assert_non_null(mkdtemp(c->dir));
    rng_seed(&c->r, 7);
    checkpoint_config(c, generation);
    assert_int_equal(config_parse(&cfg, c->config, strlen(c->config), "tiny"), PALI_OK);
    vit v = {.cfg = cfg.vit, .layers = calloc(cfg.vit.n_layers, sizeof *v.layers)};
    gemma g = {.cfg = cfg.text, .layers = calloc(cfg.text.n_layers, sizeof *g.layers)};
    assert_true(v.layers && g.layers);
    assert_int_equal(spec_build(&s, &v, &g), PALI_OK);
    for (size_t i = 0; i < s.n; i++)
        if (!s.tensors[i].optional)
            checkpoint_add(c, s.tensors[i].name, strcmp(dtype, "mixed") ? dtype : k_turns[i % 3], s.tensors[i].n_dims,
                s.tensors[i].dims);
    spec_free(&s);
    free(v.layers);
    free(g.layers);
}

void checkpoint_path(char *out, size_t n, const checkpoint *c, const char *name) {
    (void)snprintf(out, n, "%s/%s", c->dir, name);
}

void checkpoint_write(const checkpoint *c, const char *name, const void *data, size_t n) {
    char path[128];
    checkpoint_path(path, sizeof path, c, name);
    assert_int_equal(file_write_atomic(path, data, n), PALI_OK);
}

static const char *const k_files[] = {
    "config.json", "model.safetensors",   "model.safetensors.index.json", "first part.safetensors",
    "zweiter.bin", "adapter_config.json", "adapter_model.safetensors", "preprocessor_config.json",     "weights.npz",
    "weights.gguf"};

void checkpoint_remove_files(const checkpoint *c) {
    char path[128];
    for (size_t i = 0; i < sizeof k_files / sizeof k_files[0]; i++) {
        checkpoint_path(path, sizeof path, c, k_files[i]);
        (void)unlink(path);
    }
}

void checkpoint_free(checkpoint *c) {
    checkpoint_remove_files(c);
    assert_int_equal(rmdir(c->dir), 0);
    for (size_t i = 0; i < c->n; i++) free(c->tensors[i].values);
}

static size_t element_bytes(const tensor *t) {
    return strcmp(t->dtype, "F32") == 0 || strcmp(t->dtype, "I32") == 0 ? 4 : strcmp(t->dtype, "U8") == 0 ? 1 : 2;
}

static void encode(uint8_t *out, const tensor *t) {
    for (size_t i = 0; i < t->n; i++) {
        uint16_t half = *t->dtype == 'B' ? half_to_bf16(t->values[i]) : half_to_f16(t->values[i]);
        if (element_bytes(t) == 4)
            memcpy(out + 4 * i, &t->values[i], 4);
        else if (element_bytes(t) == 2)
            memcpy(out + 2 * i, &half, 2);
        else
            out[i] = 0;
    }
}

static void name_in_file(char *out, size_t n, const tensor *t, layout_fn layout) {
    if (t->raw)
        (void)snprintf(out, n, "%s", t->name);
    else
        layout(out, n, t->name);
}

void checkpoint_write_shard(const checkpoint *c, const char *file, int shard, layout_fn layout) {
    uint8_t *bytes = calloc(1, MAX_FILE);
    char *header = (char *)bytes + 8, name[256];
    assert_non_null(bytes);
    size_t at = (size_t)snprintf(header, MAX_FILE - 8, "{\"__metadata__\":{\"format\":\"pt\"}"), data = 0;
    for (size_t i = 0; i < c->n; i++) {
        const tensor *t = &c->tensors[i];
        if (t->shard != shard) continue;
        size_t n_bytes = t->n * element_bytes(t);
        name_in_file(name, sizeof name, t, layout);
        at += (size_t)snprintf(header + at, MAX_FILE - 8 - at, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[", name, t->dtype);
        for (size_t d = 0; d < t->n_dims; d++)
            at += (size_t)snprintf(header + at, MAX_FILE - 8 - at, "%s%zu", d ? "," : "", t->dims[d]);
        at += (size_t)snprintf(header + at, MAX_FILE - 8 - at, "],\"data_offsets\":[%zu,%zu]}", data, data + n_bytes);
        data += n_bytes;
    }
    at += (size_t)snprintf(header + at, MAX_FILE - 8 - at, "}");
    if (at % 2 == 0) header[at++] = ' ';
    assert_true(8 + at + data <= MAX_FILE);
    for (size_t i = 0; i < 8; i++) bytes[i] = (uint8_t)(at >> 8 * i);
    uint8_t *to = bytes + 8 + at;
    for (size_t i = 0; i < c->n; i++) {
        if (c->tensors[i].shard != shard) continue;
        encode(to, &c->tensors[i]);
        to += c->tensors[i].n * element_bytes(&c->tensors[i]);
    }
    checkpoint_write(c, file, bytes, 8 + at + data);
    free(bytes);
}

void checkpoint_write_index(const checkpoint *c, layout_fn layout) {
    char *json = malloc(MAX_FILE), name[256];
    assert_non_null(json);
    size_t at = (size_t)snprintf(json, MAX_FILE, "{\"metadata\":{\"total_size\":1},\"weight_map\":{");
    for (size_t i = 0; i < c->n; i++) {
        name_in_file(name, sizeof name, &c->tensors[i], layout);
        at += (size_t)snprintf(json + at, MAX_FILE - at, "%s\"%s\":\"%s\"", i ? "," : "", name,
                               c->tensors[i].shard ? "zweiter.bin" : "first part.safetensors");
    }
    at += (size_t)snprintf(json + at, MAX_FILE - at, "}}");
    checkpoint_write(c, "model.safetensors.index.json", json, at);
    free(json);
}

void checkpoint_write_text(const checkpoint *c, const char *name, const char *text) {
    checkpoint_write(c, name, text, strlen(text));
}

void checkpoint_write_config(const checkpoint *c) {
    checkpoint_write_text(c, "config.json", c->config);
}

/* ---- Key layouts of spec 3.2 and 3.3, and wrappers seen in the wild ---- */

static void prefixed(char *out, size_t n, const char *canonical, const char *outer, const char *vision, const char *text,
                     const char *head) {
    const char *prefix = outer, *inner = "", *rest = canonical;
    if (strncmp(canonical, "vision_tower.", 13) == 0) {
        inner = vision;
        rest += 13;
    } else if (strncmp(canonical, "language_model.", 15) == 0) {
        inner = text;
        rest += 15;
    } else if (strcmp(canonical, "lm_head.weight") == 0) {
        inner = head;
        rest = "";
    } else {
        inner = strncmp(vision, "model.", 6) == 0 ? "model." : "";
    }
    (void)snprintf(out, n, "%s%s%s", prefix, inner, rest);
}

void layout_a(char *out, size_t n, const char *name) {
    prefixed(out, n, name, "", "vision_tower.vision_model.", "language_model.model.", "language_model.lm_head.weight");
}
void layout_b(char *out, size_t n, const char *name) {
    prefixed(out, n, name, "", "model.vision_tower.vision_model.", "model.language_model.", "lm_head.weight");
}
static void layout_b2(char *out, size_t n, const char *name) {
    prefixed(out, n, name, "", "model.vision_tower.", "model.language_model.", "lm_head.weight");
}
void layout_c(char *out, size_t n, const char *name) {
    prefixed(out, n, name, "", "vision_tower.", "language_model.model.", "lm_head.weight");
}
static void layout_robot_a(char *out, size_t n, const char *name) {
    prefixed(out, n, name, "paligemma_with_expert.paligemma.", "vision_tower.vision_model.", "language_model.model.",
             "language_model.lm_head.weight");
}
static void layout_robot_b(char *out, size_t n, const char *name) {
    prefixed(out, n, name, "model.paligemma_with_expert.paligemma.", "model.vision_tower.vision_model.",
             "model.language_model.", "lm_head.weight");
}
static void layout_peft(char *out, size_t n, const char *name) {
    prefixed(out, n, name, "base_model.model.", "model.vision_tower.", "model.language_model.", "lm_head.weight");
}

const layout_fn k_layouts[N_LAYOUTS] = {layout_a, layout_b, layout_b2, layout_c, layout_robot_a, layout_robot_b, layout_peft};

/* ---- Reading them back ---- */

pali_status checkpoint_load(model **m, const checkpoint *c, pali_dtype dtype) {
    model_options o = {.dtype = dtype, .n_threads = 2};
    return model_load(m, c->dir, &o);
}

model *checkpoint_loaded(const checkpoint *c, pali_dtype dtype) {
    model *m;
    if (checkpoint_load(&m, c, dtype) != PALI_OK) fail_msg("%s", status_message());
    return m;
}
