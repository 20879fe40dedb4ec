/* test_weights_npz.c: big_vision's .npz files as models: the files that tests make of the tiny checkpoints are numpy's, and whatever way
 * they are stored, what loads has the bits of the checkpoint, through the public interface too. (What does not fit:
 * test_weights_npz_bad.c; which part of which array a tensor is: test_spec_npz.c.) */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/mem.h"
#include "golden.h"
#include "io/npz.h"
#include "model/config_json.h"
#include "model/model.h"
#include "model/save.h"
#include "npz_model.h"
#include "paligemma.h"
#include "same_model.h"

static void check(pali_status status) {
    if (status != PALI_OK) fail_msg("%s: %s", pali_status_name(status), status_message());
}

static void makes_what_numpy_makes(void **state) {
    (void)state;
    json_error_t error;
    json_t *goldens = json_load_file(PALI_TEST_DATA "/npz/models.json", 0, &error);
    if (!goldens) fail_msg("%s", error.text);
    for (const char *const *name = k_golden_models; *name; name++) {
        npz_model home;
        json_t *golden_arrays = golden_field(goldens, *name);
        npz_model_open(&home, *name);
        assert_int_equal(json_object_size(golden_arrays), home.arrays.n);
        for (size_t i = 0; i < home.arrays.n; i++) {
            const array *have = &home.arrays.list[i];
            json_t *want = golden_field(golden_arrays, have->name), *shape = json_array_get(want, 1);
            assert_string_equal(json_string_value(json_array_get(want, 0)), have->descr);
            assert_int_equal(json_array_size(shape), have->n_dims);
            for (size_t d = 0; d < have->n_dims; d++) assert_int_equal(json_integer_value(json_array_get(shape, d)), have->dims[d]);
            if (json_integer_value(json_array_get(want, 2)) != (json_int_t)crc32_z(0, have->data, have->n_bytes)) fail_msg("%s: %s differs", *name, have->name);
        }
        npz_model_close(&home);
    }
    json_decref(goldens);
}

/* ---- The same bits ---- */

/* The values of every matrix and vector, whatever type they have. */
static void values_compare(const model *m, const model *want) {
    const kernels *k = kernels_get(CPU_REF);
    assert_same_config(&m->cfg, &want->cfg);
    assert_int_equal(m->spec.n, want->spec.n);
    for (size_t i = 0; i < want->spec.n; i++) {
        const spec_tensor *t[2] = {&m->spec.tensors[i], &want->spec.tensors[i]};
        float *x[2];
        size_t n = 1;
        assert_string_equal(t[0]->name, t[1]->name);
        for (size_t d = 0; d < t[1]->n_dims; d++) n *= t[1]->dims[d];
        for (size_t j = 0; j < 2; j++) {
            x[j] = malloc(n * sizeof **x);
            assert_non_null(x[j]);
            if (t[j]->matrix)
                mat_rows_f32(k, x[j], t[j]->matrix, 0, t[j]->matrix->rows);
            else
                memcpy(x[j], *t[j]->vector, n * sizeof **x);
        }
        if (memcmp(x[0], x[1], n * sizeof **x) != 0) fail_msg("%s differs", t[0]->name);
        free(x[0]);
        free(x[1]);
    }
}

