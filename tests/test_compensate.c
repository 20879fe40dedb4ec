/* test_compensate.c: factors against the normal equations they solve, rounding against the same done the long way, and what it is
 * for: errors of products. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "kernels/blocks_plain.h"
#include "tensor/compensate.h"
#include "tensor/encode.h"

typedef struct matrix_case {
    pali_dtype dtype;
    size_t cols;
} matrix_case;

static const kernels *g_k;

static int group_setup(void **state) {
    cpu_level level;
    (void)state;
    assert_int_equal(cpu_level_chosen(&level), PALI_OK);
    g_k = kernels_get(level);
    return g_k ? 0 : 1;
}

static void *some(size_t n, size_t size) {
    void *block = calloc(n, size);
    assert_non_null(block);
    return block;
}

static void fill(float *x, size_t n, uint64_t seed) {
    rng r;
    rng_seed(&r, seed);
    for (size_t i = 0; i < n; i++) x[i] = rng_normal(&r);
}

/* m inputs [m, n] of few directions, and a little of every other: what layers of a transformer see. */
static float *inputs(size_t m, size_t n, uint64_t seed) {
    enum { DIRECTIONS = 12 };
    float *basis = some(DIRECTIONS * n, sizeof *basis), *z = some(m * DIRECTIONS, sizeof *z), *x = some(m * n, sizeof *x);
    fill(basis, DIRECTIONS * n, seed);
    fill(z, m * DIRECTIONS, seed + 1);
    fill(x, m * n, seed + 2);
    for (size_t r = 0; r < m; r++)
        for (size_t j = 0; j < n; j++) {
            x[r * n + j] *= 0.3f;
            for (size_t d = 0; d < DIRECTIONS; d++) x[r * n + j] += z[r * DIRECTIONS + d] * basis[d * n + j];
        }
    free(basis);
    free(z);
    return x;
}

/* Sums of x x^T in spans. */
static float *sums(const float *x, size_t m, size_t cols) {
    float *h = some(compensate_floats(cols), sizeof *h);
    for (size_t s = 0; s < compensate_n_spans(cols); s++) {
        const size_t n = compensate_span_cols(cols, s), c = s * COMPENSATE_SPAN;
        float *at = h + compensate_offset(s);
        for (size_t r = 0; r < m; r++)
            for (size_t i = 0; i < n; i++) g_k->sum_rows(at + i * n, x + r * cols + c + i, x + r * cols + c, cols, 1, n, true);
    }
    return h;
}

static void factor(float *h, size_t cols) {
    double *scratch = some(compensate_scratch(COMPENSATE_SPAN), sizeof *scratch);
    for (size_t s = 0; s < compensate_n_spans(cols); s++) assert_true(compensate_factor(h + compensate_offset(s), compensate_span_cols(cols, s), scratch));
    free(scratch);
}

static double damped(const float *h, size_t n, size_t i, size_t j) {
    double mean = 0;
    for (size_t d = 0; d < n && i == j; d++) mean += (double)h[d * n + d] / (double)n;
    return (double)h[i * n + j] + COMPENSATE_DAMPING * mean; /* the diagonal alone */
}

/* An error e of column i is answered by e f; of all answers f is the one that changes the products least, if for all k > i
 * sum over j > i of H_kj f_j = H_ki. */
static void factors_solve(size_t n, size_t m) {
    float *x = inputs(m, n, 3), *h = sums(x, m, n), *f = some(n * n, sizeof *f);
    memcpy(f, h, n * n * sizeof *f);
    factor(f, n);
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j <= i; j++) assert_true(f[i * n + j] == 0);
        for (size_t k = i + 1; k < n; k++) {
            double left = 0, size = 0;
            for (size_t j = i + 1; j < n; j++) {
                left += damped(h, n, k, j) * (double)f[i * n + j];
                size += fabs(damped(h, n, k, j) * (double)f[i * n + j]);
            }
            assert_true(fabs(left - damped(h, n, k, i)) <= 1e-6 * (size + fabs(damped(h, n, k, i)))); /* factors are floats */
        }
    }
    free(x);
    free(h);
    free(f);
}

static void factors_solve_the_normal_equations(void **state) {
    (void)state;
    factors_solve(77, 200);
    factors_solve(300, 200); /* more than what is worked on at a time */
}

