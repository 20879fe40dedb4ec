/* test_model.c: whole tiny models, loaded from files, against the reference (goldens of tools/make_model_goldens.py):
 * every named intermediate, then greedy decoding and the scoring of answers through the decoder's own interface. Between
 * them the checkpoints have every key layout, dtype and shard arrangement. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "golden.h"
#include "model/model.h"

/* Both sides compute in f32 from the same weights and differ in the order of sums only. A sum of K <= 150 terms is good to
 * about sqrt(K) * 6e-8 ~ 7e-7 of its operands; the weights' gains (up to 2.6 a product, logits of attention spread by 2)
 * let a difference grow by a small factor in each of at most 6 blocks. Measured worst: 8e-6. */
#define ROW_TOLERANCE 2e-5
/* A log-probability is a difference of logits of magnitude up to 12, each good to a part of its row's norm. Measured
 * worst: 1.4e-5. */
#define LOGPROB_TOLERANCE 1e-4


typedef struct fixture {
    golden gold;
    model *m;
    exec e;
} fixture;

static void check(pali_status status) {
    if (status != PALI_OK) fail_msg("%s", status_message());
}

static void fixture_open(fixture *f, const char *name, const model_options *options) {
    golden_open(&f->gold, name);
    check(model_load(&f->m, f->gold.dir, options));
    check(exec_init(&f->e, 2));
}

static void fixture_close(fixture *f) {
    exec_free(&f->e);
    model_free(f->m);
    golden_close(&f->gold);
}

/* ---- Rows of a prompt --------------------------------------------------------------------------------------- */

/* The model input of a case: projected pictures, then embedded text; *out_n rows of D, free(). */
static float *case_rows(fixture *f, const json_t *test, size_t *out_n) {
    size_t n, n_patches = f->m->vit.cfg.n_patches, d = f->m->text.cfg.width;
    int32_t *ids = golden_ids(golden_field(test, "input_ids"), &n);
    json_t *images = golden_field(test, "images");
    float *x = malloc(n * d * sizeof *x), *vision = malloc(n_patches * f->m->vit.cfg.width * sizeof *vision);
    assert_true(x && vision);
    size_t first_text = json_array_size(images) * n_patches;
    for (size_t i = 0; i < n; i++) assert_int_equal(ids[i] == f->m->cfg.image_token, i < first_text);
    for (size_t i = 0; i < json_array_size(images); i++) {
        size_t size;
        float *pixels = golden_pixels(json_string_value(json_array_get(images, i)), &size);
        assert_int_equal(size, f->m->vit.cfg.image_size);
        check(vit_forward(&f->e, &f->m->vit, vision, pixels));
        check(vit_project(&f->e, &f->m->vit, x + i * n_patches * d, vision, n_patches));
        free(pixels);
    }
    check(gemma_embed(&f->e, &f->m->text, x + first_text * d, ids + first_text, n - first_text));
    free(vision);
    free(ids);
    *out_n = n;
    return x;
}

/* Logits of the last of x's n rows, pushed through as one segment; [V], free(). x becomes the last layer's output. */
static float *push(fixture *f, kv_cache *kv, float *x, size_t n, bool prefix) {
    const gemma *g = &f->m->text;
    gemma_segment segment = {.kv = kv, .n_rows = n, .prefix = prefix};
    float *hidden = malloc(g->cfg.width * sizeof *hidden), *logits = malloc(g->cfg.vocab_size * sizeof *logits);
    assert_true(hidden && logits);
    check(gemma_forward(&f->e, g, x, &segment, 1));
    check(gemma_final_norm(&f->e, g, hidden, x + (n - 1) * g->cfg.width, 1));
    check(gemma_logits(&f->e, g, logits, hidden, 1, true));
    free(hidden);
    return logits;
}

static double logprob(const float *logits, size_t v, int32_t token) {
    double top = (double)logits[0], sum = 0;
    for (size_t i = 1; i < v; i++) top = fmax(top, (double)logits[i]);
    for (size_t i = 0; i < v; i++) sum += exp((double)logits[i] - top);
    return (double)logits[token] - top - log(sum);
}

static int32_t argmax(const float *x, size_t n) {
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        if (x[i] > x[best]) best = i;
    return (int32_t)best;
}