static void has_the_bits_of_the_checkpoint(void **state) {
    (void)state;
    static const unsigned k_ways[] = {PARAMS, 0, UNSTACKED, PARAMS | DEFLATED, FORTRAN, UNSTACKED | FORTRAN | DEFLATED | EXTRAS};
    for (const char *const *name = k_golden_models; *name; name++) {
        npz_model home;
        model *hf;
        const model_options o = {.n_threads = 2};
        npz_model_open(&home, *name);
        check(model_load(&hf, home.golden, &o));
        for (size_t i = 0; i < sizeof k_ways / sizeof k_ways[0]; i++) {
            model *m;
            npz_model_write(&home, k_ways[i]);
            check(model_load(&m, home.path, &o));
            assert_int_equal(m->n_extras, k_ways[i] & EXTRAS ? 2 : 0);
            if (k_ways[i] & EXTRAS || strcmp(*name, "pg1-mixed") == 0)
                values_compare(m, hf);
            else
                assert_same_model(m, hf);
            /* Only the table is used where it lies, and only if it lies there as rows. */
            for (size_t t = 0; t < m->spec.n; t++) {
                const mat *matrix = m->spec.tensors[t].matrix;
                bool in_place = matrix == &m->text.embed && !(k_ways[i] & (DEFLATED | FORTRAN));
                if (matrix) assert_int_equal(weights_is_mapped(m->weights, matrix->data), in_place);
            }
            const npz *z = m->weights->files[0].handle;
            assert_int_equal(z->n_inflated, 0);
            model_free(m);
        }
        model_free(hf);
        npz_model_close(&home);
    }
}

static void converts_like_the_checkpoint(void **state) {
    (void)state;
    static const pali_dtype k_dtypes[] = {PALI_DTYPE_F32, PALI_DTYPE_BF16, PALI_DTYPE_F16, PALI_DTYPE_Q8_0, PALI_DTYPE_Q4_K, PALI_DTYPE_NF4, PALI_DTYPE_INT8};
    static const char *const k_names[] = {"pg1-f16", "pg2-bf16"};
    for (size_t i = 0; i < 2; i++) {
        npz_model home;
        npz_model_open(&home, k_names[i]);
        for (size_t d = 0; d < sizeof k_dtypes / sizeof k_dtypes[0]; d++) {
            const model_options o = {.dtype = k_dtypes[d], .n_threads = 1 + (int)(d % 2)};
            model *m, *hf;
            check(model_load(&hf, home.golden, &o));
            npz_model_write(&home, d % 2 ? DEFLATED : PARAMS);
            check(model_load(&m, home.path, &o));
            values_compare(m, hf);
            if (!dtype_is_codes(k_dtypes[d])) assert_same_model(m, hf);
            model_free(m);
            model_free(hf);
        }
        npz_model_close(&home);
    }
}

/* Opened to be saved, nothing is copied but vectors; what is written is the same, and such a model does not run. */
static void saves_without_putting_in_order(void **state) {
    (void)state;
    static const unsigned k_ways[] = {PARAMS, FORTRAN, DEFLATED};
    static const pali_dtype k_dtypes[] = {PALI_DTYPE_AUTO, PALI_DTYPE_F32, PALI_DTYPE_Q8_0};
    char out[160];
    npz_model home;
    npz_model_open(&home, "pg2-bf16");
    (void)snprintf(out, sizeof out, "%s/out.gguf", home.dir);
    for (size_t i = 0; i < sizeof k_ways / sizeof k_ways[0]; i++) {
        model *m, *hf, *saved;
        npz_model_write(&home, k_ways[i]);
        check(model_load(&m, home.path, &(model_options){.n_threads = 2, .no_prefault = true}));
        assert_true((m->weights->block_bytes == 0) == !(k_ways[i] & DEFLATED));
        check(model_load(&hf, home.golden, &(model_options){.n_threads = 2}));
        values_compare(m, hf);
        model_free(hf);
        for (size_t d = 0; d < sizeof k_dtypes / sizeof k_dtypes[0]; d++) {
            check(model_load(&hf, home.golden, &(model_options){.dtype = k_dtypes[d], .n_threads = 2}));
            check(model_save(m, NULL, out, &(model_save_options){.dtypes = {.all = k_dtypes[d]}, .n_threads = 2}));
            check(model_load(&saved, out, &(model_options){.n_threads = 2}));
            assert_same_model(saved, hf);
            model_free(saved);
            model_free(hf);
        }
        assert_int_equal(model_check_runs(m), k_ways[i] & DEFLATED ? PALI_OK : PALI_ERR_ARGUMENT);
        model_free(m);
    }
    npz_model_write(&home, 0);
    pali_model *public;
    pali_session *session;
    pali_model_options o;
    pali_model_options_init(&o);
    o.no_prefault = 1;
    check(pali_model_load(&public, home.path, &o));
    assert_int_equal(pali_session_new(&session, public, NULL), PALI_ERR_ARGUMENT);
    assert_null(session);
    assert_non_null(strstr(pali_last_error(), "model.npz: opened with no_prefault"));
    pali_model_free(public);
    npz_model_close(&home);
}

