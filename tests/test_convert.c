/* test_convert.c: models from one format into another and back. Every tensor must come back with the bytes and the type that it
 * had; what is written must be what other programs expect; and a write that fails must leave nothing. */
#include <dirent.h>
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/halffloat.h"
#include "base/mem.h"
#include "golden.h"
#include "io/json.h"
#include "io/npz_write.h"
#include "io/npz.h"
#include "model/save.h"
#include "model/view.h"
#include "model/weights.h"

static char g_dir[] = "/tmp/test_convert_XXXXXX";

/* A name in the test's directory; few at a time. */
static const char *in_dir(const char *name) {
    static char names[8][128];
    static size_t at;
    char *out = names[at++ % 8];
    (void)snprintf(out, sizeof names[0], "%s/%s", g_dir, name);
    return out;
}

/* Everything below a directory, which may itself be kept. */
static void empty(const char *path) {
    DIR *dir = opendir(path);
    if (!dir) return;
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        char *name = file_join(path, entry->d_name);
        struct stat info;
        if (lstat(name, &info) == 0 && S_ISDIR(info.st_mode)) {
            empty(name);
            (void)rmdir(name);
        } else {
            (void)unlink(name);
        }
        mem_free(name);
    }
    closedir(dir);
}

static size_t count(const char *path) {
    size_t n = 0;
    DIR *dir = opendir(path);
    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir));) n += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    closedir(dir);
    return n;
}

static int group_setup(void **state) {
    (void)state;
    return mkdtemp(g_dir) ? 0 : -1;
}

static int clean(void **state) {
    (void)state;
    empty(g_dir);
    return 0;
}

static int group_teardown(void **state) {
    (void)clean(state);
    return rmdir(g_dir);
}

static void golden_path(char out[512], const char *name) {
    (void)snprintf(out, 512, "%s/%s", GOLDEN_DIR, name);
}

/* as_it_lies: as the program opens what it saves; else every matrix is in its order. */
static model *opened_as(const char *path, pali_dtype dtype, bool as_it_lies) {
    model *m;
    model_options o = {.dtype = dtype, .n_threads = 2, .no_prefault = as_it_lies};
    if (model_load(&m, path, &o) != PALI_OK) fail_msg("%s", status_message());
    return m;
}

static model *opened(const char *path, pali_dtype dtype) {
    return opened_as(path, dtype, false);
}

static model *opened_golden(const char *name) {
    char path[512];
    golden_path(path, name);
    return opened(path, PALI_DTYPE_AUTO);
}

static tokenizer *tokenizer_of(const char *name) {
    char path[640];
    tokenizer *t;
    (void)snprintf(path, sizeof path, "%s/%s/tokenizer.json", GOLDEN_DIR, name);
    if (tokenizer_load(&t, path) != PALI_OK) fail_msg("%s", status_message());
    return t;
}

static void saved(const model *m, const tokenizer *t, const char *path, pali_dtype dtype) {
    model_save_options o = {.dtypes = {.all = dtype}, .n_threads = 2};
    if (model_save(m, t, path, &o) != PALI_OK) fail_msg("%s", status_message());
}

/* Opens a file or directory, and writes it as another. */
static void converted(const char *from, const char *to, pali_dtype dtype) {
    model *m = opened_as(from, PALI_DTYPE_AUTO, true);
    saved(m, NULL, to, dtype);
    model_free(m);
}

/* The config, for formats that have none. */
static void config_put(const char *name) {
    char from[640], *text;
    size_t n;
    (void)snprintf(from, sizeof from, "%s/%s/config.json", GOLDEN_DIR, name);
    assert_int_equal(file_read(&text, &n, from, 1 << 20), PALI_OK);
    assert_int_equal(file_write_atomic(in_dir("config.json"), text, n), PALI_OK);
    mem_free(text);
}

/* ---- Round trips ---- */

/* The tensors of two directories: type, shape and bytes. */
static void assert_same_files(const char *a, const char *b) {
    weights *x = NULL, *y = NULL;
    if (weights_open(&x, a) != PALI_OK || weights_open(&y, b) != PALI_OK) fail_msg("%s", status_message());
    assert_int_equal(x->n_entries, y->n_entries);
    for (size_t i = 0; i < x->n_entries; i++) {
        const weights_entry *s = &x->entries[i], *t = &y->entries[i];
        assert_string_equal(s->name, t->name);
        if (s->dtype != t->dtype) fail_msg("%s: %s became %s", s->name, pali_dtype_name(s->dtype), pali_dtype_name(t->dtype));
        assert_int_equal(s->n_dims, t->n_dims);
        assert_memory_equal(s->dims, t->dims, s->n_dims * sizeof *s->dims);
        assert_int_equal(s->n_bytes, t->n_bytes);
        if (memcmp(s->data, t->data, s->n_bytes) != 0) fail_msg("%s: other bytes", s->name);
    }
    weights_free(x);
    weights_free(y);
}

/* Types that hold all of these weights. */
static bool holds(const char *name, pali_dtype dtype) {
    if (dtype == PALI_DTYPE_AUTO || dtype == PALI_DTYPE_F32) return true;
    return (dtype == PALI_DTYPE_BF16 && strstr(name, "-bf16")) || (dtype == PALI_DTYPE_F16 && strstr(name, "-f16"));
}

