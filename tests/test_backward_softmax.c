/* test_backward_softmax.c: gradients of attention and of cross-entropy, at every instruction set this machine has: central
 * differences in double, the unit vectors of the training specification (2.1), and the promise that threads change nothing. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/status.h"
#include "gradient.h"
#include "tensor/attention.h"
#include "tensor/xent.h"
#include "tensors.h"

/* ---- Attention ---- */

typedef struct shape {
    size_t n_keys, n_queries, n_heads, n_kv_heads, head_dim, n_prefix, window;
    float softcap, scale;
} shape;

typedef struct attention_case {
    double *q, *k, *v, *dout; /* [T, N, H], [S, K, H] */
    shape s;
} attention_case;

static bool sees(const shape *s, size_t query, size_t key) {
    size_t position = s->n_keys - s->n_queries + query;
    return position < s->n_prefix ? key < s->n_prefix : key <= position && (!s->window || position - key < s->window);
}

static double attention_loss(const void *context) {
    const attention_case *c = context;
    const shape *s = &c->s;
    size_t h = s->head_dim;
    double loss = 0;
    for (size_t t = 0; t < s->n_queries; t++) {
        for (size_t n = 0; n < s->n_heads; n++) {
            size_t kh = n / (s->n_heads / s->n_kv_heads);
            const double *q = c->q + (t * s->n_heads + n) * h, *d = c->dout + (t * s->n_heads + n) * h;
            double sum = 0, weighted = 0; /* scores are small enough for exp */
            for (size_t j = 0; j < s->n_keys; j++) {
                double score = 0, gradient = 0;
                if (!sees(s, t, j)) continue;
                for (size_t i = 0; i < h; i++) {
                    score += q[i] * c->k[(j * s->n_kv_heads + kh) * h + i];
                    gradient += d[i] * c->v[(j * s->n_kv_heads + kh) * h + i];
                }
                score *= (double)s->scale;
                if (s->softcap > 0) score = (double)s->softcap * tanh(score / (double)s->softcap);
                sum += exp(score);
                weighted += exp(score) * gradient;
            }
            loss += weighted / sum;
        }
    }
    return loss;
}

static const shape k_shapes[] = {
    {5, 5, 1, 1, 3, 5, 0, 0, 0.6f},          {20, 20, 4, 1, 16, 20, 0, 0, 0.25f},     {19, 19, 2, 2, 72, 19, 0, 0, 0.1f},
    {21, 21, 2, 1, 256, 14, 0, 0, 0.0625f},  {30, 30, 4, 2, 12, 17, 7, 4.0f, 0.3f},   {18, 18, 2, 2, 10, 0, 5, 2.0f, 0.3f},
    {25, 9, 4, 2, 16, 0, 0, 0, 0.25f},       {1, 1, 8, 1, 16, 1, 0, 0, 0.25f},        {60, 60, 8, 1, 5, 51, 0, 50.0f, 0.4f},
};

typedef struct operands {
    float *q, *k, *v, *out, *dout, *dq, *dk, *dv;
    attention a;
    attention_grad g;
} operands;

static operands operands_new(const shape *s, uint64_t seed) {
    size_t n_q = s->n_queries * s->n_heads * s->head_dim, row = s->n_kv_heads * s->head_dim, n_k = s->n_keys * row;
    operands o = {.q = random_floats(n_q, seed, 1), .k = random_floats(n_k, seed + 1, 1), .v = random_floats(n_k, seed + 2, 1),
                  .out = random_floats(n_q, 1, 1), .dout = random_floats(n_q, seed + 3, 1), .dq = random_floats(n_q, 1, 1),
                  .dk = random_floats(n_k, 1, 1), .dv = random_floats(n_k, 1, 1)};
    o.a = (attention){.out = o.out, .q = o.q, .n_queries = s->n_queries, .n_heads = s->n_heads, .n_kv_heads = s->n_kv_heads,
                      .head_dim = s->head_dim, .spans = {{o.k, o.v, s->n_keys, row}}, .scale = s->scale, .softcap = s->softcap,
                      .n_prefix = s->n_prefix, .window = s->window};
    o.g = (attention_grad){o.dout, o.dq, o.dk, o.dv};
    return o;
}

static void operands_free(operands *o) {
    float *const all[] = {o->q, o->k, o->v, o->out, o->dout, o->dq, o->dk, o->dv};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
}

