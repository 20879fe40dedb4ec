/* test_tensor.c: linear and attention against plain double-precision formulas, at every instruction set this machine has,
 * and the promise that the number of threads changes nothing. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/status.h"
#include "tensor/attention.h"
#include "tensor/linear.h"
#include "tensors.h"

static double gelu(double x) {
    return 0.5 * x * (1 + tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
}

/* A sum of k products in f32 is off by at most k eps sum |a b|; in practice by sqrt(k). Activations in bf16 add 2^-9 each, sums
 * in f16 less than that (tests/kernels/check.c). */
static double sum_bound(double magnitude, size_t k, bool rounds_x) {
    return magnitude * ((double)k * 0x1p-24 + (rounds_x ? 0x1p-8 : 0)) + 1e-7;
}

static void check_linear(exec *e, size_t m, size_t n, size_t k, pali_dtype dtype, linear_op op, bool with_bias) {
    operand w = random_operand(n, k, dtype, 7 * n + k);
    float *x = random_floats(m * k, m + 1, 1), *bias = random_floats(n, 3, 1), *y = random_floats(m * n, 5, 1), *before = random_floats(m * n, 5, 1);
    assert_int_equal(linear(e, y, x, &w.m, with_bias ? bias : NULL, m, op), PALI_OK);
    bool rounds_x = e->k->panel_rows_pairs[dtype] && n * k >= 262144 && m > 8;
    for (size_t r = 0; r < m; r++) {
        for (size_t j = 0; j < n; j++) {
            double sum = with_bias ? (double)bias[j] : 0, magnitude = fabs(sum);
            for (size_t i = 0; i < k; i++) {
                double term = (double)x[r * k + i] * (double)w.values[j * k + i];
                sum += term;
                magnitude += fabs(term);
            }
            if (op == LINEAR_ADD) sum += (double)before[r * n + j];
            if (op == LINEAR_GELU) sum = gelu(sum);
            double error = fabs(sum - (double)y[r * n + j]);
            if (!(error <= 1.2 * sum_bound(magnitude + fabs(sum), k, rounds_x)))
                fail_msg("level %s m %zu n %zu k %zu dtype %d op %d: [%zu, %zu] is %g, not %g", cpu_level_name(e->k->level), m, n, k,
                         (int)dtype, (int)op, r, j, (double)y[r * n + j], sum);
        }
    }
    free(x);
    free(bias);
    free(y);
    free(before);
    operand_free(&w);
}

static void linear_shapes(exec *e) {
    const size_t ms[] = {1, 2, 3, 5, 8, 9, 13, 50, 131}, shapes[][2] = {{1, 1}, {7, 3}, {16, 31}, {65, 72}, {130, 1153}, {36, 2400}};
    for (size_t a = 0; a < sizeof ms / sizeof ms[0]; a++)
        for (size_t b = 0; b < sizeof shapes / sizeof shapes[0]; b++)
            for (int dtype = PALI_DTYPE_F32; dtype <= PALI_DTYPE_F16; dtype++)
                check_linear(e, ms[a], shapes[b][0], shapes[b][1], (pali_dtype)dtype, (linear_op)((a + b) % 3), (a ^ b) & 1);
    for (int dtype = PALI_DTYPE_F32; dtype <= PALI_DTYPE_F16; dtype++) /* enough weights for products in 16 bits; several panels */
        check_linear(e, 13, 130, 2051, (pali_dtype)dtype, LINEAR_ADD, true);
}

static void test_linear(void **state) {
    (void)state;
    each_level(linear_shapes);
}

