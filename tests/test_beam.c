/* test_beam.c: beam search against the reference, without a neural network: the "model" is a hash of the ids so far, and
 * tests/golden/beam/cases.txt holds what Transformers returns for it (tools/make_beam_goldens.py). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "infer/beam.h"
#include "infer/sampler.h"

enum { EOS = 1, VOCAB_MAX = 512, TOKENS_MAX = 64, N_PROMPT = 3 };
static const int32_t k_prompt[N_PROMPT] = {3, 5, 3};

/* The same bits as logits_after in the script. */
static void logits_after(float *logits, size_t vocab, uint32_t seed, const int32_t *ids, size_t n) {
    uint32_t h = seed;
    for (size_t i = 0; i < N_PROMPT + n; i++) h = (h ^ (uint32_t)(i < N_PROMPT ? k_prompt[i] : ids[i - N_PROMPT])) * 16777619u;
    for (size_t v = 0; v < vocab; v++) {
        uint32_t x = h ^ ((uint32_t)v * 0x9e3779b9u);
        x = (x ^ x >> 16) * 0x85ebca6bu;
        x = (x ^ x >> 13) * 0xc2b2ae35u;
        x ^= x >> 16;
        logits[v] = (float)(x >> 8) * 0x1p-24f * 6.0f;
    }
    logits[EOS] += 0.25f * (float)n;
}

/* Runs a whole search; what the steps say about parents and tokens decides what each beam sees next, as with real caches. */
static pali_status search(result **out, const beam_options *o, size_t vocab, uint32_t seed) {
    static float logits[BEAM_MAX][VOCAB_MAX];
    int32_t paths[BEAM_MAX][TOKENS_MAX], old[BEAM_MAX][TOKENS_MAX], tokens[BEAM_MAX];
    const float *rows[BEAM_MAX];
    size_t parents[BEAM_MAX], n = 0;
    beam_search *b;
    bool done = false;
    *out = NULL;
    pali_status s = beam_new(&b, o, vocab);
    if (s != PALI_OK) return s;
    for (size_t i = 0; i < o->n_beams; i++) rows[i] = logits[0];
    logits_after(logits[0], vocab, seed, NULL, 0);
    for (;;) {
        s = beam_step(b, rows, parents, tokens, &done);
        if (s != PALI_OK || done) break;
        memcpy(old, paths, sizeof old);
        n++;
        assert_true(n < o->max_tokens);
        for (size_t i = 0; i < o->n_beams; i++) {
            memcpy(paths[i], old[parents[i]], sizeof paths[i]);
            paths[i][n - 1] = tokens[i];
            logits_after(logits[i], vocab, seed, paths[i], n);
            rows[i] = logits[i];
        }
    }
    if (s == PALI_OK) s = beam_finish(b, out);
    beam_free(b);
    return s;
}

/* Scores are float32 sums of up to 12 log-probabilities of size ~6, written with 7 digits, divided by length^-1 at worst:
 * 12 * 6 * 12 * 2^-22. */
#define SCORE_TOLERANCE 2e-4

static void check_sequence(const sequence *s, const char *line, size_t n_case, const beam_options *o) {
    char *at;
    double score = strtod(line, &at), sum = 0;
    size_t n = 0;
    for (; *at && *at != '\n'; n++) {
        long id = strtol(at, &at, 10);
        if (n >= s->n || s->tokens[n] != id) fail_msg("case %zu: token %zu is not %ld", n_case, n, id);
        sum += (double)s->logprobs[n];
    }
    assert_int_equal(s->n, n);
    if (!(fabs(s->score - score) <= SCORE_TOLERANCE)) fail_msg("case %zu: score %.7g, not %.7g", n_case, s->score, score);
    assert_int_equal(s->finish, s->tokens[n - 1] == EOS ? PALI_FINISH_STOP : PALI_FINISH_LENGTH);
    if (o->repetition_penalty == 1) { /* then the plain log-probabilities make the score */
        double expected = sum / pow((double)n, (double)o->length_penalty);
        if (!(fabs(s->score - expected) <= SCORE_TOLERANCE)) fail_msg("case %zu: log-probabilities make %.7g, score is %.7g", n_case, expected, s->score);
    }
}

static void test_reference(void **state) {
    (void)state;
    FILE *file = fopen(PALI_TEST_DATA "/beam/cases.txt", "r");
    assert_non_null(file);
    char line[1024], early[16];
    size_t n_cases = 0, n_read = 0;
    result *r = NULL;
    beam_options o = {0};
    while (fgets(line, sizeof line, file)) {
        unsigned seed, vocab, beams, limit;
        float length_penalty, repetition;
        if (line[0] == '#') continue;
        if (strncmp(line, "case ", 5) != 0) {
            assert_non_null(r);
            if (n_read >= r->n_sequences) fail_msg("case %zu: the reference returns more than %zu sequences", n_cases, r->n_sequences);
            check_sequence(&r->sequences[n_read++], line, n_cases, &o);
            continue;
        }
        if (r) assert_int_equal(n_read, r->n_sequences);
        result_free(r);
        assert_int_equal(sscanf(line, "case %u %u %u %f %15s %u %f", &seed, &vocab, &beams, &length_penalty, early, &limit, &repetition), 7);
        assert_true(vocab <= VOCAB_MAX && limit <= TOKENS_MAX && beams <= BEAM_MAX);
        o = (beam_options){.n_beams = beams, .n_return = beams, .max_tokens = limit, .length_penalty = length_penalty, .eos = EOS,
                           .early_stopping = !strcmp(early, "true")    ? PALI_EARLY_STOPPING_TRUE
                                             : !strcmp(early, "never") ? PALI_EARLY_STOPPING_NEVER
                                                                       : PALI_EARLY_STOPPING_FALSE,
                           .repetition_penalty = repetition, .prompt = k_prompt, .n_prompt = N_PROMPT};
        assert_int_equal(search(&r, &o, vocab, seed), PALI_OK);
        n_read = 0;
        n_cases++;
    }
    assert_true(n_cases > 200);
    assert_int_equal(n_read, r->n_sequences);
    result_free(r);
    (void)fclose(file);
}

