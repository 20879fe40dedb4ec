/* test_bnb.c: checkpoints of bitsandbytes (goldens of tools/make_bnb_goldens.py): what is decoded is the formula's weights to the
 * bit, what is computed is what those weights in f32 give, to the bit; our quantizers make the library's bytes; and broken
 * checkpoints fail with a line that names file and tensor. */
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
#include "base/mem.h"
#include "golden.h"
#include "model/model.h"
#include "model/save.h"
#include "model/spec.h"
#include "tensor/encode.h"

#define BNB PALI_TEST_DATA "/bnb/"
#define MAX_TENSORS 160

static const char *const k_models[] = {"pg1-nf4", "pg1-fp4", "pg1-int8", "pg2-nf4", "pg2-nf4-skip", "pg2-int8"};
#define N_MODELS (sizeof k_models / sizeof k_models[0])

static void check(pali_status status) {
    if (status != PALI_OK) fail_msg("%s", status_message());
}

static model *opened(const char *dir, spec_dtypes d) {
    model *m;
    check(model_load(&m, dir, &(model_options){.dtype = d.all, .vision_dtype = d.vision, .embed_dtype = d.embed, .n_threads = 2}));
    return m;
}

static model *opened_golden(const char *name, pali_dtype dtype) {
    char dir[512];
    (void)snprintf(dir, sizeof dir, BNB "%s", name);
    return opened(dir, (spec_dtypes){.all = dtype});
}

static float *rows_of(const kernels *k, const mat *w) {
    float *rows = malloc(w->rows * w->cols * sizeof *rows);
    assert_non_null(rows);
    mat_rows_f32(k, rows, w, 0, w->rows);
    return rows;
}

/* ---- What is in the files ---- */

static uint64_t fnv(const void *data, size_t n) {
    const uint8_t *p = data;
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++) h = (h ^ p[i]) * 0x100000001b3u;
    return h;
}

static const spec_tensor *tensor_named(const model *m, const char *name) {
    for (size_t i = 0; i < m->spec.n; i++)
        if (strcmp(m->spec.tensors[i].name, name) == 0) return &m->spec.tensors[i];
    fail_msg("no tensor %s", name);
    return NULL;
}

static void decodes_the_formula(void **state) {
    (void)state;
    for (size_t i = 0; i < N_MODELS; i++) {
        char path[512];
        const char *file_name;
        json_t *want, *of;
        (void)snprintf(path, sizeof path, BNB "%s/golden.json", k_models[i]);
        want = json_load_file(path, 0, NULL);
        assert_non_null(want);
        model *m = opened_golden(k_models[i], PALI_DTYPE_AUTO);
        size_t n_codes = 0;
        for (size_t j = 0; j < m->spec.n; j++) n_codes += m->spec.tensors[j].matrix && dtype_is_codes(m->spec.tensors[j].matrix->dtype);
        assert_int_equal(n_codes, json_object_size(golden_field(want, "quantized")));
        assert_int_equal(m->n_extras, 0);
        json_object_foreach(golden_field(want, "quantized"), file_name, of) {
            char name[SPEC_NAME_MAX], hash[17];
            assert_true(spec_canonical_name(name, sizeof name, file_name));
            const mat *w = tensor_named(m, name)->matrix;
            assert_string_equal(pali_dtype_name(w->dtype), golden_string(of, "kind"));
            assert_int_equal(w->rows, json_integer_value(json_array_get(golden_field(of, "shape"), 0)));
            assert_int_equal(w->cols, json_integer_value(json_array_get(golden_field(of, "shape"), 1)));
            assert_true(weights_is_mapped(m->weights, w->data)); /* used where it lies */
            for (int level = CPU_REF; level < CPU_N_LEVELS; level++) {
                const kernels *k = kernels_get((cpu_level)level);
                if (!k) continue;
                float *rows = rows_of(k, w);
                (void)snprintf(hash, sizeof hash, "%016llx", (unsigned long long)fnv(rows, w->rows * w->cols * sizeof *rows));
                if (strcmp(hash, golden_string(of, "fnv")) != 0) fail_msg("%s: %s: %s differs from the formula", k_models[i], name, cpu_level_name((cpu_level)level));
                free(rows);
            }
        }
        json_decref(want);
        model_free(m);
    }
}

/* ---- Editing safetensors ---- */

typedef struct tensor {
    char name[200], dtype[16];
    size_t n_dims, dims[4], n_bytes;
    uint8_t *data;
} tensor;

typedef struct checkpoint {
    char dir[64];
    tensor tensors[MAX_TENSORS];
    size_t n;
} checkpoint;

static void checkpoint_new(checkpoint *c) {
    *c = (checkpoint){.dir = "/tmp/pali-bnb-XXXXXX"};
    assert_non_null(mkdtemp(c->dir));
}

