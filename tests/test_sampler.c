/* test_sampler.c: choosing tokens: greedy, penalty, and what sampling draws from, against Transformers' processors
 * (tests/golden/sampler/cases.txt, tools/make_sampler_goldens.py). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "infer/sampler.h"

enum { VOCAB = 60, N_SEEN = 5 };
static const int32_t k_seen[N_SEEN] = {3, 5, 3, 17, 40};
static const sampler_options k_greedy = {.top_p = 1, .repetition_penalty = 1, .never = -1};

static int32_t pick(const sampler_options *o, const float *logits, size_t n, float *logprob) {
    sampler s;
    assert_int_equal(sampler_init(&s, o, n), PALI_OK);
    int32_t id = sampler_pick(&s, logits, logprob);
    sampler_free(&s);
    return id;
}

static void test_greedy(void **state) {
    (void)state;
    float logprob;
    const float ties[] = {1, 3, -2, 3, 3};
    assert_int_equal(pick(&k_greedy, ties, 5, &logprob), 1);
    /* log(e^3 / (e^1 + 3 e^3 + e^-2)) */
    assert_true(fabs((double)logprob + log((exp(1) + 3 * exp(3) + exp(-2)) / exp(3))) < 1e-6);
    const float low[] = {-1e30f, -5e29f};
    assert_int_equal(pick(&k_greedy, low, 2, &logprob), 1);
    assert_true(logprob == 0);
    const float one[] = {7};
    assert_int_equal(pick(&k_greedy, one, 1, &logprob), 0);
}

/* The penalty divides positive scores and multiplies negative ones, once per id, and leaves log-probabilities alone. */
static void test_penalty(void **state) {
    (void)state;
    const float logits[] = {2.0f, 1.5f, -1.0f, -1.5f};
    const int32_t prompt[] = {0, 0, 0, 99, -5}; /* repeated; out of range */
    sampler_options o = k_greedy;
    sampler s;
    float logprob, plain;
    o.repetition_penalty = 1.25f; /* 2 / 1.25 = 1.6 is still the best; twice would give 1.28 */
    assert_int_equal(sampler_init(&s, &o, 4), PALI_OK);
    sampler_see(&s, prompt, 5);
    assert_int_equal(sampler_pick(&s, logits, &logprob), 0);
    pick(&k_greedy, logits, 4, &plain);
    assert_true(logprob == plain);
    sampler_free(&s);

    o.repetition_penalty = 2;
    assert_int_equal(sampler_init(&s, &o, 4), PALI_OK);
    assert_int_equal(sampler_pick(&s, logits, &logprob), 0); /* nothing seen yet; from now on 0 scores 1 */
    assert_int_equal(sampler_pick(&s, logits, &logprob), 1); /* and 1 scores 0.75 */
    assert_int_equal(sampler_pick(&s, logits, &logprob), 0);
    sampler_free(&s);

    const float negative[] = {-1.0f, -1.5f};
    assert_int_equal(sampler_init(&s, &o, 2), PALI_OK);
    assert_int_equal(sampler_pick(&s, negative, &logprob), 0);
    assert_int_equal(sampler_pick(&s, negative, &logprob), 1); /* -1 became -2 */
    assert_int_equal(sampler_pick(&s, negative, &logprob), 0); /* -2 against -3 */
    sampler_free(&s);
}

/* The same bits as logits_of in the script. */
static void logits_of(float *logits, uint32_t seed) {
    for (uint32_t v = 0; v < VOCAB; v++) {
        uint32_t x = seed * 16777619u ^ v * 0x9e3779b9u;
        x = (x ^ x >> 16) * 0x85ebca6bu;
        x = (x ^ x >> 13) * 0xc2b2ae35u;
        x ^= x >> 16;
        logits[v] = ((float)(x % 33) - 16.0f) * 0.25f;
    }
}

enum { DRAWS = 20000 };

/* Draws many times and compares counts with n * p: five standard deviations pass all 3,000 or so comparisons, as the seeds
 * are fixed, and one id wrongly kept or dropped with p > 0.002 does not. */
static void check_draws(const char *line) {
    sampler_options o = {.never = -1};
    unsigned seed;
    int used;
    float p[VOCAB] = {0}, logits[VOCAB], logprob;
    size_t counts[VOCAB] = {0};
    assert_int_equal(sscanf(line, "%u %f %zu %f %f %f%n", &seed, &o.temperature, &o.top_k, &o.top_p, &o.min_p, &o.repetition_penalty, &used), 6);
    for (char *at = (char *)(uintptr_t)line + used; *at && *at != '\n';) {
        long id = strtol(at, &at, 10);
        assert_true(id >= 0 && id < VOCAB && *at == ':');
        p[id] = strtof(at + 1, &at);
    }
    logits_of(logits, seed);
    sampler s;
    o.seed = seed;
    assert_int_equal(sampler_init(&s, &o, VOCAB), PALI_OK);
    for (size_t i = 0; i < DRAWS; i++) {
        if (s.seen) {
            memset(s.seen, 0, VOCAB * sizeof *s.seen); /* the reference's case is one step, so forget what was drawn */
            sampler_see(&s, k_seen, N_SEEN);
        }
        counts[sampler_pick(&s, logits, &logprob)]++;
    }
    sampler_free(&s);
    for (size_t i = 0; i < VOCAB; i++) {
        double expected = DRAWS * (double)p[i], deviation = sqrt(expected * (1 - (double)p[i]));
        if (p[i] == 0 ? counts[i] != 0 : fabs((double)counts[i] - expected) > 5 * deviation + 1)
            fail_msg("seed %u: id %zu drawn %zu times, expected %.1f", seed, i, counts[i], expected);
    }
}

