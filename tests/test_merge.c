/* test_merge.c: adapters merged into what is saved: in every form W + s B A in f32, rounded once, and a report of what that costs. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/halffloat.h"
#include "base/mem.h"
#include "model/save.h"
#include "model/view.h"
#include "savedir.h"

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
    savedir_golden(dir, "pg1-f32");
    for (size_t i = 0; i < 12; i++) {
        pali_dtype dtype = k_dtypes[i / 6];
        model *base = savedir_open(dir, dtype), *view;
        adapter *a;
        char path[512];
        savedir_put_config("pg1-f32");
        (void)snprintf(path, sizeof path, "%s/lora/%s", PALI_TEST_DATA, k_adapters[i / 3 % 2]);
        if (adapter_open(&a, path, base, false) != PALI_OK) fail_msg("%s", status_message());
        const adapter_use use = {a, 0.5f};
        assert_int_equal(view_adapt(&view, base, &use, 1), PALI_OK);
        merge_report report = {0};
        model_save_options o = {.n_threads = 2, .merge = &report, .dtypes = {.all = dtype}};
        if (model_save(view, NULL, savedir_in(k_made[i % 3]), &o) != PALI_OK) fail_msg("%s", status_message());
        model *got = savedir_open(savedir_in(k_made[i % 3]), PALI_DTYPE_AUTO);
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
        savedir_clean(NULL);
    }
    exec_free(&x);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(merges_adapters, savedir_clean),
    };
    return cmocka_run_group_tests(tests, savedir_setup, savedir_teardown);
}
