/* test_batch.c: requests answered together get the bits they get alone, whatever runs beside them and however it goes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "paligemma.h"

#define MODELS PALI_TEST_DATA "/models/"
enum { N_PICTURES = 3, N = 15, SLOTS = 5 };

typedef struct fixture {
    pali_model *model;
    pali_session *session;
    pali_image *pictures[N_PICTURES];
    pali_model_info info;
} fixture;

static void check(pali_status status) {
    if (status != PALI_OK) fail_msg("%s: %s", pali_status_name(status), pali_last_error());
}

static void fixture_open(fixture *f, const char *name, pali_dtype dtype, int32_t n_threads) {
    static const char *const k_pictures[N_PICTURES] = {"landscape.jpg", "tall.png", "alpha.png"};
    const pali_model_options mo = {.struct_size = sizeof mo, .dtype = dtype};
    const pali_session_options so = {.struct_size = sizeof so, .n_threads = n_threads};
    char path[512];
    *f = (fixture){.info = {.struct_size = sizeof f->info}};
    snprintf(path, sizeof path, "%s%s", MODELS, name);
    check(pali_model_load(&f->model, path, &mo));
    check(pali_session_new(&f->session, f->model, &so));
    check(pali_model_get_info(f->model, &f->info));
    for (size_t i = 0; i < N_PICTURES; i++) {
        snprintf(path, sizeof path, "%simages/%s", MODELS, k_pictures[i]);
        check(pali_image_load(&f->pictures[i], path));
    }
}

static void fixture_close(fixture *f) {
    for (size_t i = 0; i < N_PICTURES; i++) pali_image_free(f->pictures[i]);
    pali_session_free(f->session);
    pali_model_free(f->model);
}

/* N requests, no two alike: ragged prompts, the same and other pictures, lengths, ways to choose; three that fail. */
typedef struct requests {
    pali_request list[N];
    pali_generate_options options[N];
    const pali_image *two[2], *none[1];
    int32_t ids[3];
} requests;

enum { FAILS_NULL_PICTURE = 3, FAILS_ID = 7, FAILS_TEXT = 10, BEAMS = 8 };

static void requests_make(requests *r, const fixture *f) {
    static const char *const k_prompts[] = {"caption en", "detect cat ; dog", "x", "what is different between the two of them, and why?", ""};
    *r = (requests){.two = {f->pictures[2], f->pictures[0]}};
    for (size_t i = 0; i < N; i++) {
        pali_generate_options *o = &r->options[i];
        pali_request *q = &r->list[i];
        pali_generate_options_init(o);
        o->max_tokens = (int32_t)(1 + i * 5 % 14);
        o->ignore_eos = i % 4 != 0;
        o->temperature = i % 3 == 1 ? 2.0f : 0.0f;
        o->seed = i;
        o->top_p = i % 6 == 1 ? 0.9f : 1.0f;
        o->repetition_penalty = i % 5 == 2 ? 1.3f : 1.0f;
        pali_request_init(q);
        q->images = (const pali_image *const *)&f->pictures[i % N_PICTURES];
        q->n_images = 1;
        q->prompt = k_prompts[i % (sizeof k_prompts / sizeof *k_prompts)];
        q->options = o;
    }
    r->list[6].images = r->two;
    r->list[6].n_images = 2;
    r->ids[0] = f->info.bos_token;
    r->ids[1] = 7;
    r->ids[2] = 9;
    r->list[5] = r->list[FAILS_ID] = (pali_request){.struct_size = sizeof *r->list, .ids = r->ids, .n_ids = 2, .options = &r->options[5]};
    r->ids[2] = f->info.vocab_size;
    r->list[FAILS_ID].n_ids = 3;
    r->list[FAILS_NULL_PICTURE].images = r->none;
    r->list[FAILS_TEXT].prompt = "\xff";
    r->options[BEAMS].num_beams = 3;
    r->options[BEAMS].num_return = 2;
    r->options[BEAMS].temperature = 0;
}

static bool fails(size_t i) {
    return i == FAILS_NULL_PICTURE || i == FAILS_ID || i == FAILS_TEXT;
}