static pali_dtype own_dtype(const char *name) {
    return strstr(name, "-bf16") ? PALI_DTYPE_BF16 : strstr(name, "-f16") ? PALI_DTYPE_F16 : strstr(name, "-f32") ? PALI_DTYPE_F32 : PALI_DTYPE_AUTO;
}

static void comes_back_as_it_was(void **state) {
    (void)state;
    static const pali_dtype k_dtypes[] = {PALI_DTYPE_AUTO, PALI_DTYPE_F32, PALI_DTYPE_BF16, PALI_DTYPE_F16};
    static const char *const k_ways[] = {"way", "way.gguf", "way.npz"};
    size_t n_trips = 0;
    for (size_t i = 0; k_golden_models[i]; i++) {
        const char *name = k_golden_models[i];
        char dir[512];
        golden_path(dir, name);
        for (size_t j = 0; j < 4; j++) {
            if (!holds(name, k_dtypes[j])) continue;
            for (size_t k = 0; k < 3; k++) {
                bool mixed = own_dtype(name) == PALI_DTYPE_AUTO;
                if (mixed && (k > 0 || k_dtypes[j] != PALI_DTYPE_AUTO)) continue; /* an array has one type; vectors are f32 in .gguf files */
                config_put(name);
                converted(dir, in_dir(k_ways[k]), k_dtypes[j]);
                converted(in_dir(k_ways[k]), in_dir("back"), k_dtypes[j] == PALI_DTYPE_AUTO ? PALI_DTYPE_AUTO : own_dtype(name));
                assert_same_files(dir, in_dir("back"));
                n_trips++;
                clean(NULL);
            }
        }
    }
    assert_int_equal(n_trips, 3 * (2 * 2 + 3 * 3) + 1); /* two models of f32, three of 16 bits, the mixed one */
}

/* All values, where types cannot be kept: an array has one for all layers. */
static void keeps_values_of_mixed_types(void **state) {
    (void)state;
    model *a = opened_golden("pg1-mixed");
    config_put("pg1-mixed");
    saved(a, NULL, in_dir("m.npz"), PALI_DTYPE_AUTO);
    saved(a, NULL, in_dir("m.gguf"), PALI_DTYPE_AUTO);
    converted(in_dir("m.gguf"), in_dir("g"), PALI_DTYPE_AUTO);
    static const char *const k_made[] = {"m.npz", "g"};
    char dir[512];
    golden_path(dir, "pg1-mixed");
    model *want = opened(dir, PALI_DTYPE_F32);
    for (size_t i = 0; i < 2; i++) {
        model *got = opened(in_dir(k_made[i]), PALI_DTYPE_F32);
        for (size_t j = 0; j < want->spec.n; j++) {
            const spec_tensor *x = &want->spec.tensors[j], *y = &got->spec.tensors[j];
            size_t n = 1;
            for (size_t d = 0; d < x->n_dims; d++) n *= x->dims[d];
            assert_memory_equal(x->matrix ? x->matrix->data : *x->vector, y->matrix ? y->matrix->data : *y->vector, n * sizeof(float));
        }
        model_free(got);
    }
    model_free(want);
    model_free(a);
}

/* Narrower types are those that loading makes, vectors and the table of positions too. */
static void rounds_to_nearest_even(void **state) {
    (void)state;
    static const pali_dtype k_dtypes[] = {PALI_DTYPE_BF16, PALI_DTYPE_F16};
    static const char *const k_made[] = {"m", "m.npz"};
    model *a = opened_golden("pg2-f32");
    for (size_t i = 0; i < 4; i++) {
        pali_dtype dtype = k_dtypes[i / 2];
        config_put("pg2-f32");
        saved(a, NULL, in_dir(k_made[i % 2]), dtype);
        model *b = opened(in_dir(k_made[i % 2]), PALI_DTYPE_AUTO);
        for (size_t j = 0; j < a->spec.n; j++) {
            const spec_tensor *x = &a->spec.tensors[j], *y = &b->spec.tensors[j];
            size_t n = 1;
            for (size_t d = 0; d < x->n_dims; d++) n *= x->dims[d];
            const float *from = x->matrix ? x->matrix->data : *x->vector;
            if (y->matrix) assert_int_equal(y->matrix->dtype, dtype);
            assert_int_equal(b->tensors[j].dtype, dtype);
            for (size_t k = 0; k < n; k++) {
                uint16_t want = dtype == PALI_DTYPE_BF16 ? half_to_bf16(from[k]) : half_to_f16(from[k]), got;
                if (y->matrix)
                    memcpy(&got, (const char *)y->matrix->data + 2 * k, 2);
                else
                    got = dtype == PALI_DTYPE_BF16 ? half_to_bf16((*y->vector)[k]) : half_to_f16((*y->vector)[k]);
                if (got != want) fail_msg("%s: %zu", x->name, k);
            }
        }
        model_free(b);
        clean(NULL);
    }
    model_free(a);
}