/* LINEAR_ALONE: rows have the bits that they have one by one, for every dtype and way to use a product. */
static void alone_shapes(exec *e) {
    const size_t ms[] = {2, 5, 12, 33}, n = 70;
    for (size_t a = 0; a < sizeof ms / sizeof ms[0]; a++) {
        for (int dtype = PALI_DTYPE_F32; dtype <= PALI_DTYPE_Q4_K; dtype++) {
            const size_t k = dtype == PALI_DTYPE_Q4_K ? 512 : 300;
            operand w = random_operand(n, k, (pali_dtype)dtype, 11), up = random_operand(n, k, (pali_dtype)dtype, 12);
            size_t m = ms[a];
            float *x = random_floats(m * k, 3, 1), *y = random_floats(m * n, 4, 1), *one = random_floats(m * n, 4, 1);
            for (int op = LINEAR_SET; op <= LINEAR_GELU + 1; op++) {
                bool geglu = op > LINEAR_GELU;
                linear_op way = (geglu ? LINEAR_SET : (linear_op)op) | LINEAR_ALONE;
                assert_int_equal(geglu ? linear_geglu(e, y, x, &w.m, &up.m, m, way) : linear(e, y, x, &w.m, NULL, m, way), PALI_OK);
                for (size_t r = 0; r < m; r++)
                    assert_int_equal(geglu ? linear_geglu(e, one + r * n, x + r * k, &w.m, &up.m, 1, LINEAR_SET)
                                           : linear(e, one + r * n, x + r * k, &w.m, NULL, 1, (linear_op)op), PALI_OK);
                assert_memory_equal(y, one, m * n * sizeof *y);
            }
            free(x);
            free(y);
            free(one);
            operand_free(&w);
            operand_free(&up);
        }
    }
}

static void test_alone(void **state) {
    (void)state;
    each_level(alone_shapes);
}

static void geglu_shapes(exec *e) {
    const size_t ms[] = {1, 4, 9, 70};
    for (size_t a = 0; a < 4; a++) {
        size_t m = ms[a], n = 70, k = 37;
        operand gate = random_operand(n, k, PALI_DTYPE_BF16, 1), up = random_operand(n, k, a % 2 ? PALI_DTYPE_F32 : PALI_DTYPE_BF16, 2);
        float *x = random_floats(m * k, 3, 1), *y = random_floats(m * n, 4, 1);
        assert_int_equal(linear_geglu(e, y, x, &gate.m, &up.m, m, LINEAR_SET), PALI_OK);
        for (size_t r = 0; r < m; r++) {
            for (size_t j = 0; j < n; j++) {
                double g = 0, u = 0;
                for (size_t i = 0; i < k; i++) {
                    g += (double)x[r * k + i] * (double)gate.values[j * k + i];
                    u += (double)x[r * k + i] * (double)up.values[j * k + i];
                }
                /* |gelu'| <= 1.13; sums of 37 terms of size ~0.5 stay below 12; so few weights are multiplied in f32 */
                assert_true(fabs(gelu(g) * u - (double)y[r * n + j]) <= 1e-4);
            }
        }
        free(x);
        free(y);
        operand_free(&gate);
        operand_free(&up);
    }
}

static void test_geglu(void **state) {
    (void)state;
    each_level(geglu_shapes);
}

/* ---- Adapters ---- */

/* y [n] += s B A x of a row, and magnitude [n] += the sums of the magnitudes of its terms. */
static void lora_row(const lora *l, const float *x, double *y, double *magnitude) {
    for (; l; l = l->next) {
        const float *a = l->a.data, *b = l->b.data;
        for (size_t r = 0; r < l->a.rows; r++) {
            double u = 0, m = 0;
            for (size_t i = 0; i < l->a.cols; i++) {
                double term = (double)a[r * l->a.cols + i] * (double)x[i];
                u += term;
                m += fabs(term);
            }
            for (size_t j = 0; j < l->b.rows; j++) {
                double sb = (double)l->scale * (double)b[j * l->b.cols + r];
                y[j] += sb * u;
                magnitude[j] += fabs(sb) * m;
            }
        }
        for (size_t j = 0; l->bias && j < l->b.rows; j++) y[j] += (double)l->bias[j];
    }
}

/* What adapters add to a product: it with them less it without, against the formula. Whatever the base's rounding of x, the
 * difference is that of two f32 sums; GELU has it inside. */