/* ---- Intermediates ------------------------------------------------------------------------------------------ */

typedef struct tap_state {
    const golden *gold;
    size_t n_seen;
    double worst;
} tap_state;

static void tap_compare(void *user, const char *name, const float *x, size_t rows, size_t cols) {
    tap_state *state = user;
    size_t want_rows, want_cols;
    const float *want = golden_tensor(state->gold, name, &want_rows, &want_cols);
    if (rows != want_rows || cols != want_cols) fail_msg("%s: %s is [%zu, %zu], not [%zu, %zu]", state->gold->name, name, rows, cols, want_rows, want_cols);
    double error = golden_row_error(x, want, rows, cols);
    if (!(error <= ROW_TOLERANCE)) fail_msg("%s: %s differs by %g of a row's norm", state->gold->name, name, error);
    state->worst = fmax(state->worst, error);
    state->n_seen++;
}

static void test_intermediates(void **unused) {
    (void)unused;
    for (const char *const *name = k_golden_models; *name; name++) {
        fixture f;
        fixture_open(&f, *name, &(model_options){0});
        tap_state state = {.gold = &f.gold};
        f.e.tap = tap_compare;
        f.e.tap_user = &state;
        size_t n, d = f.m->text.cfg.width;
        kv_cache kv;
        float *x = case_rows(&f, json_array_get(golden_field(f.gold.json, "cases"), 0), &n);
        gemma_segment segment = {.kv = &kv, .n_rows = n, .prefix = true};
        float *logits = malloc(f.m->text.cfg.vocab_size * sizeof *logits);
        assert_non_null(logits);
        check(kv_init(&kv, &f.m->text.cfg, NULL));
        check(gemma_forward(&f.e, &f.m->text, x, &segment, 1));
        check(gemma_final_norm(&f.e, &f.m->text, x, x, n));
        check(gemma_logits(&f.e, &f.m->text, logits, x + (n - 1) * d, 1, true));
        assert_int_equal(state.n_seen, f.gold.st.n_tensors - 1); /* all but input_ids */
        print_message("%s: %zu intermediates, worst row %.1e\n", *name, state.n_seen, state.worst);
        free(logits);
        free(x);
        kv_free(&kv);
        fixture_close(&f);
    }
}

/* ---- Greedy decoding ---------------------------------------------------------------------------------------- */

/* Follows the reference's greedy answer token by token; *worst collects the error of the log-probabilities. */
static void follow_greedy(fixture *f, const json_t *test, double *worst) {
    size_t n, n_tokens, n_logprobs, v = f->m->text.cfg.vocab_size;
    const json_t *greedy = golden_field(test, "greedy");
    int32_t *tokens = golden_ids(golden_field(greedy, "tokens"), &n_tokens);
    double *logprobs = golden_numbers(golden_field(greedy, "logprobs"), &n_logprobs);
    assert_int_equal(n_tokens, n_logprobs);
    assert_true(n_tokens >= 40);
    kv_cache kv;
    check(kv_init(&kv, &f->m->text.cfg, NULL));
    float *x = case_rows(f, test, &n);
    float *logits = push(f, &kv, x, n, true);
    for (size_t t = 0; t < n_tokens; t++) {
        if (argmax(logits, v) != tokens[t]) fail_msg("%s: token %zu is %d, not %d", f->gold.name, t, argmax(logits, v), tokens[t]);
        double error = fabs(logprob(logits, v, tokens[t]) - logprobs[t]);
        if (!(error <= LOGPROB_TOLERANCE)) fail_msg("%s: log-probability of token %zu differs by %g", f->gold.name, t, error);
        *worst = fmax(*worst, error);
        free(logits);
        check(gemma_embed(&f->e, &f->m->text, x, &tokens[t], 1));
        logits = push(f, &kv, x, 1, false);
    }
    free(logits);
    free(x);
    kv_free(&kv);
    free(tokens);
    free(logprobs);
}