/* Formats without quantized weights get bf16 of what those weights are. */
static void expands_quantized_weights(void **state) {
    (void)state;
    static const pali_dtype k_dtypes[] = {PALI_DTYPE_Q8_0, PALI_DTYPE_Q4_K};
    for (size_t i = 0; i < 2; i++) {
        model *a = opened_golden("pg1-f32");
        saved(a, NULL, in_dir("q.gguf"), k_dtypes[i]);
        model_free(a);
        config_put("pg1-f32");
        model *q = opened(in_dir("q.gguf"), PALI_DTYPE_AUTO), *want = opened(in_dir("q.gguf"), PALI_DTYPE_BF16);
        saved(q, NULL, in_dir("d"), PALI_DTYPE_AUTO);
        saved(q, NULL, in_dir("d.npz"), PALI_DTYPE_AUTO);
        static const char *const k_made[] = {"d", "d.npz"};
        for (size_t k = 0; k < 2; k++) {
            model *got = opened(in_dir(k_made[k]), PALI_DTYPE_AUTO);
            for (size_t j = 0; j < want->spec.n; j++) {
                const mat *x = want->spec.tensors[j].matrix, *y = got->spec.tensors[j].matrix;
                if (!x || want->spec.tensors[j].n_dims == 4) continue; /* the patch embedding is not quantized */
                assert_int_equal(y->dtype, PALI_DTYPE_BF16);
                assert_memory_equal(x->data, y->data, x->rows * mat_row_bytes(x));
            }
            assert_memory_equal(want->text.norm_final, got->text.norm_final, want->text.cfg.width * sizeof(float));
            model_free(got);
        }
        model_free(q);
        model_free(want);
        clean(NULL);
    }
}

/* ---- What is in a directory ---- */

static json_t *document(const char *dir, const char *name) {
    json_t *root;
    char *path = file_join(dir, name);
    if (json_read(&root, path) != PALI_OK) fail_msg("%s", status_message());
    mem_free(path);
    return root;
}

static void assert_same_config(const config *a, const config *b) {
    gemma_config t = a->text;
    if (!t.sliding_window) t.sliding_window = b->text.sliding_window; /* then no layer slides */
    for (size_t i = 0; i < t.n_layers; i++) assert_true((a->text.sliding_window && t.layer_slides[i]) == (b->text.sliding_window && b->text.layer_slides[i]));
    memcpy(t.layer_slides, b->text.layer_slides, sizeof t.layer_slides);
    assert_memory_equal(&t, &b->text, sizeof t);
    assert_memory_equal(&a->vit, &b->vit, sizeof a->vit);
    assert_true(a->image_token == b->image_token && a->bos_token == b->bos_token && a->eos_token == b->eos_token && a->pad_token == b->pad_token);
    assert_true(a->tied == b->tied && a->resample == b->resample);
}

/* The same model whether its configuration was copied or made. */
static void writes_the_configuration(void **state) {
    (void)state;
    for (size_t i = 0; k_golden_models[i]; i++) {
        model *a = opened_golden(k_golden_models[i]);
        saved(a, NULL, in_dir("m.gguf"), PALI_DTYPE_AUTO);
        saved(a, NULL, in_dir("copied"), PALI_DTYPE_AUTO);
        converted(in_dir("m.gguf"), in_dir("made"), PALI_DTYPE_AUTO);
        model *b = opened(in_dir("copied"), PALI_DTYPE_AUTO), *c = opened(in_dir("made"), PALI_DTYPE_AUTO);
        assert_same_config(&a->cfg, &b->cfg);
        assert_same_config(&a->cfg, &c->cfg);
        assert_int_equal(count(in_dir("made")), 3); /* config.json, preprocessor_config.json, model.safetensors */
        json_t *made = document(in_dir("made"), "config.json"), *copied = document(in_dir("copied"), "config.json");
        const char *dtype = strstr(k_golden_models[i], "bf16") ? "bfloat16" : strstr(k_golden_models[i], "f16") ? "float16" : "float32";
        if (own_dtype(k_golden_models[i]) != PALI_DTYPE_AUTO) {
            assert_string_equal(golden_string(made, "torch_dtype"), dtype);
            assert_string_equal(golden_string(copied, json_object_get(copied, "dtype") ? "dtype" : "torch_dtype"), dtype);
        }
        assert_string_equal(json_string_value(json_array_get(json_object_get(made, "architectures"), 0)), "PaliGemmaForConditionalGeneration");
        json_decref(made);
        json_decref(copied);
        model_free(a);
        model_free(b);
        model_free(c);
        clean(NULL);
    }
}

/* What changed is changed in the copy, and nothing else. */
static void updates_a_copied_configuration(void **state) {
    (void)state;
    char dir[512];
    model *m;
    golden_path(dir, "pg2-f32");
    model_options o = {.n_threads = 2, .no_sliding_window = true, .no_final_softcap = true, .no_prefault = true};
    assert_int_equal(model_load(&m, dir, &o), PALI_OK);
    m->cfg.image_token = 77;
    saved(m, NULL, in_dir("m"), PALI_DTYPE_F16);
    json_t *was = document(dir, "config.json"), *is = document(in_dir("m"), "config.json");
    json_t *text = json_object_get(was, "text_config"), *vision = json_object_get(was, "vision_config");
    json_t *const parts[] = {was, text, vision};
    for (size_t i = 0; i < 3; i++) assert_int_equal(json_object_set_new(parts[i], "dtype", json_string("float16")), 0);
    (void)json_object_set_new(was, "image_token_index", json_integer(77));
    (void)json_object_set_new(text, "final_logit_softcapping", json_null());
    (void)json_object_set_new(text, "layer_types", json_pack("[s, s, s]", "full_attention", "full_attention", "full_attention"));
    assert_true(json_equal(was, is));
    json_decref(was);
    json_decref(is);
    model *b = opened(in_dir("m"), PALI_DTYPE_AUTO);
    assert_same_config(&m->cfg, &b->cfg);
    model_free(b);
    model_free(m);
}

