/* test_maskbox.c: masks in pictures are Pillow's bytes by both rules (tests/golden/codec/paste.txt), and masks cut out of them
 * its floats (crop.txt). */
#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "mask_formula.h"
#include "model/maskbox.h"
#include "model/maskcodec.h"

#define MIN_PASTES 110u
#define MIN_CROPS 10u
#define N_MASK (PALI_MASK_SIDE * PALI_MASK_SIDE)

static void pastes_as_the_reference(void **state) {
    (void)state;
    FILE *f = fopen(PALI_TEST_DATA "/codec/paste.txt", "r");
    char line[256], rule[16], expected[20], hash[20];
    size_t n_cases = 0, n_none = 0;
    float mask[N_MASK];
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        int32_t width, height, loc[4];
        int kind;
        uint8_t *whole;
        if (line[0] == '#') continue;
        assert_int_equal(sscanf(line, "%" SCNd32 " %" SCNd32 " %" SCNd32 " %" SCNd32 " %" SCNd32 " %" SCNd32 " %15s %d %19s", &width, &height, &loc[0], &loc[1], &loc[2],
                                &loc[3], rule, &kind, expected), 9);
        formula_mask(mask, kind);
        assert_int_equal(pali_mask_paste(mask, loc, width, height, strcmp(rule, "demo") == 0 ? PALI_MASK_DEMO : PALI_MASK_EVALUATOR, &whole), PALI_OK);
        (void)snprintf(hash, sizeof hash, "%016" PRIx64, whole ? fnv1a(whole, (size_t)width * (size_t)height) : 0);
        if (strcmp(whole ? hash : "none", expected) != 0) fail_msg("%s: %s", line, whole ? hash : "none");
        n_none += !whole;
        n_cases++;
        pali_free(whole);
    }
    assert_int_equal(fclose(f), 0);
    assert_true(n_cases >= MIN_PASTES && n_none > 10);
}

static void clips_what_is_no_number(void **state) {
    (void)state;
    static const int32_t k_whole[] = {0, 0, 1023, 1023};
    float mask[N_MASK];
    uint8_t *whole;
    for (size_t i = 0; i < N_MASK; i++) mask[i] = i % 4 == 0 ? NAN : i % 4 == 1 ? INFINITY : i % 4 == 2 ? -INFINITY : -1.0f;
    assert_int_equal(pali_mask_paste(mask, k_whole, 64, 64, PALI_MASK_DEMO, &whole), PALI_OK);
    for (size_t i = 0; i < N_MASK; i++) assert_int_equal(whole[i], i % 4 == 1 ? 255 : 0);
    pali_free(whole);
    assert_int_equal(pali_mask_paste(mask, k_whole, 300, 300, PALI_MASK_EVALUATOR, &whole), PALI_OK);
    pali_free(whole);
}

static void crops_as_the_reference(void **state) {
    (void)state;
    FILE *f = fopen(PALI_TEST_DATA "/codec/crop.txt", "r");
    char line[256], expected[20], hash[20];
    size_t n_cases = 0;
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        size_t width, height;
        int kind, y0, x0, y1, x1;
        float out[N_MASK];
        if (line[0] == '#') continue;
        assert_int_equal(sscanf(line, "%zu %zu %d %d %d %d %d %19s", &width, &height, &kind, &y0, &x0, &y1, &x1, expected), 8);
        uint8_t *mask = formula_picture(width, height, kind);
        const double w = (double)width, h = (double)height, box[] = {y0 / h, x0 / w, y1 / h, x1 / w};
        assert_int_equal(maskbox_crop(out, mask, width, height, width, box), PALI_OK);
        (void)snprintf(hash, sizeof hash, "%016" PRIx64, fnv1a(out, sizeof out));
        if (strcmp(hash, expected) != 0) fail_msg("%s: %s", line, hash);
        free(mask);
        n_cases++;
    }
    assert_int_equal(fclose(f), 0);
    assert_true(n_cases >= MIN_CROPS);
}

