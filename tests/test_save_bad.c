/* test_save_bad.c: a model that cannot be saved, for lack of room, memory, patience, a place or a type, leaves nothing behind and touches
 * nothing that is there. */
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/mem.h"
#include "model/save.h"
#include "savedir.h"

static int cancel_progress(void *user, const char *what, uint64_t done, uint64_t total) {
    int *left = user;
    assert_non_null(what);
    assert_true(done <= total);
    return --*left == 0;
}

static const char *const k_outputs[] = {"m", "m.npz", "m.gguf"};

static void stops_and_leaves_nothing(void **state) {
    (void)state;
    model *m = savedir_open_golden("pg1-bf16");
    tokenizer *t = savedir_tokenizer("pg1-f32");
    for (size_t i = 0; i < 3; i++) {
        int n = 0; /* never stops */
        model_save_options o = {.n_threads = 2, .shard_bytes = 50000, .progress = cancel_progress, .user = &n};
        assert_int_equal(model_save(m, t, savedir_in(k_outputs[i]), &o), PALI_OK);
        savedir_clean(NULL);
        assert_true(n < -20); /* every tensor */
        for (int at = 1; at <= -n; at += 9) {
            int left = at;
            o.user = &left;
            assert_int_equal(model_save(m, t, savedir_in(k_outputs[i]), &o), PALI_ERR_CANCELLED);
            assert_int_equal(savedir_count(savedir_root()), 0);
        }
    }
    tokenizer_free(t);
    model_free(m);
}

/* A file system that is full: files cannot grow beyond some size, which comes to light in the config, in the middle or at the end. */
static void runs_out_of_room(void **state) {
    (void)state;
    model *m = savedir_open_golden("pg1-f32");
    tokenizer *t = savedir_tokenizer("pg1-f32");
    struct rlimit before, limit;
    model_save_options o = {.n_threads = 1, .tokenizer_path = NULL};
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    for (size_t i = 0; i < 3; i++) {
        static const rlim_t k_limits[] = {0, 100, 5000, 150000, 580000};
        for (size_t j = 0; j < 5; j++) {
            limit = (struct rlimit){k_limits[j], before.rlim_max};
            assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
            pali_status s = model_save(m, t, savedir_in(k_outputs[i]), &o);
            assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
            assert_int_equal(s, PALI_ERR_IO);
            assert_non_null(strstr(status_message(), savedir_in(k_outputs[i])));
            assert_null(strstr(status_message(), ".tmp"));
            assert_int_equal(savedir_count(savedir_root()), 0);
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
    savedir_golden(dir, "pg1-bf16");
    savedir_convert(dir, savedir_in("source"), PALI_DTYPE_AUTO);
    model *m = savedir_open(savedir_in("source"), PALI_DTYPE_AUTO);
    assert_int_equal(file_write_atomic(savedir_in("file"), "old", 3), PALI_OK);
    assert_int_equal(mkdir(savedir_in("outer"), 0700), 0);
    assert_int_equal(mkdir(savedir_in("outer/full"), 0700), 0);
    assert_int_equal(mkdir(savedir_in("outer/bare"), 0700), 0);
    assert_int_equal(symlink("bare", savedir_in("outer/link")), 0);
    assert_int_equal(symlink("nowhere", savedir_in("outer/broken")), 0);
    assert_int_equal(mkdir(savedir_in("outer/full/x"), 0700), 0);
    assert_refused(m, savedir_in("source"), PALI_ERR_IO, "source: exists and is not empty");
    assert_refused(m, savedir_in("source/"), PALI_ERR_IO, "source: exists and is not empty");
    assert_refused(m, savedir_root(), PALI_ERR_IO, "is not empty");
    assert_refused(m, savedir_in("outer/full"), PALI_ERR_IO, "outer/full: exists and is not empty");
    assert_refused(m, savedir_in("file"), PALI_ERR_IO, "file: exists and is not a directory");
    assert_refused(m, savedir_in("file/x"), PALI_ERR_IO, "file/x: cannot");
    assert_refused(m, savedir_in("outer/link"), PALI_ERR_IO, "outer/link: exists and is not a directory");
    assert_refused(m, savedir_in("outer/broken"), PALI_ERR_IO, "outer/broken: exists and is not a directory");
    assert_refused(m, savedir_in("outer/bare/."), PALI_ERR_ARGUMENT, "expected the name of a directory");
    assert_refused(m, "..", PALI_ERR_ARGUMENT, "expected the name of a directory");
    assert_refused(m, "/", PALI_ERR_ARGUMENT, "expected the name of a directory");
    assert_refused(m, savedir_in("none/x"), PALI_ERR_IO, "none/x: cannot create a directory beside it");
    assert_refused(m, savedir_in("source/model.safetensors"), PALI_ERR_ARGUMENT, "a file of the model itself");
    assert_int_equal(savedir_count(savedir_root()), 3);
    assert_int_equal(savedir_count(savedir_in("outer")), 4);
    savedir_save(m, NULL, savedir_in("outer/bare"), PALI_DTYPE_AUTO); /* an empty one will do, */
    assert_same_files(dir, savedir_in("outer/bare"));
    savedir_save(m, NULL, savedir_in("source/inner/"), PALI_DTYPE_AUTO); /* and a new one anywhere */
    assert_same_files(dir, savedir_in("source/inner"));
    if (geteuid() != 0) {
        assert_int_equal(chmod(savedir_in("outer"), 0500), 0);
        assert_refused(m, savedir_in("outer/x"), PALI_ERR_IO, "outer/x: cannot create a directory beside it");
        assert_int_equal(chmod(savedir_in("outer"), 0700), 0);
    } else {
        printf("running as root: a directory that cannot be written is left out\n");
    }
    model_free(m);
}

/* What a type cannot hold is an error with a name. */
static void refuses_weights_beyond_f16(void **state) {
    (void)state;
    model *m = savedir_open_golden("pg1-f32");
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
            assert_int_equal(model_save(m, NULL, savedir_in(k_outputs[i]), &o), PALI_ERR_FORMAT);
            assert_non_null(strstr(status_message(), "language_model.layers.1.mlp.gate_proj.weight: a weight is beyond 65504"));
        }
        copy[n - 3] = 65519; /* rounds to 65504; and infinity stays what it was */
        copy[n - 4] = INFINITY;
        savedir_save(m, NULL, savedir_in(k_outputs[i]), PALI_DTYPE_F16);
        norm[5] = 1e6f;
        if (i < 2) { /* .gguf files have f32 there */
            assert_int_equal(model_save(m, NULL, savedir_in("x"), &o), PALI_ERR_FORMAT);
            assert_non_null(strstr(status_message(), "language_model.norm.weight: a weight is beyond 65504"));
        }
        norm[5] = 0;
        savedir_clean(NULL);
    }
    gate->data = data;
    m->text.norm_final = was;
    mem_free(copy);
    mem_free(norm);
    model_free(m);
}