/* Files of at most the given size, in the order of the table, one of its own for a tensor that is larger; an index of them. */
static void cuts_into_shards(void **state) {
    (void)state;
    static const uint64_t k_limits[] = {1, 5000, 40000, 200000, 300000, 100000000};
    model *m = opened_golden("pg2-bf16");
    char dir[512];
    size_t n_files_before = SIZE_MAX;
    golden_path(dir, "pg2-bf16");
    for (size_t i = 0; i < sizeof k_limits / sizeof k_limits[0]; i++) {
        model_save_options o = {.n_threads = 1, .shard_bytes = k_limits[i]};
        if (model_save(m, NULL, in_dir("m"), &o) != PALI_OK) fail_msg("%s", status_message());
        assert_same_files(dir, in_dir("m"));
        weights *w;
        assert_int_equal(weights_open(&w, in_dir("m")), PALI_OK);
        uint64_t total = 0, elements = 0;
        for (size_t f = 0; f < w->n_files; f++) {
            const safetensors *st = w->files[f].handle;
            uint64_t n = 0;
            for (size_t t = 0; t < st->n_tensors; t++) n += st->tensors[t].n_bytes;
            assert_true(n <= k_limits[i] || st->n_tensors == 1);
            total += n;
            elements += n / 2;
            assert_true(((uintptr_t)st->tensors[0].data - (uintptr_t)st->map.data) % 64 == 0);
        }
        assert_true(w->n_files < n_files_before || w->n_files == 1);
        n_files_before = w->n_files;
        assert_int_equal(file_exists(in_dir("m/model.safetensors")), w->n_files == 1);
        assert_int_equal(file_exists(in_dir("m/model.safetensors.index.json")), w->n_files > 1);
        if (w->n_files > 1) {
            json_t *index = document(in_dir("m"), "model.safetensors.index.json");
            const json_t *metadata = golden_field(index, "metadata");
            assert_int_equal((uint64_t)golden_number(metadata, "total_size"), total);
            assert_int_equal((uint64_t)golden_number(metadata, "total_parameters"), elements);
            assert_int_equal(json_object_size(golden_field(index, "weight_map")), w->n_entries);
            json_decref(index);
            char first[64];
            (void)snprintf(first, sizeof first, "m/model-00001-of-%05zu.safetensors", w->n_files);
            assert_true(file_exists(in_dir(first)));
        }
        weights_free(w);
        clean(NULL);
    }
    model_free(m);
}

/* Names as on the hub, a head of its own among them; a directory's other files byte for byte. */
static void writes_what_others_read(void **state) {
    (void)state;
    static const char *const k_names[] = {"vision_tower.vision_model.embeddings.patch_embedding.weight", "vision_tower.vision_model.encoder.layers.0.mlp.fc1.bias",
                                          "multi_modal_projector.linear.weight", "language_model.model.embed_tokens.weight",
                                          "language_model.model.layers.1.self_attn.q_proj.weight", "language_model.lm_head.weight"};
    model *m = opened_golden("pg1-f32");
    tokenizer *t = tokenizer_of("pg1-f32");
    m->cfg.tied = false; /* any other matrix as the head */
    m->text.head = m->text.embed;
    m->text.head.data = (const char *)m->text.embed.data + 4;
    m->text.head.rows--;
    m->text.embed.rows--;
    m->cfg.text.vocab_size--;
    m->spec.n++;
    for (size_t i = 0; i < m->spec.n; i++)
        if (m->spec.tensors[i].group == SPEC_EMBED) m->spec.tensors[i].dims[0]--;
    saved(m, t, in_dir("m"), PALI_DTYPE_AUTO);
    safetensors st;
    assert_int_equal(safetensors_open(&st, in_dir("m/model.safetensors")), PALI_OK);
    for (size_t i = 0; i < sizeof k_names / sizeof k_names[0]; i++) {
        size_t j = 0;
        while (j < st.n_tensors && strcmp(st.tensors[j].name, k_names[i]) != 0) j++;
        if (j == st.n_tensors) fail_msg("no %s", k_names[i]);
    }
    safetensors_close(&st);
    model *b = opened(in_dir("m"), PALI_DTYPE_AUTO);
    assert_false(b->cfg.tied);
    assert_int_equal(b->cfg.text.vocab_size, m->cfg.text.vocab_size);
    assert_memory_equal(b->text.head.data, m->text.head.data, m->text.head.rows * mat_row_bytes(&m->text.head));
    json_t *root = document(in_dir("m"), "config.json");
    assert_true(json_is_false(json_object_get(root, "tie_word_embeddings")));
    assert_true(json_is_false(json_object_get(json_object_get(root, "text_config"), "tie_word_embeddings")));
    json_decref(root);
    static const char *const k_files[] = {"tokenizer.json", "preprocessor_config.json"};
    for (size_t i = 0; i < 2; i++) {
        char from[640], to[640], *x, *y;
        size_t n, k;
        (void)snprintf(from, sizeof from, "%s/pg1-f32/%s", GOLDEN_DIR, k_files[i]);
        (void)snprintf(to, sizeof to, "%s/%s", in_dir("m"), k_files[i]);
        assert_int_equal(file_read(&x, &n, from, 1 << 24), PALI_OK);
        assert_int_equal(file_read(&y, &k, to, 1 << 24), PALI_OK);
        assert_int_equal(n, k);
        assert_memory_equal(x, y, n);
        mem_free(x);
        mem_free(y);
    }
    model_save_options o = {.n_threads = 1};
    assert_int_equal(model_save(m, t, in_dir("m.npz"), &o), PALI_ERR_UNSUPPORTED);
    assert_non_null(strstr(status_message(), "m.npz: the model has a head that is not its table of words"));
    model_free(b);
    model_free(m);
    tokenizer_free(t);
}