/* What a call for it alone gives; NULL: it fails, as `status`. */
static pali_result *alone(const fixture *f, const pali_request *q, pali_status *status) {
    pali_result *r = NULL;
    *status = q->prompt ? pali_generate(f->session, q->images, q->n_images, q->prompt, q->options, &r)
                        : pali_generate_tokens(f->session, q->images, q->n_images, q->ids, q->n_ids, q->options, &r);
    return r;
}

static void alone_all(const fixture *f, const requests *r, pali_result *expected[N]) {
    for (size_t i = 0; i < N; i++) {
        pali_status status;
        expected[i] = alone(f, &r->list[i], &status);
        assert_int_equal(status != PALI_OK, fails(i));
    }
}

static void results_free(pali_result **r, size_t n) {
    for (size_t i = 0; i < n; i++) pali_result_free(r[i]);
}

static void assert_same(const pali_result *x, const pali_result *y) {
    pali_stats s = {.struct_size = sizeof s}, t = {.struct_size = sizeof t};
    assert_int_equal(pali_result_status(x), PALI_OK);
    assert_string_equal(pali_result_error(x), "");
    assert_int_equal(pali_result_count(x), pali_result_count(y));
    check(pali_result_get_stats(x, &s));
    check(pali_result_get_stats(y, &t));
    assert_int_equal(s.image_tokens, t.image_tokens);
    assert_int_equal(s.prompt_tokens, t.prompt_tokens);
    assert_int_equal(s.generated_tokens, t.generated_tokens);
    for (size_t i = 0; i < pali_result_count(x); i++) {
        pali_sequence a = {.struct_size = sizeof a}, b = {.struct_size = sizeof b};
        check(pali_result_get(x, i, &a));
        check(pali_result_get(y, i, &b));
        assert_int_equal(a.n_tokens, b.n_tokens);
        assert_memory_equal(a.tokens, b.tokens, a.n_tokens * sizeof *a.tokens);
        assert_memory_equal(a.logprobs, b.logprobs, a.n_tokens * sizeof *a.logprobs);
        assert_string_equal(a.text, b.text);
        assert_true(a.score == b.score);
        assert_int_equal(a.finish, b.finish);
    }
}

static void assert_failed(const pali_result *r, pali_status status) {
    assert_non_null(r);
    assert_int_equal(pali_result_status(r), status);
    assert_int_equal(pali_result_count(r), 0);
    assert_true(strlen(pali_result_error(r)) > 0);
}

static void assert_all(pali_result *const *results, pali_result *const *expected) {
    for (size_t i = 0; i < N; i++) {
        if (fails(i))
            assert_failed(results[i], i == FAILS_TEXT ? PALI_ERR_FORMAT : PALI_ERR_ARGUMENT);
        else
            assert_same(results[i], expected[i]);
    }
}

/* ---- The same bits ------------------------------------------------------------------------------------------ */

static void test_same(void **unused) {
    (void)unused;
    static const struct {
        const char *name;
        pali_dtype dtype;
        int32_t n_threads, n_slots;
    } k_cases[] = {{"pg1-f32", PALI_DTYPE_AUTO, 2, SLOTS}, {"pg1-f32", PALI_DTYPE_Q8_0, 1, N},     {"pg1-f32", PALI_DTYPE_Q4_K, 2, N},
                   {"pg1-bf16", PALI_DTYPE_AUTO, 2, N},    {"pg2-f32", PALI_DTYPE_AUTO, 1, 12},    {"pg2-bf16", PALI_DTYPE_AUTO, 2, SLOTS},
                   {"pg2-f32", PALI_DTYPE_Q8_0, 2, 12},    {"pg2-f32", PALI_DTYPE_Q4_0, 1, SLOTS}, {"pg1-f16", PALI_DTYPE_AUTO, 2, 1}};
    for (size_t c = 0; c < sizeof k_cases / sizeof *k_cases; c++) {
        fixture f;
        requests r;
        pali_result *expected[N], *results[N];
        pali_batch_options o;
        fixture_open(&f, k_cases[c].name, k_cases[c].dtype, k_cases[c].n_threads);
        requests_make(&r, &f);
        alone_all(&f, &r, expected);
        pali_batch_options_init(&o);
        o.max_sequences = k_cases[c].n_slots;
        check(pali_generate_batch(f.session, r.list, N, &o, results));
        assert_all(results, expected);
        results_free(results, N);
        results_free(expected, N);
        fixture_close(&f);
    }
}