static void lora_case(exec *e, size_t m, size_t n, size_t k, pali_dtype dtype, linear_op op) {
    operand w = random_operand(n, k, dtype, 7);
    adapters *d = adapters_new(n, k, 40);
    float *x = random_floats(m * k, 3, 1), *y = random_floats(m * n, 5, 1), *base = random_floats(m * n, 5, 1);
    exec_need need = {0};
    bool gelu_follows = op == LINEAR_GELU;
    assert_int_equal(linear(e, base, x, &w.m, NULL, m, gelu_follows ? LINEAR_SET : op), PALI_OK);
    mem_scratch_free(&e->shared);
    for (size_t i = 0; i < e->n_workers; i++) mem_scratch_free(&e->worker[i]);
    w.m.lora = &d->first;
    linear_need(&need, e, &w.m, NULL, m, op);
    assert_int_equal(linear(e, y, x, &w.m, NULL, m, op), PALI_OK);
    assert_int_equal(e->shared.n_bytes, need.shared);
    assert_int_equal(e->worker[0].n_bytes, need.worker);
    double *sum = malloc(2 * n * sizeof *sum), *magnitude = sum + n;
    assert_non_null(sum);
    for (size_t r = 0; r < m; r++) {
        for (size_t j = 0; j < n; j++) magnitude[j] = fabs(sum[j] = (double)base[r * n + j]);
        lora_row(&d->first, x + r * k, sum, magnitude);
        for (size_t j = 0; j < n; j++) {
            double expected = gelu_follows ? gelu(sum[j]) : sum[j];
            if (!(fabs(expected - (double)y[r * n + j]) <= 1.2 * sum_bound(magnitude[j] + 1, k + 80, false)))
                fail_msg("level %s m %zu n %zu k %zu dtype %d op %d: [%zu, %zu] is %g, not %g", cpu_level_name(e->k->level), m, n, k,
                         (int)dtype, (int)op, r, j, (double)y[r * n + j], expected);
        }
    }
    free(sum);
    free(x);
    free(y);
    free(base);
    adapters_free(d);
    operand_free(&w);
}

static void lora_shapes(exec *e) {
    const size_t ms[] = {1, 3, 6, 9, 70};
    for (size_t i = 0; i < sizeof ms / sizeof ms[0]; i++) {
        for (int dtype = PALI_DTYPE_F32; dtype <= PALI_DTYPE_Q4_K; dtype++) {
            lora_case(e, ms[i], 70, dtype == PALI_DTYPE_Q4_K ? 256 : 37, (pali_dtype)dtype, (linear_op)((i + (size_t)dtype) % 3));
            lora_case(e, ms[i], 33, dtype == PALI_DTYPE_Q4_K ? 512 : 300, (pali_dtype)dtype, LINEAR_ADD | LINEAR_ALONE);
        }
    }
    lora_case(e, 13, 130, 2051, PALI_DTYPE_BF16, LINEAR_SET); /* products in 16 bits; several panels */
}

static void test_lora(void **state) {
    (void)state;
    each_level(lora_shapes);
}

/* GeGLU with adapters on both matrices; rows of LINEAR_ALONE have the bits that they have one by one; threads change nothing;
 * and a slice of a matrix has the adapters' rows that belong to it. */