/* One beam is greedy decoding, and n_return cuts the list without changing it. */
static void test_one_beam_is_greedy(void **state) {
    (void)state;
    beam_options o = {.n_beams = 1, .n_return = 1, .max_tokens = 10, .length_penalty = 1, .eos = EOS, .early_stopping = PALI_EARLY_STOPPING_TRUE, .repetition_penalty = 1};
    for (uint32_t seed = 0; seed < 20; seed++) {
        result *r;
        float logits[40], logprob;
        int32_t path[10];
        sampler s;
        size_t n = 0;
        assert_int_equal(search(&r, &o, 40, seed), PALI_OK);
        assert_int_equal(sampler_init(&s, &(sampler_options){.repetition_penalty = 1, .never = -1}, 40), PALI_OK);
        do {
            logits_after(logits, 40, seed, path, n);
            path[n++] = sampler_pick(&s, logits, &logprob);
        } while (path[n - 1] != EOS && n < o.max_tokens);
        assert_int_equal(r->sequences[0].n, n);
        assert_memory_equal(r->sequences[0].tokens, path, n * sizeof *path);
        sampler_free(&s);
        result_free(r);
    }
}

static void test_fewer_returned(void **state) {
    (void)state;
    beam_options o = {.n_beams = 4, .n_return = 4, .max_tokens = 12, .length_penalty = 1, .eos = EOS, .repetition_penalty = 1};
    result *all, *two;
    assert_int_equal(search(&all, &o, 100, 7), PALI_OK);
    o.n_return = 2;
    assert_int_equal(search(&two, &o, 100, 7), PALI_OK);
    assert_int_equal(all->n_sequences, 4);
    assert_int_equal(two->n_sequences, 2);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(two->sequences[i].n, all->sequences[i].n);
        assert_memory_equal(two->sequences[i].tokens, all->sequences[i].tokens, all->sequences[i].n * sizeof(int32_t));
    }
    for (size_t i = 1; i < 4; i++) assert_true(all->sequences[i - 1].score >= all->sequences[i].score);
    result_free(all);
    result_free(two);
}

/* Without an end token only the limit ends: all answers have its length. */
static void test_no_eos(void **state) {
    (void)state;
    beam_options o = {.n_beams = 3, .n_return = 3, .max_tokens = 9, .length_penalty = 1, .eos = -1, .repetition_penalty = 1};
    result *r;
    assert_int_equal(search(&r, &o, 50, 3), PALI_OK);
    assert_int_equal(r->n_sequences, 3);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(r->sequences[i].n, 9);
        assert_int_equal(r->sequences[i].finish, PALI_FINISH_LENGTH);
    }
    result_free(r);
}

/* A vocabulary smaller than the number of candidates, and logits that are no numbers, must end, not crash. */
static void test_hostile(void **state) {
    (void)state;
    for (size_t vocab = 1; vocab <= 3; vocab++) {
        beam_options o = {.n_beams = 5, .n_return = 5, .max_tokens = 6, .length_penalty = 1, .eos = EOS, .repetition_penalty = 2, .prompt = k_prompt, .n_prompt = N_PROMPT};
        float row[3] = {NAN, NAN, NAN};
        const float *rows[5] = {row, row, row, row, row};
        size_t parents[5];
        int32_t tokens[5];
        bool done = false;
        beam_search *b;
        result *r;
        for (int i = 0; i < 2; i++) {
            assert_int_equal(beam_new(&b, &o, vocab), PALI_OK);
            for (size_t step = 0; step < o.max_tokens && !done; step++) assert_int_equal(beam_step(b, rows, parents, tokens, &done), PALI_OK);
            assert_true(done);
            assert_int_equal(beam_finish(b, &r), PALI_OK);
            assert_in_range(r->n_sequences, 1, 5);
            result_free(r);
            beam_free(b);
            row[0] = row[1] = row[2] = 0.5f;
            done = false;
        }
    }
}

static void test_no_memory(void **state) {
    (void)state;
    beam_options o = {.n_beams = 3, .n_return = 3, .max_tokens = 12, .length_penalty = 1, .eos = EOS, .repetition_penalty = 1.2f, .prompt = k_prompt, .n_prompt = N_PROMPT};
    size_t k = 1;
    for (;; k++) { /* each allocation fails once; the sanitizers look for leaks */
        result *r;
        mem_fail_after(k);
        pali_status s = search(&r, &o, 60, 5);
        mem_fail_after(0);
        if (s == PALI_OK) {
            result_free(r);
            break;
        }
        assert_int_equal(s, PALI_ERR_MEMORY);
        assert_null(r);
    }
    assert_true(k > 5);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reference), cmocka_unit_test(test_one_beam_is_greedy), cmocka_unit_test(test_fewer_returned),
        cmocka_unit_test(test_no_eos),    cmocka_unit_test(test_hostile),            cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