static void respects_the_mask_of_modes(void **state) {
    (void)state;
    static const struct {
        mode_t mask, dir, file;
    } k_masks[] = {{022, 0755, 0644}, {077, 0700, 0600}, {002, 0775, 0664}};
    model *m = opened_golden("pg1-bf16");
    mode_t before = umask(0);
    for (size_t i = 0; i < 3; i++) {
        struct stat dir, file;
        umask(k_masks[i].mask);
        saved(m, NULL, in_dir("m"), PALI_DTYPE_AUTO);
        assert_int_equal(stat(in_dir("m"), &dir), 0);
        assert_int_equal(stat(in_dir("m/model.safetensors"), &file), 0);
        assert_int_equal(dir.st_mode & 0777, k_masks[i].dir);
        assert_int_equal(file.st_mode & 0777, k_masks[i].file);
        clean(NULL);
    }
    umask(before);
    model_free(m);
}

/* ---- .npz files ---- */

/* Query, key and value in one array where they have as many heads; and models that came from nowhere. */
static void writes_models_made_in_memory(void **state) {
    (void)state;
    model *g = opened_golden("pg2-bf16"), *m;
    config cfg = g->cfg;
    model_options o = {.n_threads = 2};
    cfg.text.n_kv_heads = cfg.text.n_heads;
    assert_int_equal(model_random_of(&m, &cfg, 3, &o), PALI_OK);
    saved(m, NULL, in_dir("m"), PALI_DTYPE_AUTO);
    saved(m, NULL, in_dir("m/m.npz"), PALI_DTYPE_AUTO);
    model *a = opened(in_dir("m"), PALI_DTYPE_AUTO), *b = opened(in_dir("m/m.npz"), PALI_DTYPE_AUTO);
    assert_same_config(&cfg, &a->cfg);
    npz z;
    const char *path = in_dir("m/m.npz");
    assert_int_equal(npz_open(&z, path), PALI_OK);
    assert_non_null(npz_find(&z, "params/llm/layers/attn/qkv_einsum/w"));
    for (size_t i = 0; i < z.n_arrays; i++) {
        assert_int_equal(npz_check(&z, &z.arrays[i]), PALI_OK);
        assert_int_equal((size_t)(z.arrays[i].data - z.map.data) % NPZ_WRITE_ALIGNMENT, 0);
    }
    npz_close(&z);
    for (size_t i = 0; i < m->spec.n; i++) {
        const spec_tensor *x = &m->spec.tensors[i], *y = &a->spec.tensors[i], *w = &b->spec.tensors[i];
        size_t n = 1;
        for (size_t d = 0; d < x->n_dims; d++) n *= x->dims[d];
        const size_t n_bytes = x->matrix ? x->matrix->rows * mat_row_bytes(x->matrix) : n * sizeof(float);
        assert_memory_equal(x->matrix ? x->matrix->data : *x->vector, y->matrix ? y->matrix->data : *y->vector, n_bytes);
        assert_memory_equal(x->matrix ? x->matrix->data : *x->vector, w->matrix ? w->matrix->data : *w->vector, n_bytes);
    }
    model_free(a);
    model_free(b);
    model_free(m);
    model_free(g);
}

/* Sizes and offsets beyond 32 bits, in a small file that has them all. */
static void writes_zip64(void **state) {
    (void)state;
    static const size_t k_dims[] = {5, 3};
    static const uint64_t k_from[] = {UINT32_MAX, 300, 1};
    static const float k_values[15] = {1, 2, 3};
    for (size_t i = 0; i < 3; i++) {
        npz_writer w;
        npz z;
        const char *path = in_dir("z.npz");
        assert_int_equal(npz_writer_open(&w, path), PALI_OK);
        w.zip64_from = k_from[i];
        assert_int_equal(npz_writer_array(&w, "a/b", NPY_F32, 2, k_dims), PALI_OK);
        assert_int_equal(npz_writer_data(&w, k_values, 7), PALI_OK);
        assert_int_equal(npz_writer_array(&w, "c", NPY_F32, 1, k_dims), PALI_ERR_INTERNAL);
        assert_int_equal(npz_writer_data(&w, (const char *)k_values + 7, 60 - 7), PALI_OK);
        assert_int_equal(npz_writer_array(&w, "c", NPY_BF16, 1, k_dims), PALI_OK);
        assert_int_equal(npz_writer_data(&w, k_values, 11), PALI_ERR_INTERNAL);
        assert_int_equal(npz_writer_commit(&w), PALI_ERR_INTERNAL);
        assert_int_equal(npz_writer_data(&w, k_values, 10), PALI_OK);
        assert_int_equal(npz_writer_commit(&w), PALI_OK);
        npz_writer_free(&w);
        if (npz_open(&z, path) != PALI_OK) fail_msg("%s", status_message());
        assert_int_equal(z.n_arrays, 2);
        const npz_array *a = npz_find(&z, "a/b"), *c = npz_find(&z, "c");
        assert_true(a && c && a->array.n_dims == 2 && a->array.dims[0] == 5 && a->array.dims[1] == 3 && c->array.dims[0] == 5 && c->array.dtype == NPY_BF16);
        assert_memory_equal(a->data, k_values, 60);
        assert_int_equal(npz_check(&z, a), PALI_OK);
        assert_int_equal(npz_check(&z, c), PALI_OK);
        npz_close(&z);
    }
}