static void lora_bits(exec *e) {
    for (int dtype = PALI_DTYPE_F32; dtype <= PALI_DTYPE_Q4_K; dtype++) {
        enum { n = 90 };
        const size_t k = dtype == PALI_DTYPE_Q4_K ? 512 : 300, m = 12;
        operand w = random_operand(n, k, (pali_dtype)dtype, 11), up = random_operand(n, k, (pali_dtype)dtype, 12);
        adapters *d = adapters_new(n, k, 50), *d_up = adapters_new(n, k, 90);
        float *x = random_floats(m * k, 3, 1), *y = random_floats(m * n, 4, 1), *other = random_floats(m * n, 4, 1);
        exec single;
        w.m.lora = &d->first;
        up.m.lora = &d_up->second;
        assert_int_equal(exec_init(&single, 1), PALI_OK);
        for (int alone = 0; alone <= LINEAR_ALONE; alone += LINEAR_ALONE) {
            assert_int_equal(linear_geglu(e, y, x, &w.m, &up.m, m, LINEAR_SET | (linear_op)alone), PALI_OK);
            assert_int_equal(linear_geglu(&single, other, x, &w.m, &up.m, m, LINEAR_SET | (linear_op)alone), PALI_OK);
            assert_memory_equal(y, other, m * n * sizeof *y);
        }
        for (size_t r = 0; r < m; r++) assert_int_equal(linear_geglu(e, other + r * n, x + r * k, &w.m, &up.m, 1, LINEAR_SET), PALI_OK);
        assert_memory_equal(y, other, m * n * sizeof *y);

        /* gelu(gate) * up from the matrices' own products and the adapters' values. */
        float *gate = random_floats(n, 4, 1), *above = random_floats(n, 4, 1);
        w.m.lora = up.m.lora = NULL;
        assert_int_equal(linear(e, gate, x, &w.m, NULL, 1, LINEAR_SET), PALI_OK);
        assert_int_equal(linear(e, above, x, &up.m, NULL, 1, LINEAR_SET), PALI_OK);
        w.m.lora = &d->first;
        up.m.lora = &d_up->second;
        double sums[2][90], magnitude[90];
        for (size_t j = 0; j < n; j++) {
            sums[0][j] = (double)gate[j];
            sums[1][j] = (double)above[j];
            magnitude[j] = 1;
        }
        lora_row(w.m.lora, x, sums[0], magnitude);
        lora_row(up.m.lora, x, sums[1], magnitude);
        for (size_t j = 0; j < n; j++) {
            double gated = gelu(sums[0][j]) * sums[1][j], size = 1 + fabs(sums[0][j]) + fabs(sums[1][j]);
            assert_true(fabs(gated - (double)y[j]) <= 4 * sum_bound(magnitude[j], k + 80, false) * size);
        }
        assert_int_equal(linear(e, y, x, &w.m, NULL, 1, LINEAR_SET), PALI_OK);
        const mat some = mat_slice(&w.m, 32, 50);
        assert_int_equal(linear(e, other, x, &some, NULL, 1, LINEAR_SET), PALI_OK);
        assert_memory_equal(y + 32, other, 50 * sizeof *y);

        /* Rows with the update added, which is what merging writes. */
        float *row = random_floats(k, 1, 1);
        for (size_t j = 0; j < 50; j += 7) {
            mat_rows_f32(e->k, row, &some, j, 1);
            for (size_t i = 0; i < k; i++) {
                double value = (double)w.values[(32 + j) * k + i], sum = fabs(value);
                for (const lora *l = w.m.lora; l; l = l->next) {
                    for (size_t r = 0; r < l->a.rows; r++) {
                        double term = (double)l->scale * (double)((const float *)l->b.data)[(32 + j) * l->b.cols + r] *
                                      (double)((const float *)l->a.data)[r * k + i];
                        value += term;
                        sum += fabs(term);
                    }
                }
                assert_true(fabs(value - (double)row[i]) <= sum * 80 * 0x1p-24);
            }
        }
        free(row);
        free(gate);
        free(above);
        exec_free(&single);
        free(x);
        free(y);
        free(other);
        adapters_free(d);
        adapters_free(d_up);
        operand_free(&w);
        operand_free(&up);
    }
}

static void test_lora_bits(void **state) {
    (void)state;
    each_level(lora_bits);
}

typedef struct attention_case {
    size_t n_queries, base_len, own_len, n_heads, n_kv_heads, head_dim, window;
    float softcap;
    size_t n_prefix;
} attention_case;

static const attention_case k_cases[] = {
    {16, 0, 16, 3, 3, 12, 0, 0, 16},     {40, 0, 40, 8, 1, 16, 0, 0, 40},        {260, 0, 260, 2, 2, 72, 0, 0, 260},
    {1, 0, 30, 8, 1, 16, 0, 0, 0},       {1, 70, 3, 4, 2, 32, 0, 50.0f, 0},      {5, 20, 5, 4, 2, 16, 6, 50.0f, 0},
    {7, 0, 19, 4, 4, 10, 3, 0, 0},       {70, 300, 70, 4, 2, 33, 64, 2.0f, 0},   {1, 1100, 1100, 4, 1, 16, 1500, 0, 0},
    {30, 0, 30, 4, 2, 16, 5, 50.0f, 30}, {45, 0, 45, 4, 1, 16, 0, 0, 33},        {40, 0, 40, 4, 2, 12, 7, 20.0f, 19},
};