/* Boxes between pixels go to the nearest, from the middle to the even one; rows may lie further apart than they are wide. */
static void rounds_boxes_and_heeds_strides(void **state) {
    (void)state;
    static const struct {
        double box[4];
        size_t y0, x0, y1, x1; /* of 10 x 10; y1 == y0: none */
    } k_boxes[] = {
        {{0.05, 0.15, 0.25, 0.35}, 0, 2, 2, 4}, /* 0.5, 1.5, 2.5, 3.5 */
        {{0.149, 0.151, 0.849, 0.851}, 1, 2, 8, 9}, {{0, 0, 1, 1}, 0, 0, 10, 10}, {{0.5, 0.5, 0.54, 1}, 5, 5, 5, 10}, {{0.9, 0, 0.1, 1}, 9, 0, 1, 10},
    };
    enum { SIDE = 10, STRIDE = 13 };
    uint8_t *mask = formula_picture(STRIDE, SIDE, 1);
    for (size_t i = 0; i < sizeof k_boxes / sizeof k_boxes[0]; i++) {
        float out[N_MASK], expected[N_MASK], part[SIDE * SIDE];
        const size_t y0 = k_boxes[i].y0, x0 = k_boxes[i].x0, y1 = k_boxes[i].y1, x1 = k_boxes[i].x1;
        pali_status s = maskbox_crop(out, mask, SIDE, SIDE, STRIDE, k_boxes[i].box);
        assert_int_equal(s, y1 > y0 ? PALI_OK : PALI_ERR_ARGUMENT);
        if (s != PALI_OK) continue;
        for (size_t y = y0; y < y1; y++)
            for (size_t x = x0; x < x1; x++) part[(y - y0) * (x1 - x0) + x - x0] = mask[y * STRIDE + x];
        assert_int_equal(resize_f32(expected, 64, 64, part, x1 - x0, y1 - y0, RESIZE_BILINEAR), PALI_OK);
        for (size_t k = 0; k < N_MASK; k++) assert_true(out[k] == 2 * (expected[k] / 255 - 0.5f));
    }
    free(mask);
}

static void checks_arguments_and_memory(void **state) {
    (void)state;
    static const int32_t k_loc[] = {10, 10, 500, 600}, k_low[] = {0, 0, -1, 1}, k_high[] = {0, 0, 1024, 1};
    float mask[N_MASK];
    uint8_t *whole = (uint8_t *)1;
    formula_mask(mask, 1);
    assert_int_equal(pali_mask_paste(mask, k_loc, 10, 10, PALI_MASK_DEMO, NULL), PALI_ERR_ARGUMENT);
    assert_int_equal(pali_mask_paste(NULL, k_loc, 10, 10, PALI_MASK_DEMO, &whole), PALI_ERR_ARGUMENT);
    assert_null(whole);
    assert_int_equal(pali_mask_paste(mask, NULL, 10, 10, PALI_MASK_DEMO, &whole), PALI_ERR_ARGUMENT);
    assert_int_equal(pali_mask_paste(mask, k_low, 10, 10, PALI_MASK_DEMO, &whole), PALI_ERR_ARGUMENT);
    assert_non_null(strstr(pali_last_error(), "loc[2]: -1: expected 0 to 1023"));
    assert_int_equal(pali_mask_paste(mask, k_high, 10, 10, PALI_MASK_DEMO, &whole), PALI_ERR_ARGUMENT);
    assert_int_equal(pali_mask_paste(mask, k_loc, 0, 10, PALI_MASK_DEMO, &whole), PALI_ERR_ARGUMENT);
    assert_int_equal(pali_mask_paste(mask, k_loc, 10, 1 << 30, PALI_MASK_DEMO, &whole), PALI_ERR_ARGUMENT);
    assert_int_equal(pali_mask_paste(mask, k_loc, 10, 10, (pali_mask_rule)2, &whole), PALI_ERR_ARGUMENT);
    for (int rule = 0; rule < 2; rule++) {
        size_t k = 1;
        for (;; k++) {
            mem_fail_after(k);
            pali_status s = pali_mask_paste(mask, k_loc, 300, 200, (pali_mask_rule)rule, &whole);
            mem_fail_after(0);
            if (s == PALI_OK) break;
            assert_int_equal(s, PALI_ERR_MEMORY);
            assert_null(whole);
        }
        assert_true(k > 5);
        pali_free(whole);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pastes_as_the_reference),        cmocka_unit_test(clips_what_is_no_number), cmocka_unit_test(crops_as_the_reference),
        cmocka_unit_test(rounds_boxes_and_heeds_strides), cmocka_unit_test(checks_arguments_and_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