static void test_greedy(void **unused) {
    (void)unused;
    for (const char *const *name = k_golden_models; *name; name++) {
        fixture f;
        double worst = 0;
        fixture_open(&f, *name, &(model_options){0});
        const json_t *cases = golden_field(f.gold.json, "cases");
        assert_true(json_array_size(cases) >= 2);
        for (size_t i = 0; i < json_array_size(cases); i++)
            if (i < 2 || json_object_get(json_array_get(cases, i), "greedy")) follow_greedy(&f, json_array_get(cases, i), &worst);
        print_message("%s: worst log-probability %.1e\n", *name, worst);
        fixture_close(&f);
    }
}

/* Without the window and without the final cap (what big_vision computes) the answers are others: both are references too. */
static void test_generation_2_options(void **unused) {
    (void)unused;
    const char *const keys[] = {"no_sliding_window", "no_final_softcap"};
    for (size_t i = 0; i < 2; i++) {
        fixture f;
        double worst = 0;
        fixture_open(&f, "pg2-f32", &(model_options){.no_sliding_window = i == 0, .no_final_softcap = i == 1});
        follow_greedy(&f, golden_field(f.gold.json, keys[i]), &worst);
        fixture_close(&f);
    }
}

/* ---- Answers ------------------------------------------------------------------------------------------------ */

/* All answers of a case in one batch of causal segments on the shared prefix. */
static void test_answers(void **unused) {
    (void)unused;
    enum { MAX_ANSWERS = 8 };
    for (const char *const *name = k_golden_models; *name; name++) {
        fixture f;
        fixture_open(&f, *name, &(model_options){0});
        const gemma *g = &f.m->text;
        const json_t *test = json_array_get(golden_field(f.gold.json, "cases"), 0), *answers = golden_field(test, "answers");
        size_t n_prefix, n_answers = json_array_size(answers), d = g->cfg.width, v = g->cfg.vocab_size, n_rows = 0;
        assert_in_range(n_answers, 2, MAX_ANSWERS);
        kv_cache base, own[MAX_ANSWERS];
        gemma_segment segments[MAX_ANSWERS];
        check(kv_init(&base, &g->cfg, NULL));
        float *prefix = case_rows(&f, test, &n_prefix);
        float *first = push(&f, &base, prefix, n_prefix, true);
        size_t total = 0;
        for (size_t i = 0; i < n_answers; i++) total += json_array_size(golden_field(json_array_get(answers, i), "tokens"));
        float *x = malloc(total * d * sizeof *x), *logits = malloc(total * v * sizeof *logits);
        assert_true(x && logits);
        for (size_t i = 0; i < n_answers; i++) { /* the last token of an answer, eos, is only predicted */
            size_t n;
            int32_t *ids = golden_ids(golden_field(json_array_get(answers, i), "tokens"), &n);
            check(kv_init(&own[i], &g->cfg, &base));
            check(gemma_embed(&f.e, g, x + n_rows * d, ids, n - 1));
            segments[i] = (gemma_segment){.kv = &own[i], .n_rows = n - 1};
            n_rows += n - 1;
            free(ids);
        }
        check(gemma_forward(&f.e, g, x, segments, n_answers));
        check(gemma_final_norm(&f.e, g, x, x, n_rows));
        check(gemma_logits(&f.e, g, logits, x, n_rows, false));
        const float *row = logits;
        for (size_t i = 0; i < n_answers; i++) {
            size_t n, n_logprobs;
            int32_t *ids = golden_ids(golden_field(json_array_get(answers, i), "tokens"), &n);
            double *logprobs = golden_numbers(golden_field(json_array_get(answers, i), "logprobs"), &n_logprobs);
            assert_int_equal(n, n_logprobs);
            for (size_t t = 0; t < n; t++) {
                const float *from = t == 0 ? first : row + (t - 1) * v;
                double error = fabs(logprob(from, v, ids[t]) - logprobs[t]);
                if (!(error <= LOGPROB_TOLERANCE)) fail_msg("%s: answer %zu, token %zu differs by %g", *name, i, t, error);
            }
            row += (n - 1) * v;
            kv_free(&own[i]);
            free(ids);
            free(logprobs);
        }
        free(logits);
        free(x);
        free(first);
        free(prefix);
        kv_free(&base);
        fixture_close(&f);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_intermediates),
        cmocka_unit_test(test_greedy),
        cmocka_unit_test(test_generation_2_options),
        cmocka_unit_test(test_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