/* Solves a [n, n] y = b by elimination; a and b are used up, b becomes y. */
static void solve(double *a, double *b, size_t n) {
    for (size_t p = 0; p < n; p++)
        for (size_t i = p + 1; i < n; i++) {
            const double m = a[i * n + p] / a[p * n + p];
            for (size_t j = p; j < n; j++) a[i * n + j] -= m * a[p * n + j];
            b[i] -= m * b[p];
        }
    for (size_t i = n; i-- > 0;) {
        for (size_t j = i + 1; j < n; j++) b[i] -= a[i * n + j] * b[j];
        b[i] /= a[i * n + i];
    }
}

/* One row: each error answered by a least-squares problem of its own, in doubles. */
static void long_way(void *out, pali_dtype dtype, const float *h, const float *row, size_t n) {
    const size_t unit = dtype == PALI_DTYPE_Q4_K ? SUPER_BLOCK : BLOCK;
    double *w = some(n, sizeof *w), *a = some(n * n, sizeof *a), *b = some(n, sizeof *b);
    float *now = some(n, sizeof *now), s = 0, m = 0;
    int8_t q[BLOCK] = {0};
    for (size_t i = 0; i < n; i++) w[i] = (double)row[i];
    for (size_t i = 0; i < n; i++) {
        if (i % unit == 0) {
            for (size_t j = i; j < n; j++) now[j] = (float)w[j];
            g_k->from_f32[dtype]((char *)out + dtype_bytes(dtype, i), now + i, n - i < unit ? n - i : unit);
        }
        if (i % BLOCK == 0) block_get(dtype, out, i / BLOCK, q, &s, &m);
        const double r = floor((w[i] - (double)m) / (double)s + 0.5);
        q[i % BLOCK] = (int8_t)(r < 0 ? 0 : r > 15 ? 15 : r);
        const double error = w[i] - ((double)s * q[i % BLOCK] + (double)m);
        if (i % BLOCK == BLOCK - 1 || i + 1 == n) block_put(dtype, out, i / BLOCK, q);
        const size_t left = n - i - 1;
        for (size_t k = 0; k < left; k++) {
            for (size_t j = 0; j < left; j++) a[k * left + j] = damped(h, n, i + 1 + k, i + 1 + j);
            b[k] = damped(h, n, i + 1 + k, i);
        }
        solve(a, b, left);
        for (size_t k = 0; k < left; k++) w[i + 1 + k] += error * b[k];
    }
    free(w);
    free(a);
    free(b);
    free(now);
}

static void rounds_as_the_long_way_does(void **state) {
    (void)state;
    static const matrix_case k_cases[] = {{PALI_DTYPE_Q4_0, 96}, {PALI_DTYPE_Q4_1, 112}, {PALI_DTYPE_Q4_K, SUPER_BLOCK}};
    for (size_t d = 0; d < sizeof k_cases / sizeof k_cases[0]; d++) {
        enum { M = 300, ROWS = 2 };
        const size_t n = k_cases[d].cols, bytes = dtype_bytes(k_cases[d].dtype, n);
        float *x = inputs(M, n, 30 + d), *h = sums(x, M, n), *f = some(n * n, sizeof *f), *w = some(ROWS * n, sizeof *w);
        uint8_t *got = some(ROWS, bytes), *wanted = some(ROWS, bytes);
        fill(w, ROWS * n, 40 + d);
        for (size_t r = 0; r < ROWS; r++) long_way(wanted + r * bytes, k_cases[d].dtype, h, w + r * n, n);
        memcpy(f, h, n * n * sizeof *f);
        factor(f, n);
        compensate_rows(g_k, got, k_cases[d].dtype, f, w, ROWS, n);
        assert_memory_equal(got, wanted, ROWS * bytes);
        free(x);
        free(h);
        free(f);
        free(w);
        free(got);
        free(wanted);
    }
}

/* Inputs that have nothing to do with each other, or were never seen: each weight by itself, as the encoder does it. (Not Q4_0's,
 * whose encoder rounds with the scale that it had before that became a half float.) */
