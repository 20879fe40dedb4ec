/* test_calibration.c: a calibration from begin to the file that is saved with it: what it counts, what it refuses, and that nothing
 * hangs together wrongly when things are freed in another order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/mem.h"
#include "model/calibration.h"
#include "model/model.h"
#include "paligemma.h"
#include "tensor/compensate.h"

#define MODEL PALI_TEST_DATA "/models/pg1-f32"

static char g_dir[] = "/tmp/test_calibration_XXXXXX";

static int group_setup(void **state) {
    (void)state;
    return mkdtemp(g_dir) ? 0 : 1;
}

static int group_teardown(void **state) {
    (void)state;
    return rmdir(g_dir);
}

static const char *name_of(const char *file) {
    static char path[128];
    (void)snprintf(path, sizeof path, "%s/%s", g_dir, file);
    return path;
}

typedef struct fixture {
    pali_model *model;
    pali_session *session;
    pali_image *image;
} fixture;

static fixture opened(int32_t n_threads) {
    fixture f;
    uint8_t rgb[24 * 24 * 3];
    pali_session_options options;
    pali_session_options_init(&options);
    options.n_threads = n_threads;
    for (size_t i = 0; i < sizeof rgb; i++) rgb[i] = (uint8_t)(i * 37 % 251);
    assert_int_equal(pali_model_load(&f.model, MODEL, NULL), PALI_OK);
    assert_int_equal(pali_session_new(&f.session, f.model, &options), PALI_OK);
    assert_int_equal(pali_image_from_rgb(&f.image, rgb, 24, 24, 0), PALI_OK);
    return f;
}

static void closed(fixture *f) {
    pali_image_free(f->image);
    pali_session_free(f->session);
    pali_model_free(f->model);
}

static void run(const fixture *f, const char *prompt) {
    pali_generate_options options;
    pali_result *result;
    pali_generate_options_init(&options);
    options.max_tokens = 6;
    assert_int_equal(pali_generate(f->session, (const pali_image *const[]){f->image}, 1, prompt, &options, &result), PALI_OK);
    pali_result_free(result);
}

static pali_status save(const fixture *f, const char *path, const pali_calibration *c) {
    pali_save_options options;
    pali_save_options_init(&options);
    options.dtype = PALI_DTYPE_Q4_K;
    options.calibration = c;
    return pali_model_save(f->model, path, &options);
}

static void bytes_of(const char *path, char **out, size_t *n) {
    assert_int_equal(file_read(out, n, path, (size_t)1 << 24), PALI_OK);
    assert_int_equal(unlink(path), 0);
}

/* Another file than without, of the same size; the same whatever the threads. */
static void changes_what_is_saved(void **state) {
    (void)state;
    char *files[3];
    size_t n[3];
    for (size_t i = 0; i < 3; i++) {
        fixture f = opened(i == 2 ? 2 : 1);
        pali_calibration *c = NULL;
        char path[128];
        (void)snprintf(path, sizeof path, "%s", name_of("a.gguf"));
        if (i > 0) {
            assert_int_equal(pali_calibration_begin(&c, f.session), PALI_OK);
            run(&f, "caption en");
            run(&f, "detect cat");
            assert_int_equal(pali_calibration_end(c, NULL, NULL), PALI_OK);
            run(&f, "answer en what?"); /* does not count any more */
        }
        assert_int_equal(save(&f, path, c), PALI_OK);
        bytes_of(path, &files[i], &n[i]);
        pali_calibration_free(c);
        closed(&f);
    }
    assert_int_equal(n[0], n[1]);
    assert_memory_not_equal(files[0], files[1], n[0]);
    assert_int_equal(n[1], n[2]);
    assert_memory_equal(files[1], files[2], n[1]);
    for (size_t i = 0; i < 3; i++) mem_free(files[i]);
}

static void assert_refused(pali_status status, const char *why) {
    assert_int_equal(status, PALI_ERR_ARGUMENT);
    if (!strstr(pali_last_error(), why)) fail_msg("\"%s\" expected: %s", why, pali_last_error());
}

