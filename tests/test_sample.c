/* test_sample.c: ids and targets of training rows equal PaliGemmaProcessor's (tests/golden/train/samples.jsonl); what targets weigh
 * in each kind of mean. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "golden.h"
#include "train/sample.h"

#define MIN_CASES 10u
#define N_IMAGE_IDS 16u /* of a picture in the golden rows */

static sample_rules tiny_rules(tokenizer **t) {
    assert_int_equal(tokenizer_load(t, GOLDEN_DIR "/pg1-f32/tokenizer.json"), PALI_OK);
    return (sample_rules){.tokenizer = *t,
                          .image_token = tokenizer_find(*t, "<image>"),
                          .bos_token = tokenizer_find(*t, "<bos>"),
                          .eos_token = tokenizer_find(*t, "<eos>"),
                          .n_image_ids = N_IMAGE_IDS};
}

static void assert_row(const sample_rules *rules, const json_t *row) {
    const char *prefix = golden_string(row, "prefix"), *suffix = golden_string(row, "suffix");
    size_t n, n_types, n_labels;
    int32_t *ids = golden_ids(golden_field(row, "ids"), &n), *types = golden_ids(golden_field(row, "types"), &n_types),
            *labels = golden_ids(golden_field(row, "labels"), &n_labels);
    sample s;
    assert_int_equal(sample_make(&s, rules, (size_t)golden_number(row, "n_images"), prefix, strlen(prefix), suffix, strlen(suffix)), PALI_OK);
    if (s.n != n) fail_msg("'%s' '%s': %zu ids, not %zu", prefix, suffix, s.n, n);
    for (size_t i = 0; i < n; i++) {
        if (s.ids[i] != ids[i]) fail_msg("'%s' '%s': id %zu is %d, not %d", prefix, suffix, i, (int)s.ids[i], (int)ids[i]);
        assert_int_equal(i >= s.n_prefix, types[i]);
        assert_int_equal(i >= s.n_prefix ? s.ids[i] : -100, labels[i]);
    }
    sample_free(&s);
    free(ids);
    free(types);
    free(labels);
}

static void rows_are_the_processor_s(void **state) {
    (void)state;
    FILE *f = fopen(PALI_TEST_DATA "/train/samples.jsonl", "r");
    static char line[1 << 16];
    tokenizer *t;
    size_t n_cases = 0;
    assert_non_null(f);
    const sample_rules rules = tiny_rules(&t);
    while (fgets(line, sizeof line, f)) {
        json_t *row = json_loads(line, 0, NULL);
        assert_non_null(row);
        if (!json_object_get(row, "made_by")) {
            assert_row(&rules, row);
            n_cases++;
        }
        json_decref(row);
    }
    assert_int_equal(fclose(f), 0);
    assert_true(n_cases >= MIN_CASES);
    tokenizer_free(t);
}

/* The example of spec training 1.1, where Gemma's tokenizer is at hand. */
static void the_flower_is_encoded(void **state) {
    (void)state;
    static const int32_t k_text[] = {2, 13072, 2439, 603, 611, 573, 10377, 235336, 108, 19476, 1};
    static const char k_prefix[] = "answer What is on the flower?";
    tokenizer *t = golden_gemma_tokenizer();
    if (!t) skip();
    const sample_rules rules = {.tokenizer = t, .image_token = 257152, .bos_token = 2, .eos_token = 1, .n_image_ids = 256};
    sample s;
    assert_int_equal(sample_make(&s, &rules, 1, k_prefix, strlen(k_prefix), "bee", 3), PALI_OK);
    assert_int_equal(s.n, 267);
    assert_int_equal(s.n_prefix, 265);
    assert_int_equal(sample_n_targets(&s), 2);
    for (size_t i = 0; i < 256; i++) assert_int_equal(s.ids[i], 257152);
    assert_memory_equal(s.ids + 256, k_text, sizeof k_text);
    sample_free(&s);
    tokenizer_free(t);
}

static void a_long_suffix_is_cut(void **state) {
    (void)state;
    tokenizer *t;
    sample_rules rules = tiny_rules(&t);
    sample whole, cut;
    assert_int_equal(sample_make(&whole, &rules, 1, "a", 1, "cat dog house", 13), PALI_OK);
    const size_t n = sample_n_targets(&whole);
    assert_true(n > 2);
    assert_int_equal(whole.ids[whole.n - 1], rules.eos_token);
    for (rules.max_suffix_tokens = 1; rules.max_suffix_tokens < n + 2; rules.max_suffix_tokens++) {
        assert_int_equal(sample_make(&cut, &rules, 1, "a", 1, "cat dog house", 13), PALI_OK);
        assert_int_equal(sample_n_targets(&cut), rules.max_suffix_tokens < n ? rules.max_suffix_tokens : n);
        assert_int_equal(cut.n_prefix, whole.n_prefix);
        assert_memory_equal(cut.ids, whole.ids, cut.n * sizeof *cut.ids);
        sample_free(&cut);
    }
    sample_free(&whole);
    tokenizer_free(t);
}

/* What is absent is answered with nothing: the end alone is learned. */
static void an_empty_suffix_is_the_end(void **state) {
    (void)state;
    tokenizer *t;
    const sample_rules rules = tiny_rules(&t);
    sample s;
    assert_int_equal(sample_make(&s, &rules, 1, "a", 1, "", 0), PALI_OK);
    assert_int_equal(sample_n_targets(&s), 1);
    assert_int_equal(s.ids[s.n - 1], rules.eos_token);
    sample_free(&s);
    tokenizer_free(t);
}