/* More copies of one request than any kernel takes rows at once, and as many as slots can be. */
static void test_full(void **state) {
    fixture *f = *state;
    enum { MANY = 64 };
    requests r;
    pali_request list[MANY];
    pali_result *results[MANY], *expected;
    pali_status status;
    const pali_batch_options o = {.struct_size = sizeof o, .max_sequences = MANY};
    requests_make(&r, f);
    r.options[1].max_tokens = 4;
    for (size_t i = 0; i < MANY; i++) list[i] = r.list[1];
    expected = alone(f, &r.list[1], &status);
    check(pali_generate_batch(f->session, list, MANY, &o, results));
    for (size_t i = 0; i < MANY; i++) assert_same(results[i], expected);
    results_free(results, MANY);
    pali_result_free(expected);
}

/* A picture goes through the tower once for all requests that wait with it, though the session cannot remember all of them. */
static void test_pictures_once(void **state) {
    fixture *f = *state;
    enum { PICTURES = 70, ROUNDS = 2 };
    pali_image *pictures[PICTURES];
    pali_request list[PICTURES * ROUNDS];
    pali_result *results[PICTURES * ROUNDS];
    pali_generate_options o;
    pali_generate_options_init(&o);
    o.max_tokens = 1;
    for (size_t i = 0; i < PICTURES; i++) {
        const uint8_t rgb[3] = {(uint8_t)i, 90, (uint8_t)(255 - i)};
        check(pali_image_from_rgb(&pictures[i], rgb, 1, 1, 0));
    }
    for (size_t i = 0; i < PICTURES * ROUNDS; i++) {
        pali_request_init(&list[i]);
        list[i].images = (const pali_image *const *)&pictures[i % PICTURES];
        list[i].n_images = 1;
        list[i].prompt = "x";
        list[i].options = &o;
    }
    check(pali_generate_batch(f->session, list, PICTURES * ROUNDS, NULL, results));
    for (size_t i = 0; i < PICTURES; i++) {
        int n_seen = 0;
        for (size_t j = i; j < PICTURES * ROUNDS; j += PICTURES) {
            pali_stats s = {.struct_size = sizeof s};
            check(pali_result_get_stats(results[j], &s));
            n_seen += s.vision_ms > 0;
        }
        assert_int_equal(n_seen, 1);
        pali_image_free(pictures[i]);
    }
    results_free(results, PICTURES * ROUNDS);
}

/* ---- Callbacks and cancelling ------------------------------------------------------------------------------- */

typedef struct heard {
    pali_session *cancel; /* NULL: do not */
    size_t n_tokens, stop_after;
    char text[512];
    size_t n_bytes;
} heard;

static int on_token(void *user, int32_t token, float logprob, const char *text, size_t n_bytes) {
    heard *h = user;
    (void)token;
    (void)logprob;
    assert_true(h->n_bytes + n_bytes < sizeof h->text);
    memcpy(h->text + h->n_bytes, text, n_bytes);
    h->n_bytes += n_bytes;
    if (++h->n_tokens != h->stop_after) return 0;
    if (h->cancel) pali_session_cancel(h->cancel);
    return !h->cancel;
}

/* `user` tells requests apart that share their options; one that stops, stops alone. */
static void test_callbacks(void **state) {
    fixture *f = *state;
    requests r;
    heard h[N] = {{0}};
    pali_result *expected[N], *results[N];
    requests_make(&r, f);
    alone_all(f, &r, expected);
    for (size_t i = 0; i < N; i++) {
        r.options[i].on_token = on_token;
        r.options[i].user = f; /* never seen */
        r.list[i].user = &h[i];
    }
    h[1].stop_after = 3;
    check(pali_generate_batch(f->session, r.list, N, NULL, results));
    assert_failed(results[1], PALI_ERR_CANCELLED);
    assert_int_equal(h[1].n_tokens, 3);
    for (size_t i = 0; i < N; i++) {
        if (fails(i) || i == 1 || i == BEAMS) continue;
        pali_sequence s = {.struct_size = sizeof s};
        assert_same(results[i], expected[i]);
        check(pali_result_get(results[i], 0, &s));
        assert_int_equal(h[i].n_tokens, s.n_tokens);
        assert_int_equal(h[i].n_bytes, s.n_text_bytes);
        assert_memory_equal(h[i].text, s.text, s.n_text_bytes);
    }
    results_free(results, N);
    results_free(expected, N);
}