/* All at once, as a batch of sequences, each held to its own differences. */
static void attention_differences(exec *e) {
    enum { n = sizeof k_shapes / sizeof k_shapes[0] };
    operands o[n];
    attention a[n];
    attention_grad g[n];
    exec_need need = {0};
    for (size_t i = 0; i < n; i++) {
        o[i] = operands_new(&k_shapes[i], 10 * i);
        a[i] = o[i].a;
        g[i] = o[i].g;
    }
    assert_int_equal(attention_backward(e, a, g, n), PALI_OK);
    attention_backward_need(&need, e, a, n);
    assert_int_equal(need.worker, e->worker[0].n_bytes);
    assert_int_equal(need.shared, e->shared.n_bytes);
    for (size_t i = 0; i < n; i++) {
        const shape *s = &k_shapes[i];
        size_t n_q = s->n_queries * s->n_heads * s->head_dim, n_k = s->n_keys * s->n_kv_heads * s->head_dim;
        attention_case c = {gradient_doubles(o[i].q, n_q), gradient_doubles(o[i].k, n_k), gradient_doubles(o[i].v, n_k),
                            gradient_doubles(o[i].dout, n_q), *s};
        gradient_check("attention dv", g[i].dv, c.v, n_k, attention_loss, &c, GRADIENT_TOLERANCE);
        if (s->n_keys > 1) { /* the one key has all the probability whatever it is */
            gradient_check("attention dq", g[i].dq, c.q, n_q, attention_loss, &c, GRADIENT_TOLERANCE);
            gradient_check("attention dk", g[i].dk, c.k, n_k, attention_loss, &c, GRADIENT_TOLERANCE);
        }
        double *const all[] = {c.q, c.k, c.v, c.dout};
        for (size_t j = 0; j < sizeof all / sizeof *all; j++) free(all[j]);
        operands_free(&o[i]);
    }
}

static void test_attention(void **state) {
    (void)state;
    each_level(attention_differences);
}

static void assert_near(const char *what, const float *got, const double *want, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!(fabs((double)got[i] - want[i]) <= 1e-6 * fabs(want[i]) + 2e-7)) /* 7 digits are given */
            fail_msg("%s[%zu]: %.8g, not %.8g", what, i, (double)got[i], want[i]);
}

/* Its mask rows 110, 110, 111 are a prefix of two and one row after it. */
static void attention_unit(exec *e) {
    const float q[] = {1, 0, 0, 1, 1, 1}, k[] = {1, 1, 0, 2, 1, -1}, v[] = {1, 2, 3, 4, 5, 6}, dout[] = {1, 0, 0, 1, 1, -1};
    float out[6], dq[6], dk[6], dv[6];
    attention a = {.out = out, .q = q, .n_queries = 3, .n_heads = 1, .n_kv_heads = 1, .head_dim = 2, .spans = {{k, v, 3, 2}},
                   .scale = 0.70710678f, .n_prefix = 2};
    attention_grad g = {dout, dq, dk, dv};
    assert_int_equal(attention_forward(e, &a, 1), PALI_OK);
    assert_int_equal(attention_backward(e, &a, &g, 1), PALI_OK);
    assert_near("out", out, (const double[]){1.660477, 2.660477, 2.339523, 3.339523, 2.32515, 3.32515}, 6);
    assert_near("dq", dq, (const double[]){-0.3127972, 0.3127972, -0.3127972, 0.3127972, 0, 0}, 6);
    assert_near("dk", dk, (const double[]){-0.3127972, -0.3127972, 0.3127972, 0.3127972, 0, 0}, 6);
    assert_near("dv", dv, (const double[]){1.11557, -0.1155698, 0.7760468, 0.2239533, 0.1083834, -0.1083834}, 6);
    a.spans[1] = a.spans[0];
    assert_int_equal(attention_backward(e, &a, &g, 1), PALI_ERR_INTERNAL);
}

static void test_attention_unit(void **state) {
    (void)state;
    each_level(attention_unit);
}

/* The two statements of the mask agree, and with the definition. */
static void test_mask_runs(void **state) {
    (void)state;
    for (size_t i = 0; i < 500; i++) {
        shape s = {.n_keys = 1 + i % 11, .window = i % 5};
        s.n_queries = 1 + i % s.n_keys;
        s.n_prefix = i / 3 % (s.n_keys + 1);
        attention a = {.n_queries = s.n_queries, .spans = {{.len = s.n_keys}}, .n_prefix = s.n_prefix, .window = s.window};
        for (size_t t = 0; t < s.n_queries; t++) {
            for (size_t j = 0; j < s.n_keys; j++) {
                attention_run keys = attention_keys_seen(&a, t), queries = attention_queries_seeing(&a, j);
                assert_int_equal(j >= keys.begin && j < keys.end, sees(&s, t, j));
                assert_int_equal(t >= queries.begin && t < queries.end, sees(&s, t, j));
            }
        }
    }
}

