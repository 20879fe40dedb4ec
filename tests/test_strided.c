/* test_strided.c: rows of arrays whose axes lie in any order, gathered in any pieces, against the order written out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tensor/strided.h"

static void gathers_rows(void **state) {
    (void)state;
    enum { N = 2 * 3 * 70 * 90 };
    static const size_t k_orders[][4] = {{0, 1, 2, 3}, {3, 2, 1, 0}, {1, 3, 0, 2}, {2, 0, 3, 1}, {0, 3, 1, 2}, {3, 0, 1, 2}};
    static const size_t k_dims[][4] = {{2, 3, 70, 90}, {70, 1, 90, 6}, {6, 90, 70, 1}, {1, 1, 140, 270}, {5, 7, 9, 120}};
    uint32_t *data = malloc(N * sizeof *data), *out = malloc(N * sizeof *out);
    uint16_t *halves = malloc(N * sizeof *halves), *half_out = malloc(N * sizeof *half_out);
    assert_true(data && out && halves && half_out);
    for (size_t i = 0; i < N; i++) halves[i] = (uint16_t)(data[i] = (uint32_t)(i * 2654435761u));
    for (size_t i = 0; i < sizeof k_dims / sizeof k_dims[0]; i++) {
        for (size_t j = 0; j < sizeof k_orders / sizeof k_orders[0]; j++) {
            for (size_t n_row_axes = 0; n_row_axes <= 4; n_row_axes++) {
                strided_axis axes[4];
                size_t steps[4], step = 1, rows = 1, cols = 1;
                strided s;
                for (size_t d = 4; d-- > 0; step *= k_dims[i][d]) steps[d] = step;
                for (size_t d = 0; d < 4; d++) {
                    axes[d] = (strided_axis){k_dims[i][k_orders[j][d]], steps[k_orders[j][d]]};
                    *(d < n_row_axes ? &rows : &cols) *= axes[d].n;
                }
                strided_init(&s, axes, 4, rows);
                assert_true(strided_is_dense(&s));
                for (size_t first = 0, n; first < rows; first += n) { /* uneven pieces */
                    n = first % 3 * 40 + 33 < rows - first ? first % 3 * 40 + 33 : rows - first;
                    strided_rows(out + first * cols, data, 4, &s, first, n);
                    strided_rows(half_out + first * cols, halves, 2, &s, first, n);
                }
                for (size_t e = 0; e < rows * cols; e++) {
                    size_t from = 0, rest = e;
                    for (size_t d = 4; d-- > 0; rest /= axes[d].n) from += rest % axes[d].n * axes[d].step;
                    if (out[e] != data[from] || half_out[e] != halves[from]) fail_msg("dims %zu, order %zu, %zu rows: element %zu", i, j, rows, e);
                }
            }
        }
    }
    strided s;
    strided_init(&s, (strided_axis[]){{4, 6}, {3, 1}}, 2, 4);
    assert_false(strided_is_dense(&s));
    free(data);
    free(out);
    free(halves);
    free(half_out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gathers_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