static void without_correlations_it_is_the_encoder(void **state) {
    (void)state;
    enum { ROWS = 5 };
    static const matrix_case k_cases[] = {{PALI_DTYPE_Q4_1, COMPENSATE_SPAN + 75}, {PALI_DTYPE_Q4_K, 2 * SUPER_BLOCK}};
    for (size_t d = 0; d < sizeof k_cases / sizeof k_cases[0]; d++) {
        const size_t cols = k_cases[d].cols, bytes = dtype_bytes(k_cases[d].dtype, cols);
        for (size_t seen = 0; seen < 2; seen++) {
            float *h = some(compensate_floats(cols), sizeof *h), *w = some(ROWS * cols, sizeof *w);
            uint8_t *got = some(ROWS, bytes), *wanted = some(ROWS, bytes);
            for (size_t i = 0; i < cols && seen; i++) {
                const size_t s = i / COMPENSATE_SPAN, n = compensate_span_cols(cols, s);
                h[compensate_offset(s) + i % COMPENSATE_SPAN * (n + 1)] = (float)(1 + i % 7);
            }
            factor(h, cols);
            fill(w, ROWS * cols, 50);
            for (size_t r = 0; r < ROWS; r++) g_k->from_f32[k_cases[d].dtype](wanted + r * bytes, w + r * cols, cols);
            compensate_rows(g_k, got, k_cases[d].dtype, h, w, ROWS, cols);
            assert_memory_equal(got, wanted, ROWS * bytes);
            free(h);
            free(w);
            free(got);
            free(wanted);
        }
    }
}

/* |(W - rounded W) x|^2 over inputs that were not looked at. */
static double loss(const uint8_t *rounded, pali_dtype dtype, const float *w, size_t rows, size_t cols, const float *x, size_t m) {
    float *back = some(cols, sizeof *back);
    double total = 0;
    for (size_t r = 0; r < rows; r++) {
        g_k->to_f32[dtype](back, rounded + r * dtype_bytes(dtype, cols), cols);
        for (size_t t = 0; t < m; t++) {
            double y = 0;
            for (size_t i = 0; i < cols; i++) y += ((double)w[r * cols + i] - (double)back[i]) * (double)x[t * cols + i];
            total += y * y;
        }
    }
    free(back);
    return total;
}

static void products_are_nearer(void **state) {
    (void)state;
    enum { M = 600, SEEN = 500, ROWS = 6 };
    static const matrix_case k_cases[] = {{PALI_DTYPE_Q4_0, SUPER_BLOCK}, {PALI_DTYPE_Q4_1, SUPER_BLOCK}, {PALI_DTYPE_Q4_K, SUPER_BLOCK}, {PALI_DTYPE_Q4_K, COMPENSATE_SPAN + SUPER_BLOCK}};
    for (size_t d = 0; d < sizeof k_cases / sizeof k_cases[0]; d++) {
        const size_t cols = k_cases[d].cols, bytes = dtype_bytes(k_cases[d].dtype, cols);
        float *x = inputs(M, cols, 60), *f = sums(x, SEEN, cols), *w = some(ROWS * cols, sizeof *w), *used = some(ROWS * cols, sizeof *used);
        uint8_t *plain = some(ROWS, bytes), *minded = some(ROWS, bytes);
        fill(w, ROWS * cols, 70);
        memcpy(used, w, ROWS * cols * sizeof *w);
        factor(f, cols);
        for (size_t r = 0; r < ROWS; r++) g_k->from_f32[k_cases[d].dtype](plain + r * bytes, w + r * cols, cols);
        compensate_rows(g_k, minded, k_cases[d].dtype, f, used, ROWS, cols);
        const float *fresh = x + SEEN * cols;
        const double before = loss(plain, k_cases[d].dtype, w, ROWS, cols, fresh, M - SEEN), after = loss(minded, k_cases[d].dtype, w, ROWS, cols, fresh, M - SEEN);
        print_message("%s, %zu columns: %.3f of the error\n", pali_dtype_name(k_cases[d].dtype), cols, sqrt(after / before));
        assert_true(after < 0.25 * before); /* 12 directions hold nearly all of it, and 256 weights can take that back */
        free(x);
        free(f);
        free(w);
        free(used);
        free(plain);
        free(minded);
    }
}

static void what_is_no_number_is_refused(void **state) {
    (void)state;
    enum { N = 32 };
    static const float k_bad[] = {NAN, INFINITY, -1};
    double scratch[N * N + COMPENSATE_PANEL * N];
    for (size_t b = 0; b < sizeof k_bad / sizeof k_bad[0]; b++) {
        float h[N * N] = {0};
        for (size_t i = 0; i < N; i++) h[i * (N + 1)] = 1;
        h[5 * (N + 1)] = k_bad[b];
        assert_false(compensate_factor(h, N, scratch));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(factors_solve_the_normal_equations),
        cmocka_unit_test(rounds_as_the_long_way_does),
        cmocka_unit_test(without_correlations_it_is_the_encoder),
        cmocka_unit_test(products_are_nearer),
        cmocka_unit_test(what_is_no_number_is_refused),
    };
    return cmocka_run_group_tests(tests, group_setup, NULL);
}
