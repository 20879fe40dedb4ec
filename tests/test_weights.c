/* test_weights.c: whole checkpoints from disk. Tiny models are written here in every layout, dtype and sharding, at odd
 * byte offsets, and must come back bit for bit; broken ones must fail with a line that names the file and the tensor. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/halffloat.h"
#include "base/mem.h"
#include "base/rng.h"
#include "model/model.h"
#include "model/spec.h"
#include "io/safetensors.h"
#include "model/weights.h"

#define MAX_TENSORS 128
#define MAX_FILE (256u << 10)

/* ---- Writing checkpoints ---- */

typedef struct tensor {
    char name[SPEC_NAME_MAX]; /* canonical, or as in the file if `raw` */
    const char *dtype;        /* of the file */
    size_t n_dims, dims[4], n;
    float *values; /* what a reader must see: rounded to the dtype */
    int shard;
    bool raw;
} tensor;

typedef struct checkpoint {
    char dir[64];
    tensor tensors[MAX_TENSORS];
    size_t n;
    char config[1024];
    rng r;
} checkpoint;

typedef void (*layout_fn)(char *out, size_t n, const char *canonical);

static void tiny_config(checkpoint *c, int generation) {
    (void)snprintf(
        c->config, sizeof c->config,
        "{\"model_type\":\"paligemma\",\"image_token_index\":39,\"vision_config\":{\"hidden_size\":12,\"intermediate_"
        "size\":20,\"num_attention_heads\":2,"
        "\"num_hidden_layers\":2,\"patch_size\":2,\"image_size\":8},\"text_config\":{\"model_type\":\"%s\",\"hidden_size\":"
        "10,\"intermediate_size\":14,"
        "\"num_attention_heads\":4,\"num_key_value_heads\":2,\"head_dim\":6,\"num_hidden_layers\":2,\"vocab_size\":40}}",
        generation == 1 ? "gemma" : "gemma2");
}

static tensor *find(checkpoint *c, const char *name) {
    for (size_t i = 0; i < c->n; i++)
        if (strcmp(c->tensors[i].name, name) == 0) return &c->tensors[i];
    fail_msg("no tensor %s", name);
    return NULL;
}

