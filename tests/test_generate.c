/* test_generate.c: the public interface from picture files and prompts to answers, against the reference (goldens of
 * tools/make_model_goldens.py): greedy with and without repetition penalty, stopping, beam search, scores of given answers,
 * several pictures, embeddings. Only paligemma.h is used, as a program would. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "golden.h"
#include "paligemma.h"

/* As in test_model.c: both sides compute in f32 and differ in the order of sums. */
#define ROW_TOLERANCE 2e-5
#define LOGPROB_TOLERANCE 1e-4
/* Of a beam's score, a sum kept in f32 that a negative length penalty multiplies by up to 24. Measured: 1e-6. */
#define SCORE_TOLERANCE 1e-5
#define EOS 1
#define MAX_IMAGES 4

typedef struct fixture {
    golden gold;
    pali_model *model;
    pali_session *session;
    const json_t *test;             /* the case chosen by fixture_case */
    pali_image *images[MAX_IMAGES];
    size_t n_images;
} fixture;

static void check(pali_status status) {
    if (status != PALI_OK) fail_msg("%s: %s", pali_status_name(status), pali_last_error());
}

static void fixture_open(fixture *f, const char *name, const pali_model_options *options, int n_threads) {
    pali_session_options session_options;
    *f = (fixture){0};
    golden_open(&f->gold, name);
    check(pali_model_load(&f->model, f->gold.dir, options));
    pali_session_options_init(&session_options);
    session_options.n_threads = n_threads;
    check(pali_session_new(&f->session, f->model, &session_options));
}

static void images_free(fixture *f) {
    for (size_t i = 0; i < f->n_images; i++) pali_image_free(f->images[i]);
    f->n_images = 0;
}

static void fixture_close(fixture *f) {
    images_free(f);
    pali_session_free(f->session);
    pali_model_free(f->model);
    golden_close(&f->gold);
}

/* Takes up a case (or another object with "images" and "prompt"). */
static void fixture_case(fixture *f, const json_t *test) {
    const json_t *names = golden_field(test, "images");
    images_free(f);
    f->test = test;
    assert_in_range(json_array_size(names), 1, MAX_IMAGES);
    for (; f->n_images < json_array_size(names); f->n_images++) {
        char path[640];
        snprintf(path, sizeof path, "%s/images/%s", GOLDEN_DIR, json_string_value(json_array_get(names, f->n_images)));
        check(pali_image_load(&f->images[f->n_images], path));
    }
}

static pali_result *generate(fixture *f, const pali_generate_options *options) {
    pali_result *result;
    check(pali_generate(f->session, (const pali_image *const *)f->images, f->n_images, golden_string(f->test, "prompt"), options, &result));
    return result;
}

static pali_generate_options greedy_options(size_t max_tokens) {
    pali_generate_options o;
    pali_generate_options_init(&o);
    o.max_tokens = (int32_t)max_tokens;
    o.ignore_eos = 1;
    return o;
}

static pali_sequence sequence(const pali_result *result, size_t i) {
    pali_sequence s = {.struct_size = sizeof s};
    check(pali_result_get(result, i, &s));
    return s;
}

static void assert_tokens(const fixture *f, const char *what, const pali_sequence *got, const json_t *want) {
    size_t n;
    int32_t *tokens = golden_ids(want, &n);
    if (got->n_tokens != n) fail_msg("%s: %s: %zu tokens, not %zu", f->gold.name, what, got->n_tokens, n);
    for (size_t t = 0; t < n; t++)
        if (got->tokens[t] != tokens[t]) fail_msg("%s: %s: token %zu is %d, not %d", f->gold.name, what, t, got->tokens[t], tokens[t]);
    free(tokens);
}

static void assert_logprobs(const fixture *f, const char *what, const pali_sequence *got, const json_t *want) {
    size_t n;
    double *logprobs = golden_numbers(want, &n);
    assert_int_equal(got->n_tokens, n);
    for (size_t t = 0; t < n; t++) {
        double error = fabs((double)got->logprobs[t] - logprobs[t]);
        if (!(error <= LOGPROB_TOLERANCE)) fail_msg("%s: %s: log-probability of token %zu differs by %g", f->gold.name, what, t, error);
    }
    free(logprobs);
}

/* Calls fn for every case of every model. */
static void each_case(void (*fn)(fixture *f)) {
    for (const char *const *name = k_golden_models; *name; name++) {
        fixture f;
        fixture_open(&f, *name, NULL, 2);
        const json_t *cases = golden_field(f.gold.json, "cases");
        for (size_t i = 0; i < json_array_size(cases); i++) {
            fixture_case(&f, json_array_get(cases, i));
            fn(&f);
        }
        fixture_close(&f);
    }
}

/* ---- Greedy ------------------------------------------------------------------------------------------------- */