/* As many heads for keys as for queries: one array for all three. */
static void reads_queries_keys_and_values_together(void **state) {
    (void)state;
    config c = {0};
    model *random, *m;
    npz_model home;
    weights hf = {0};
    char config_path[128];
    npz_model_open(&home, "pg2-f32");
    c.vit = (vit_config){.image_size = 8, .patch_size = 4, .n_patches = 4, .width = 6, .n_layers = 2, .n_heads = 2, .mlp_width = 5, .norm_eps = 1e-6f};
    c.text = (gemma_config){.generation = 2, .width = 10, .n_layers = 2, .n_heads = 3, .n_kv_heads = 3, .head_dim = 4, .mlp_width = 7, .vocab_size = 40};
    config_defaults(&c);
    config_text_defaults(&c.text);
    c.text.attn_scale = 0.5f; /* of a head dim of 4 */
    check(model_random_of(&random, &c, 5, &(model_options){.dtype = PALI_DTYPE_F32, .n_threads = 1}));
    for (size_t i = 0; i < random->spec.n; i++) {
        const spec_tensor *t = &random->spec.tensors[i];
        size_t n = 1;
        for (size_t d = 0; d < t->n_dims; d++) n *= t->dims[d];
        check(weights_add(&hf, t->name, &(weights_entry){.dtype = PALI_DTYPE_F32, .data = t->matrix ? t->matrix->data : (const void *)*t->vector, .n_bytes = 4 * n}));
    }
    check(weights_seal(&hf));
    arrays_make(&home.arrays, &hf, &c);
    assert_int_equal(arrays_find(&home.arrays, "llm/layers/attn/qkv_einsum/w")->dims[1], 3);
    (void)snprintf(config_path, sizeof config_path, "%s/config.json", home.dir);
    assert_int_equal(unlink(config_path), 0); /* which is of other sizes */
    npz_model_write(&home, UNSTACKED);
    assert_int_equal(model_load(&m, home.path, &(model_options){.n_threads = 1}), PALI_ERR_FORMAT);
    assert_non_null(strstr(status_message(), "a Gemma 2 of no released size (width 10, 2 layers): expected a config.json beside it"));
    char *text;
    check(config_json_text(&text, &c, "float32", NULL, NULL));
    check(file_write_atomic(config_path, text, strlen(text)));
    mem_free(text);
    check(model_load(&m, home.path, &(model_options){.n_threads = 1}));
    assert_same_model(m, random);
    for (size_t i = 0; i < hf.n_entries; i++) mem_free(hf.entries[i].name);
    mem_free(hf.entries);
    model_free(m);
    model_free(random);
    npz_model_close(&home);
}

