/* test_order.c: the order of rows equals torch.randperm's (PyTorch 2.15: torch.randperm(n, generator of that seed)), and batches,
 * windows and updates are counted as Transformers' Trainer counts them. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "train/order.h"

static void permutations_are_torch_s(void **state) {
    (void)state;
    static const struct {
        size_t n;
        uint64_t seed, epoch;
        uint32_t first[10];
        uint64_t sum; /* of (i + 1) * p[i] */
    } k_cases[] = {
        {10, 42, 0, {2, 6, 1, 8, 4, 5, 0, 9, 3, 7}, 268},
        {10, 42, 1, {8, 4, 9, 0, 5, 1, 6, 7, 2, 3}, 220},
        {100000, 40, 2, {37542, 60279, 68544, 70051, 15790, 14785, 72904, 31383, 48566, 9472}, 249825086226545u},
        {1, 0, 0, {0}, 0},
        {2, 7, 0, {1, 0}, 1},
        {1000, ((uint64_t)1 << 40) + 5, 0, {411, 49, 291, 695, 678, 515, 112, 606, 6, 942}, 253545079},
    };
    for (size_t c = 0; c < sizeof k_cases / sizeof *k_cases; c++) {
        order o;
        uint64_t sum = 0;
        const size_t n = k_cases[c].n;
        uint8_t *seen = calloc(n, 1);
        assert_non_null(seen);
        assert_int_equal(order_init(&o, n, 1, 1, k_cases[c].seed, true), PALI_OK);
        order_begin_epoch(&o, k_cases[c].epoch);
        for (size_t i = 0; i < n; i++) {
            if (i < 10) assert_int_equal(o.rows[i], k_cases[c].first[i]);
            assert_true(o.rows[i] < n && !seen[o.rows[i]]++);
            sum += (i + 1) * o.rows[i];
        }
        assert_int_equal(sum, k_cases[c].sum);
        order_free(&o);
        free(seen);
    }
}

static void without_shuffling_rows_stay(void **state) {
    (void)state;
    order o;
    assert_int_equal(order_init(&o, 5, 2, 2, 42, false), PALI_OK);
    order_begin_epoch(&o, 3);
    for (uint32_t i = 0; i < 5; i++) assert_int_equal(o.rows[i], i);
    order_free(&o);
}

static void windows_are_the_trainer_s(void **state) {
    (void)state;
    order o;
    size_t n, micro;
    uint64_t epoch;
    /* 11 rows by 2: 6 micro-batches, the last of 1 row; by 4: windows of 4 and 2. */
    assert_int_equal(order_init(&o, 11, 2, 4, 42, true), PALI_OK);
    assert_int_equal(o.n_micro, 6);
    assert_int_equal(o.n_updates, 2);
    assert_ptr_equal(order_micro(&o, 1, &n), o.rows + 2);
    assert_int_equal(n, 2);
    assert_ptr_equal(order_micro(&o, 5, &n), o.rows + 10);
    assert_int_equal(n, 1);
    assert_int_equal(order_window(&o, 0), 4);
    assert_int_equal(order_window(&o, 4), 2);
    order_resume(&o, 5, &epoch, &micro);
    assert_int_equal(epoch, 2);
    assert_int_equal(micro, 4);
    assert_true(order_epochs_done(&o, 5) == 2 + 4.0 / 6.0); /* micro-batches done of the epoch */
    assert_true(order_epochs_done(&o, 4) == 2);
    assert_int_equal(order_total_updates(&o, 3, 0), 6);
    assert_int_equal(order_total_updates(&o, 0.6, 0), 2); /* ceil(1.2) */
    assert_int_equal(order_total_updates(&o, 3, 17), 17); /* max_steps wins */
    assert_int_equal(order_total_updates(&o, 0, 0), 1);
    order_free(&o);
}

static void the_article_s_run_is_counted(void **state) {
    (void)state;
    order o;
    assert_int_equal(order_init(&o, 399381, 16, 4, 42, false), PALI_OK); /* spec training 4.6 */
    assert_int_equal(o.n_micro, 24962);
    assert_int_equal(o.n_updates, 6241);
    assert_int_equal(order_total_updates(&o, 2, 0), 12482);
    order_free(&o);
}

static void what_cannot_be_ordered_is_refused(void **state) {
    (void)state;
    order o;
    assert_int_equal(order_init(&o, 0, 1, 1, 0, true), PALI_ERR_LIMIT);
    order_free(&o);
    assert_int_equal(order_init(&o, ORDER_MAX_ROWS + 1, 1, 1, 0, true), PALI_ERR_LIMIT);
    order_free(&o);
    assert_int_equal(order_init(&o, 3, 0, 1, 0, true), PALI_ERR_ARGUMENT);
    order_free(&o);
    assert_int_equal(order_init(&o, 3, 1, 0, 0, true), PALI_ERR_ARGUMENT);
    order_free(&o);
}

/* Places of an epoch by file, in proportion to the weights; of each file all rows before one comes again, over epochs; an epoch
 * that is jumped to is the one that is reached. */
static void mixtures_draw_by_weight(void **state) {
    (void)state;
    static const size_t k_rows[] = {40, 7, 1000};
    static const double k_weights[] = {2, 0.5, 1};
    enum { N = 1047, EPOCHS = 20 };
    order o, jumped;
    size_t n_of[3] = {0}, seen[N] = {0};
    assert_int_equal(order_init(&o, N, 8, 1, 42, true), PALI_OK);
    assert_int_equal(order_mix(&o, k_rows, k_weights, 3), PALI_OK);
    assert_int_equal(order_init(&jumped, N, 8, 1, 42, true), PALI_OK);
    assert_int_equal(order_mix(&jumped, k_rows, k_weights, 3), PALI_OK);
    for (uint64_t epoch = 0; epoch < EPOCHS; epoch++) {
        if (epoch) order_begin_epoch(&o, epoch);
        for (size_t i = 0; i < N; i++) {
            const uint32_t row = o.rows[i];
            assert_true(row < N);
            const size_t part = row < 40 ? 0 : row < 47 ? 1 : 2, first = part == 0 ? 0 : part == 1 ? 40 : 47;
            assert_int_equal(seen[row]++, n_of[part]++ / k_rows[part]);
            assert_true(row >= first);
        }
        if (epoch % 7 == 5) {
            order_begin_epoch(&jumped, epoch);
            assert_memory_equal(jumped.rows, o.rows, N * sizeof *o.rows);
            order_begin_epoch(&jumped, epoch - 5);
        }
    }
    /* 20940 draws: the shares are off by 0.0035 in the standard deviation. */
    for (size_t k = 0; k < 3; k++) assert_true(fabs((double)n_of[k] / (N * EPOCHS) - k_weights[k] / 3.5) < 0.014);
    order_free(&o);
    order_free(&jumped);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mixtures_draw_by_weight),
        cmocka_unit_test(permutations_are_torch_s),
        cmocka_unit_test(without_shuffling_rows_stay),
        cmocka_unit_test(windows_are_the_trainer_s),
        cmocka_unit_test(the_article_s_run_is_counted),
        cmocka_unit_test(what_cannot_be_ordered_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