static void prompt_case(fixture *f) {
    size_t n, n_want;
    int32_t *ids, *want = golden_ids(golden_field(f->test, "input_ids"), &n_want);
    check(pali_prompt_tokens(f->model, f->n_images, golden_string(f->test, "prompt"), &ids, &n));
    assert_int_equal(n, n_want);
    assert_memory_equal(ids, want, n * sizeof *ids);
    pali_free(ids);
    free(want);
}

static void test_prompt(void **unused) {
    (void)unused;
    each_case(prompt_case);
}

/* What the streaming callback saw. */
typedef struct stream {
    int32_t tokens[64];
    size_t n_tokens;
    char text[1024];
    size_t n_text;
} stream;

static int stream_push(void *user, int32_t token, float logprob, const char *text, size_t n_bytes) {
    stream *s = user;
    (void)logprob;
    if (s->n_tokens >= sizeof s->tokens / sizeof *s->tokens || n_bytes > sizeof s->text - s->n_text) return 1;
    s->tokens[s->n_tokens++] = token;
    memcpy(s->text + s->n_text, text, n_bytes);
    s->n_text += n_bytes;
    return 0;
}

static void greedy_case(fixture *f) {
    if (!json_object_get(f->test, "greedy")) return; /* a case of beams only */
    const json_t *greedy = golden_field(f->test, "greedy"), *tokens = golden_field(greedy, "tokens"), *text = golden_field(greedy, "text");
    stream seen = {0};
    pali_generate_options o = greedy_options(json_array_size(tokens));
    o.on_token = stream_push;
    o.user = &seen;
    pali_result *result = generate(f, &o);
    pali_sequence s = sequence(result, 0);
    assert_int_equal(pali_result_count(result), 1);
    assert_tokens(f, "greedy", &s, tokens);
    assert_logprobs(f, "greedy", &s, golden_field(greedy, "logprobs"));
    assert_int_equal(s.finish, PALI_FINISH_LENGTH);
    assert_int_equal(s.n_text_bytes, json_string_length(text));
    assert_memory_equal(s.text, json_string_value(text), s.n_text_bytes);
    assert_int_equal(seen.n_tokens, s.n_tokens);
    assert_memory_equal(seen.tokens, s.tokens, s.n_tokens * sizeof *s.tokens);
    assert_int_equal(seen.n_text, s.n_text_bytes);
    assert_memory_equal(seen.text, s.text, s.n_text_bytes);
    pali_result_free(result);
}

static void test_greedy(void **unused) {
    (void)unused;
    each_case(greedy_case);
}

static size_t n_stopped;

/* An answer in which eos comes up ends there, eos included. */
static void stop_case(fixture *f) {
    size_t n, end = 0;
    if (!json_object_get(f->test, "greedy")) return;
    int32_t *tokens = golden_ids(golden_field(golden_field(f->test, "greedy"), "tokens"), &n);
    while (end < n && tokens[end] != EOS) end++;
    if (end < n) {
        pali_generate_options o = greedy_options(n);
        o.ignore_eos = 0;
        pali_result *result = generate(f, &o);
        pali_sequence s = sequence(result, 0);
        assert_int_equal(s.n_tokens, end + 1);
        assert_memory_equal(s.tokens, tokens, s.n_tokens * sizeof *tokens);
        assert_int_equal(s.finish, PALI_FINISH_STOP);
        pali_result_free(result);
        n_stopped++;
    }
    free(tokens);
}

static void test_stop(void **unused) {
    (void)unused;
    n_stopped = 0;
    each_case(stop_case);
    assert_true(n_stopped >= 1);
}

static void repetition_case(fixture *f) {
    const json_t *want = json_object_get(f->test, "repetition");
    if (!want) return; /* only first cases have one; test_repetition counts */
    pali_generate_options o = greedy_options(json_array_size(golden_field(want, "tokens")));
    o.repetition_penalty = (float)golden_number(want, "penalty");
    pali_result *result = generate(f, &o);
    pali_sequence s = sequence(result, 0);
    assert_tokens(f, "repetition penalty", &s, golden_field(want, "tokens"));
    assert_logprobs(f, "repetition penalty", &s, golden_field(want, "logprobs"));
    pali_result_free(result);
}

static void test_repetition(void **unused) {
    (void)unused;
    each_case(repetition_case);
}