static void plans_what_it_takes(void **state) {
    (void)state;
    static const struct {
        unsigned how;
        pali_dtype dtype;
    } k_cases[] = {{0, PALI_DTYPE_AUTO}, {0, PALI_DTYPE_F32}, {0, PALI_DTYPE_Q8_0}, {DEFLATED, PALI_DTYPE_AUTO}, {FORTRAN, PALI_DTYPE_AUTO}, {DEFLATED | UNSTACKED, PALI_DTYPE_Q4_K}};
    npz_model home;
    npz_model_open(&home, "pg1-bf16");
    for (size_t i = 0; i < sizeof k_cases / sizeof k_cases[0]; i++) {
        const model_options o = {.dtype = k_cases[i].dtype, .n_threads = 1};
        model *outline, *m;
        weights_memory memory;
        size_t mapped = 0, largest = 0;
        npz_model_write(&home, k_cases[i].how);
        check(model_outline(&outline, &memory, home.path, false, &o));
        check(model_load(&m, home.path, &o));
        for (size_t j = 0; j < m->spec.n; j++) {
            const mat *w = m->spec.tensors[j].matrix, *planned = outline->spec.tensors[j].matrix;
            if (!w) continue;
            assert_int_equal(w->dtype, planned->dtype);
            if (weights_is_mapped(m->weights, w->data)) mapped += (w->rows * mat_row_bytes(w) + 63) & ~(size_t)63;
        }
        for (size_t j = 0; j < home.arrays.n; j++) largest = home.arrays.list[j].n_bytes > largest ? home.arrays.list[j].n_bytes : largest;
        assert_int_equal(memory.block, m->weights->block_bytes);
        assert_int_equal(memory.mapped, mapped);
        assert_int_equal(memory.unpacked, k_cases[i].how & DEFLATED ? largest : 0);
        model_free(m);
        model_free(outline);
    }
    npz_model_close(&home);
}

/* ---- Through the public interface ---- */

static pali_result *answer(pali_model *m, const pali_generate_options *o) {
    pali_session *s;
    pali_image *image;
    pali_result *result;
    check(pali_image_load(&image, GOLDEN_DIR "/images/tall.png"));
    check(pali_session_new(&s, m, NULL));
    check(pali_generate(s, (const pali_image *const *)&image, 1, "caption en", o, &result));
    pali_session_free(s);
    pali_image_free(image);
    return result;
}

static void answers_like_the_checkpoint(void **state) {
    (void)state;
    static const char *const k_names[] = {"pg1-f16", "pg2-bf16"};
    pali_generate_options o;
    pali_generate_options_init(&o);
    o.max_tokens = 12;
    o.ignore_eos = 1;
    for (size_t i = 0; i < 2; i++) {
        npz_model home;
        pali_result *result[2];
        pali_sequence answers[2] = {{.struct_size = sizeof *answers}, {.struct_size = sizeof *answers}};
        npz_model_open(&home, k_names[i]);
        npz_model_write(&home, PARAMS);
        for (size_t j = 0; j < 2; j++) {
            pali_model *m;
            check(pali_model_load(&m, j ? home.golden : home.path, NULL)); /* with the tokenizer that lies beside it */
            result[j] = answer(m, &o);
            check(pali_result_get(result[j], 0, &answers[j]));
            pali_model_free(m);
        }
        assert_int_equal(answers[0].n_tokens, 12);
        assert_int_equal(answers[1].n_tokens, 12);
        assert_memory_equal(answers[0].tokens, answers[1].tokens, 12 * sizeof(int32_t));
        assert_memory_equal(answers[0].logprobs, answers[1].logprobs, 12 * sizeof(float));
        for (size_t j = 0; j < 2; j++) pali_result_free(result[j]);
        npz_model_close(&home);
    }
}