/* Cancelling the session ends what is left; what was done stays. */
static void test_cancel(void **state) {
    fixture *f = *state;
    requests r;
    heard h = {.cancel = f->session, .stop_after = 6};
    pali_result *expected[N], *results[N];
    const pali_batch_options o = {.struct_size = sizeof o, .max_sequences = 2};
    size_t n_done = 0, n_cancelled = 0;
    requests_make(&r, f);
    alone_all(f, &r, expected);
    r.options[5].on_token = on_token;
    r.list[5].user = &h;
    assert_int_equal(pali_generate_batch(f->session, r.list, N, &o, results), PALI_ERR_CANCELLED);
    for (size_t i = 0; i < N; i++) {
        if (fails(i)) continue;
        if (pali_result_status(results[i]) == PALI_OK) {
            assert_same(results[i], expected[i]);
            n_done++;
        } else {
            assert_failed(results[i], PALI_ERR_CANCELLED);
            n_cancelled++;
        }
    }
    assert_true(n_done >= 1 && n_cancelled >= 4);
    results_free(results, N);

    /* Before the call, it concerns that one; after it, the session works. */
    pali_session_cancel(f->session);
    assert_int_equal(pali_generate_batch(f->session, r.list, N, &o, results), PALI_ERR_CANCELLED);
    for (size_t i = 0; i < N; i++) assert_non_null(results[i]);
    assert_failed(results[0], PALI_ERR_CANCELLED);
    results_free(results, N);
    r.options[5].on_token = NULL;
    check(pali_generate_batch(f->session, r.list, N, &o, results));
    assert_all(results, expected);
    results_free(results, N);
    results_free(expected, N);
}

/* ---- Step by step ------------------------------------------------------------------------------------------- */

/* Requests that come while others are being decoded, other calls in between, a batch that ends with work left. */
static void test_steps(void **state) {
    fixture *f = *state;
    requests r;
    pali_result *expected[N], *results[N] = {NULL};
    pali_batch *b;
    size_t index = 99, n_added = 0, where[N];
    const pali_batch_options o = {.struct_size = sizeof o, .max_sequences = 3};
    requests_make(&r, f);
    alone_all(f, &r, expected);
    check(pali_batch_new(&b, f->session, &o));
    check(pali_batch_step(b)); /* nothing to do */
    check(pali_batch_take(b, &index, &results[0]));
    assert_null(results[0]);
    for (size_t turn = 0; n_added < N || pali_batch_pending(b); turn++) {
        for (size_t k = 0; k < turn % 3 && n_added < N; k++, n_added++) {
            pali_status status = pali_batch_add(b, &r.list[n_added], &index);
            if (n_added == FAILS_NULL_PICTURE || n_added == FAILS_TEXT)
                assert_true(status != PALI_OK);
            else
                check(status), where[index] = n_added;
        }
        check(pali_batch_step(b));
        if (turn == 4) {
            pali_status status;
            pali_result *between = alone(f, &r.list[0], &status);
            assert_same(between, expected[0]);
            pali_result_free(between);
        }
        for (pali_result *done; pali_batch_take(b, &index, &done) == PALI_OK && done;) {
            assert_null(results[where[index]]);
            results[where[index]] = done;
        }
    }
    for (size_t i = 0; i < N; i++)
        if (!fails(i)) assert_same(results[i], expected[i]);
    for (size_t i = 0; i < 5; i++)
        if (!fails(i)) check(pali_batch_add(b, &r.list[i], &index));
    for (int i = 0; i < 5; i++) check(pali_batch_step(b));
    pali_batch_free(b);
    results_free(results, N);
    results_free(expected, N);
}