/* Long sequences go another way than those of the differences: eight query heads of one kv head, against each of them alone, which is
 * short. With every mask, a cap, and fewer queries than keys. */
static void attention_ways(exec *e) {
    static const shape k_long[] = {{100, 100, 8, 1, 12, 60, 30, 4.0f, 0.3f}, {120, 90, 8, 1, 10, 0, 0, 0, 0.3f}, {97, 97, 8, 1, 24, 97, 0, 0, 0.2f}};
    for (size_t i = 0; i < sizeof k_long / sizeof *k_long; i++) {
        shape one = k_long[i];
        const size_t n = one.n_heads, h = one.head_dim, n_k = one.n_keys * h;
        double *dk = calloc(n_k, sizeof *dk), *dv = calloc(n_k, sizeof *dv);
        operands o = operands_new(&k_long[i], 3);
        assert_int_equal(attention_backward(e, &o.a, &o.g, 1), PALI_OK);
        one.n_heads = 1;
        for (size_t head = 0; head < n; head++) {
            operands p = operands_new(&one, 3);
            memcpy(p.k, o.k, n_k * sizeof *p.k);
            memcpy(p.v, o.v, n_k * sizeof *p.v);
            for (size_t t = 0; t < one.n_queries; t++) {
                memcpy(p.q + t * h, o.q + (t * n + head) * h, h * sizeof *p.q);
                memcpy(p.dout + t * h, o.dout + (t * n + head) * h, h * sizeof *p.dout);
            }
            assert_int_equal(attention_backward(e, &p.a, &p.g, 1), PALI_OK);
            for (size_t t = 0; t < one.n_queries; t++)
                for (size_t c = 0; c < h; c++) assert_true(fabsf(p.dq[t * h + c] - o.dq[(t * n + head) * h + c]) <= 1e-5f);
            for (size_t j = 0; j < n_k; j++) {
                dk[j] += (double)p.dk[j];
                dv[j] += (double)p.dv[j];
            }
            operands_free(&p);
        }
        for (size_t j = 0; j < n_k; j++) assert_true(fabs(dk[j] - (double)o.dk[j]) <= 1e-5 && fabs(dv[j] - (double)o.dv[j]) <= 1e-4); /* up to 800 terms of size 1 */
        operands_free(&o);
        free(dk);
        free(dv);
    }
}

static void test_attention_ways(void **state) {
    (void)state;
    each_level(attention_ways);
}

/* Real sizes: several blocks of rows and of keys. Adding a constant to every key moves no probability, so the keys' gradients sum
 * to zero; and moving every value along d moves the output by d: the values' sum to that of the outputs. */
static void attention_sums(exec *e) {
    const shape s = {267, 267, 8, 1, 256, 259, 0, 0, 0.0625f}, tower = {256, 256, 4, 4, 72, 256, 0, 0, 0.1178511f};
    const shape *const list[] = {&s, &tower};
    for (size_t i = 0; i < 2; i++) {
        operands o = operands_new(list[i], 3);
        size_t heads = list[i]->n_heads, kv = list[i]->n_kv_heads, h = list[i]->head_dim;
        assert_int_equal(attention_backward(e, &o.a, &o.g, 1), PALI_OK);
        for (size_t c = 0; c < kv * h; c++) {
            double dk = 0, dv = 0, dout = 0, size = 0;
            for (size_t j = 0; j < list[i]->n_keys; j++) {
                dk += (double)o.dk[j * kv * h + c];
                size += fabs((double)o.dk[j * kv * h + c]);
                dv += (double)o.dv[j * kv * h + c];
            }
            for (size_t t = 0; t < list[i]->n_queries; t++)
                for (size_t n = c / h * (heads / kv); n < (c / h + 1) * (heads / kv); n++) dout += (double)o.dout[(t * heads + n) * h + c % h];
            assert_true(fabs(dk) <= 2e-6 * size);
            assert_true(fabs(dv - dout) <= 1e-4); /* 2136 terms of size 1 at most, each 2^-24 off at a time */
        }
        operands_free(&o);
    }
}

static void test_attention_sums(void **state) {
    (void)state;
    each_level(attention_sums);
}

/* ---- Cross-entropy ---- */

typedef struct xent_case {
    double *hidden, *head;
    const int32_t *targets;
    const float *weights;
    size_t m, v, d;
    float softcap, smoothing;
    xent_spread spread;
} xent_case;