static void test_reference(void **state) {
    (void)state;
    FILE *file = fopen(PALI_TEST_DATA "/sampler/cases.txt", "r");
    char line[4096];
    size_t n = 0;
    assert_non_null(file);
    for (; fgets(line, sizeof line, file);) {
        if (line[0] == '#') continue;
        check_draws(line);
        n++;
    }
    assert_true(n > 70);
    (void)fclose(file);
}

static void test_seed(void **state) {
    (void)state;
    float logits[VOCAB], logprob;
    sampler_options o = {.temperature = 1, .top_p = 1, .repetition_penalty = 1, .never = -1, .seed = 42};
    sampler a, b, c;
    size_t differ = 0;
    logits_of(logits, 1);
    assert_int_equal(sampler_init(&a, &o, VOCAB), PALI_OK);
    assert_int_equal(sampler_init(&b, &o, VOCAB), PALI_OK);
    o.seed = 43;
    assert_int_equal(sampler_init(&c, &o, VOCAB), PALI_OK);
    for (size_t i = 0; i < 200; i++) {
        int32_t id = sampler_pick(&a, logits, &logprob);
        assert_int_equal(sampler_pick(&b, logits, &logprob), id);
        differ += sampler_pick(&c, logits, &logprob) != id;
    }
    assert_true(differ > 50);
    sampler_free(&a);
    sampler_free(&b);
    sampler_free(&c);
}

/* Padding rows and <image> may have the best scores, but are not drawn; greedy decoding does not mask, as the reference. */
static void test_never_drawn(void **state) {
    (void)state;
    float logits[10] = {0, 0, 0, 9, 0, 0, 0, 0, 9, 9}, logprob;
    sampler_options o = {.temperature = 1, .top_p = 0.9f, .top_k = 2, .repetition_penalty = 1, .never = 3, .n_drawable = 8};
    sampler s;
    assert_int_equal(sampler_init(&s, &o, 10), PALI_OK);
    for (size_t i = 0; i < 500; i++) {
        int32_t id = sampler_pick(&s, logits, &logprob);
        assert_true(id != 3 && id < 8);
    }
    sampler_free(&s);
    o.temperature = 0;
    assert_int_equal(pick(&o, logits, 10, &logprob), 3);
}

/* The real vocabulary, flat: top-p must keep exactly the lowest ids that make p, so ties go to low ids. */
static void test_flat(void **state) {
    (void)state;
    enum { V = 257216 };
    float *logits = calloc(V, sizeof *logits), logprob;
    sampler_options o = {.temperature = 1, .top_p = 0.25f, .repetition_penalty = 1, .never = -1, .seed = 3};
    sampler s;
    int32_t most = 0;
    assert_non_null(logits);
    assert_int_equal(sampler_init(&s, &o, V), PALI_OK);
    for (size_t i = 0; i < 40; i++) {
        int32_t id = sampler_pick(&s, logits, &logprob);
        assert_true(id < V / 4);
        if (id > most) most = id;
        assert_true(fabs((double)logprob + log(V)) < 1e-5);
    }
    assert_true(most > V / 8);
    sampler_free(&s);
    free(logits);
}

/* Weights from strangers can make any float: the id must stay inside. */
static void test_hostile(void **state) {
    (void)state;
    static const float k_values[] = {NAN, INFINITY, -INFINITY, 3.4e38f, 0};
    for (size_t i = 0; i < 5; i++) {
        for (size_t j = 0; j < 5; j++) {
            float logits[4] = {k_values[i], k_values[j], k_values[i], 1}, logprob;
            sampler_options o = {.temperature = 1e-6f, .top_p = 0.5f, .top_k = 2, .min_p = 0.1f, .repetition_penalty = 1, .never = -1};
            assert_in_range(pick(&o, logits, 4, &logprob), 0, 3);
            o.temperature = 1e30f;
            o.top_k = 0;
            assert_in_range(pick(&o, logits, 4, &logprob), 0, 3);
            assert_in_range(pick(&k_greedy, logits, 4, &logprob), 0, 3);
        }
    }
}

static void test_no_memory(void **state) {
    (void)state;
    sampler_options o = {.temperature = 1, .top_p = 1, .repetition_penalty = 2, .never = -1};
    for (size_t k = 1; k <= 2; k++) {
        sampler s;
        mem_fail_after(k);
        assert_int_equal(sampler_init(&s, &o, 8), PALI_ERR_MEMORY);
        mem_fail_after(0);
        sampler_free(&s);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_greedy),      cmocka_unit_test(test_penalty), cmocka_unit_test(test_reference), cmocka_unit_test(test_seed),
        cmocka_unit_test(test_never_drawn), cmocka_unit_test(test_flat),    cmocka_unit_test(test_hostile),   cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