static void test_arguments(void **state) {
    fixture *f = *state;
    pali_batch *b = (pali_batch *)f;
    pali_batch_options o;
    pali_request q;
    pali_result *r = (pali_result *)f;
    size_t index;
    pali_request_init(&q);
    pali_batch_options_init(&o);
    assert_int_equal(pali_batch_new(&b, NULL, &o), PALI_ERR_ARGUMENT);
    assert_null(b);
    for (int32_t bad = -1; bad <= 65; bad += 66) {
        o.max_sequences = bad;
        b = (pali_batch *)f;
        assert_int_equal(pali_batch_new(&b, f->session, &o), PALI_ERR_ARGUMENT);
        assert_null(b);
    }
    assert_int_equal(pali_batch_new(NULL, f->session, NULL), PALI_ERR_ARGUMENT);
    check(pali_batch_new(&b, f->session, NULL));
    assert_int_equal(pali_batch_add(b, NULL, &index), PALI_ERR_ARGUMENT);
    assert_int_equal(pali_batch_add(b, &q, &index), PALI_ERR_ARGUMENT); /* neither prompt nor ids */
    q.prompt = "x";
    assert_int_equal(pali_batch_add(b, &q, NULL), PALI_ERR_ARGUMENT);
    q.struct_size = 3;
    assert_int_equal(pali_batch_add(b, &q, &index), PALI_ERR_ARGUMENT);
    assert_int_equal(pali_generate_batch(f->session, &q, 1, NULL, &r), PALI_ERR_ARGUMENT);
    assert_null(r);
    assert_int_equal(pali_generate_batch(f->session, NULL, 1, NULL, &r), PALI_ERR_ARGUMENT);
    assert_int_equal(pali_generate_batch(f->session, &q, 1, NULL, NULL), PALI_ERR_ARGUMENT);
    assert_int_equal(pali_generate_batch(NULL, &q, 1, NULL, &r), PALI_ERR_ARGUMENT);
    check(pali_generate_batch(f->session, NULL, 0, NULL, NULL));
    assert_int_equal(pali_batch_pending(b), 0);
    pali_batch_free(b);
    pali_batch_free(NULL);
    assert_int_equal(pali_batch_pending(NULL), 0);
    assert_int_equal(pali_batch_step(NULL), PALI_ERR_ARGUMENT);
    assert_int_equal(pali_batch_take(NULL, &index, &r), PALI_ERR_ARGUMENT);
    assert_string_equal(pali_result_error(NULL), "");
}

/* An allocation fails: the call or one request ends with that error, the others have their answers. */
static void test_no_memory(void **state) {
    fixture *f = *state;
    requests r;
    pali_result *expected[N], *results[N];
    const pali_batch_options o = {.struct_size = sizeof o, .max_sequences = 3};
    size_t k = 1, n_partly = 0;
    requests_make(&r, f);
    alone_all(f, &r, expected);
    for (bool hit = true; hit; k += k < 60 ? 1 : 7) { /* later ones are many, and alike */
        pali_session *fresh;
        const pali_session_options so = {.struct_size = sizeof so, .n_threads = 1};
        check(pali_session_new(&fresh, f->model, &so));
        mem_fail_after(k);
        pali_status status = pali_generate_batch(fresh, r.list, N, &o, results);
        mem_fail_after(0);
        size_t n_failed = 0, n_same = 0;
        hit = status != PALI_OK;
        for (size_t i = 0; i < N; i++) {
            if (status != PALI_OK) {
                assert_int_equal(status, PALI_ERR_MEMORY);
                assert_null(results[i]);
            } else if (pali_result_status(results[i]) == PALI_ERR_MEMORY) {
                assert_int_equal(pali_result_count(results[i]), 0);
                n_failed++;
            } else if (!fails(i)) {
                assert_same(results[i], expected[i]);
                n_same++;
            }
        }
        n_partly += n_failed > 0 && n_same > 0;
        hit = hit || n_failed > 0;
        results_free(results, N);
        pali_session_free(fresh);
        if (!hit && k < 200) hit = true; /* a failed copy of a message costs nothing */
        assert_true(k < 5000);
    }
    assert_true(n_partly > 10);
    results_free(expected, N);
}

static int setup(void **state) {
    static fixture f;
    fixture_open(&f, "pg1-f32", PALI_DTYPE_AUTO, 2);
    *state = &f;
    return 0;
}

static int teardown(void **state) {
    fixture_close(*state);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same),      cmocka_unit_test(test_full),  cmocka_unit_test(test_pictures_once), cmocka_unit_test(test_callbacks),
        cmocka_unit_test(test_cancel),    cmocka_unit_test(test_steps), cmocka_unit_test(test_arguments),     cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