static double row_loss(const xent_case *c, size_t r) {
    double sum = 0, total = 0, target = 0, eps = (double)c->smoothing, v = (double)c->v;
    for (size_t j = 0; j < c->v; j++) {
        double z = 0;
        for (size_t i = 0; i < c->d; i++) z += c->hidden[r * c->d + i] * c->head[j * c->d + i];
        if (c->softcap > 0) z = (double)c->softcap * tanh(z / (double)c->softcap);
        if ((int32_t)j == c->targets[r]) target = z;
        sum += exp(z);
        total += z;
    }
    if (c->spread == XENT_SPREAD_ALL) return log(sum) - (1 - eps) * target - eps * total / v;
    return log(sum) - (1 - eps) * target - eps / (v - 1) * (total - target);
}

static double xent_loss(const void *context) {
    const xent_case *c = context;
    double loss = 0;
    for (size_t r = 0; r < c->m; r++) loss += (double)c->weights[r] * row_loss(c, r);
    return loss;
}

static void xent_check(exec *e, size_t m, size_t v, size_t d, float softcap, float smoothing, xent_spread spread) {
    operand head = random_operand(v, d, PALI_DTYPE_F32, 1);
    float *hidden = random_floats(m * d, 2, 1), *weights = random_floats(m, 3, 0.3f), *dhidden = random_floats(m * d, 4, 1);
    float *dhead = calloc(v * d, sizeof *dhead), *again = random_floats(m * d, 5, 1);
    int32_t *targets = malloc(m * sizeof *targets);
    double *losses = malloc(m * sizeof *losses);
    bool *right = malloc(m * sizeof *right);
    assert_true(targets && losses && right && dhead);
    for (size_t r = 0; r < m; r++) targets[r] = (int32_t)((r * 7919 + v - 1) % v); /* the first is the last class */
    xent x = {hidden, &head.m, targets, weights, m, softcap, smoothing, spread};
    xent_result out = {.row_loss = losses, .row_right = right}, only = {0};
    assert_int_equal(xent_forward_backward(e, &out, dhidden, dhead, &x), PALI_OK);
    xent_case c = {gradient_doubles(hidden, m * d), gradient_doubles(head.values, v * d), targets, weights, m, v, d, softcap, smoothing, spread};
    /* the sum's terms in f32 are 2^-24 off, and by the rounding of logits of a few units */
    for (size_t r = 0; r < m; r++) assert_true(fabs(losses[r] - row_loss(&c, r)) <= 3e-6 * (1 + fabs(losses[r])));
    for (size_t r = 0; r < m; r++) {
        size_t best = 0;
        double top = -1e300;
        for (size_t j = 0; j < v; j++) {
            double z = 0;
            for (size_t i = 0; i < d; i++) z += c.hidden[r * d + i] * c.head[j * d + i];
            best = z > top ? j : best;
            top = z > top ? z : top;
        }
        assert_int_equal(right[r], best == (size_t)targets[r]);
    }
    if (m * v <= 100000) { /* differences take hundreds of forwards */
        gradient_check("xent dhidden", dhidden, c.hidden, m * d, xent_loss, &c, GRADIENT_TOLERANCE);
        gradient_check("xent dhead", dhead, c.head, v * d, xent_loss, &c, GRADIENT_TOLERANCE);
    }
    assert_int_equal(xent_forward_backward(e, &only, NULL, NULL, &x), PALI_OK); /* frozen or not, the rest is the same */
    assert_true(only.loss == out.loss);
    assert_int_equal(xent_forward_backward(e, &only, again, NULL, &x), PALI_OK);
    assert_memory_equal(again, dhidden, m * d * sizeof *again);
    void *const all[] = {hidden, weights, dhidden, dhead, again, targets, losses, right, c.hidden, c.head};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
    operand_free(&head);
}

static void xent_shapes(exec *e) {
    xent_check(e, 3, 5, 7, 0, 0, XENT_SPREAD_ALL);
    xent_check(e, 1, 130, 40, 0, 0.1f, XENT_SPREAD_OTHERS);
    xent_check(e, 12, 77, 33, 0, 0.1f, XENT_SPREAD_ALL);
    xent_check(e, 10, 90, 16, 4, 0, XENT_SPREAD_ALL);
    xent_check(e, 11, 60, 12, 3, 0.2f, XENT_SPREAD_OTHERS);
    xent_check(e, 4, 8400, 4, 0, 0.1f, XENT_SPREAD_ALL); /* two chunks of the vocabulary */
    xent_check(e, 520, 33, 3, 0, 0, XENT_SPREAD_ALL);    /* two of rows */
}

static void test_xent(void **state) {
    (void)state;
    each_level(xent_shapes);
}