/* big_vision's: text_len ids and the one after them; image ids do not count. Of a prompt that is too long nothing is left to learn. */
static void a_long_text_is_cut(void **state) {
    (void)state;
    tokenizer *t;
    sample_rules rules = tiny_rules(&t);
    sample whole, cut;
    assert_int_equal(sample_make(&whole, &rules, 2, "a cat", 5, "cat dog house", 13), PALI_OK);
    const size_t n_image = 2 * rules.n_image_ids, n_text = whole.n - n_image, n_prompt = whole.n_prefix - n_image;
    for (rules.text_len = 1; rules.text_len < n_text + 2; rules.text_len++) {
        const size_t left = rules.text_len + 1 < n_text ? rules.text_len + 1 : n_text;
        assert_int_equal(sample_make(&cut, &rules, 2, "a cat", 5, "cat dog house", 13), PALI_OK);
        assert_int_equal(cut.n, n_image + left);
        assert_int_equal(sample_n_targets(&cut), left > n_prompt ? left - n_prompt : 0);
        assert_memory_equal(cut.ids, whole.ids, cut.n * sizeof *cut.ids);
        sample_free(&cut);
    }
    sample_free(&whole);
    tokenizer_free(t);
}

static void a_long_sample_is_an_error(void **state) {
    (void)state;
    tokenizer *t;
    sample_rules rules = tiny_rules(&t);
    sample s;
    assert_int_equal(sample_make(&s, &rules, 1, "a", 1, "b", 1), PALI_OK);
    rules.max_tokens = s.n;
    sample_free(&s);
    assert_int_equal(sample_make(&s, &rules, 1, "a", 1, "b", 1), PALI_OK);
    sample_free(&s);
    rules.max_tokens--;
    assert_int_equal(sample_make(&s, &rules, 1, "a", 1, "b", 1), PALI_ERR_LIMIT);
    assert_non_null(strstr(pali_last_error(), "more than the limit"));
    sample_free(&s);
    tokenizer_free(t);
}

static void bad_text_is_an_error(void **state) {
    (void)state;
    tokenizer *t;
    const sample_rules rules = tiny_rules(&t);
    sample s;
    assert_int_equal(sample_make(&s, &rules, 1, "a\xff", 2, "b", 1), PALI_ERR_FORMAT);
    assert_non_null(strstr(pali_last_error(), "prompt"));
    sample_free(&s);
    assert_int_equal(sample_make(&s, &rules, 1, "a", 1, "b\xff", 2), PALI_ERR_FORMAT);
    assert_non_null(strstr(pali_last_error(), "suffix"));
    sample_free(&s);
    assert_int_equal(sample_make(&s, &rules, SIZE_MAX / 2, "a", 1, "b", 1), PALI_ERR_LIMIT);
    sample_free(&s);
    tokenizer_free(t);
}

/* Two micro-batches: samples of 1 and 3 targets, and one of 4. */
static void means_weigh_as_they_say(void **state) {
    (void)state;
    static const struct {
        sample_mean mean;
        double weights[3];
    } k_cases[] = {
        {SAMPLE_TOKEN_MEAN_WINDOW, {1.0 / 8, 1.0 / 8, 1.0 / 8}},
        {SAMPLE_TOKEN_MEAN_MICRO, {1.0 / 8, 1.0 / 8, 1.0 / 8}}, /* 4 targets each */
        {SAMPLE_EXAMPLE_MEAN, {1.0 / 3, 1.0 / 9, 1.0 / 12}},
    };
    static const size_t k_targets[3] = {1, 3, 4}, k_micro[3] = {4, 4, 4};
    const sample_counts window = {.n_targets = 8, .n_micro = 2, .n_samples = 3};
    for (size_t c = 0; c < sizeof k_cases / sizeof *k_cases; c++) {
        double sum = 0;
        for (size_t i = 0; i < 3; i++) {
            const double w = sample_weight(k_cases[c].mean, k_targets[i], k_micro[i]) * sample_scale(k_cases[c].mean, &window);
            assert_true(fabs(w - k_cases[c].weights[i]) < 1e-15); /* one rounding each */
            sum += w * (double)k_targets[i];
        }
        assert_true(fabs(sum - 1) < 1e-15);
    }
    /* Micro-batches of 1 and 3 targets count alike, their tokens do not. */
    assert_true(sample_weight(SAMPLE_TOKEN_MEAN_MICRO, 1, 1) == 1);
    assert_true(fabs(sample_weight(SAMPLE_TOKEN_MEAN_MICRO, 3, 3) - 1.0 / 3) < 1e-15);
    /* Nothing left of a window: no gradient, and no division by zero. */
    assert_true(sample_scale(SAMPLE_TOKEN_MEAN_WINDOW, &(sample_counts){0}) == 0);
    assert_true(sample_weight(SAMPLE_EXAMPLE_MEAN, 0, 0) == 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_the_processor_s), cmocka_unit_test(the_flower_is_encoded), cmocka_unit_test(a_long_suffix_is_cut),
        cmocka_unit_test(an_empty_suffix_is_the_end), cmocka_unit_test(a_long_text_is_cut),
        cmocka_unit_test(a_long_sample_is_an_error),
        cmocka_unit_test(bad_text_is_an_error),     cmocka_unit_test(means_weigh_as_they_say),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