static void test_generation_2_options(void **unused) {
    (void)unused;
    for (int no_window = 0; no_window <= 1; no_window++) {
        fixture f;
        pali_model_options options;
        pali_model_options_init(&options);
        options.no_sliding_window = no_window;
        options.no_final_softcap = !no_window;
        fixture_open(&f, "pg2-f32", &options, 2);
        fixture_case(&f, golden_field(f.gold.json, no_window ? "no_sliding_window" : "no_final_softcap"));
        const json_t *greedy = golden_field(f.test, "greedy");
        pali_generate_options o = greedy_options(json_array_size(golden_field(greedy, "tokens")));
        pali_result *result = generate(&f, &o);
        pali_sequence s = sequence(result, 0);
        assert_tokens(&f, "options", &s, golden_field(greedy, "tokens"));
        assert_logprobs(&f, "options", &s, golden_field(greedy, "logprobs"));
        pali_result_free(result);
        fixture_close(&f);
    }
}

/* ---- Beams -------------------------------------------------------------------------------------------------- */

static pali_early_stopping early_stopping(const char *name) {
    if (strcmp(name, "true") == 0) return PALI_EARLY_STOPPING_TRUE;
    return strcmp(name, "never") == 0 ? PALI_EARLY_STOPPING_NEVER : PALI_EARLY_STOPPING_FALSE;
}

static size_t n_beam_runs;

static void beams_case(fixture *f) {
    const json_t *runs = json_object_get(f->test, "beams");
    for (size_t i = 0; i < json_array_size(runs); i++, n_beam_runs++) {
        const json_t *run = json_array_get(runs, i), *sequences = golden_field(run, "sequences");
        size_t n_scores;
        double *scores = golden_numbers(golden_field(run, "scores"), &n_scores);
        pali_generate_options o;
        pali_generate_options_init(&o);
        o.num_beams = (int32_t)golden_number(run, "num_beams");
        o.num_return = (int32_t)golden_number(run, "num_return");
        o.max_tokens = (int32_t)golden_number(run, "max_tokens");
        o.length_penalty = (float)golden_number(run, "length_penalty");
        o.repetition_penalty = (float)(json_object_get(run, "repetition_penalty") ? golden_number(run, "repetition_penalty") : 1.0);
        o.early_stopping = early_stopping(golden_string(run, "early_stopping"));
        pali_result *result = generate(f, &o);
        assert_int_equal(pali_result_count(result), n_scores);
        for (size_t j = 0; j < n_scores; j++) {
            char what[64];
            pali_sequence s = sequence(result, j);
            snprintf(what, sizeof what, "beam run %zu, sequence %zu", i, j);
            assert_tokens(f, what, &s, json_array_get(sequences, j));
            double tolerance = LOGPROB_TOLERANCE + SCORE_TOLERANCE * fabs(scores[j]);
            if (!(fabs(s.score - scores[j]) <= tolerance)) fail_msg("%s: %s: score %.6f, not %.6f", f->gold.name, what, s.score, scores[j]);
            assert_int_equal(s.finish, s.tokens[s.n_tokens - 1] == EOS ? PALI_FINISH_STOP : PALI_FINISH_LENGTH);
        }
        pali_result_free(result);
        free(scores);
    }
}

static void test_beams(void **unused) {
    (void)unused;
    n_beam_runs = 0;
    each_case(beams_case);
    assert_true(n_beam_runs >= 120);
}

/* ---- Scores ------------------------------------------------------------------------------------------------- */

/* Scores answers [first, first + n) in one call. */
static void score_some(fixture *f, const json_t *answers, size_t first, size_t n) {
    const char *texts[16];
    assert_in_range(n, 1, 16);
    for (size_t i = 0; i < n; i++) texts[i] = golden_string(json_array_get(answers, first + i), "text");
    pali_result *result;
    check(pali_score(f->session, (const pali_image *const *)f->images, f->n_images, golden_string(f->test, "prompt"), texts, n, &result));
    assert_int_equal(pali_result_count(result), n);
    for (size_t i = 0; i < n; i++) {
        const json_t *answer = json_array_get(answers, first + i);
        char what[64];
        pali_sequence s = sequence(result, i);
        snprintf(what, sizeof what, "answer %zu", first + i);
        assert_tokens(f, what, &s, golden_field(answer, "tokens"));
        assert_logprobs(f, what, &s, golden_field(answer, "logprobs"));
        assert_true(fabs(s.score - golden_number(answer, "score")) <= LOGPROB_TOLERANCE * (double)s.n_tokens);
    }
    pali_result_free(result);
}

/* All together, then each alone (one of them is empty). */
static void score_case(fixture *f) {
    const json_t *answers = json_object_get(f->test, "answers");
    size_t n = json_array_size(answers);
    if (n == 0) return; /* first cases have some, test_model.c sees to it */
    score_some(f, answers, 0, n);
    for (size_t i = 0; i < n; i++) score_some(f, answers, i, 1);
}

static void test_score(void **unused) {
    (void)unused;
    each_case(score_case);
}

/* ---- Embeddings --------------------------------------------------------------------------------------------- */

