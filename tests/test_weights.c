/* test_weights.c: whole checkpoints from disk. Tiny models are written here in every layout, dtype and sharding, at odd
 * byte offsets, and must come back bit for bit. */
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
#include "checkpoint.h"
#include "io/safetensors.h"

/* ---- Reading them back ---- */

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
        const tensor *want = checkpoint_find(c, t->name);
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
        checkpoint_write_config(&c);
        for (size_t i = 0; i < N_LAYOUTS; i++) {
            checkpoint_write_shard(&c, "model.safetensors", 0, k_layouts[i]);
            model *m = checkpoint_loaded(&c, PALI_DTYPE_AUTO);
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
        checkpoint_write_config(&c);
        checkpoint_write_shard(&c, "model.safetensors", 0, layout_a);
        for (int dtype = PALI_DTYPE_AUTO; dtype <= PALI_DTYPE_F16; dtype++) {
            model *m = checkpoint_loaded(&c, (pali_dtype)dtype);
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
    checkpoint_write_config(&c);
    for (size_t i = 0; i < c.n; i++) c.tensors[i].shard = i % 3 == 0;
    checkpoint_write_shard(&c, "first part.safetensors", 0, layout_a);
    checkpoint_write_shard(&c, "zweiter.bin", 1, layout_a);
    assert_int_equal(checkpoint_load(&m, &c, PALI_DTYPE_AUTO), PALI_ERR_IO);
    assert_null(m);
    checkpoint_write_index(&c, layout_a);
    m = checkpoint_loaded(&c, PALI_DTYPE_AUTO);
    assert_weights(m, &c, PALI_DTYPE_AUTO);
    model_free(m);
    for (size_t i = 0; i < c.n; i++) c.tensors[i].shard = 0;
    checkpoint_find(&c, "language_model.norm.weight")->values[0] = 42;
    checkpoint_write_shard(&c, "model.safetensors", 0, layout_b);
    m = checkpoint_loaded(&c, PALI_DTYPE_AUTO);
    assert_true(m->text.norm_final[0] == 42);
    model_free(m);
    checkpoint_free(&c);
}

/* The reference unties when the files hold another head, whatever the config says. */
static void uses_a_head_of_its_own(void **state) {
    (void)state;
    checkpoint c;
    checkpoint_new(&c, 1, "BF16");
    checkpoint_write_config(&c);
    const tensor *embed = checkpoint_find(&c, "language_model.embed_tokens.weight");
    tensor *head = checkpoint_add(&c, "lm_head.weight", "BF16", 2, embed->dims);
    checkpoint_write_shard(&c, "model.safetensors", 0, layout_a);
    model *m = checkpoint_loaded(&c, PALI_DTYPE_AUTO);
    assert_false(m->cfg.tied);
    assert_weights(m, &c, PALI_DTYPE_AUTO);
    uint64_t n = config_n_parameters(&m->cfg);
    model_free(m);
    m = checkpoint_loaded(&c, PALI_DTYPE_F32);
    assert_weights(m, &c, PALI_DTYPE_F32);
    model_free(m);
    memcpy(head->values, checkpoint_find(&c, "language_model.embed_tokens.weight")->values, head->n * sizeof *head->values);
    checkpoint_write_shard(&c, "model.safetensors", 0, layout_a);
    m = checkpoint_loaded(&c, PALI_DTYPE_AUTO);
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
    checkpoint_write_config(&c);
    checkpoint_reshape(&c, "language_model.embed_tokens.weight", 2, 51, 10);
    checkpoint_reshape(&c, "vision_tower.embeddings.position_embedding.weight", 2, 36, 12);
    for (size_t i = 0; i < 2; i++) { /* head dim 8 and one kv head instead of 6 and two */
        char name[SPEC_NAME_MAX];
        static const struct {
            const char *rest;
            size_t rows, cols;
        } k_new[] = {{"q_proj", 32, 10}, {"k_proj", 8, 10}, {"v_proj", 8, 10}, {"o_proj", 10, 32}};
        for (size_t j = 0; j < 4; j++) {
            (void)snprintf(name, sizeof name, "language_model.layers.%zu.self_attn.%s.weight", i, k_new[j].rest);
            checkpoint_reshape(&c, name, 2, k_new[j].rows, k_new[j].cols);
        }
    }
    checkpoint_write_shard(&c, "model.safetensors", 0, layout_a);
    model *m = checkpoint_loaded(&c, PALI_DTYPE_AUTO);
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
    checkpoint_write_config(&c);
    checkpoint_write_shard(&c, "model.safetensors", 0, layout_c);
    checkpoint_write_text(&c, "preprocessor_config.json", "{\"resample\":2,\"size\":{\"height\":8,\"width\":8}}");
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
    checkpoint_write_config(&c);
    checkpoint_add(&c, "language_model.model.layers.0.self_attn.rotary_emb.inv_freq", "F32", 1, k_dims)->raw = true;
    checkpoint_add(&c, "vision_tower.vision_model.embeddings.position_ids", "I32", 2, k_dims)->raw = true;
    checkpoint_add(&c, "vision_tower.vision_model.head.probe", "U8", 2, k_dims)->raw = true;
    checkpoint_write_shard(&c, "model.safetensors", 0, layout_a);
    model *m = checkpoint_loaded(&c, PALI_DTYPE_AUTO);
    assert_int_equal(m->n_extras, 1);
    assert_string_equal(m->extras[0], "vision_tower.vision_model.head.probe");
    assert_int_equal(m->n_tensors, c.n - 3);
    model_free(m);
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
    checkpoint_write_config(&c);
    checkpoint_write_shard(&c, "model.safetensors", 0, layout_a);
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
    checkpoint_write_config(&c);
    checkpoint_write_shard(&c, "model.safetensors", 0, layout_a);
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
    checkpoint_config(&c, 2);
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
        cmocka_unit_test(reports_progress_and_stops),
        cmocka_unit_test(survives_lack_of_memory),
        cmocka_unit_test(makes_random_weights),
        cmocka_unit_test(lists_the_real_models),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