static tensor *add(checkpoint *c, const char *name, const char *dtype, size_t n_dims, const size_t *dims) {
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

static void drop(checkpoint *c, const char *name) {
    tensor *t = find(c, name);
    free(t->values);
    *t = c->tensors[--c->n];
}

static void reshape(checkpoint *c, const char *name, size_t n_dims, size_t d0, size_t d1) {
    size_t dims[2] = {d0, d1};
    const char *dtype = find(c, name)->dtype;
    drop(c, name);
    (void)add(c, name, dtype, n_dims, dims);
}

/* All tensors of the tiny model. dtype "mixed" takes turns. */
static void checkpoint_new(checkpoint *c, int generation, const char *dtype) {
    static const char *const k_turns[] = {"F32", "BF16", "F16"};
    config cfg;
    spec s;
    *c = (checkpoint){.dir = "/tmp/test_weights_XXXXXX"};
    assert_non_null(mkdtemp(c->dir));
    rng_seed(&c->r, 7);
    tiny_config(c, generation);
    assert_int_equal(config_parse(&cfg, c->config, strlen(c->config), "tiny"), PALI_OK);
    vit v = {.cfg = cfg.vit, .layers = calloc(cfg.vit.n_layers, sizeof *v.layers)};
    gemma g = {.cfg = cfg.text, .layers = calloc(cfg.text.n_layers, sizeof *g.layers)};
    assert_true(v.layers && g.layers);
    assert_int_equal(spec_build(&s, &v, &g), PALI_OK);
    for (size_t i = 0; i < s.n; i++)
        if (!s.tensors[i].optional)
            add(c, s.tensors[i].name, strcmp(dtype, "mixed") ? dtype : k_turns[i % 3], s.tensors[i].n_dims,
                s.tensors[i].dims);
    spec_free(&s);
    free(v.layers);
    free(g.layers);
}

static void path_in(char *out, size_t n, const checkpoint *c, const char *name) {
    (void)snprintf(out, n, "%s/%s", c->dir, name);
}

static void write_file(const checkpoint *c, const char *name, const void *data, size_t n) {
    char path[128];
    path_in(path, sizeof path, c, name);
    assert_int_equal(file_write_atomic(path, data, n), PALI_OK);
}

static const char *const k_files[] = {
    "config.json", "model.safetensors",   "model.safetensors.index.json", "first part.safetensors",
    "zweiter.bin", "adapter_config.json", "preprocessor_config.json",     "weights.npz",
    "weights.gguf"};

static void remove_files(const checkpoint *c) {
    char path[128];
    for (size_t i = 0; i < sizeof k_files / sizeof k_files[0]; i++) {
        path_in(path, sizeof path, c, k_files[i]);
        (void)unlink(path);
    }
}

static void checkpoint_free(checkpoint *c) {
    remove_files(c);
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

/* Writes the tensors of one shard; the header's length is odd, so that nothing is aligned. */
static void shard_write(const checkpoint *c, const char *file, int shard, layout_fn layout) {
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
    write_file(c, file, bytes, 8 + at + data);
    free(bytes);
}

static void index_write(const checkpoint *c, layout_fn layout) {
    char *json = malloc(MAX_FILE), name[256];
    assert_non_null(json);
    size_t at = (size_t)snprintf(json, MAX_FILE, "{\"metadata\":{\"total_size\":1},\"weight_map\":{");
    for (size_t i = 0; i < c->n; i++) {
        name_in_file(name, sizeof name, &c->tensors[i], layout);
        at += (size_t)snprintf(json + at, MAX_FILE - at, "%s\"%s\":\"%s\"", i ? "," : "", name,
                               c->tensors[i].shard ? "zweiter.bin" : "first part.safetensors");
    }
    at += (size_t)snprintf(json + at, MAX_FILE - at, "}}");
    write_file(c, "model.safetensors.index.json", json, at);
    free(json);
}

static void write_text(const checkpoint *c, const char *name, const char *text) {
    write_file(c, name, text, strlen(text));
}

static void config_write(const checkpoint *c) {
    write_text(c, "config.json", c->config);
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

static void layout_a(char *out, size_t n, const char *name) {
    prefixed(out, n, name, "", "vision_tower.vision_model.", "language_model.model.", "language_model.lm_head.weight");
}
static void layout_b(char *out, size_t n, const char *name) {
    prefixed(out, n, name, "", "model.vision_tower.vision_model.", "model.language_model.", "lm_head.weight");
}
static void layout_b2(char *out, size_t n, const char *name) {
    prefixed(out, n, name, "", "model.vision_tower.", "model.language_model.", "lm_head.weight");
}
static void layout_c(char *out, size_t n, const char *name) {
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

static const layout_fn k_layouts[] = {layout_a, layout_b, layout_b2, layout_c, layout_robot_a, layout_robot_b, layout_peft};

/* ---- Reading them back ---- */

static pali_status load(model **m, const checkpoint *c, pali_dtype dtype) {
    model_options o = {.dtype = dtype, .n_threads = 2};
    return model_load(m, c->dir, &o);
}

static model *loaded(const checkpoint *c, pali_dtype dtype) {
    model *m;
    if (load(&m, c, dtype) != PALI_OK) fail_msg("%s", status_message());
    return m;
}

static float element(const void *data, pali_dtype dtype, size_t i) {
    float x;
    uint16_t half;
    if (dtype == PALI_DTYPE_F32) {
        memcpy(&x, (const char *)data + 4 * i, 4);
        return x;
    }
    memcpy(&half, (const char *)data + 2 * i, 2);
    return dtype == PALI_DTYPE_BF16 ? half_from_bf16(half) : half_from_f16(half);
}

static float rounded(float x, pali_dtype dtype) {
    return dtype == PALI_DTYPE_BF16  ? half_from_bf16(half_to_bf16(x))
           : dtype == PALI_DTYPE_F16 ? half_from_f16(half_to_f16(x))
                                     : x;
}

static pali_dtype stored_dtype(const tensor *t) {
    return *t->dtype == 'B' ? PALI_DTYPE_BF16 : strcmp(t->dtype, "F16") == 0 ? PALI_DTYPE_F16 : PALI_DTYPE_F32;
}

static bool is_mapped(const model *m, const void *data) {
    for (size_t i = 0; i < m->weights->n_files; i++) {
        const file_map *map = &((const safetensors *)m->weights->files[i].handle)->map;
        if ((const uint8_t *)data >= map->data && (const uint8_t *)data < map->data + map->n_bytes) return true;
    }
    return false;
}

/* Every tensor of the model holds what the checkpoint holds, converted to dtype where it is a matrix. */
static void assert_weights(model *m, checkpoint *c, pali_dtype dtype) {
    spec s;
    assert_int_equal(spec_build(&s, &m->vit, &m->text), PALI_OK);
    for (size_t i = 0; i < s.n; i++) {
        const spec_tensor *t = &s.tensors[i];
        if (t->optional && m->cfg.tied) continue;
        const tensor *want = find(c, t->name);
        pali_dtype has = t->matrix ? dtype == PALI_DTYPE_AUTO ? stored_dtype(want) : dtype : PALI_DTYPE_F32;
        const void *data = t->matrix ? t->matrix->data : *t->vector;
        if (t->matrix) {
            assert_int_equal(t->matrix->dtype, has);
            assert_int_equal(t->matrix->rows * t->matrix->cols, want->n);
            assert_int_equal(is_mapped(m, data), has == stored_dtype(want)); /* zero copy unless converted */
        }
        for (size_t j = 0; j < want->n; j++)
            if (element(data, has, j) != rounded(want->values[j], has))
                fail_msg("%s[%zu]: %g, expected %g", t->name, j, (double)element(data, has, j),
                         (double)rounded(want->values[j], has));
    }
    spec_free(&s);
}

static void reads_every_layout(void **state) {
    (void)state;
    for (int generation = 1; generation <= 2; generation++) {
        checkpoint c;
        checkpoint_new(&c, generation, "BF16");
        config_write(&c);
        for (size_t i = 0; i < sizeof k_layouts / sizeof k_layouts[0]; i++) {
            shard_write(&c, "model.safetensors", 0, k_layouts[i]);
            model *m = loaded(&c, PALI_DTYPE_AUTO);
            assert_int_equal(m->text.cfg.generation, generation);
            assert_weights(m, &c, PALI_DTYPE_AUTO);
            assert_int_equal(m->n_tensors, c.n);
            assert_int_equal(m->n_extras, 0);
            assert_true(m->cfg.tied && !m->text.head.data);
            assert_true(strncmp(m->path, c.dir, strlen(c.dir)) == 0);
            model_free(m);
        }
        checkpoint_free(&c);
    }
}

static void reads_and_converts_every_dtype(void **state) {
    (void)state;
    static const char *const k_stored[] = {"F32", "BF16", "F16", "mixed"};
    for (size_t i = 0; i < 4; i++) {
        checkpoint c;
        checkpoint_new(&c, 2, k_stored[i]);
        config_write(&c);
        shard_write(&c, "model.safetensors", 0, layout_a);
        for (int dtype = PALI_DTYPE_AUTO; dtype <= PALI_DTYPE_F16; dtype++) {
            model *m = loaded(&c, (pali_dtype)dtype);
            assert_weights(m, &c, (pali_dtype)dtype);
            uint64_t bytes = 0;
            for (size_t j = 0; j < m->n_tensors; j++) {
                uint64_t n = 1;
                for (size_t d = 0; d < m->tensors[j].n_dims; d++) n *= m->tensors[j].dims[d];
                /* Vectors are listed as stored and held in f32. */
                bool vector = m->tensors[j].n_dims == 1 || strstr(m->tensors[j].name, "position_embedding");
                bytes += dtype_bytes(vector ? PALI_DTYPE_F32 : m->tensors[j].dtype, n);
                if (i == 1 && (vector || dtype == PALI_DTYPE_AUTO)) assert_int_equal(m->tensors[j].dtype, PALI_DTYPE_BF16);
                assert_non_null(strstr(m->tensors[j].file, "/model.safetensors"));
            }
            assert_int_equal(m->weight_bytes, bytes);
            model_free(m);
        }
        checkpoint_free(&c);
    }
}

/* Any names for the shards; without an index they are not looked for, and a single file goes first. */
static void reads_shards(void **state) {
    (void)state;
    checkpoint c;
    model *m;
    checkpoint_new(&c, 1, "mixed");
    config_write(&c);
    for (size_t i = 0; i < c.n; i++) c.tensors[i].shard = i % 3 == 0;
    shard_write(&c, "first part.safetensors", 0, layout_a);
    shard_write(&c, "zweiter.bin", 1, layout_a);
    assert_int_equal(load(&m, &c, PALI_DTYPE_AUTO), PALI_ERR_IO);
    assert_null(m);
    index_write(&c, layout_a);
    m = loaded(&c, PALI_DTYPE_AUTO);
    assert_weights(m, &c, PALI_DTYPE_AUTO);
    model_free(m);
    for (size_t i = 0; i < c.n; i++) c.tensors[i].shard = 0;
    find(&c, "language_model.norm.weight")->values[0] = 42;
    shard_write(&c, "model.safetensors", 0, layout_b);
    m = loaded(&c, PALI_DTYPE_AUTO);
    assert_true(m->text.norm_final[0] == 42);
    model_free(m);
    checkpoint_free(&c);
}

/* The reference unties when the files hold another head, whatever the config says. */
static void uses_a_head_of_its_own(void **state) {
    (void)state;
    checkpoint c;
    checkpoint_new(&c, 1, "BF16");
    config_write(&c);
    const tensor *embed = find(&c, "language_model.embed_tokens.weight");
    tensor *head = add(&c, "lm_head.weight", "BF16", 2, embed->dims);
    shard_write(&c, "model.safetensors", 0, layout_a);
    model *m = loaded(&c, PALI_DTYPE_AUTO);
    assert_false(m->cfg.tied);
    assert_weights(m, &c, PALI_DTYPE_AUTO);
    uint64_t n = config_n_parameters(&m->cfg);
    model_free(m);
    m = loaded(&c, PALI_DTYPE_F32);
    assert_weights(m, &c, PALI_DTYPE_F32);
    model_free(m);
    memcpy(head->values, find(&c, "language_model.embed_tokens.weight")->values, head->n * sizeof *head->values);
    shard_write(&c, "model.safetensors", 0, layout_a);
    m = loaded(&c, PALI_DTYPE_AUTO);
    assert_true(m->cfg.tied && !m->text.head.data);
    assert_int_equal(config_n_parameters(&m->cfg), n - head->n);
    model_free(m);
    checkpoint_free(&c);
}

/* Rows of the tables and of q and k say more than the config (spec 1.4). */
static void believes_tensors_over_config(void **state) {
    (void)state;
    checkpoint c;
    checkpoint_new(&c, 1, "F32");
    config_write(&c);
    reshape(&c, "language_model.embed_tokens.weight", 2, 51, 10);
    reshape(&c, "vision_tower.embeddings.position_embedding.weight", 2, 36, 12);
    for (size_t i = 0; i < 2; i++) { /* head dim 8 and one kv head instead of 6 and two */
        char name[SPEC_NAME_MAX];
        static const struct {
            const char *rest;
            size_t rows, cols;
        } k_new[] = {{"q_proj", 32, 10}, {"k_proj", 8, 10}, {"v_proj", 8, 10}, {"o_proj", 10, 32}};
        for (size_t j = 0; j < 4; j++) {
            (void)snprintf(name, sizeof name, "language_model.layers.%zu.self_attn.%s.weight", i, k_new[j].rest);
            reshape(&c, name, 2, k_new[j].rows, k_new[j].cols);
        }
    }
    shard_write(&c, "model.safetensors", 0, layout_a);
    model *m = loaded(&c, PALI_DTYPE_AUTO);
    assert_int_equal(m->cfg.text.vocab_size, 51);
    assert_int_equal(m->text.cfg.vocab_size, 51);
    assert_int_equal(m->cfg.vit.n_patches, 36);
    assert_int_equal(m->cfg.vit.image_size, 12);
    assert_int_equal(m->cfg.text.head_dim, 8);
    assert_int_equal(m->cfg.text.n_kv_heads, 1);
    assert_true(m->cfg.text.attn_scale == 1.0f / sqrtf(8));
    assert_weights(m, &c, PALI_DTYPE_AUTO);
    model_free(m);
    checkpoint_free(&c);
}

static void applies_options_and_preprocessor(void **state) {
    (void)state;
    checkpoint c;
    model *m;
    checkpoint_new(&c, 2, "F32");
    config_write(&c);
    shard_write(&c, "model.safetensors", 0, layout_c);
    write_text(&c, "preprocessor_config.json", "{\"resample\":2,\"size\":{\"height\":8,\"width\":8}}");
    model_options o = {.no_sliding_window = true, .no_final_softcap = true, .n_threads = 1};
    assert_int_equal(model_load(&m, c.dir, &o), PALI_OK);
    assert_int_equal(m->cfg.resample, 2);
    assert_int_equal(m->text.cfg.sliding_window, 0);
    assert_true(m->text.cfg.final_softcap == 0 && m->text.cfg.attn_softcap == 50);
    model_free(m);
    checkpoint_free(&c);
}

/* Whatever else the files hold does not matter, but is known; computed tables are not worth a word. */
static void lists_extras(void **state) {
    (void)state;
    static const size_t k_dims[] = {3, 2};
    checkpoint c;
    checkpoint_new(&c, 1, "F32");
    config_write(&c);
    add(&c, "language_model.model.layers.0.self_attn.rotary_emb.inv_freq", "F32", 1, k_dims)->raw = true;
    add(&c, "vision_tower.vision_model.embeddings.position_ids", "I32", 2, k_dims)->raw = true;
    add(&c, "vision_tower.vision_model.head.probe", "U8", 2, k_dims)->raw = true;
    shard_write(&c, "model.safetensors", 0, layout_a);
    model *m = loaded(&c, PALI_DTYPE_AUTO);
    assert_int_equal(m->n_extras, 1);
    assert_string_equal(m->extras[0], "vision_tower.vision_model.head.probe");
    assert_int_equal(m->n_tensors, c.n - 3);
    model_free(m);
    checkpoint_free(&c);
}

/* ---- What is wrong with a checkpoint ---- */

static void break_missing(checkpoint *c) {
    drop(c, "language_model.layers.1.mlp.up_proj.weight");
    shard_write(c, "model.safetensors", 0, layout_a);
}
static void break_missing_norm(checkpoint *c) {
    drop(c, "language_model.norm.weight");
    shard_write(c, "model.safetensors", 0, layout_a);
}
static void break_shape(checkpoint *c) {
    reshape(c, "language_model.layers.0.mlp.down_proj.weight", 2, 10, 15);
    shard_write(c, "model.safetensors", 0, layout_a);
}
static void break_transposed(checkpoint *c) {
    reshape(c, "multi_modal_projector.linear.weight", 2, 12, 10);
    shard_write(c, "model.safetensors", 0, layout_b);
}
static void break_rank(checkpoint *c) {
    reshape(c, "vision_tower.post_layernorm.bias", 2, 12, 1);
    shard_write(c, "model.safetensors", 0, layout_a);
}
static void break_grid(checkpoint *c) {
    reshape(c, "vision_tower.embeddings.position_embedding.weight", 2, 17, 12);
    shard_write(c, "model.safetensors", 0, layout_a);
}
static void break_kv_rows(checkpoint *c) {
    reshape(c, "language_model.layers.0.self_attn.k_proj.weight", 2, 7, 10);
    shard_write(c, "model.safetensors", 0, layout_a);
}
static void break_dtype(checkpoint *c) {
    static const size_t k_packed[] = {60, 1};
    drop(c, "language_model.layers.0.self_attn.q_proj.weight");
    add(c, "language_model.layers.0.self_attn.q_proj.weight", "U8", 2, k_packed);
    shard_write(c, "model.safetensors", 0, layout_a);
}
static void break_duplicate(checkpoint *c) {
    static const size_t k_dims[] = {10};
    tensor *twin = add(c, "language_model.model.norm.weight", "F32", 1, k_dims);
    twin->raw = true;
    twin->shard = 1;
    shard_write(c, "first part.safetensors", 0, layout_b);
    shard_write(c, "zweiter.bin", 1, layout_b);
    index_write(c, layout_b);
}
static void break_truncated(checkpoint *c) {
    char path[128], *bytes;
    size_t n;
    shard_write(c, "model.safetensors", 0, layout_a);
    path_in(path, sizeof path, c, "model.safetensors");
    assert_int_equal(file_read(&bytes, &n, path, MAX_FILE), PALI_OK);
    write_file(c, "model.safetensors", bytes, n - 1);
    mem_free(bytes);
}
static void break_header(checkpoint *c) {
    write_file(c, "model.safetensors", "\xff\xff\xff\xff\xff\xff\xff\x7f{}", 10);
}
static void break_empty(checkpoint *c) {
    write_file(c, "model.safetensors", "", 0);
}
static void break_outside(checkpoint *c) {
    static const char json[] = "{\"weight_map\":{\"language_model.model.norm.weight\":\"../../etc/passwd\"}}";
    write_text(c, "model.safetensors.index.json", json);
}
static void break_absent_shard(checkpoint *c) {
    shard_write(c, "first part.safetensors", 0, layout_a);
    c->tensors[0].shard = 1;
    index_write(c, layout_a);
}
static void break_no_weights(checkpoint *c) {
    (void)c;
}
static void break_config(checkpoint *c) {
    shard_write(c, "model.safetensors", 0, layout_a);
    write_text(c, "config.json", "{\"vision_config\":");
}
static void break_quantized(checkpoint *c) {
    static const char json[] =
        "{\"quantization_config\":{\"quant_method\":\"gptq\"},\"vision_config\":{},\"text_config\":{}}";
    write_text(c, "config.json", json);
}
static void break_adapter(checkpoint *c) {
    remove_files(c);
    write_text(c, "adapter_config.json", "{}");
}
static void break_no_config(checkpoint *c) {
    remove_files(c);
}
static void break_picture_size(checkpoint *c) {
    shard_write(c, "model.safetensors", 0, layout_a);
    write_text(c, "preprocessor_config.json", "{\"size\":{\"height\":448,\"width\":448}}");
}

static void names_what_is_wrong(void **state) {
    (void)state;
    static const struct {
        void (*break_it)(checkpoint *c);
        pali_status status;
        const char *file, *message;
    } k_cases[] = {
        {break_missing, PALI_ERR_FORMAT, "",
         ": language_model.layers.1.mlp.up_proj.weight: tensor missing: expected one of shape [14, 10]"},
        {break_missing_norm, PALI_ERR_FORMAT, "",
         ": language_model.norm.weight: tensor missing: expected one of shape [10]"},
        {break_shape, PALI_ERR_FORMAT, "/model.safetensors",
         ": language_model.model.layers.0.mlp.down_proj.weight: shape [10, 15], expected [10, 14]"},
        {break_transposed, PALI_ERR_FORMAT, "/model.safetensors",
         ": model.multi_modal_projector.linear.weight: shape [12, 10], expected [10, 12]"},
        {break_rank, PALI_ERR_FORMAT, "/model.safetensors", "post_layernorm.bias: shape [12, 1], expected [12]"},
        {break_grid, PALI_ERR_FORMAT, "/model.safetensors", "position_embedding.weight: 17 rows are not a square grid"},
        {break_kv_rows, PALI_ERR_FORMAT, "/model.safetensors",
         "layers.0.self_attn.k_proj.weight: shape [7, 10], expected [12, 10]"},
        {break_dtype, PALI_ERR_UNSUPPORTED, "/model.safetensors",
         "layers.0.self_attn.q_proj.weight: dtype U8 is not supported yet"},
        {break_duplicate, PALI_ERR_FORMAT, "/", "language_model.norm.weight: the same tensor is also in"},
        {break_truncated, PALI_ERR_FORMAT, "/model.safetensors", "(truncated?)"},
        {break_header, PALI_ERR_FORMAT, "/model.safetensors", ": header: 9223372036854775807 bytes, but the file has 10"},
        {break_empty, PALI_ERR_FORMAT, "/model.safetensors", ": 0 bytes are too few"},
        {break_outside, PALI_ERR_FORMAT, "/model.safetensors.index.json",
         "language_model.model.norm.weight: '../../etc/passwd' is not the name of a file in the same directory"},
        {break_absent_shard, PALI_ERR_IO, "/zweiter.bin", "cannot open"},
        {break_no_weights, PALI_ERR_IO, "", ": found neither model.safetensors nor"},
        {break_config, PALI_ERR_FORMAT, "/config.json", ": line 1"},
        {break_quantized, PALI_ERR_UNSUPPORTED, "/config.json",
         ": quantization_config: quant_method 'gptq' is not supported, only bitsandbytes"},
        {break_adapter, PALI_ERR_UNSUPPORTED, "", ": a LoRA adapter, not a model"},
        {break_no_config, PALI_ERR_IO, "/config.json", "cannot open"},
        {break_picture_size, PALI_ERR_FORMAT, "/preprocessor_config.json", ": size: 448 x 448, but the model takes 8 x 8"},
    };
    for (size_t i = 0; i < sizeof k_cases / sizeof k_cases[0]; i++) {
        checkpoint c;
        model *m;
        char where[128];
        checkpoint_new(&c, 1, "F32");
        config_write(&c);
        k_cases[i].break_it(&c);
        pali_status status = load(&m, &c, PALI_DTYPE_AUTO);
        path_in(where, sizeof where, &c, k_cases[i].file + (k_cases[i].file[0] == '/'));
        if (!k_cases[i].file[0]) where[strlen(where) - 1] = 0;
        if (status != k_cases[i].status || strncmp(status_message(), where, strlen(where)) != 0 ||
            !strstr(status_message(), k_cases[i].message))
            fail_msg("case %zu: status %d, '%s' lacks '%s' or '%s'", i, status, status_message(), where,
                     k_cases[i].message);
        assert_null(m);
        checkpoint_free(&c);
    }
}

static void refuses_other_files(void **state) {
    (void)state;
    static const char *const k_names[] = {"weights.npz", "weights.gguf"};
    checkpoint c;
    model *m;
    model_options o = {.n_threads = 1};
    checkpoint_new(&c, 1, "F32");
    for (size_t i = 0; i < 2; i++) {
        char path[128];
        path_in(path, sizeof path, &c, k_names[i]);
        assert_int_equal(model_load(&m, path, &o), PALI_ERR_IO);
        write_file(&c, k_names[i], "x", 1);
        assert_int_equal(model_load(&m, path, &o), PALI_ERR_FORMAT);
        assert_non_null(strstr(status_message(), k_names[i]));
        assert_non_null(strstr(status_message(), i == 0 ? "too few for an npz file" : "not a GGUF file"));
    }
    checkpoint_free(&c);
}

/* ---- Cancelling, lack of memory, random weights ---- */

typedef struct watch {
    int calls, stop_at;
    uint64_t last, total;
} watch;

static int watch_progress(void *user, const char *what, uint64_t done, uint64_t total) {
    watch *w = user;
    assert_non_null(what);
    assert_true(done <= total);
    w->last = done;
    w->total = total;
    return ++w->calls == w->stop_at;
}

static void reports_progress_and_stops(void **state) {
    (void)state;
    checkpoint c;
    model *m;
    checkpoint_new(&c, 1, "BF16");
    config_write(&c);
    shard_write(&c, "model.safetensors", 0, layout_a);
    for (int dtype = PALI_DTYPE_AUTO; dtype <= PALI_DTYPE_F32; dtype++) {
        watch w = {0};
        model_options o = {.dtype = (pali_dtype)dtype, .n_threads = 1, .progress = watch_progress, .user = &w};
        assert_int_equal(model_load(&m, c.dir, &o), PALI_OK);
        assert_true(w.calls > 0 && w.last == w.total);
        model_free(m);
        w = (watch){.stop_at = 1};
        assert_int_equal(model_load(&m, c.dir, &o), PALI_ERR_CANCELLED);
        assert_null(m);
    }
    checkpoint_free(&c);
}

static void survives_lack_of_memory(void **state) {
    (void)state;
    checkpoint c;
    model *m = NULL;
    checkpoint_new(&c, 2, "BF16");
    config_write(&c);
    shard_write(&c, "model.safetensors", 0, layout_a);
    model_options o = {.dtype = PALI_DTYPE_F32, .n_threads = 1};
    size_t k = 1;
    for (;; k++) {
        mem_fail_after(k);
        pali_status status = model_load(&m, c.dir, &o);
        mem_fail_after(0);
        if (status == PALI_OK) break;
        if (status != PALI_ERR_MEMORY) fail_msg("allocation %zu: status %d, %s", k, status, status_message());
        assert_null(m);
    }
    assert_true(k > 100); /* one per tensor at least */
    assert_weights(m, &c, PALI_DTYPE_F32);
    model_free(m);
    checkpoint_free(&c);
}

/* The tiny model with random weights; the caller frees the layers. */
static weights *random_tiny(vit *v, gemma *g, spec *s, uint64_t seed, pali_dtype dtype, int n_threads) {
    checkpoint c;
    config cfg;
    exec e;
    weights *w;
    tiny_config(&c, 2);
    assert_int_equal(config_parse(&cfg, c.config, strlen(c.config), "tiny"), PALI_OK);
    cfg.text.vocab_size = 250000; /* enough for several tasks */
    *v = (vit){.cfg = cfg.vit, .layers = calloc(cfg.vit.n_layers, sizeof *v->layers)};
    *g = (gemma){.cfg = cfg.text, .layers = calloc(cfg.text.n_layers, sizeof *g->layers)};
    assert_true(v->layers && g->layers);
    assert_int_equal(spec_build(s, v, g), PALI_OK);
    assert_int_equal(exec_init(&e, n_threads), PALI_OK);
    assert_int_equal(weights_random(&w, s, (spec_dtypes){.all = dtype}, seed, &e, NULL, NULL), PALI_OK);
    exec_free(&e);
    return w;
}

static void makes_random_weights(void **state) {
    (void)state;
    enum { N = 4 };
    static const struct {
        uint64_t seed;
        pali_dtype dtype;
        int n_threads;
    } k_runs[N] = {{3, PALI_DTYPE_BF16, 1}, {3, PALI_DTYPE_BF16, 2}, {4, PALI_DTYPE_BF16, 2}, {3, PALI_DTYPE_F32, 2}};
    vit v[N];
    gemma g[N];
    spec s[N];
    weights *w[N];
    for (size_t i = 0; i < N; i++)
        w[i] = random_tiny(&v[i], &g[i], &s[i], k_runs[i].seed, k_runs[i].dtype, k_runs[i].n_threads);
    size_t n = g[0].embed.rows * g[0].embed.cols;
    assert_memory_equal(g[0].embed.data, g[1].embed.data, n * 2); /* threads change nothing */
    assert_memory_not_equal(g[0].embed.data, g[2].embed.data, n * 2);
    assert_int_equal(g[3].embed.dtype, PALI_DTYPE_F32);
    double sum = 0, squares = 0;
    for (size_t i = 0; i < n; i++) {
        double x = (double)element(g[3].embed.data, PALI_DTYPE_F32, i);
        sum += x;
        squares += x * x;
        assert_true(element(g[0].embed.data, PALI_DTYPE_BF16, i) == rounded((float)x, PALI_DTYPE_BF16));
    }
    /* 2.5 million draws: the mean's standard error is 1.3e-5, the deviation's about 6e-6. */
    assert_true(fabs(sum / (double)n) < 1e-4);
    assert_true(fabs(sqrt(squares / (double)n) - 0.02) < 1e-4);
    assert_true(v[0].layers[1].norm2_w[5] == 1 && v[0].layers[1].norm2_b[5] == 0 && v[0].post_w[0] == 1);
    assert_true(g[0].layers[1].norm_mlp_out[3] == 0 && g[0].norm_final[0] == 0); /* stored without the +1 */
    assert_null(g[0].head.data);
    for (size_t i = 0; i < N; i++) {
        weights_free(w[i]);
        spec_free(&s[i]);
        free(v[i].layers);
        free(g[i].layers);
    }
    model *m;
    model_options o = {.n_threads = 1};
    assert_int_equal(model_random(&m, "3b-100", 0, &o), PALI_ERR_ARGUMENT);
    assert_null(m);
}

/* The table holds exactly the real models (spec 3.2): number of tensors, of parameters, and some of the names. */
static void lists_the_real_models(void **state) {
    (void)state;
    static const struct {
        const char *shape;
        size_t n;
    } k_models[] = {{"3b-224", 603}, {"pg2-3b-448", 727}, {"pg2-10b-896", 903}, {"pg2-28b-224", 947}};
    static const char *const k_names[] = {
        "vision_tower.embeddings.patch_embedding.weight",
        "vision_tower.embeddings.position_embedding.weight",
        "vision_tower.encoder.layers.26.self_attn.out_proj.bias",
        "vision_tower.encoder.layers.0.layer_norm1.weight",
        "vision_tower.encoder.layers.13.mlp.fc2.weight",
        "vision_tower.post_layernorm.bias",
        "multi_modal_projector.linear.bias",
        "language_model.embed_tokens.weight",
        "language_model.layers.17.self_attn.o_proj.weight",
        "language_model.layers.3.mlp.gate_proj.weight",
        "language_model.layers.17.post_attention_layernorm.weight",
        "language_model.norm.weight",
    };
    for (size_t i = 0; i < 4; i++) {
        config cfg;
        spec s;
        uint64_t n_parameters = 0;
        size_t n_needed = 0, n_found = 0;
        assert_int_equal(config_named(&cfg, k_models[i].shape), PALI_OK);
        vit v = {.cfg = cfg.vit, .layers = calloc(cfg.vit.n_layers, sizeof *v.layers)};
        gemma g = {.cfg = cfg.text, .layers = calloc(cfg.text.n_layers, sizeof *g.layers)};
        assert_true(v.layers && g.layers);
        assert_int_equal(spec_build(&s, &v, &g), PALI_OK);
        for (size_t j = 0; j < s.n; j++) {
            const spec_tensor *t = &s.tensors[j];
            uint64_t n = 1;
            assert_true(!t->matrix != !t->vector);
            for (size_t d = 0; d < t->n_dims; d++) n *= t->dims[d];
            if (!t->optional) n_parameters += n;
            n_needed += !t->optional;
            for (size_t k = 0; k < sizeof k_names / sizeof k_names[0]; k++) n_found += strcmp(t->name, k_names[k]) == 0;
        }
        assert_int_equal(n_needed, k_models[i].n);
        assert_int_equal(n_parameters, config_n_parameters(&cfg));
        assert_int_equal(n_found, sizeof k_names / sizeof k_names[0]);
        spec_free(&s);
        free(v.layers);
        free(g.layers);
    }
    char name[SPEC_NAME_MAX];
    assert_false(spec_canonical_name(name, 8, "language_model.model.norm.weight"));
    assert_true(spec_canonical_name(name, sizeof name, "language_model.lm_head.weight"));
    assert_string_equal(name, "lm_head.weight");
    assert_true(
        spec_canonical_name(name, sizeof name, "paligemma_with_expert.gemma_expert.model.layers.0.mlp.up_proj.weight"));
    assert_string_equal(name, "gemma_expert.model.layers.0.mlp.up_proj.weight"); /* another model's, not ours */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_every_layout),
        cmocka_unit_test(reads_and_converts_every_dtype),
        cmocka_unit_test(reads_shards),
        cmocka_unit_test(uses_a_head_of_its_own),
        cmocka_unit_test(believes_tensors_over_config),
        cmocka_unit_test(applies_options_and_preprocessor),
        cmocka_unit_test(lists_extras),
        cmocka_unit_test(names_what_is_wrong),
        cmocka_unit_test(refuses_other_files),
        cmocka_unit_test(reports_progress_and_stops),
        cmocka_unit_test(survives_lack_of_memory),
        cmocka_unit_test(makes_random_weights),
        cmocka_unit_test(lists_the_real_models),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
