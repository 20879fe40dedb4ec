/* test_convert.c: models from one format into another and back. Every tensor must come back with the bytes and the type that it had,
 * or rounded once. (What else is in a directory: test_save_hf.c; writes that fail: test_save_bad.c; adapters: test_merge.c.) */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/halffloat.h"
#include "golden.h"
#include "io/npz.h"
#include "io/npz_write.h"
#include "same_model.h"
#include "savedir.h"

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
        savedir_golden(dir, name);
        for (size_t j = 0; j < 4; j++) {
            if (!holds(name, k_dtypes[j])) continue;
            for (size_t k = 0; k < 3; k++) {
                bool mixed = own_dtype(name) == PALI_DTYPE_AUTO;
                if (mixed && (k > 0 || k_dtypes[j] != PALI_DTYPE_AUTO)) continue; /* an array has one type; vectors are f32 in .gguf files */
                savedir_put_config(name);
                savedir_convert(dir, savedir_in(k_ways[k]), k_dtypes[j]);
                savedir_convert(savedir_in(k_ways[k]), savedir_in("back"), k_dtypes[j] == PALI_DTYPE_AUTO ? PALI_DTYPE_AUTO : own_dtype(name));
                assert_same_files(dir, savedir_in("back"));
                n_trips++;
                savedir_clean(NULL);
            }
        }
    }
    assert_int_equal(n_trips, 3 * (2 * 2 + 3 * 3) + 1); /* two models of f32, three of 16 bits, the mixed one */
}

/* All values, where types cannot be kept: an array has one for all layers. */
static void keeps_values_of_mixed_types(void **state) {
    (void)state;
    model *a = savedir_open_golden("pg1-mixed");
    savedir_put_config("pg1-mixed");
    savedir_save(a, NULL, savedir_in("m.npz"), PALI_DTYPE_AUTO);
    savedir_save(a, NULL, savedir_in("m.gguf"), PALI_DTYPE_AUTO);
    savedir_convert(savedir_in("m.gguf"), savedir_in("g"), PALI_DTYPE_AUTO);
    static const char *const k_made[] = {"m.npz", "g"};
    char dir[512];
    savedir_golden(dir, "pg1-mixed");
    model *want = savedir_open(dir, PALI_DTYPE_F32);
    for (size_t i = 0; i < 2; i++) {
        model *got = savedir_open(savedir_in(k_made[i]), PALI_DTYPE_F32);
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
    model *a = savedir_open_golden("pg2-f32");
    for (size_t i = 0; i < 4; i++) {
        pali_dtype dtype = k_dtypes[i / 2];
        savedir_put_config("pg2-f32");
        savedir_save(a, NULL, savedir_in(k_made[i % 2]), dtype);
        model *b = savedir_open(savedir_in(k_made[i % 2]), PALI_DTYPE_AUTO);
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
        savedir_clean(NULL);
    }
    model_free(a);
}

/* Formats without quantized weights get bf16 of what those weights are. */
static void expands_quantized_weights(void **state) {
    (void)state;
    static const pali_dtype k_dtypes[] = {PALI_DTYPE_Q8_0, PALI_DTYPE_Q4_K};
    for (size_t i = 0; i < 2; i++) {
        model *a = savedir_open_golden("pg1-f32");
        savedir_save(a, NULL, savedir_in("q.gguf"), k_dtypes[i]);
        model_free(a);
        savedir_put_config("pg1-f32");
        model *q = savedir_open(savedir_in("q.gguf"), PALI_DTYPE_AUTO), *want = savedir_open(savedir_in("q.gguf"), PALI_DTYPE_BF16);
        savedir_save(q, NULL, savedir_in("d"), PALI_DTYPE_AUTO);
        savedir_save(q, NULL, savedir_in("d.npz"), PALI_DTYPE_AUTO);
        static const char *const k_made[] = {"d", "d.npz"};
        for (size_t k = 0; k < 2; k++) {
            model *got = savedir_open(savedir_in(k_made[k]), PALI_DTYPE_AUTO);
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
        savedir_clean(NULL);
    }
}

/* Query, key and value in one array where they have as many heads; and models that came from nowhere. */
static void writes_models_made_in_memory(void **state) {
    (void)state;
    model *g = savedir_open_golden("pg2-bf16"), *m;
    config cfg = g->cfg;
    model_options o = {.n_threads = 2};
    cfg.text.n_kv_heads = cfg.text.n_heads;
    assert_int_equal(model_random_of(&m, &cfg, 3, &o), PALI_OK);
    savedir_save(m, NULL, savedir_in("m"), PALI_DTYPE_AUTO);
    savedir_save(m, NULL, savedir_in("m/m.npz"), PALI_DTYPE_AUTO);
    model *a = savedir_open(savedir_in("m"), PALI_DTYPE_AUTO), *b = savedir_open(savedir_in("m/m.npz"), PALI_DTYPE_AUTO);
    assert_same_config(&cfg, &a->cfg);
    npz z;
    const char *path = savedir_in("m/m.npz");
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
        const char *path = savedir_in("z.npz");
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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(comes_back_as_it_was, savedir_clean),
        cmocka_unit_test_teardown(keeps_values_of_mixed_types, savedir_clean),
        cmocka_unit_test_teardown(rounds_to_nearest_even, savedir_clean),
        cmocka_unit_test_teardown(expands_quantized_weights, savedir_clean),
        cmocka_unit_test_teardown(writes_models_made_in_memory, savedir_clean),
        cmocka_unit_test_teardown(writes_zip64, savedir_clean),
    };
    return cmocka_run_group_tests(tests, savedir_setup, savedir_teardown);
}