static void checkpoint_put(checkpoint *c, const char *name, const char *dtype, size_t n_dims, const size_t *dims, const void *data, size_t n_bytes) {
    assert_true(c->n < MAX_TENSORS && n_dims <= 4);
    tensor *t = &c->tensors[c->n++];
    *t = (tensor){.n_dims = n_dims, .n_bytes = n_bytes, .data = malloc(n_bytes + 1)};
    assert_non_null(t->data);
    (void)snprintf(t->name, sizeof t->name, "%s", name);
    (void)snprintf(t->dtype, sizeof t->dtype, "%s", dtype);
    memcpy(t->dims, dims, n_dims * sizeof *dims);
    memcpy(t->data, data, n_bytes);
}

static void checkpoint_read(checkpoint *c, const char *name) {
    char path[512];
    safetensors st;
    (void)snprintf(path, sizeof path, BNB "%s/model.safetensors", name);
    check(safetensors_open(&st, path));
    for (size_t i = 0; i < st.n_tensors; i++) {
        const st_tensor *t = &st.tensors[i];
        checkpoint_put(c, t->name, safetensors_dtype_name(t->dtype), t->n_dims, t->dims, t->data, t->n_bytes);
    }
    safetensors_close(&st);
}

/* With the config of a golden. */
static void checkpoint_write(const checkpoint *c, const char *config_of) {
    char path[512], *json;
    json_t *header = json_object();
    size_t at = 0, n;
    for (size_t i = 0; i < c->n; i++) {
        const tensor *t = &c->tensors[i];
        json_t *shape = json_array();
        for (size_t d = 0; d < t->n_dims; d++) json_array_append_new(shape, json_integer((json_int_t)t->dims[d]));
        json_object_set_new(header, t->name, json_pack("{s:s, s:o, s:[I,I]}", "dtype", t->dtype, "shape", shape, "data_offsets", (json_int_t)at,
                                                       (json_int_t)(at + t->n_bytes)));
        at += t->n_bytes;
    }
    char *text = json_dumps(header, JSON_COMPACT);
    assert_non_null(text);
    n = strlen(text);
    uint8_t *file = malloc(8 + n + at), *p = file + 8;
    assert_non_null(file);
    for (int i = 0; i < 8; i++) file[i] = (uint8_t)((uint64_t)n >> 8 * i);
    memcpy(p, text, n);
    p += n;
    for (size_t i = 0; i < c->n; p += c->tensors[i++].n_bytes) memcpy(p, c->tensors[i].data, c->tensors[i].n_bytes);
    (void)snprintf(path, sizeof path, "%s/model.safetensors", c->dir);
    check(file_write_atomic(path, file, (size_t)(p - file)));
    free(file);
    free(text);
    json_decref(header);
    (void)snprintf(path, sizeof path, BNB "%s/config.json", config_of);
    check(file_read(&json, &n, path, 1 << 20));
    (void)snprintf(path, sizeof path, "%s/config.json", c->dir);
    check(file_write_atomic(path, json, n));
    mem_free(json);
}

static void checkpoint_free(checkpoint *c) {
    static const char *const k_files[] = {"model.safetensors", "config.json"};
    for (size_t i = 0; i < 2; i++) {
        char path[512];
        (void)snprintf(path, sizeof path, "%s/%s", c->dir, k_files[i]);
        (void)unlink(path);
    }
    assert_int_equal(rmdir(c->dir), 0);
    for (size_t i = 0; i < c->n; i++) free(c->tensors[i].data);
}

/* All of a model's weights in f32. */
static void checkpoint_dequantized(checkpoint *c, const model *m) {
    for (size_t i = 0; i < m->spec.n; i++) {
        const spec_tensor *t = &m->spec.tensors[i];
        size_t n = 1;
        for (size_t d = 0; d < t->n_dims; d++) n *= t->dims[d];
        float *rows = t->matrix ? rows_of(kernels_get(CPU_REF), t->matrix) : NULL;
        checkpoint_put(c, t->name, "F32", t->n_dims, t->dims, rows ? rows : *t->vector, n * sizeof(float));
        free(rows);
    }
}

/* ---- What is computed ---- */

/* Logits of a picture and a prompt, then of one more token; [2, V]. */
static float *logits_of(const model *m) {
    enum { TEXT = 20 };
    const gemma *g = &m->text;
    size_t n_patches = m->vit.cfg.n_patches, side = m->vit.cfg.image_size, d = g->cfg.width, v = g->cfg.vocab_size, n = n_patches + TEXT;
    float *pixels = malloc(3 * side * side * sizeof *pixels), *vision = malloc(n_patches * m->vit.cfg.width * sizeof *vision);
    float *x = malloc((n + 1) * d * sizeof *x), *logits = malloc(2 * v * sizeof *logits);
    int32_t ids[TEXT + 1];
    exec e;
    kv_cache kv;
    assert_true(pixels && vision && x && logits);
    for (size_t i = 0; i < 3 * side * side; i++) pixels[i] = (float)(i * 37 % 256) / 127.5f - 1;
    for (size_t i = 0; i <= TEXT; i++) ids[i] = (int32_t)(i ? 3 + i * 7 % 50 : 2);
    check(exec_init(&e, 2));
    check(kv_init(&kv, &g->cfg, NULL));
    check(vit_forward(&e, &m->vit, vision, pixels));
    check(vit_project(&e, &m->vit, x, vision, n_patches));
    check(gemma_embed(&e, g, x + n_patches * d, ids, TEXT + 1));
    for (size_t step = 0, first = 0, rows = n; step < 2; step++, first += rows, rows = 1) {
        gemma_segment segment = {.kv = &kv, .n_rows = rows, .prefix = step == 0};
        float *last = x + (first + rows - 1) * d;
        check(gemma_forward(&e, g, x + first * d, &segment, 1));
        check(gemma_final_norm(&e, g, last, last, 1));
        check(gemma_logits(&e, g, logits + step * v, last, 1, true));
    }
    kv_free(&kv);
    exec_free(&e);
    free(pixels);
    free(vision);
    free(x);
    return logits;
}