/* big_vision's table ends where the real tokens end: <image> is beyond it, as are the padding rows of Hugging Face's. */
static void does_without_a_row_for_the_image(void **state) {
    (void)state;
    enum { ROWS = 1473 }; /* of the tiny tokenizer; <image> is the next id */
    npz_model home;
    pali_model *m;
    pali_session *s;
    pali_image *image;
    pali_result *result;
    pali_model_info info = {.struct_size = sizeof info};
    pali_generate_options o;
    npz_model_open(&home, "pg1-bf16");
    array *table = arrays_find(&home.arrays, "llm/embedder/input_embedding");
    table->n_bytes = table->n_bytes / table->dims[0] * ROWS;
    table->dims[0] = ROWS;
    npz_model_write(&home, 0);
    check(pali_model_load(&m, home.path, NULL));
    check(pali_model_get_info(m, &info));
    assert_int_equal(info.vocab_size, ROWS);
    assert_int_equal(info.image_token, ROWS);
    pali_generate_options_init(&o);
    o.max_tokens = 4;
    pali_generate_options sampled = o, beams = o, constrained = o;
    sampled.temperature = 1;
    sampled.repetition_penalty = 1.5f; /* counts the prompt's ids, <image> among them */
    beams.num_beams = 3;
    beams.repetition_penalty = 1.5f;
    constrained.constrain = PALI_CONSTRAIN_DETECT;
    constrained.max_tokens = 6;
    const pali_generate_options *const ways[] = {&o, &sampled, &beams, &constrained};
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        pali_sequence first = {.struct_size = sizeof first};
        result = answer(m, ways[i]);
        check(pali_result_get(result, 0, &first));
        for (size_t t = 0; t < first.n_tokens; t++) assert_in_range(first.tokens[t], 0, ROWS - 1);
        pali_result_free(result);
    }
    check(pali_image_load(&image, GOLDEN_DIR "/images/tall.png"));
    check(pali_session_new(&s, m, NULL));
    const int32_t k_ids[] = {2, ROWS + 1};
    assert_int_equal(pali_generate_tokens(s, NULL, 0, k_ids, 2, &o, &result), PALI_ERR_ARGUMENT);
    assert_non_null(strstr(pali_last_error(), "token id 1474: the model's table has 1473 rows"));
    pali_session_free(s);
    pali_image_free(image);
    pali_model_free(m);
    npz_model_close(&home);
}

static void looks_for_a_tokenizer(void **state) {
    (void)state;
    char path[700], moved[160];
    npz_model home;
    pali_model *m;
    pali_model_options o;
    pali_model_options_init(&o);
    npz_model_open(&home, "pg1-bf16");
    npz_model_write(&home, 0);
    (void)snprintf(path, sizeof path, "%s/tokenizer.json", home.dir);
    (void)snprintf(moved, sizeof moved, "%s/paligemma_tokenizer.model", home.dir); /* opened by content */
    assert_int_equal(rename(path, moved), 0);
    check(pali_model_load(&m, home.path, NULL));
    assert_non_null(pali_model_tokenizer(m));
    pali_model_free(m);
    assert_int_equal(unlink(moved), 0);
    assert_int_equal(pali_model_load(&m, home.path, NULL), PALI_ERR_IO);
    assert_null(m);
    (void)snprintf(moved, sizeof moved, "%s: no tokenizer: found neither tokenizer.json nor", home.path);
    assert_ptr_equal(strstr(pali_last_error(), moved), pali_last_error());
    (void)snprintf(path, sizeof path, "%s/tokenizer.json", home.golden);
    o.tokenizer_path = path;
    check(pali_model_load(&m, home.path, &o));
    pali_model_free(m);

    /* Opened by its content too; and not taken for a mask codec, which has the same ending. */
    (void)snprintf(moved, sizeof moved, "%s/model.bin", home.dir);
    assert_int_equal(rename(home.path, moved), 0);
    check(pali_model_load(&m, moved, &o));
    pali_model_free(m);
    assert_int_equal(pali_mask_codec_is_npz(moved), 0);
    assert_int_equal(pali_mask_codec_is_npz(PALI_TEST_DATA "/codec/narrow.npz"), 1);
    assert_int_equal(pali_mask_codec_is_npz("/nowhere"), 0);
    assert_int_equal(pali_mask_codec_is_npz(NULL), 0);
    npz_model_close(&home);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(makes_what_numpy_makes),
        cmocka_unit_test(has_the_bits_of_the_checkpoint),
        cmocka_unit_test(converts_like_the_checkpoint),
        cmocka_unit_test(saves_without_putting_in_order),
        cmocka_unit_test(reads_queries_keys_and_values_together),
        cmocka_unit_test(plans_what_it_takes),
        cmocka_unit_test(answers_like_the_checkpoint),
        cmocka_unit_test(does_without_a_row_for_the_image),
        cmocka_unit_test(looks_for_a_tokenizer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