/* Hidden rows that are the logits, and a head that is the identity. */
static void xent_unit(exec *e) {
    const float z[] = {2, 1, 0, -1, 0.5f, 0, 0, 3, 1, -2}, weights[] = {0.5f, 0.5f};
    float identity[25] = {0}, dz[10];
    for (size_t i = 0; i < 5; i++) identity[6 * i] = 1;
    mat head = mat_f32(5, 5, identity);
    bool right[2];
    xent x = {.hidden = z, .head = &head, .targets = (const int32_t[]){1, 2}, .weights = weights, .n_rows = 2};
    xent_result out = {.row_right = right};
    assert_int_equal(xent_forward_backward(e, &out, dz, NULL, &x), PALI_OK);
    assert_true(fabs(out.loss - 0.8954384) <= 5e-7);
    assert_near("dz", dz, (const double[]){0.2815106, -0.396438, 0.03809832, 0.01401559, 0.06281351, 0.0200488, 0.0200488, -0.09730917, 0.05449828, 0.002713309}, 10);
    assert_true(!right[0] && right[1]);
    x.n_rows = 1;
    x.weights = (const float[]){1};
    x.smoothing = 0.1f;
    x.spread = XENT_SPREAD_OTHERS;
    assert_int_equal(xent_forward_backward(e, &out, NULL, NULL, &x), PALI_OK);
    assert_true(fabs(out.loss - 1.6369377) <= 5e-7);
    x.spread = XENT_SPREAD_ALL;
    assert_int_equal(xent_forward_backward(e, &out, NULL, NULL, &x), PALI_OK);
    assert_true(fabs(out.loss - 1.6244378) <= 5e-7);
    x.targets = (const int32_t[]){5};
    assert_int_equal(xent_forward_backward(e, &out, NULL, NULL, &x), PALI_ERR_ARGUMENT);
    x.targets = (const int32_t[]){-1};
    assert_int_equal(xent_forward_backward(e, &out, NULL, NULL, &x), PALI_ERR_ARGUMENT);
}

static void test_xent_unit(void **state) {
    (void)state;
    each_level(xent_unit);
}

/* ---- Threads ---- */

static void test_threads_change_nothing(void **state) {
    (void)state;
    const shape s = {150, 150, 8, 2, 24, 140, 0, 0, 0.2f};
    const size_t m = 40, v = 9000, d = 300;
    const size_t n_q = s.n_queries * s.n_heads * s.head_dim, n_k = s.n_keys * s.n_kv_heads * s.head_dim;
    operand head = random_operand(v, d, PALI_DTYPE_BF16, 1);
    float *hidden = random_floats(m * d, 2, 0.2f), *weights = random_floats(m, 3, 1), *dhidden[3], *dhead[3];
    int32_t targets[40];
    double loss[3];
    operands o[3];
    for (size_t i = 0; i < m; i++) targets[i] = (int32_t)(i * 211);
    for (int threads = 1; threads <= 3; threads++) {
        exec e;
        int t = threads - 1;
        xent x = {.hidden = hidden, .head = &head.m, .targets = targets, .weights = weights, .n_rows = m};
        xent_result out = {0};
        o[t] = operands_new(&s, 5);
        dhidden[t] = random_floats(m * d, 6, 1);
        dhead[t] = random_floats(v * d, 7, 1);
        assert_int_equal(exec_init(&e, threads), PALI_OK);
        assert_int_equal(attention_backward(&e, &o[t].a, &o[t].g, 1), PALI_OK);
        assert_int_equal(xent_forward_backward(&e, &out, dhidden[t], dhead[t], &x), PALI_OK);
        exec_free(&e);
        loss[t] = out.loss;
        assert_true(loss[t] == loss[0]);
        assert_memory_equal(o[t].dq, o[0].dq, n_q * sizeof(float));
        assert_memory_equal(o[t].dk, o[0].dk, n_k * sizeof(float));
        assert_memory_equal(o[t].dv, o[0].dv, n_k * sizeof(float));
        assert_memory_equal(dhidden[t], dhidden[0], m * d * sizeof(float));
        assert_memory_equal(dhead[t], dhead[0], v * d * sizeof(float));
    }
    for (int t = 0; t < 3; t++) {
        operands_free(&o[t]);
        free(dhidden[t]);
        free(dhead[t]);
    }
    free(hidden);
    free(weights);
    operand_free(&head);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_attention),
        cmocka_unit_test(test_attention_unit),
        cmocka_unit_test(test_mask_runs),
        cmocka_unit_test(test_attention_ways),
        cmocka_unit_test(test_attention_sums),
        cmocka_unit_test(test_xent),
        cmocka_unit_test(test_xent_unit),
        cmocka_unit_test(test_threads_change_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