static void computes_what_f32_does(void **state) {
    (void)state;
    for (size_t i = 0; i < N_MODELS; i++) {
        checkpoint c;
        model *m = opened_golden(k_models[i], PALI_DTYPE_AUTO);
        checkpoint_new(&c);
        checkpoint_dequantized(&c, m);
        checkpoint_write(&c, k_models[i]);
        model *plain = opened(c.dir, (spec_dtypes){0});
        assert_int_equal(plain->text.layers[0].down.dtype, PALI_DTYPE_F32);
        float *got = logits_of(m), *want = logits_of(plain);
        assert_true(isfinite(want[0]));
        assert_memory_equal(got, want, 2 * m->text.cfg.vocab_size * sizeof *got);
        free(got);
        free(want);
        model_free(m);
        model_free(plain);
        checkpoint_free(&c);
    }
}

/* ---- Conversion ---- */

/* From the library's types to others: what converting the decoded rows gives. Plans are what is taken. */
static void converts_to_other_types(void **state) {
    (void)state;
    static const pali_dtype k_dtypes[] = {PALI_DTYPE_F32, PALI_DTYPE_BF16, PALI_DTYPE_Q8_0, PALI_DTYPE_Q4_1, PALI_DTYPE_NF4, PALI_DTYPE_INT8, PALI_DTYPE_AUTO};
    const kernels *k = kernels_get(CPU_REF);
    for (size_t i = 0; i < N_MODELS; i++) {
        model *m = opened_golden(k_models[i], PALI_DTYPE_AUTO);
        for (size_t j = 0; j < sizeof k_dtypes / sizeof k_dtypes[0]; j++) {
            char dir[512];
            model *to = opened_golden(k_models[i], k_dtypes[j]), *outline;
            weights_memory memory;
            (void)snprintf(dir, sizeof dir, BNB "%s", k_models[i]);
            check(model_outline(&outline, &memory, dir, false, &(model_options){.dtype = k_dtypes[j]}));
            assert_int_equal(memory.block, to->weights->block_bytes);
            for (size_t t = 0; t < m->spec.n; t++) {
                const mat *a = m->spec.tensors[t].matrix, *b = to->spec.tensors[t].matrix, *planned = outline->spec.tensors[t].matrix;
                if (!a) continue;
                assert_int_equal(b->dtype, planned->dtype);
                assert_int_equal(b->codes != NULL, planned->codes != NULL);
                if (b->codes) assert_int_equal(b->codes->rounding, planned->codes->rounding);
                if (dtype_is_codes(b->dtype)) continue;
                float *row = malloc(a->cols * sizeof *row);
                char *want = malloc(mat_bytes(b));
                assert_true(row && want);
                assert_true(mat_rows_convert(k, want, b->dtype, a, 0, a->rows, row));
                assert_memory_equal(b->data, want, mat_bytes(b));
                free(row);
                free(want);
            }
            model_free(outline);
            model_free(to);
        }
        model_free(m);
    }
}

/* `made` is what one encoder makes of all rows of `from`. */
static void assert_same_codes(const mat *made, const mat *from) {
    const kernels *k = kernels_get(CPU_REF);
    float *rows = rows_of(k, from);
    uint8_t *data = malloc(mat_bytes(made)), *scales = malloc(mat_scale_bytes(made));
    assert_true(data && scales);
    coded c = *made->codes;
    mat one = *made;
    c.data = data;
    c.scales = scales;
    one.codes = &c;
    encoder e = encode_begin(k, &one, 0);
    for (size_t r = 0; r < from->rows; r++) assert_true(encode_row(&e, rows + r * from->cols));
    encode_end(&e);
    assert_memory_equal(data, made->data, mat_bytes(made));
    assert_memory_equal(scales, made->codes->scales, mat_scale_bytes(made));
    free(data);
    free(scales);
    free(rows);
}

