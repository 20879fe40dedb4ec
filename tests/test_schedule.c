/* test_schedule.c: learning rates and step counts against the values of spec training 4.5, 4.6 (Transformers' and big_vision's
 * own), and warm-ups. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "train/schedule.h"

static void near(double got, double expected) {
    if (!(fabs(got - expected) <= 1e-12)) fail_msg("%.17g is not %.17g", got, expected);
}

static void linear(void **state) {
    (void)state;
    const schedule s = {SCHEDULE_LINEAR, 2, 6};
    const double k_factors[] = {0, 0.5, 1, 0.75, 0.5, 0.25, 0, 0};
    for (uint64_t i = 0; i < 8; i++) near(schedule_factor(&s, i), k_factors[i]);
    const schedule none = {SCHEDULE_LINEAR, 0, 4}, all = {SCHEDULE_LINEAR, 4, 4}, longer = {SCHEDULE_LINEAR, 10, 4};
    near(schedule_factor(&none, 0), 1);
    near(schedule_factor(&none, 3), 0.25);
    near(schedule_factor(&all, 3), 0.75);
    near(schedule_factor(&longer, 3), 0.3);
}

static void cosine(void **state) {
    (void)state;
    const schedule s = {SCHEDULE_COSINE, 2, 10};
    near(schedule_factor(&s, 1), 0.5);
    near(schedule_factor(&s, 2), 1);
    near(schedule_factor(&s, 4), 0.5 * (1 + sqrt(0.5)));
    near(schedule_factor(&s, 6), 0.5);
    near(schedule_factor(&s, 10), 0);
    const schedule constant = {SCHEDULE_CONSTANT, 3, 10};
    near(schedule_factor(&constant, 1), 1.0 / 3);
    near(schedule_factor(&constant, 3), 1);
    near(schedule_factor(&constant, 99), 1);
}

/* The notebook: 64 steps counted from 1, base rate 0.03. Its own printed digits. */
static void big_vision(void **state) {
    (void)state;
    const schedule s = {SCHEDULE_COSINE_BV, schedule_warmup_bv(0.1, 65), 65};
    assert_int_equal(s.warmup, 6); /* 6.5, half to even */
    near(0.03 * schedule_factor(&s, 1), 0.005);
    near(0.03 * schedule_factor(&s, 6), 0.03);
    assert_true(fabs(0.03 * schedule_factor(&s, 7) - 0.029979) < 5e-7);
    assert_true(fabs(0.03 * schedule_factor(&s, 32) - 0.017779) < 5e-7);
    assert_true(fabs(0.03 * schedule_factor(&s, 64) - 2.1e-5) < 5e-7);
    near(schedule_factor(&s, 65), 0);
    near(schedule_factor(&s, 90), 0);
    const schedule none = {SCHEDULE_COSINE_BV, 0, 2};
    near(schedule_factor(&none, 0), 1);
    near(schedule_factor(&none, 1), 0.5);
}

static void warmups(void **state) {
    (void)state;
    assert_int_equal(schedule_warmup(2, 12482), 2);
    assert_int_equal(schedule_warmup(0, 100), 0);
    assert_int_equal(schedule_warmup(0.03, 101), 4); /* 3.03 rounded up */
    assert_int_equal(schedule_warmup_bv(0.001, 100), 1);
    assert_int_equal(schedule_warmup_bv(0.05, 70), 4); /* 3.5 */
    assert_int_equal(schedule_warmup_bv(0.05, 50), 2); /* 2.5 */
}

static schedule_count counted(uint64_t n, uint64_t batch, uint64_t accumulate, double epochs, uint64_t max) {
    schedule_count c;
    assert_int_equal(schedule_count_of(&c, n, batch, accumulate, epochs, max), PALI_OK);
    return c;
}

static void counts(void **state) {
    (void)state;
    schedule_count c = counted(399381, 16, 4, 2, 0); /* the article's run */
    assert_int_equal(c.micro_batches, 24962);
    assert_int_equal(c.updates, 6241);
    assert_int_equal(c.total, 12482);
    assert_int_equal(counted(10, 4, 2, 1.5, 0).total, 3); /* 3 micro-batches, 2 updates an epoch */
    assert_int_equal(counted(10, 4, 2, 1.5, 7).total, 7);
    assert_int_equal(counted(1, 16, 4, 0.1, 0).total, 1);
    assert_int_equal(schedule_count_of(&c, 0, 1, 1, 1, 0), PALI_ERR_ARGUMENT);
    assert_int_equal(schedule_count_of(&c, 1, 0, 1, 1, 0), PALI_ERR_ARGUMENT);
    assert_int_equal(schedule_count_of(&c, 1, 1, 0, 1, 0), PALI_ERR_ARGUMENT);
    assert_int_equal(schedule_count_of(&c, 1, 1, 1, 0, 0), PALI_ERR_ARGUMENT);
    assert_int_equal(schedule_count_of(&c, 1, 1, 1, (double)NAN, 0), PALI_ERR_ARGUMENT);
    assert_int_equal(schedule_count_of(&c, 1, 1, 1, 1e300, 0), PALI_ERR_ARGUMENT);
    assert_int_equal(counted(1, 1, 1, (double)NAN, 3).total, 3);
}

static void names(void **state) {
    (void)state;
    schedule_kind kind;
    assert_int_equal(schedule_kind_named(&kind, "cosine"), PALI_OK);
    assert_int_equal(kind, SCHEDULE_COSINE);
    assert_int_equal(schedule_kind_named(&kind, "constant_with_warmup"), PALI_OK);
    assert_int_equal(kind, SCHEDULE_CONSTANT);
    assert_int_equal(schedule_kind_named(&kind, "step"), PALI_ERR_ARGUMENT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(linear),  cmocka_unit_test(cosine), cmocka_unit_test(big_vision),
        cmocka_unit_test(warmups), cmocka_unit_test(counts), cmocka_unit_test(names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