static void attention_check(exec *e, const attention_case *c) {
    size_t q_row = c->n_heads * c->head_dim, kv_row = c->n_kv_heads * c->head_dim, n_keys = c->base_len + c->own_len;
    float *q = random_floats(c->n_queries * q_row, 1, 1), *k = random_floats(n_keys * kv_row, 2, 1), *v = random_floats(n_keys * kv_row, 3, 1);
    float *out = random_floats(c->n_queries * q_row, 4, 1);
    attention a = {.out = out, .q = q, .n_queries = c->n_queries, .n_heads = c->n_heads, .n_kv_heads = c->n_kv_heads, .head_dim = c->head_dim,
                   .spans = {{k, v, c->base_len, kv_row}, {k + c->base_len * kv_row, v + c->base_len * kv_row, c->own_len, kv_row}},
                   .scale = 0.3f, .softcap = c->softcap, .n_prefix = c->n_prefix, .window = c->window};
    assert_int_equal(attention_forward(e, &a, 1), PALI_OK);
    for (size_t t = 0; t < c->n_queries; t++) {
        for (size_t n = 0; n < c->n_heads; n++) {
            size_t kh = n / (c->n_heads / c->n_kv_heads), position = n_keys - c->n_queries + t;
            double *prob = calloc(n_keys, sizeof *prob), sum = 0;
            assert_non_null(prob);
            for (size_t j = 0; j < n_keys; j++) {
                double dot = 0;
                bool seen = position < c->n_prefix ? j < c->n_prefix : j <= position && (!c->window || position - j < c->window);
                if (!seen) continue;
                for (size_t i = 0; i < c->head_dim; i++)
                    dot += (double)q[t * q_row + n * c->head_dim + i] * (double)k[j * kv_row + kh * c->head_dim + i];
                dot *= (double)a.scale;
                if (c->softcap > 0) dot = (double)c->softcap * tanh(dot / (double)c->softcap);
                sum += prob[j] = exp(dot);
            }
            for (size_t i = 0; i < c->head_dim; i++) {
                double o = 0;
                for (size_t j = 0; j < n_keys; j++) o += prob[j] / sum * (double)v[j * kv_row + kh * c->head_dim + i];
                /* Probabilities err by the error of the logits (|logit| < 30, eps 2^-24, tens of terms) */
                if (!(fabs(o - (double)out[t * q_row + n * c->head_dim + i]) < 2e-5))
                    fail_msg("level %s case %td query %zu head %zu: %g, not %g", cpu_level_name(e->k->level), c - k_cases, t, n,
                             (double)out[t * q_row + n * c->head_dim + i], o);
            }
            free(prob);
        }
    }
    free(q);
    free(k);
    free(v);
    free(out);
}

static void attention_cases(exec *e) {
    for (size_t i = 0; i < sizeof k_cases / sizeof k_cases[0]; i++) attention_check(e, &k_cases[i]);
}

static void test_attention(void **state) {
    (void)state;
    each_level(attention_cases);
}

static void test_threads_change_nothing(void **state) {
    (void)state;
    const size_t ms[] = {1, 3, 100}, n = 200, k = 1300;
    for (size_t i = 0; i < 3; i++) {
        size_t m = ms[i];
        operand w = random_operand(n, k, PALI_DTYPE_BF16, 1);
        float *x = random_floats(m * k, 2, 1), *y[3];
        for (int threads = 1; threads <= 3; threads++) {
            exec e;
            assert_int_equal(exec_init(&e, threads), PALI_OK);
            y[threads - 1] = random_floats(m * n, 3, 1);
            assert_int_equal(linear(&e, y[threads - 1], x, &w.m, NULL, m, LINEAR_ADD), PALI_OK);
            exec_free(&e);
        }
        assert_memory_equal(y[0], y[1], m * n * sizeof **y);
        assert_memory_equal(y[0], y[2], m * n * sizeof **y);
        for (int t = 0; t < 3; t++) free(y[t]);
        free(x);
        operand_free(&w);
    }
}

static void test_unknown_level(void **state) {
    (void)state;
    exec e;
    setenv("PALI_CPU", "sse9", 1);
    assert_int_equal(exec_init(&e, 1), PALI_ERR_ARGUMENT);
    assert_non_null(strstr(status_message(), "sse9"));
    unsetenv("PALI_CPU");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_linear),
        cmocka_unit_test(test_alone),
        cmocka_unit_test(test_geglu),
        cmocka_unit_test(test_lora),
        cmocka_unit_test(test_lora_bits),
        cmocka_unit_test(test_attention),
        cmocka_unit_test(test_threads_change_nothing),
        cmocka_unit_test(test_unknown_level),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