static void assert_rows(const fixture *f, const char *name, const float *got, const uint64_t *dims, int32_t n_dims) {
    size_t rows, cols;
    const float *want = golden_tensor(&f->gold, name, &rows, &cols);
    assert_int_equal(n_dims, 2);
    assert_int_equal(dims[0], rows);
    assert_int_equal(dims[1], cols);
    double error = golden_row_error(got, want, rows, cols);
    if (!(error <= ROW_TOLERANCE)) fail_msg("%s: %s differs by %g of a row's norm", f->gold.name, name, error);
}

static void test_embeddings(void **unused) {
    (void)unused;
    for (const char *const *name = k_golden_models; *name; name++) {
        fixture f;
        float *got;
        uint64_t dims[3];
        int32_t n_dims;
        size_t rows, cols;
        fixture_open(&f, *name, NULL, 2);
        fixture_case(&f, json_array_get(golden_field(f.gold.json, "cases"), 0));
        check(pali_embed(f.session, f.images[0], PALI_EMBED_VISION, &got, dims, &n_dims));
        assert_rows(&f, "vision.post", got, dims, n_dims);
        pali_free(got);
        check(pali_embed(f.session, f.images[0], PALI_EMBED_PROJECTOR, &got, dims, &n_dims));
        assert_rows(&f, "projector", got, dims, n_dims);
        pali_free(got);

        const float *vision = golden_tensor(&f.gold, "vision.post", &rows, &cols);
        float *mean = calloc(cols, sizeof *mean);
        assert_non_null(mean);
        for (size_t i = 0; i < rows * cols; i++) mean[i % cols] += vision[i] / (float)rows;
        check(pali_embed(f.session, f.images[0], PALI_EMBED_MEAN, &got, dims, &n_dims));
        assert_true(n_dims == 2 && dims[0] == 1 && dims[1] == cols);
        assert_true(golden_row_error(got, mean, 1, cols) <= ROW_TOLERANCE);
        pali_free(got);
        free(mean);

        check(pali_embed_prompt(f.session, (const pali_image *const *)f.images, f.n_images, golden_string(f.test, "prompt"), &got, dims, &n_dims));
        assert_rows(&f, "text.norm", got, dims, n_dims);
        pali_free(got);
        fixture_close(&f);
    }
}

/* From the picture's file to the model input there is no rounding left: every value must be the reference's. */
static void test_pixels(void **unused) {
    (void)unused;
    const char *const names[] = {"landscape.jpg", "tall.png", "gray.png", "alpha.png"};
    fixture f;
    fixture_open(&f, k_golden_models[0], NULL, 1);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        size_t size;
        float *want = golden_pixels(names[i], &size), *got;
        uint64_t dims[3];
        int32_t n_dims;
        json_t *test = json_pack("{s:[s]}", "images", names[i]);
        fixture_case(&f, test);
        check(pali_embed(f.session, f.images[0], PALI_EMBED_PIXELS, &got, dims, &n_dims));
        assert_true(n_dims == 3 && dims[0] == 3 && dims[1] == size && dims[2] == size);
        for (size_t j = 0; j < 3 * size * size; j++)
            if (got[j] != want[j]) fail_msg("%s: value %zu is %.9g, not %.9g", names[i], j, (double)got[j], (double)want[j]);
        pali_free(got);
        free(want);
        json_decref(test);
    }
    fixture_close(&f);
}

/* ---- Invariants --------------------------------------------------------------------------------------------- */

/* Log-probabilities are equal to the bit whatever the number of threads, and on a second run of a session. */
static void test_threads(void **unused) {
    (void)unused;
    float logprobs[3][32];
    const int n_threads[3] = {1, 2, 5};
    fixture f;
    for (size_t i = 0; i < 3; i++) {
        fixture_open(&f, "pg2-bf16", NULL, n_threads[i]);
        fixture_case(&f, json_array_get(golden_field(f.gold.json, "cases"), 0));
        for (int repeat = 0; repeat < 2; repeat++) {
            pali_generate_options o = greedy_options(32);
            pali_result *result = generate(&f, &o);
            pali_sequence s = sequence(result, 0);
            assert_int_equal(s.n_tokens, 32);
            if (repeat) assert_memory_equal(s.logprobs, logprobs[i], sizeof logprobs[i]);
            memcpy(logprobs[i], s.logprobs, sizeof logprobs[i]);
            pali_result_free(result);
        }
        assert_memory_equal(logprobs[i], logprobs[0], sizeof logprobs[0]);
        fixture_close(&f);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pixels),     cmocka_unit_test(test_prompt), cmocka_unit_test(test_greedy),
        cmocka_unit_test(test_stop),       cmocka_unit_test(test_repetition), cmocka_unit_test(test_generation_2_options),
        cmocka_unit_test(test_beams),      cmocka_unit_test(test_score),  cmocka_unit_test(test_embeddings),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