/* From plain weights: all linear layers and nothing else; what is made of a matrix cut into pieces is what one run makes of it. */
static void quantizes_while_loading(void **state) {
    (void)state;
    static const char *const k_plain[] = {"pg1-f32", "pg2-bf16"};
    static const pali_dtype k_dtypes[] = {PALI_DTYPE_NF4, PALI_DTYPE_FP4, PALI_DTYPE_INT8};
    for (size_t i = 0; i < 2; i++) {
        char dir[512];
        (void)snprintf(dir, sizeof dir, GOLDEN_DIR "/%s", k_plain[i]);
        model *plain = opened(dir, (spec_dtypes){0});
        for (size_t j = 0; j < 3; j++) {
            model *m = opened(dir, (spec_dtypes){.all = k_dtypes[j]});
            for (size_t t = 0; t < m->spec.n; t++) {
                const spec_tensor *s = &m->spec.tensors[t];
                const mat *from = plain->spec.tensors[t].matrix, *made = s->matrix;
                if (!from) continue;
                bool linear = s->n_dims == 2 && s->group != SPEC_EMBED;
                assert_int_equal(made->dtype, linear ? k_dtypes[j] : from->dtype);
                if (!linear) continue;
                assert_int_equal(made->codes->rounding, k_dtypes[j] == PALI_DTYPE_INT8 ? PALI_DTYPE_F32 : from->dtype);
                assert_same_codes(made, from);
            }
            model_free(m);
        }
        model_free(plain);
    }
}

/* ---- Writing ---- */

static void dir_remove(const char *dir) {
    static const char *const k_files[] = {"config.json", "preprocessor_config.json", "model.safetensors", "model.safetensors.index.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"};
    for (size_t i = 0; i < sizeof k_files / sizeof k_files[0]; i++) {
        char path[512];
        (void)snprintf(path, sizeof path, "%s/%s", dir, k_files[i]);
        (void)unlink(path);
    }
    assert_int_equal(rmdir(dir), 0);
}

/* Every matrix of a and b is the same to the bit, and stands for the same. */
static void assert_same_matrices(const model *a, const model *b) {
    assert_int_equal(a->spec.n, b->spec.n);
    assert_int_equal(b->n_extras, 0);
    for (size_t i = 0; i < a->spec.n; i++) {
        const mat *x = a->spec.tensors[i].matrix, *y = b->spec.tensors[i].matrix;
        if (!x) continue;
        if (x->dtype != y->dtype || memcmp(x->data, y->data, mat_bytes(x)) != 0) fail_msg("%s differs", a->spec.tensors[i].name);
        if (!x->codes) continue;
        assert_int_equal(x->codes->rounding, y->codes->rounding);
        assert_memory_equal(x->codes->scales, y->codes->scales, mat_scale_bytes(x));
        if (x->dtype != PALI_DTYPE_INT8) assert_memory_equal(x->codes->table, y->codes->table, sizeof x->codes->table);
    }
}

static json_t *quantization_of(const char *dir) {
    char path[512];
    (void)snprintf(path, sizeof path, "%s/config.json", dir);
    json_t *root = json_load_file(path, 0, NULL), *q = json_incref(json_object_get(root, "quantization_config"));
    json_decref(root);
    return q;
}

/* A directory holds what it was made of, as it is or as loading would have made it (tools/check_bnb.py: what the library makes). */
static void writes_directories(void **state) {
    (void)state;
    static const struct {
        const char *from;
        spec_dtypes d;
        uint64_t shard_bytes;
        const char *skipped; /* first of llm_int8_skip_modules; NULL: null */
    } k_cases[] = {{BNB "pg1-nf4", {0}, 0, NULL},
                   {BNB "pg1-fp4", {0}, 25000, NULL},
                   {BNB "pg1-int8", {0}, 0, NULL},
                   {BNB "pg2-nf4-skip", {0}, 0, "model.vision_tower"},
                   {BNB "pg2-nf4", {.all = PALI_DTYPE_INT8}, 0, NULL},
                   {GOLDEN_DIR "/pg1-f32", {.all = PALI_DTYPE_NF4}, 0, NULL},
                   {GOLDEN_DIR "/pg2-bf16", {PALI_DTYPE_INT8, PALI_DTYPE_BF16, PALI_DTYPE_AUTO}, 0, "model.vision_tower"}};
    for (size_t i = 0; i < sizeof k_cases / sizeof k_cases[0]; i++) {
        char parent[] = "/tmp/pali-bnb-XXXXXX", dir[64];
        assert_non_null(mkdtemp(parent));
        (void)snprintf(dir, sizeof dir, "%s/out", parent);
        model *from = opened(k_cases[i].from, (spec_dtypes){0}), *want = opened(k_cases[i].from, k_cases[i].d);
        check(model_save(from, NULL, dir, &(model_save_options){.dtypes = k_cases[i].d, .shard_bytes = k_cases[i].shard_bytes, .n_threads = 2}));
        model *got = opened(dir, (spec_dtypes){0});
        assert_int_equal(got->weights->n_files, k_cases[i].shard_bytes ? 2 : 1);
        assert_same_matrices(want, got);
        json_t *q = quantization_of(dir), *skip = json_object_get(q, "llm_int8_skip_modules");
        assert_string_equal(json_string_value(json_object_get(q, "quant_method")), "bitsandbytes");
        assert_int_equal(json_is_true(json_object_get(q, "load_in_8bit")), want->text.layers[0].q.dtype == PALI_DTYPE_INT8);
        if (k_cases[i].skipped)
            assert_string_equal(json_string_value(json_array_get(skip, 0)), k_cases[i].skipped);
        else
            assert_true(json_is_null(skip));
        json_decref(q);
        model_free(got);
        model_free(want);
        model_free(from);
        dir_remove(dir);
        assert_int_equal(rmdir(parent), 0);
    }
}

