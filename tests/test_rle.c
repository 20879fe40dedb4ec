/* test_rle.c: run-length strings equal pycocotools' (tests/golden/codec/rle.txt) and come back as the mask; others are refused. */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "mask_formula.h"

#define MIN_CASES 18u

static void equals_the_reference(void **state) {
    (void)state;
    FILE *f = fopen(PALI_TEST_DATA "/codec/rle.txt", "r");
    char line[512], expected[400];
    size_t n_cases = 0;
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        int width, height, kind, threshold;
        char *counts, hash[20];
        uint8_t *back;
        if (line[0] == '#') continue;
        assert_int_equal(sscanf(line, "%d %d %d %d %399s", &width, &height, &kind, &threshold, expected), 5);
        uint8_t *mask = formula_picture((size_t)width, (size_t)height, kind);
        assert_int_equal(pali_mask_to_rle(mask, width, height, (uint8_t)threshold, &counts), PALI_OK);
        if (expected[0] == '#') {
            (void)snprintf(hash, sizeof hash, "#%016" PRIx64, fnv1a(counts, strlen(counts)));
            assert_string_equal(hash, expected);
        } else {
            assert_string_equal(counts, expected);
        }
        assert_int_equal(pali_mask_from_rle(counts, width, height, &back), PALI_OK);
        for (size_t i = 0; i < (size_t)width * (size_t)height; i++) mask[i] = mask[i] >= threshold ? 255 : 0;
        assert_memory_equal(back, mask, (size_t)width * (size_t)height);
        pali_free(back);
        pali_free(counts);
        free(mask);
        n_cases++;
    }
    assert_int_equal(fclose(f), 0);
    assert_true(n_cases >= MIN_CASES);
}

static void refuses_hostile_strings(void **state) {
    (void)state;
    static const struct {
        const char *counts, *message; /* for a mask of 4 x 3; NULL: fine */
    } k_strings[] = {
        {"<", NULL},             /* 12 zeros */
        {"0<", NULL},            /* 12 ones */
        {"228", NULL},           /* 2, 2, 8 */
        {"2224", NULL},             /* 2, 2, 2, 6: the fourth is 4 more than the second */
        {"0<0000", "text after the last run"},
        {"", "character 0: the string ends too early"},
        {";", "character 1: the string ends too early"},
        {"<0", "character 1: text after the last run"},
        {"=", "the runs are more than the mask's size"},
        {"22;", "the runs are more than the mask's size"},
        {"O", "character 1: a count below zero"},
        {"221M", "character 4: a count below zero"}, /* 3 less than the second */
        {"o", "character 1: the string ends too early"},
        {"ooooooooooooooooooooooooo", "character 7: a count of too many digits"},
        {"PPPPPPPPPPPPPP0", "character 7: a count of too many digits"},
        {"PPPPPP?", "the runs are more than the mask's size"}, /* 2^33 and more */
        {"PPPPPPO", "a count below zero"},
        {"/", "character 0: expected '0' to 'o'"},
        {"p", "character 0: expected '0' to 'o'"},
        {"2 2", "character 1: expected '0' to 'o'"},
        {"\xff", "character 0: expected '0' to 'o'"},
    };
    for (size_t i = 0; i < sizeof k_strings / sizeof k_strings[0]; i++) {
        uint8_t *mask = (uint8_t *)1;
        pali_status s = pali_mask_from_rle(k_strings[i].counts, 4, 3, &mask);
        if ((s == PALI_OK) != (k_strings[i].message == NULL)) fail_msg("'%s': %s", k_strings[i].counts, s == PALI_OK ? "accepted" : pali_last_error());
        if (s == PALI_OK) {
            pali_free(mask);
            continue;
        }
        assert_int_equal(s, PALI_ERR_FORMAT);
        assert_null(mask);
        if (!strstr(pali_last_error(), k_strings[i].message)) fail_msg("'%s': '%s' does not hold '%s'", k_strings[i].counts, pali_last_error(), k_strings[i].message);
    }
}

static void checks_arguments_and_memory(void **state) {
    (void)state;
    uint8_t pixel = 255, *mask;
    char *counts;
    assert_int_equal(pali_mask_to_rle(NULL, 1, 1, 1, &counts), PALI_ERR_ARGUMENT);
    assert_int_equal(pali_mask_to_rle(&pixel, 1, 1, 1, NULL), PALI_ERR_ARGUMENT);
    assert_int_equal(pali_mask_to_rle(&pixel, 0, 1, 1, &counts), PALI_ERR_ARGUMENT);
    assert_int_equal(pali_mask_to_rle(&pixel, 1, -1, 1, &counts), PALI_ERR_ARGUMENT);
    assert_int_equal(pali_mask_to_rle(&pixel, 1, 1, 0, &counts), PALI_ERR_ARGUMENT);
    assert_int_equal(pali_mask_from_rle(NULL, 1, 1, &mask), PALI_ERR_ARGUMENT);
    assert_int_equal(pali_mask_from_rle("1", 1, 1, NULL), PALI_ERR_ARGUMENT);
    assert_int_equal(pali_mask_from_rle("1", 1000001, 1, &mask), PALI_ERR_ARGUMENT);
    assert_int_equal(pali_mask_from_rle("1", 1000000, 1000000, &mask), PALI_ERR_ARGUMENT);
    uint8_t *picture = formula_picture(70, 70, 2); /* long enough for the string to grow */
    for (size_t k = 1;; k++) {
        mem_fail_after(k);
        pali_status s = pali_mask_to_rle(picture, 70, 70, 128, &counts);
        mem_fail_after(0);
        if (s == PALI_OK) break;
        assert_int_equal(s, PALI_ERR_MEMORY);
        assert_null(counts);
    }
    for (size_t k = 1; k <= 2; k++) {
        mem_fail_after(k);
        assert_int_equal(pali_mask_from_rle(counts, 70, 70, &mask), PALI_ERR_MEMORY);
        mem_fail_after(0);
    }
    pali_free(counts);
    free(picture);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_the_reference),
        cmocka_unit_test(refuses_hostile_strings),
        cmocka_unit_test(checks_arguments_and_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