static void refuses(void **state) {
    (void)state;
    fixture f = opened(1), other = opened(1);
    pali_calibration *c, *second;
    char path[128];
    (void)snprintf(path, sizeof path, "%s", name_of("b.gguf"));
    assert_refused(pali_calibration_begin(NULL, f.session), "NULL");
    assert_refused(pali_calibration_begin(&c, NULL), "session is NULL");
    assert_refused(pali_calibration_end(NULL, NULL, NULL), "calibration is NULL");
    assert_int_equal(pali_calibration_begin(&c, f.session), PALI_OK);
    assert_refused(pali_calibration_begin(&second, f.session), "not ended");
    assert_refused(pali_session_set_adapters(f.session, NULL, 0), "a calibration of this session has begun");
    assert_refused(save(&f, path, c), "pali_calibration_end has not succeeded");
    assert_refused(pali_calibration_end(c, NULL, NULL), "nothing was run");
    assert_refused(pali_calibration_end(c, NULL, NULL), "ended already");
    assert_refused(save(&f, path, c), "pali_calibration_end has not succeeded");
    pali_calibration_free(c);
    assert_int_equal(pali_session_set_adapters(f.session, NULL, 0), PALI_OK); /* the session is free again */
    assert_int_equal(pali_calibration_begin(&c, f.session), PALI_OK);
    run(&f, "caption en");
    assert_int_equal(pali_calibration_end(c, NULL, NULL), PALI_OK);
    assert_refused(save(&other, path, c), "of another model");
    assert_int_equal(access(path, F_OK), -1);
    pali_calibration_free(c);
    closed(&f);
    closed(&other);
}

/* The session, then the model, then the calibration; and the calibration in the middle of it. */
static void order_of_freeing_is_free(void **state) {
    (void)state;
    fixture f = opened(1);
    pali_calibration *c;
    assert_int_equal(pali_calibration_begin(&c, f.session), PALI_OK);
    run(&f, "caption en");
    pali_calibration_free(c);
    run(&f, "caption en");
    assert_int_equal(pali_calibration_begin(&c, f.session), PALI_OK);
    closed(&f);
    assert_refused(pali_calibration_end(c, NULL, NULL), "its session is gone");
    pali_calibration_free(c);
    pali_calibration_free(NULL);
}

static int stop(void *user, const char *what, uint64_t done, uint64_t total) {
    (void)user;
    (void)done;
    assert_string_equal(what, "calibrating");
    assert_true(total > 0);
    return 1;
}

static void can_be_stopped(void **state) {
    (void)state;
    fixture f = opened(1);
    pali_calibration *c;
    assert_int_equal(pali_calibration_begin(&c, f.session), PALI_OK);
    run(&f, "caption en");
    assert_int_equal(pali_calibration_end(c, stop, NULL), PALI_ERR_CANCELLED);
    pali_calibration_free(c);
    closed(&f);
}

static void memory_may_run_out(void **state) {
    (void)state;
    fixture f = opened(1);
    pali_calibration *c = NULL;
    size_t k = 1;
    for (pali_status status = PALI_ERR_MEMORY; status != PALI_OK; k++) {
        mem_fail_after(k);
        status = pali_calibration_begin(&c, f.session);
        mem_fail_after(0);
        assert_true(status == PALI_OK ? c != NULL : status == PALI_ERR_MEMORY && !c);
    }
    assert_true(k > 3);
    pali_calibration_free(c);
    closed(&f);
}

/* Rows of text weigh so much that 16 of them are a picture's; matrices know their input. */
static void weighs_text_and_pictures(void **state) {
    (void)state;
    model *m;
    model_options options = {.n_threads = 1};
    calibration c;
    exec e;
    assert_int_equal(model_load(&m, MODEL, &options), PALI_OK);
    assert_int_equal(exec_init(&e, 1), PALI_OK);
    const gemma_config *cfg = &m->text.cfg;
    assert_int_equal(calibration_init(&c, cfg, 64), PALI_OK);
    float *x = calloc(CALIBRATION_ROWS * cfg->width, sizeof *x);
    assert_non_null(x);
    for (size_t r = 0; r < CALIBRATION_ROWS; r++) x[r * cfg->width] = 1;
    assert_int_equal(calibration_see(&c, &e, 1, GEMMA_IN_MLP, x, CALIBRATION_ROWS, 48), PALI_OK);
    const gemma_layer *l = &m->text.layers[1];
    const float *sums = calibration_factors(&c, &m->text, &l->gate);
    assert_true(sums[0] == 48 + 16 * 4); /* 64 rows are a picture, and 16 rows of text count for as many */
    assert_ptr_equal(calibration_factors(&c, &m->text, &l->up), sums);
    assert_ptr_equal(calibration_factors(&c, &m->text, &l->q), calibration_factors(&c, &m->text, &l->v));
    assert_ptr_not_equal(calibration_factors(&c, &m->text, &l->q), sums);
    assert_null(calibration_factors(&c, &m->text, &l->o)); /* 8 bits */
    assert_null(calibration_factors(&c, &m->text, &m->text.embed));
    assert_null(calibration_factors(&c, &m->text, &m->vit.projector));
    free(x);
    calibration_free(&c);
    exec_free(&e);
    model_free(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(changes_what_is_saved),
        cmocka_unit_test(refuses),
        cmocka_unit_test(order_of_freeing_is_free),
        cmocka_unit_test(can_be_stopped),
        cmocka_unit_test(memory_may_run_out),
        cmocka_unit_test(weighs_text_and_pictures),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