/* Plain again: the decoded weights, and no word of quantization. Other formats have no such types. */
static void writes_other_forms(void **state) {
    (void)state;
    static const char *const k_names[] = {"out", "out.gguf"};
    char parent[] = "/tmp/pali-bnb-XXXXXX", path[64];
    assert_non_null(mkdtemp(parent));
    model *from = opened_golden("pg1-fp4", PALI_DTYPE_AUTO), *want = opened_golden("pg1-fp4", PALI_DTYPE_F16);
    for (size_t i = 0; i < 2; i++) {
        (void)snprintf(path, sizeof path, "%s/%s", parent, k_names[i]);
        check(model_save(from, NULL, path, &(model_save_options){.dtypes = {.all = i ? PALI_DTYPE_AUTO : PALI_DTYPE_F16}, .n_threads = 1}));
        model *got = opened(path, (spec_dtypes){0});
        assert_same_matrices(want, got); /* in .gguf too: f16 is what these codes stand for */
        model_free(got);
        if (i == 0) {
            assert_null(quantization_of(path));
            dir_remove(path);
        }
    }
    assert_int_equal(model_save(from, NULL, path, &(model_save_options){.dtypes = {.all = PALI_DTYPE_NF4}}), PALI_ERR_UNSUPPORTED);
    assert_non_null(strstr(status_message(), "bitsandbytes' types are for directories only"));
    assert_int_equal(unlink(path), 0);
    (void)snprintf(path, sizeof path, "%s/out", parent);
    assert_int_equal(model_save(from, NULL, path, &(model_save_options){.dtypes = {.vision = PALI_DTYPE_NF4}}), PALI_ERR_UNSUPPORTED);
    assert_non_null(strstr(status_message(), "a directory can have only one of them"));
    assert_int_equal(rmdir(parent), 0);
    model_free(from);
    model_free(want);
}

/* Matrices large enough to be made in pieces: SigLIP's, whose blocks straddle rows. */
static void cuts_large_matrices(void **state) {
    (void)state;
    char path[64] = "/tmp/pali-bnb-XXXXXX";
    config cfg;
    model *plain;
    check(config_named(&cfg, "3b-224"));
    cfg.vit.n_layers = cfg.text.n_layers = 1;
    cfg.text.width = 64;
    cfg.text.mlp_width = 96;
    cfg.text.vocab_size = 32;
    assert_non_null(mkdtemp(path));
    strcat(path, "/m.gguf");
    check(model_random_of(&plain, &cfg, 3, &(model_options){.dtype = PALI_DTYPE_BF16}));
    check(model_save(plain, NULL, path, &(model_save_options){.n_threads = 2}));
    for (pali_dtype dtype = PALI_DTYPE_NF4; dtype <= PALI_DTYPE_INT8; dtype += 2) {
        model *m = opened(path, (spec_dtypes){.all = dtype});
        assert_same_codes(&m->vit.layers[0].fc2, &plain->vit.layers[0].fc2);
        assert_same_codes(&m->text.layers[0].q, &plain->text.layers[0].q);
        model_free(m);
    }
    model_free(plain);
    assert_int_equal(unlink(path), 0);
    *strrchr(path, '/') = 0;
    assert_int_equal(rmdir(path), 0);
}