/* ---- Adapters ---- */

typedef struct expected {
    double error, merged, update, worst;
    size_t n;
} expected;

/* What a tensor with an update must be, rounded once; its share of the report. */
static void assert_merged(const kernels *k, const spec_tensor *from, const mat *got, pali_dtype dtype, expected *e) {
    const mat *w = from->matrix;
    mat bare = *w;
    bare.lora = NULL;
    size_t n = w->rows * w->cols;
    float *merged = mem_alloc(3 * n, sizeof *merged), *base = merged + n, *stored = base + n;
    assert_non_null(merged);
    mat_rows_f32(k, merged, w, 0, w->rows);
    mat_rows_f32(k, base, &bare, 0, w->rows);
    mat_rows_f32(k, stored, got, 0, w->rows);
    assert_int_equal(got->dtype, dtype);
    double error = 0, update = 0;
    for (size_t i = 0; i < n; i++) {
        float want = dtype == PALI_DTYPE_BF16 ? half_from_bf16(half_to_bf16(merged[i])) : merged[i];
        if (stored[i] != want) fail_msg("%s: %zu", from->name, i);
        error += ((double)stored[i] - (double)merged[i]) * ((double)stored[i] - (double)merged[i]);
        update += ((double)merged[i] - (double)base[i]) * ((double)merged[i] - (double)base[i]);
        e->merged += (double)merged[i] * (double)merged[i];
    }
    e->error += error;
    e->update += update;
    e->worst = sqrt(error / update) > e->worst ? sqrt(error / update) : e->worst;
    e->n++;
    mem_free(merged);
}

/* In every form: W + s B A in f32, rounded once, and a report of what that costs. */
static void merges_adapters(void **state) {
    (void)state;
    static const char *const k_adapters[] = {"recipe", "saved"};
    static const char *const k_made[] = {"m", "m.npz", "m.gguf"};
    static const pali_dtype k_dtypes[] = {PALI_DTYPE_F32, PALI_DTYPE_BF16};
    char dir[512];
    exec x;
    assert_int_equal(exec_init(&x, 1), PALI_OK);
    golden_path(dir, "pg1-f32");
    for (size_t i = 0; i < 12; i++) {
        pali_dtype dtype = k_dtypes[i / 6];
        model *base = opened(dir, dtype), *view;
        adapter *a;
        char path[512];
        config_put("pg1-f32");
        (void)snprintf(path, sizeof path, "%s/lora/%s", PALI_TEST_DATA, k_adapters[i / 3 % 2]);
        if (adapter_open(&a, path, base, false) != PALI_OK) fail_msg("%s", status_message());
        const adapter_use use = {a, 0.5f};
        assert_int_equal(view_adapt(&view, base, &use, 1), PALI_OK);
        merge_report report = {0};
        model_save_options o = {.n_threads = 2, .merge = &report, .dtypes = {.all = dtype}};
        if (model_save(view, NULL, in_dir(k_made[i % 3]), &o) != PALI_OK) fail_msg("%s", status_message());
        model *got = opened(in_dir(k_made[i % 3]), PALI_DTYPE_AUTO);
        expected e = {0};
        for (size_t j = 0; j < view->spec.n; j++)
            if (view->spec.tensors[j].matrix && view->spec.tensors[j].matrix->lora) assert_merged(x.k, &view->spec.tensors[j], got->spec.tensors[j].matrix, dtype, &e);
        assert_true(e.n > 0 && e.update > 0);
        assert_int_equal(report.n_matrices, e.n);
        /* Sums of a few thousand squares in another order: 1e-12 of them. */
        assert_true(fabs(report.all.error - e.error) <= 1e-12 * e.error && fabs(report.all.merged - e.merged) <= 1e-12 * e.merged);
        assert_true(fabs(report.all.update - e.update) <= 1e-12 * e.update && fabs(report.worst - e.worst) <= 1e-12 * e.worst);
        assert_true(dtype == PALI_DTYPE_F32 ? e.error == 0 && !*report.worst_name : e.error > 0 && strstr(report.worst_name, "proj"));
        model_free(got);
        model_free(view);
        adapter_free(a);
        model_free(base);
        clean(NULL);
    }
    exec_free(&x);
}

/* ---- Failures ---- */

static int cancel_progress(void *user, const char *what, uint64_t done, uint64_t total) {
    int *left = user;
    assert_non_null(what);
    assert_true(done <= total);
    return --*left == 0;
}

static const char *const k_outputs[] = {"m", "m.npz", "m.gguf"};

