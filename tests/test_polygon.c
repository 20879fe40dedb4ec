/* test_polygon.c: polygons are filled as pycocotools fills them (tests/golden/train/polygons.txt); what cannot be filled in bounded
 * time is refused. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/polygon.h"
#include "paligemma.h"

#define MIN_CASES 51u
#define MAX_POINTS 64u

static void equals_the_reference(void **state) {
    (void)state;
    FILE *file = fopen(PALI_TEST_DATA "/train/polygons.txt", "r");
    char line[4096];
    size_t n_cases = 0;
    fault f;
    assert_non_null(file);
    while (fgets(line, sizeof line, file)) {
        if (line[0] == '#') continue;
        char *at = line, *counts;
        const int32_t width = (int32_t)strtol(at, &at, 10), height = (int32_t)strtol(at, &at, 10);
        const long n_parts = strtol(at, &at, 10);
        uint8_t *mask = calloc((size_t)width * (size_t)height, 1);
        assert_non_null(mask);
        for (long p = 0; p < n_parts; p++) {
            double xy[2 * MAX_POINTS];
            const size_t n = (size_t)strtol(at, &at, 10);
            assert_in_range(n, 3, MAX_POINTS);
            for (size_t i = 0; i < 2 * n; i++) xy[i] = strtod(at, &at);
            if (!polygon_fill(mask, (size_t)width, (size_t)height, xy, n, &f)) fail_msg("%s", f.text);
        }
        line[strcspn(line, "\n")] = 0;
        assert_int_equal(pali_mask_to_rle(mask, width, height, 128, &counts), PALI_OK);
        if (strcmp(counts, at + 1)) fail_msg("%s, not %s", counts, line);
        pali_free(counts);
        free(mask);
        n_cases++;
    }
    assert_int_equal(fclose(file), 0);
    assert_true(n_cases >= MIN_CASES);
}

static void what_has_no_bounds_is_refused(void **state) {
    (void)state;
    static const double k_few[] = {0, 0, 1, 1}, k_far[] = {0, 0, 1e300, 0, 1, 1}, k_nan[] = {0, 0, (double)NAN, 0, 1, 1};
    static double long_way[2 * 16];
    uint8_t mask[4] = {0};
    fault f;
    assert_false(polygon_fill(mask, 2, 2, k_few, 2, &f));
    assert_non_null(strstr(f.text, "2 points"));
    assert_false(polygon_fill(mask, 2, 2, k_far, 3, &f));
    assert_non_null(strstr(f.text, "1e+300"));
    assert_false(polygon_fill(mask, 2, 2, k_nan, 3, &f));
    for (size_t i = 0; i < 32; i += 4) long_way[i] = 3e6;
    assert_false(polygon_fill(mask, 2, 2, long_way, 16, &f));
    assert_non_null(strstr(f.text, "boundary"));
    for (size_t i = 0; i < 4; i++) assert_int_equal(mask[i], 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(equals_the_reference), cmocka_unit_test(what_has_no_bounds_is_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