/* The bytes of the library's own quantizers: midpoints, zeros, subnormals, a short last block. */
static void quantizes_as_the_library(void **state) {
    (void)state;
    static const struct {
        pali_dtype dtype;
        const char *x, *codes, *scales, *table;
    } k_cases[] = {{PALI_DTYPE_NF4, "x_nf4", "nf4", "nf4_absmax", "nf4_table"},
                   {PALI_DTYPE_FP4, "x_fp4", "fp4", "fp4_absmax", "fp4_table"},
                   {PALI_DTYPE_INT8, "x_int8", "int8", "int8_scb", NULL}};
    safetensors st;
    check(safetensors_open(&st, BNB "quantizer.safetensors"));
    for (size_t i = 0; i < 3; i++) {
        const st_tensor *x = NULL, *codes = NULL, *scales = NULL, *table = NULL;
        for (size_t t = 0; t < st.n_tensors; t++) {
            if (strcmp(st.tensors[t].name, k_cases[i].x) == 0) x = &st.tensors[t];
            if (strcmp(st.tensors[t].name, k_cases[i].codes) == 0) codes = &st.tensors[t];
            if (strcmp(st.tensors[t].name, k_cases[i].scales) == 0) scales = &st.tensors[t];
            if (k_cases[i].table && strcmp(st.tensors[t].name, k_cases[i].table) == 0) table = &st.tensors[t];
        }
        assert_true(x && codes && scales);
        size_t rows = x->dims[0], cols = x->dims[1];
        mat to = {.dtype = k_cases[i].dtype, .rows = rows, .cols = cols};
        uint8_t *data = malloc(codes->n_bytes), *made = malloc(scales->n_bytes);
        float *values = malloc(x->n_bytes);
        assert_true(data && made && values);
        memcpy(values, x->data, x->n_bytes);
        const coded c = {.data = data, .scales = made, .cols = cols};
        to.codes = &c;
        assert_int_equal(mat_bytes(&to), codes->n_bytes);
        assert_int_equal(mat_scale_bytes(&to), scales->n_bytes);
        encoder e = encode_begin(kernels_get(CPU_REF), &to, 0);
        for (size_t r = 0; r < rows; r++) assert_true(encode_row(&e, values + r * cols));
        encode_end(&e);
        for (size_t b = 0; b < codes->n_bytes; b++)
            if (data[b] != codes->data[b]) fail_msg("%s: byte %zu of codes is %02x, not %02x", k_cases[i].codes, b, data[b], codes->data[b]);
        assert_memory_equal(made, scales->data, scales->n_bytes);
        if (table) assert_memory_equal(i ? k_codes_fp4 : k_codes_nf4, table->data, sizeof k_codes_nf4);
        free(data);
        free(made);
        free(values);
    }
    safetensors_close(&st);
    float row[64] = {0}; /* what is not finite is refused */
    uint8_t data[32], scale[4];
    const coded c = {.data = data, .scales = scale, .cols = 64};
    const mat to = {.dtype = PALI_DTYPE_NF4, .rows = 1, .cols = 64, .data = data, .codes = &c};
    for (int i = 0; i < 3; i++) {
        encoder e = encode_begin(kernels_get(CPU_REF), &to, 0);
        row[63] = i == 0 ? NAN : i == 1 ? -INFINITY : 1;
        assert_int_equal(encode_row(&e, row), i == 2);
    }
}

/* ---- Broken files ---- */

typedef enum edit { DROP, DTYPE, RESHAPE, STATE, VALUE, GROW } edit;

#define Q_NF4 "language_model.model.layers.0.self_attn.q_proj"
#define FC2 "vision_tower.encoder.layers.0.mlp.fc2"
#define STATE_OF(dtype, block, shape, more) "{\"quant_type\": \"nf4\", \"blocksize\": " block ", \"dtype\": \"" dtype "\", \"shape\": " shape more "}"
#define GOOD_SHAPE "[48, 44]"