static void stops_and_leaves_nothing(void **state) {
    (void)state;
    model *m = opened_golden("pg1-bf16");
    tokenizer *t = tokenizer_of("pg1-f32");
    for (size_t i = 0; i < 3; i++) {
        int n = 0; /* never stops */
        model_save_options o = {.n_threads = 2, .shard_bytes = 50000, .progress = cancel_progress, .user = &n};
        assert_int_equal(model_save(m, t, in_dir(k_outputs[i]), &o), PALI_OK);
        clean(NULL);
        assert_true(n < -20); /* every tensor */
        for (int at = 1; at <= -n; at += 9) {
            int left = at;
            o.user = &left;
            assert_int_equal(model_save(m, t, in_dir(k_outputs[i]), &o), PALI_ERR_CANCELLED);
            assert_int_equal(count(g_dir), 0);
        }
    }
    tokenizer_free(t);
    model_free(m);
}

/* A file system that is full: files cannot grow beyond some size, which comes to light in the config, in the middle or at the end. */
static void runs_out_of_room(void **state) {
    (void)state;
    model *m = opened_golden("pg1-f32");
    tokenizer *t = tokenizer_of("pg1-f32");
    struct rlimit before, limit;
    model_save_options o = {.n_threads = 1, .tokenizer_path = NULL};
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    for (size_t i = 0; i < 3; i++) {
        static const rlim_t k_limits[] = {0, 100, 5000, 150000, 580000};
        for (size_t j = 0; j < 5; j++) {
            limit = (struct rlimit){k_limits[j], before.rlim_max};
            assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
            pali_status s = model_save(m, t, in_dir(k_outputs[i]), &o);
            assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
            assert_int_equal(s, PALI_ERR_IO);
            assert_non_null(strstr(status_message(), in_dir(k_outputs[i])));
            assert_null(strstr(status_message(), ".tmp"));
            assert_int_equal(count(g_dir), 0);
        }
    }
    (void)signal(SIGXFSZ, handler);
    tokenizer_free(t);
    model_free(m);
}

static void assert_refused(const model *m, const char *path, pali_status status, const char *says) {
    model_save_options o = {.n_threads = 1};
    assert_int_equal(model_save(m, NULL, path, &o), status);
    if (!strstr(status_message(), says)) fail_msg("%s: %s", path, status_message());
}

/* Nothing that is there is touched. */
static void refuses_places(void **state) {
    (void)state;
    char dir[512];
    golden_path(dir, "pg1-bf16");
    converted(dir, in_dir("source"), PALI_DTYPE_AUTO);
    model *m = opened(in_dir("source"), PALI_DTYPE_AUTO);
    assert_int_equal(file_write_atomic(in_dir("file"), "old", 3), PALI_OK);
    assert_int_equal(mkdir(in_dir("outer"), 0700), 0);
    assert_int_equal(mkdir(in_dir("outer/full"), 0700), 0);
    assert_int_equal(mkdir(in_dir("outer/bare"), 0700), 0);
    assert_int_equal(symlink("bare", in_dir("outer/link")), 0);
    assert_int_equal(symlink("nowhere", in_dir("outer/broken")), 0);
    assert_int_equal(mkdir(in_dir("outer/full/x"), 0700), 0);
    assert_refused(m, in_dir("source"), PALI_ERR_IO, "source: exists and is not empty");
    assert_refused(m, in_dir("source/"), PALI_ERR_IO, "source: exists and is not empty");
    assert_refused(m, g_dir, PALI_ERR_IO, "is not empty");
    assert_refused(m, in_dir("outer/full"), PALI_ERR_IO, "outer/full: exists and is not empty");
    assert_refused(m, in_dir("file"), PALI_ERR_IO, "file: exists and is not a directory");
    assert_refused(m, in_dir("file/x"), PALI_ERR_IO, "file/x: cannot");
    assert_refused(m, in_dir("outer/link"), PALI_ERR_IO, "outer/link: exists and is not a directory");
    assert_refused(m, in_dir("outer/broken"), PALI_ERR_IO, "outer/broken: exists and is not a directory");
    assert_refused(m, in_dir("outer/bare/."), PALI_ERR_ARGUMENT, "expected the name of a directory");
    assert_refused(m, "..", PALI_ERR_ARGUMENT, "expected the name of a directory");
    assert_refused(m, "/", PALI_ERR_ARGUMENT, "expected the name of a directory");
    assert_refused(m, in_dir("none/x"), PALI_ERR_IO, "none/x: cannot create a directory beside it");
    assert_refused(m, in_dir("source/model.safetensors"), PALI_ERR_ARGUMENT, "a file of the model itself");
    assert_int_equal(count(g_dir), 3);
    assert_int_equal(count(in_dir("outer")), 4);
    saved(m, NULL, in_dir("outer/bare"), PALI_DTYPE_AUTO); /* an empty one will do, */
    assert_same_files(dir, in_dir("outer/bare"));
    saved(m, NULL, in_dir("source/inner/"), PALI_DTYPE_AUTO); /* and a new one anywhere */
    assert_same_files(dir, in_dir("source/inner"));
    if (geteuid() != 0) {
        assert_int_equal(chmod(in_dir("outer"), 0500), 0);
        assert_refused(m, in_dir("outer/x"), PALI_ERR_IO, "outer/x: cannot create a directory beside it");
        assert_int_equal(chmod(in_dir("outer"), 0700), 0);
    } else {
        printf("running as root: a directory that cannot be written is left out\n");
    }
    model_free(m);
}