static void refuses_types_that_a_format_lacks(void **state) {
    (void)state;
    model *m = savedir_open_golden("pg1-f32");
    for (size_t i = 0; i < 2; i++) {
        model_save_options o = {.n_threads = 1};
        for (size_t j = 0; j < 3; j++) {
            o.dtypes = (spec_dtypes){j == 0 ? PALI_DTYPE_Q8_0 : PALI_DTYPE_AUTO, j == 1 ? PALI_DTYPE_Q4_K : PALI_DTYPE_AUTO, j == 2 ? PALI_DTYPE_Q4_0 : PALI_DTYPE_AUTO};
            assert_int_equal(model_save(m, NULL, savedir_in(k_outputs[i]), &o), PALI_ERR_UNSUPPORTED);
            assert_non_null(strstr(status_message(), "expected f32, bf16"));
        }
    }
    assert_int_equal(savedir_count(savedir_root()), 0);
    model_free(m);
}

static void survives_lack_of_memory(void **state) {
    (void)state;
    char dir[512];
    savedir_golden(dir, "pg2-f32");
    tokenizer *t = savedir_tokenizer("pg2-f32");
    model *a = savedir_open(dir, PALI_DTYPE_AUTO);
    savedir_save(a, t, savedir_in("q.gguf"), PALI_DTYPE_Q8_0);
    model *m = savedir_open(savedir_in("q.gguf"), PALI_DTYPE_AUTO); /* whose config and tokenizer have to be made */
    for (size_t i = 0; i < 2; i++) {
        model_save_options o = {.n_threads = 1};
        pali_status s = PALI_ERR_MEMORY;
        size_t k = 0;
        while (s != PALI_OK) {
            mem_fail_after(++k);
            s = model_save(m, t, savedir_in(k_outputs[i]), &o);
            mem_fail_after(0);
            assert_true(s == PALI_OK || s == PALI_ERR_MEMORY);
            assert_int_equal(savedir_count(savedir_root()), s == PALI_OK ? 2 : 1);
        }
        assert_true(k > 10);
        savedir_empty(savedir_in(k_outputs[i]));
        (void)rmdir(savedir_in(k_outputs[i]));
        (void)unlink(savedir_in(k_outputs[i]));
    }
    model_free(m);
    model_free(a);
    tokenizer_free(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(stops_and_leaves_nothing, savedir_clean),
        cmocka_unit_test_teardown(runs_out_of_room, savedir_clean),
        cmocka_unit_test_teardown(refuses_places, savedir_clean),
        cmocka_unit_test_teardown(refuses_weights_beyond_f16, savedir_clean),
        cmocka_unit_test_teardown(refuses_types_that_a_format_lacks, savedir_clean),
        cmocka_unit_test_teardown(survives_lack_of_memory, savedir_clean),
    };
    return cmocka_run_group_tests(tests, savedir_setup, savedir_teardown);
}