static void names_what_is_wrong(void **state) {
    (void)state;
    static const struct {
        const char *model, *tensor;
        edit edit;
        const char *text; /* dtype or JSON */
        double value;
        pali_status status;
        const char *message;
    } k_cases[] = {
        {"pg1-nf4", Q_NF4 ".weight.absmax", DROP, NULL, 0, PALI_ERR_FORMAT, ".weight: .absmax is missing beside it"},
        {"pg1-nf4", Q_NF4 ".weight.quant_map", DROP, NULL, 0, PALI_ERR_FORMAT, ".weight: .quant_map is missing beside it"},
        {"pg1-nf4", Q_NF4 ".weight.quant_state.bitsandbytes__nf4", DROP, NULL, 0, PALI_ERR_FORMAT, "has an absmax beside it, but no quant_state"},
        {"pg1-nf4", Q_NF4 ".weight", DROP, NULL, 0, PALI_ERR_FORMAT, "tensor missing"},
        {"pg1-nf4", Q_NF4 ".weight.absmax", DTYPE, "I32", 0, PALI_ERR_FORMAT, ".absmax: 33 of I32, expected 33 of F32"},
        {"pg1-nf4", Q_NF4 ".weight.absmax", RESHAPE, NULL, 32, PALI_ERR_FORMAT, ".absmax: 32 of F32, expected 33 of F32"},
        {"pg1-nf4", Q_NF4 ".weight.quant_map", RESHAPE, NULL, 15, PALI_ERR_FORMAT, ".quant_map: 15 of F32, expected 16 of F32"},
        {"pg1-nf4", Q_NF4 ".weight.quant_map", VALUE, NULL, (double)INFINITY, PALI_ERR_FORMAT, ".quant_map: a value is not finite"},
        {"pg1-nf4", Q_NF4 ".weight.absmax", VALUE, NULL, (double)NAN, PALI_ERR_FORMAT, ".weight: a scale beside it is not finite"},
        {"pg1-nf4", Q_NF4 ".weight.absmax", VALUE, NULL, (double)-INFINITY, PALI_ERR_FORMAT, ".weight: a scale beside it is not finite"},
        {"pg1-fp4", Q_NF4 ".weight.nested_absmax", VALUE, NULL, 1e9, PALI_ERR_FORMAT, "so large that weights are not"}, /* beyond f16 */
        {"pg1-nf4", Q_NF4 ".weight", RESHAPE, NULL, 1055, PALI_ERR_FORMAT, "1055 bytes, but its quant_state has the shape [48, 44], which needs 1056"},
        {"pg1-nf4", Q_NF4 ".weight", STATE, "", 0, PALI_ERR_FORMAT, "line 1"},
        {"pg1-nf4", Q_NF4 ".weight", STATE, "[]", 0, PALI_ERR_FORMAT, ": expected an object"},
        {"pg1-nf4", Q_NF4 ".weight", STATE, "{}", 0, PALI_ERR_FORMAT, "quant_type: '', expected 'nf4'"},
        {"pg1-nf4", Q_NF4 ".weight", STATE, "{\"quant_type\": \"fp4\"}", 0, PALI_ERR_FORMAT, "quant_type: 'fp4', expected 'nf4'"},
        {"pg1-nf4", Q_NF4 ".weight", STATE, "{\"quant_type\": 4}", 0, PALI_ERR_FORMAT, "quant_type: expected a string"},
        {"pg1-nf4", Q_NF4 ".weight", STATE, STATE_OF("float32", "128", GOOD_SHAPE, ""), 0, PALI_ERR_UNSUPPORTED, "blocksize: 128: only 64 is supported"},
        {"pg1-nf4", Q_NF4 ".weight", STATE, STATE_OF("float32", "-64", GOOD_SHAPE, ""), 0, PALI_ERR_FORMAT, "blocksize: -64 is not between"},
        {"pg1-nf4", Q_NF4 ".weight", STATE, STATE_OF("float64", "64", GOOD_SHAPE, ""), 0, PALI_ERR_UNSUPPORTED, "dtype: 'float64': expected float32"},
        {"pg1-nf4", Q_NF4 ".weight", STATE, STATE_OF("float32", "64", "[44, 48]", ""), 0, PALI_ERR_FORMAT, "shape [44, 48], expected [48, 44]"},
        {"pg1-nf4", Q_NF4 ".weight", STATE, STATE_OF("float32", "64", "[2112]", ""), 0, PALI_ERR_FORMAT, "shape: expected two sizes"},
        {"pg1-nf4", Q_NF4 ".weight", STATE, STATE_OF("float32", "64", "[48, 44, 1]", ""), 0, PALI_ERR_FORMAT, "shape: expected two sizes"},
        {"pg1-nf4", Q_NF4 ".weight", STATE, STATE_OF("float32", "64", "[0, 44]", ""), 0, PALI_ERR_FORMAT, "shape: expected two sizes"},
        {"pg1-nf4", Q_NF4 ".weight", STATE, STATE_OF("float32", "64", "[-48, -44]", ""), 0, PALI_ERR_FORMAT, "shape: expected two sizes"},
        {"pg1-nf4", Q_NF4 ".weight", STATE, STATE_OF("float32", "64", "[4294967296, 4294967296]", ""), 0, PALI_ERR_FORMAT, "shape: expected two sizes"},
        {"pg1-nf4", Q_NF4 ".weight", STATE, STATE_OF("float32", "64", "[16777216, 16777216]", ""), 0, PALI_ERR_FORMAT, "which needs 140737488355328"},
        {"pg1-nf4", Q_NF4 ".weight", GROW, NULL, 4097, PALI_ERR_LIMIT, "4097 bytes, more than the limit of 4096"},
        {"pg1-fp4", Q_NF4 ".weight.nested_absmax", DROP, NULL, 0, PALI_ERR_FORMAT, ".nested_absmax is missing beside it"},
        {"pg1-fp4", Q_NF4 ".weight.nested_quant_map", DROP, NULL, 0, PALI_ERR_FORMAT, ".nested_quant_map is missing beside it"},
        {"pg1-fp4", Q_NF4 ".weight.nested_quant_map", RESHAPE, NULL, 255, PALI_ERR_FORMAT, "255 of F32, expected 256 of F32"},
        {"pg1-fp4", Q_NF4 ".weight.nested_absmax", VALUE, NULL, (double)NAN, PALI_ERR_FORMAT, "a scale beside it is not finite"},
        {"pg2-nf4", "model.language_model.layers.0.self_attn.q_proj.weight", STATE, STATE_OF("bfloat16", "64", "[64, 64]", ""), 0, PALI_ERR_UNSUPPORTED, "nested_blocksize: 0: only 256"},
        {"pg2-nf4", "model.language_model.layers.0.self_attn.q_proj.weight", STATE, STATE_OF("bfloat16", "64", "[64, 64]", ", \"nested_blocksize\": 256"), 0, PALI_ERR_FORMAT, "nested_offset: missing"},
        {"pg2-nf4", "model.language_model.layers.0.self_attn.q_proj.weight", STATE, STATE_OF("bfloat16", "64", "[64, 64]", ", \"nested_blocksize\": 256, \"nested_offset\": 1e60"), 0, PALI_ERR_FORMAT, "nested_offset: 1e+60"},
        {"pg2-nf4", "model.language_model.layers.0.self_attn.q_proj.weight", STATE, STATE_OF("bfloat16", "64", "[64, 64]", ", \"nested_blocksize\": 256, \"nested_offset\": 1, \"nested_dtype\": \"float16\""), 0, PALI_ERR_UNSUPPORTED, "nested_dtype: 'float16'"},
        {"pg1-int8", FC2 ".SCB", DROP, NULL, 0, PALI_ERR_UNSUPPORTED, "dtype I8 is not supported"},
        {"pg1-int8", FC2 ".SCB", RESHAPE, NULL, 35, PALI_ERR_FORMAT, ".SCB: 35 of F32, expected 36 of F32"},
        {"pg1-int8", FC2 ".SCB", VALUE, NULL, (double)NAN, PALI_ERR_FORMAT, "a scale beside it is not finite"},
        {"pg1-int8", FC2 ".SCB", VALUE, NULL, 3e38, PALI_ERR_FORMAT, "so large that weights are not"},
        {"pg1-int8", FC2 ".weight", DTYPE, "U8", 0, PALI_ERR_FORMAT, "has a SCB beside it, but is not a matrix of I8"},
        {"pg1-int8", FC2 ".weight_format", VALUE, NULL, 1, PALI_ERR_FORMAT, ".weight_format: expected one byte of 0"},
    };
    for (size_t i = 0; i < sizeof k_cases / sizeof k_cases[0]; i++) {
        checkpoint c;
        model *m;
        char name[200];
        bool of_state = k_cases[i].edit == STATE || k_cases[i].edit == GROW;
        (void)snprintf(name, sizeof name, "%s%s", k_cases[i].tensor, of_state ? ".quant_state.bitsandbytes__nf4" : "");
        checkpoint_new(&c);
        checkpoint_read(&c, k_models[0]);
        for (size_t j = 0; j < c.n; j++) free(c.tensors[j].data);
        c.n = 0;
        checkpoint_read(&c, k_cases[i].model);
        size_t at = 0;
        while (at < c.n && strcmp(c.tensors[at].name, name) != 0) at++;
        if (at == c.n) fail_msg("case %zu: no tensor %s", i, name);
        tensor *t = &c.tensors[at];
        const float value = (float)k_cases[i].value;
        size_t n = (size_t)(k_cases[i].edit == RESHAPE || k_cases[i].edit == GROW ? k_cases[i].value : 0), size = *t->dtype == 'F' ? 4 : 1;
        switch (k_cases[i].edit) {
        case DROP:
            free(t->data);
            *t = c.tensors[--c.n];
            break;
        case DTYPE: (void)snprintf(t->dtype, sizeof t->dtype, "%s", k_cases[i].text); break;
        case RESHAPE:
            t->n_dims = 1;
            t->dims[0] = n;
            t->n_bytes = n * size;
            break;
        case STATE:
            free(t->data);
            t->n_bytes = t->dims[0] = strlen(k_cases[i].text);
            t->data = (uint8_t *)strdup(k_cases[i].text);
            break;
        case VALUE: memcpy(t->data, size == 4 ? (const void *)&value : (const void *)"\1", size); break;
        case GROW:
            free(t->data);
            t->n_bytes = t->dims[0] = n;
            t->data = calloc(n, 1);
            break;
        }
        assert_non_null(t->data);
        checkpoint_write(&c, k_cases[i].model);
        pali_status status = model_load(&m, c.dir, &(model_options){.n_threads = 1});
        if (status == PALI_OK) fail_msg("case %zu (%s): loads", i, k_cases[i].message);
        if (!strstr(status_message(), k_cases[i].message)) fail_msg("case %zu: \"%s\" has no \"%s\"", i, status_message(), k_cases[i].message);
        if (!strstr(status_message(), c.dir)) fail_msg("case %zu: \"%s\" names no file", i, status_message());
        assert_int_equal(status, k_cases[i].status);
        assert_null(strchr(status_message(), '\n'));
        checkpoint_free(&c);
    }
}

static void survives_lack_of_memory(void **state) {
    (void)state;
    for (size_t k = 1;; k++) {
        model *m;
        mem_fail_after(k);
        pali_status s = model_load(&m, BNB "pg1-fp4", &(model_options){.n_threads = 1, .dtype = PALI_DTYPE_NF4});
        mem_fail_after(0);
        if (s == PALI_OK) {
            model_free(m);
            assert_true(k > 20);
            return;
        }
        assert_int_equal(s, PALI_ERR_MEMORY);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decodes_the_formula), cmocka_unit_test(computes_what_f32_does), cmocka_unit_test(converts_to_other_types),
        cmocka_unit_test(quantizes_while_loading), cmocka_unit_test(writes_directories), cmocka_unit_test(writes_other_forms), cmocka_unit_test(cuts_large_matrices), cmocka_unit_test(quantizes_as_the_library),
        cmocka_unit_test(names_what_is_wrong), cmocka_unit_test(survives_lack_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