/* What a type cannot hold is an error with a name. */
static void refuses_weights_beyond_f16(void **state) {
    (void)state;
    model *m = opened_golden("pg1-f32");
    mat *gate = &m->text.layers[1].gate;
    size_t n = gate->rows * gate->cols;
    float *copy = mem_alloc(n, sizeof *copy), *norm = mem_alloc(44, sizeof *norm);
    memcpy(copy, gate->data, n * sizeof *copy);
    memcpy(norm, m->text.norm_final, 44 * sizeof *norm);
    const void *data = gate->data;
    const float *was = m->text.norm_final;
    gate->data = copy;
    m->text.norm_final = norm;
    model_save_options o = {.dtypes = {.all = PALI_DTYPE_F16}, .n_threads = 2};
    for (size_t i = 0; i < 3; i++) {
        static const float k_bad[] = {65520, -1e30f};
        for (size_t j = 0; j < 2; j++) {
            copy[n - 3] = k_bad[j];
            assert_int_equal(model_save(m, NULL, in_dir(k_outputs[i]), &o), PALI_ERR_FORMAT);
            assert_non_null(strstr(status_message(), "language_model.layers.1.mlp.gate_proj.weight: a weight is beyond 65504"));
        }
        copy[n - 3] = 65519; /* rounds to 65504; and infinity stays what it was */
        copy[n - 4] = INFINITY;
        saved(m, NULL, in_dir(k_outputs[i]), PALI_DTYPE_F16);
        norm[5] = 1e6f;
        if (i < 2) { /* .gguf files have f32 there */
            assert_int_equal(model_save(m, NULL, in_dir("x"), &o), PALI_ERR_FORMAT);
            assert_non_null(strstr(status_message(), "language_model.norm.weight: a weight is beyond 65504"));
        }
        norm[5] = 0;
        clean(NULL);
    }
    gate->data = data;
    m->text.norm_final = was;
    mem_free(copy);
    mem_free(norm);
    model_free(m);
}

static void refuses_types_that_a_format_lacks(void **state) {
    (void)state;
    model *m = opened_golden("pg1-f32");
    for (size_t i = 0; i < 2; i++) {
        model_save_options o = {.n_threads = 1};
        for (size_t j = 0; j < 3; j++) {
            o.dtypes = (spec_dtypes){j == 0 ? PALI_DTYPE_Q8_0 : PALI_DTYPE_AUTO, j == 1 ? PALI_DTYPE_Q4_K : PALI_DTYPE_AUTO, j == 2 ? PALI_DTYPE_Q4_0 : PALI_DTYPE_AUTO};
            assert_int_equal(model_save(m, NULL, in_dir(k_outputs[i]), &o), PALI_ERR_UNSUPPORTED);
            assert_non_null(strstr(status_message(), "expected f32, bf16"));
        }
    }
    assert_int_equal(count(g_dir), 0);
    model_free(m);
}

static void survives_lack_of_memory(void **state) {
    (void)state;
    char dir[512];
    golden_path(dir, "pg2-f32");
    tokenizer *t = tokenizer_of("pg2-f32");
    model *a = opened(dir, PALI_DTYPE_AUTO);
    saved(a, t, in_dir("q.gguf"), PALI_DTYPE_Q8_0);
    model *m = opened(in_dir("q.gguf"), PALI_DTYPE_AUTO); /* whose config and tokenizer have to be made */
    for (size_t i = 0; i < 2; i++) {
        model_save_options o = {.n_threads = 1};
        pali_status s = PALI_ERR_MEMORY;
        size_t k = 0;
        while (s != PALI_OK) {
            mem_fail_after(++k);
            s = model_save(m, t, in_dir(k_outputs[i]), &o);
            mem_fail_after(0);
            assert_true(s == PALI_OK || s == PALI_ERR_MEMORY);
            assert_int_equal(count(g_dir), s == PALI_OK ? 2 : 1);
        }
        assert_true(k > 10);
        empty(in_dir(k_outputs[i]));
        (void)rmdir(in_dir(k_outputs[i]));
        (void)unlink(in_dir(k_outputs[i]));
    }
    model_free(m);
    model_free(a);
    tokenizer_free(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(comes_back_as_it_was, clean),
        cmocka_unit_test_teardown(keeps_values_of_mixed_types, clean),
        cmocka_unit_test_teardown(rounds_to_nearest_even, clean),
        cmocka_unit_test_teardown(expands_quantized_weights, clean),
        cmocka_unit_test_teardown(writes_the_configuration, clean),
        cmocka_unit_test_teardown(updates_a_copied_configuration, clean),
        cmocka_unit_test_teardown(cuts_into_shards, clean),
        cmocka_unit_test_teardown(writes_what_others_read, clean),
        cmocka_unit_test_teardown(respects_the_mask_of_modes, clean),
        cmocka_unit_test_teardown(writes_models_made_in_memory, clean),
        cmocka_unit_test_teardown(writes_zip64, clean),
        cmocka_unit_test_teardown(merges_adapters, clean),
        cmocka_unit_test_teardown(stops_and_leaves_nothing, clean),
        cmocka_unit_test_teardown(runs_out_of_room, clean),
        cmocka_unit_test_teardown(refuses_places, clean),
        cmocka_unit_test_teardown(refuses_weights_beyond_f16, clean),
        cmocka_unit_test_teardown(refuses_types_that_a_format_lacks, clean),
        cmocka_unit_test_teardown(survives_lack_of_memory, clean),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
