/* test_backward.c: gradients of products, norms, activations, rotations and the embedding, at every instruction set this machine
 * has: central differences in double, sums in double at all tail shapes, the unit vectors of the training specification (2.1), and
 * the promise that threads change nothing. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gradient.h"
#include "model/gemma.h"
#include "tensor/act.h"
#include "tensor/linear.h"
#include "tensor/norm.h"
#include "tensor/pairs.h"
#include "tensors.h"

static void assert_near(const char *what, const float *got, const double *want, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!(fabs((double)got[i] - want[i]) <= 1e-6 * fabs(want[i]) + 2e-7)) /* 7 digits are given */
            fail_msg("%s[%zu]: %.8g, not %.8g", what, i, (double)got[i], want[i]);
}

/* ---- Linear ---- */

/* A sum of k products in f32 errs by at most k 2^-24 of the sum of their sizes, and of what it is added to; with operands of 16 bits
 * (pairs) also by 2^-7 of the first: 2^-9 for an operand in bf16, or 2^-11 for one in f16 and for each of 16 sums in f16. */
static void assert_sum(const char *what, double got, double start, double sum, double size, size_t k, bool pairs) {
    if (!(fabs(got - start - sum) <= (double)(k + 2) * 0x1p-24 * (size + fabs(start)) + (pairs ? 0x1p-7 * size : 0)))
        fail_msg("%s: %g, not %g", what, got, start + sum);
}

static void linear_check(exec *e, size_t m, size_t n, size_t k, pali_dtype dtype, linear_op op) {
    operand w = random_operand(n, k, dtype, 5 * n + k);
    float *dy = random_floats(m * n, 1, 1), *x = random_floats(m * k, 2, 1), *dx = random_floats(m * k, 3, 1), *dw = random_floats(n * k, 4, 1);
    float *db = random_floats(n, 5, 1), *dx0 = random_floats(m * k, 3, 1), *dw0 = random_floats(n * k, 4, 1), *db0 = random_floats(n, 5, 1);
    const bool pairs = e->k->panel_pairs && m > LINEAR_FEW_ROWS && pairs_wanted(e->k, &w.m);
    assert_int_equal(linear_backward(e, dx, &(linear_grad){dw, db, NULL}, dy, x, &w.m, m, op), PALI_OK);
    for (size_t r = 0; r < m; r++) {
        for (size_t c = 0; c < k; c++) {
            double sum = 0, size = 0;
            for (size_t j = 0; j < n; j++) {
                double term = (double)dy[r * n + j] * (double)w.values[j * k + c];
                sum += term;
                size += fabs(term);
            }
            assert_sum("dx", (double)dx[r * k + c], op == LINEAR_ADD ? (double)dx0[r * k + c] : 0, sum, size, n, pairs);
        }
    }
    for (size_t j = 0; j < n; j++) {
        double bias = 0, bias_size = 0;
        for (size_t c = 0; c < k; c++) {
            double sum = 0, size = 0;
            for (size_t r = 0; r < m; r++) {
                double term = (double)dy[r * n + j] * (double)x[r * k + c];
                sum += term;
                size += fabs(term);
            }
            assert_sum("dw", (double)dw[j * k + c], (double)dw0[j * k + c], sum, size, m, false);
        }
        for (size_t r = 0; r < m; r++) {
            bias += (double)dy[r * n + j];
            bias_size += fabs((double)dy[r * n + j]);
        }
        assert_sum("db", (double)db[j], (double)db0[j], bias, bias_size, m, false);
    }
    /* What is frozen is not touched, and changes nothing of the rest. */
    memcpy(dw0, dw, n * k * sizeof *dw);
    memcpy(dx0, dx, m * k * sizeof *dx);
    assert_int_equal(linear_backward(e, NULL, &(linear_grad){.b = db}, dy, NULL, &w.m, m, op), PALI_OK);
    assert_int_equal(linear_backward(e, dx0, NULL, dy, NULL, &w.m, m, LINEAR_SET), PALI_OK);
    assert_memory_equal(dw, dw0, n * k * sizeof *dw);
    if (op == LINEAR_SET) assert_memory_equal(dx, dx0, m * k * sizeof *dx);
    operand_free(&w);
    free(dy);
    free(x);
    free(dx);
    free(dw);
    free(db);
    free(dx0);
    free(dw0);
    free(db0);
}

static void linear_shapes(exec *e) {
    const size_t ms[] = {1, 5, 50, 259}, shapes[][2] = {{1, 1}, {7, 3}, {65, 72}, {36, 515}, {530, 40}, {260, 257}};
    for (size_t a = 0; a < sizeof ms / sizeof ms[0]; a++)
        for (size_t b = 0; b < sizeof shapes / sizeof shapes[0]; b++) {
            pali_dtype dtype = (pali_dtype)(PALI_DTYPE_F32 + (a + b) % 3);
            linear_check(e, ms[a], shapes[b][0], shapes[b][1], dtype, (a ^ b) & 1 ? LINEAR_ADD : LINEAR_SET);
        }
    for (int dtype = PALI_DTYPE_BF16; dtype <= PALI_DTYPE_F16; dtype++) { /* so many weights that they may be taken in pairs */
        linear_check(e, LINEAR_FEW_ROWS, 530, 515, (pali_dtype)dtype, LINEAR_SET);
        linear_check(e, LINEAR_FEW_ROWS + 1, 530, 515, (pali_dtype)dtype, LINEAR_ADD);
    }
    for (int dtype = PALI_DTYPE_F32; dtype <= PALI_DTYPE_Q4_K; dtype++) /* every way to store weights; an odd end of a block */
        linear_check(e, 30, 40, dtype == PALI_DTYPE_Q4_K ? 512 : 300, (pali_dtype)dtype, LINEAR_SET);
    assert_int_equal(linear_backward(e, NULL, NULL, NULL, NULL, &(mat){.rows = 3, .cols = 3}, 0, LINEAR_SET), PALI_OK);
}

static void test_linear(void **state) {
    (void)state;
    each_level(linear_shapes);
}

typedef struct linear_case {
    double *x, *w, *b, *dy;
    size_t m, n, k;
} linear_case;

static double linear_loss(const void *context) {
    const linear_case *c = context;
    double loss = 0;
    for (size_t r = 0; r < c->m; r++) {
        for (size_t j = 0; j < c->n; j++) {
            double y = c->b[j];
            for (size_t i = 0; i < c->k; i++) y += c->x[r * c->k + i] * c->w[j * c->k + i];
            loss += c->dy[r * c->n + j] * y;
        }
    }
    return loss;
}

static void linear_differences(exec *e) {
    const size_t m = 11, n = 36, k = 72;
    operand w = random_operand(n, k, PALI_DTYPE_F32, 1);
    float *x = random_floats(m * k, 2, 1), *b = random_floats(n, 3, 1), *dy = random_floats(m * n, 4, 1);
    float *dx = random_floats(m * k, 5, 1), *dw = calloc(n * k, sizeof *dw), *db = calloc(n, sizeof *db);
    linear_case c = {gradient_doubles(x, m * k), gradient_doubles(w.values, n * k), gradient_doubles(b, n), gradient_doubles(dy, m * n), m, n, k};
    assert_int_equal(linear_backward(e, dx, &(linear_grad){dw, db, NULL}, dy, x, &w.m, m, LINEAR_SET), PALI_OK);
    gradient_check("linear dx", dx, c.x, m * k, linear_loss, &c, GRADIENT_TOLERANCE);
    gradient_check("linear dw", dw, c.w, n * k, linear_loss, &c, GRADIENT_TOLERANCE);
    gradient_check("linear db", db, c.b, n, linear_loss, &c, GRADIENT_TOLERANCE);
    void *const all[] = {x, b, dy, dx, dw, db, c.x, c.w, c.b, c.dy};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
    operand_free(&w);
}

static void test_linear_differences(void **state) {
    (void)state;
    each_level(linear_differences);
}

/* ---- Adapters ---- */

typedef struct lora_case {
    double *x, *w, *a[2], *b[2], *bias, *dy;
    double scale[2];
    size_t m, n, k, rank[2];
} lora_case;

static double lora_loss(const void *context) {
    const lora_case *c = context;
    double loss = 0;
    for (size_t r = 0; r < c->m; r++) {
        for (size_t l = 0; l < 2; l++) {
            for (size_t i = 0; i < c->rank[l]; i++) {
                double u = 0;
                for (size_t j = 0; j < c->k; j++) u += c->a[l][i * c->k + j] * c->x[r * c->k + j];
                for (size_t j = 0; j < c->n; j++) loss += c->dy[r * c->n + j] * c->scale[l] * u * c->b[l][j * c->rank[l] + i];
            }
        }
        for (size_t j = 0; j < c->n; j++) {
            double y = c->bias[j];
            for (size_t i = 0; i < c->k; i++) y += c->x[r * c->k + i] * c->w[j * c->k + i];
            loss += c->dy[r * c->n + j] * y;
        }
    }
    return loss;
}

static void lora_differences(exec *e) {
    const size_t m = 12, n = 20, k = 33;
    adapters *d = adapters_new(n, k, 7);
    const size_t ranks[] = {d->first.a.rows, d->second.a.rows};
    float *x = random_floats(m * k, 1, 1), *dy = random_floats(m * n, 2, 1), *dx = calloc(m * k, sizeof *dx), *bias = calloc(n, sizeof *bias);
    float *da[2], *db[2], *frozen = calloc(m * k, sizeof *frozen);
    operand w = random_operand(n, k, PALI_DTYPE_F32, 5);
    w.m.lora = &d->first;
    lora_case c = {.x = gradient_doubles(x, m * k), .bias = gradient_doubles(d->bias, n), .w = gradient_doubles(w.values, n * k), .dy = gradient_doubles(dy, m * n),
                   .scale = {(double)d->first.scale, (double)d->second.scale}, .m = m, .n = n, .k = k, .rank = {ranks[0], ranks[1]}};
    for (size_t l = 0; l < 2; l++) {
        da[l] = calloc(ranks[l] * k, sizeof(float));
        db[l] = calloc(n * ranks[l], sizeof(float));
        c.a[l] = gradient_doubles(d->a[l], ranks[l] * k);
        c.b[l] = gradient_doubles(d->b[l], n * ranks[l]);
    }
    const lora_grad grads[] = {{da[0], db[0], NULL}, {da[1], db[1], bias}};
    exec_need need = {0};
    linear_backward_need(&need, e, &w.m, m);
    mem_scratch_free(&e->shared);
    assert_int_equal(linear_backward(e, dx, &(linear_grad){.lora = grads}, dy, x, &w.m, m, LINEAR_SET), PALI_OK);
    assert_int_equal(e->shared.n_bytes, need.shared);
    gradient_check("lora dx", dx, c.x, m * k, lora_loss, &c, GRADIENT_TOLERANCE);
    gradient_check("lora bias", bias, c.bias, n, lora_loss, &c, GRADIENT_TOLERANCE);
    for (size_t l = 0; l < 2; l++) {
        gradient_check("lora dA", da[l], c.a[l], ranks[l] * k, lora_loss, &c, GRADIENT_TOLERANCE);
        gradient_check("lora dB", db[l], c.b[l], n * ranks[l], lora_loss, &c, GRADIENT_TOLERANCE);
    }
    assert_int_equal(linear_backward(e, frozen, NULL, dy, NULL, &w.m, m, LINEAR_SET), PALI_OK); /* adapters that are not trained */
    assert_memory_equal(frozen, dx, m * k * sizeof *dx);
    for (size_t l = 0; l < 2; l++) {
        void *const all[] = {da[l], db[l], c.a[l], c.b[l]};
        for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
    }
    void *const all[] = {x, dy, dx, bias, frozen, c.x, c.w, c.bias, c.dy};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
    adapters_free(d);
    operand_free(&w);
}

static void test_lora(void **state) {
    (void)state;
    each_level(lora_differences);
}

/* ---- Norms ---- */

typedef struct norm_case {
    double *x, *w, *b, *dy;
    size_t rows, n;
    bool layer;
} norm_case;

static double norm_loss(const void *context) {
    const norm_case *c = context;
    double loss = 0;
    for (size_t r = 0; r < c->rows; r++) {
        const double *x = c->x + r * c->n;
        double mean = 0, var = 0, n = (double)c->n;
        for (size_t i = 0; i < c->n && c->layer; i++) mean += x[i] / n;
        for (size_t i = 0; i < c->n; i++) var += (x[i] - mean) * (x[i] - mean) / n;
        for (size_t i = 0; i < c->n; i++) {
            double h = (x[i] - mean) / sqrt(var + 1e-6);
            loss += c->dy[r * c->n + i] * (c->layer ? h * c->w[i] + c->b[i] : h * (1 + c->w[i]));
        }
    }
    return loss;
}

static void norm_check(exec *e, size_t rows, size_t n, bool layer) {
    float *x = random_floats(rows * n, 1, 2), *w = random_floats(n, 2, 1), *b = random_floats(n, 3, 1), *dy = random_floats(rows * n, 4, 1);
    float *dx = random_floats(rows * n, 5, 1), *twice = random_floats(rows * n, 5, 1), *dw = calloc(n, sizeof *dw), *db = calloc(n, sizeof *db);
    norm_case c = {gradient_doubles(x, rows * n), gradient_doubles(w, n), gradient_doubles(b, n), gradient_doubles(dy, rows * n), rows, n, layer};
    if (layer)
        assert_int_equal(norm_layer_backward(e, dx, dw, db, dy, x, w, rows, n, 1e-6f, false), PALI_OK);
    else
        assert_int_equal(norm_rms_backward(e, dx, dw, dy, x, w, rows, n, 1e-6f, false), PALI_OK);
    const char *name = layer ? "layer norm" : "rms norm";
    gradient_check(name, dx, c.x, rows * n, norm_loss, &c, GRADIENT_TOLERANCE);
    gradient_check(name, dw, c.w, n, norm_loss, &c, GRADIENT_TOLERANCE);
    if (layer) gradient_check(name, db, c.b, n, norm_loss, &c, GRADIENT_TOLERANCE);
    memcpy(twice, dx, rows * n * sizeof *dx);
    if (layer)
        assert_int_equal(norm_layer_backward(e, twice, NULL, NULL, dy, x, w, rows, n, 1e-6f, true), PALI_OK);
    else
        assert_int_equal(norm_rms_backward(e, twice, NULL, dy, x, w, rows, n, 1e-6f, true), PALI_OK);
    for (size_t i = 0; i < rows * n; i++) assert_true(twice[i] == 2 * dx[i]);
    void *const all[] = {x, w, b, dy, dx, twice, dw, db, c.x, c.w, c.b, c.dy};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
}

static void norm_shapes(exec *e) {
    const size_t shapes[][2] = {{1, 2}, {3, 7}, {5, 33}, {20, 300}, {2, 1152}, {2, 2048}};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        for (int layer = 0; layer < 2; layer++)
            if (!layer || shapes[i][1] > 2) /* of two values the layer norm's gradient is rounding and nothing else */
                norm_check(e, shapes[i][0], shapes[i][1], layer);
}

static void test_norms(void **state) {
    (void)state;
    each_level(norm_shapes);
}

static void norm_unit(exec *e) {
    const float x[] = {1, -2, 3, 0.5f}, dy[] = {1, 0.5f, -1, 2}, w_rms[] = {0.1f, -0.2f, 0.3f, 0}, w_layer[] = {1, 2, 0.5f, 1.5f};
    float dx[4], dw[4] = {0}, db[4] = {0};
    assert_int_equal(norm_rms_backward(e, dx, dw, dy, x, w_rms, 1, 4, 1e-6f, false), PALI_OK);
    assert_near("rms dx", dx, (const double[]){0.6794618, 0.01858999, -0.398754, 1.10796}, 4);
    assert_near("rms dw", dw, (const double[]){0.5298129, -0.5298129, -1.589439, 0.5298129}, 4);
    memset(dw, 0, sizeof dw);
    assert_int_equal(norm_layer_backward(e, dx, dw, db, dy, x, w_layer, 1, 4, 1e-6f, false), PALI_OK);
    assert_near("layer dx", dx, (const double[]){-0.006914973, -0.5130854, -0.5117027, 1.031703}, 4);
    assert_near("layer dw", dw, (const double[]){0.2105587, -0.7369554, -1.333538, -0.1403725}, 4);
    assert_near("layer db", db, (const double[]){1, 0.5, -1, 2}, 4);
}

static void test_norm_unit(void **state) {
    (void)state;
    each_level(norm_unit);
}

/* ---- Activations ---- */

static double gelu(double x) {
    return 0.5 * x * (1 + tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
}

typedef struct act_case {
    double *x, *up, *dy;
    size_t n;
} act_case;

static double gelu_loss(const void *context) {
    const act_case *c = context;
    double loss = 0;
    for (size_t i = 0; i < c->n; i++) loss += c->dy[i] * gelu(c->x[i]) * (c->up ? c->up[i] : 1);
    return loss;
}

static void act_differences(exec *e) {
    const size_t rows = 3, n = 43, all_n = rows * n;
    float *x = random_floats(all_n, 1, 2), *up = random_floats(all_n, 2, 1), *dy = random_floats(all_n, 3, 1), *y = random_floats(all_n, 3, 1);
    act_case c = {gradient_doubles(x, all_n), NULL, gradient_doubles(dy, all_n), all_n};
    act_gelu_backward(e, x, y, rows, n);
    gradient_check("gelu dx", x, c.x, all_n, gelu_loss, &c, GRADIENT_TOLERANCE);
    for (size_t i = 0; i < all_n; i++) assert_true(fabs((double)y[i] - gelu(c.x[i])) <= 1e-6);
    for (size_t i = 0; i < all_n; i++) x[i] = (float)c.x[i];
    c.up = gradient_doubles(up, all_n);
    memcpy(y, dy, all_n * sizeof *y);
    act_geglu_backward(e, x, up, y, rows, n);
    gradient_check("geglu d gate", x, c.x, all_n, gelu_loss, &c, GRADIENT_TOLERANCE);
    gradient_check("geglu d up", up, c.up, all_n, gelu_loss, &c, GRADIENT_TOLERANCE);
    for (size_t i = 0; i < all_n; i++) assert_true(fabs((double)y[i] - gelu(c.x[i]) * c.up[i]) <= 2e-6);
    void *const all[] = {x, up, dy, y, c.x, c.up, c.dy};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
    float unit[] = {-3, -1, -0.5f, 0, 0.5f, 1, 3}, d[] = {1, 1, 1, 1, 1, 1, 1};
    act_gelu_backward(e, unit, d, 1, 7);
    assert_near("gelu'", unit, (const double[]){-0.0115843, -0.08296409, 0.1326301, 0.5, 0.8673699, 1.082964, 1.011584}, 7);
    assert_near("gelu", d, (const double[]){-0.003637433, -0.158808, -0.154286, 0, 0.345714, 0.841192, 2.996363}, 7);
}

static void test_activations(void **state) {
    (void)state;
    each_level(act_differences);
}

/* ---- Rotation: backward is the forward by the opposite angle ---- */

typedef struct rope_case {
    double *x, *dy;
    const float *cosines, *sines;
    size_t half;
} rope_case;

static double rope_loss(const void *context) {
    const rope_case *c = context;
    double loss = 0;
    for (size_t i = 0; i < c->half; i++) {
        double a = c->x[i], b = c->x[i + c->half], cs = (double)c->cosines[i], sn = (double)c->sines[i];
        loss += c->dy[i] * (a * cs - b * sn) + c->dy[i + c->half] * (b * cs + a * sn);
    }
    return loss;
}

static void rope_differences(exec *e) {
    enum { half = 128 };
    float *x = random_floats(2 * half, 1, 1), *dy = random_floats(2 * half, 2, 1), cosines[half], sines[half], opposite[half];
    for (size_t i = 0; i < half; i++) {
        cosines[i] = cosf(0.3f * (float)i);
        sines[i] = sinf(0.3f * (float)i);
    }
    rope_case c = {gradient_doubles(x, 2 * half), gradient_doubles(dy, 2 * half), cosines, sines, half};
    e->k->scale(opposite, sines, half, -1);
    e->k->rope(dy, cosines, opposite, half);
    gradient_check("rope", dy, c.x, 2 * half, rope_loss, &c, GRADIENT_TOLERANCE);
    const float cos2[] = {cosf(3), cosf(0.03f)}, sin2[] = {-sinf(3), -sinf(0.03f)};
    float unit[] = {1, 0, -1, 0.5f};
    e->k->rope(unit, cos2, sin2, 2);
    assert_near("rope", unit, (const double[]){-1.131112, 0.01499775, 0.8488725, 0.499775}, 4);
    free(x);
    free(dy);
    free(c.x);
    free(c.dy);
}

static void test_rope(void **state) {
    (void)state;
    each_level(rope_differences);
}

/* ---- Embedding ---- */

static void test_embed(void **state) {
    (void)state;
    enum { vocabulary = 11, width = 600, n = 9 };
    const int32_t ids[n] = {3, 0, 3, 10, 3, 7, 0, 3, 1};
    float *dx = random_floats(n * width, 1, 1), *got[3];
    for (int threads = 1; threads <= 3; threads++) {
        exec e;
        gemma g = {.cfg = {.width = width}, .embed = {.dtype = PALI_DTYPE_BF16, .rows = vocabulary, .cols = width}};
        assert_int_equal(exec_init(&e, threads), PALI_OK);
        float *d = got[threads - 1] = random_floats(vocabulary * width, 2, 1), *before = random_floats(vocabulary * width, 2, 1);
        assert_int_equal(gemma_embed_backward(&e, &g, d, ids, dx, n), PALI_OK);
        for (size_t v = 0; v < vocabulary; v++) {
            for (size_t c = 0; c < width; c++) {
                double want = (double)before[v * width + c], size = fabs(want);
                for (size_t i = 0; i < n; i++) {
                    if ((size_t)ids[i] != v) continue;
                    want += sqrt(width) * (double)dx[i * width + c];
                    size += sqrt(width) * fabs((double)dx[i * width + c]);
                }
                assert_true(fabs((double)d[v * width + c] - want) <= 6 * 0x1p-24 * size);
            }
        }
        assert_int_equal(gemma_embed_backward(&e, &g, d, (const int32_t[]){vocabulary}, dx, 1), PALI_ERR_ARGUMENT);
        assert_int_equal(gemma_embed_backward(&e, &g, d, (const int32_t[]){-1}, dx, 1), PALI_ERR_ARGUMENT);
        free(before);
        exec_free(&e);
    }
    assert_memory_equal(got[0], got[1], vocabulary * width * sizeof **got);
    assert_memory_equal(got[0], got[2], vocabulary * width * sizeof **got);
    for (int i = 0; i < 3; i++) free(got[i]);
    free(dx);
}

/* ---- Threads ---- */

static void test_threads_change_nothing(void **state) {
    (void)state;
    const size_t m = 150, n = 700, k = 530;
    operand w = random_operand(n, k, PALI_DTYPE_BF16, 1);
    float *x = random_floats(m * k, 2, 1), *dy = random_floats(m * n, 3, 1), *scale = random_floats(k, 4, 1);
    float *dx[3], *dw[3], *db[3], *dn[3], *ds[3];
    for (int threads = 1; threads <= 3; threads++) {
        exec e;
        int t = threads - 1;
        assert_int_equal(exec_init(&e, threads), PALI_OK);
        dx[t] = random_floats(m * k, 5, 1);
        dw[t] = random_floats(n * k, 6, 1);
        db[t] = random_floats(n, 7, 1);
        dn[t] = random_floats(m * k, 8, 1);
        ds[t] = random_floats(2 * k, 9, 1);
        assert_int_equal(linear_backward(&e, dx[t], &(linear_grad){dw[t], db[t], NULL}, dy, x, &w.m, m, LINEAR_ADD), PALI_OK);
        assert_int_equal(norm_layer_backward(&e, dn[t], ds[t], ds[t] + k, dx[t], x, scale, m, k, 1e-6f, true), PALI_OK);
        assert_int_equal(norm_rms_backward(&e, dn[t], ds[t], dx[t], x, scale, m, k, 1e-6f, true), PALI_OK);
        exec_free(&e);
        assert_memory_equal(dx[t], dx[0], m * k * sizeof **dx);
        assert_memory_equal(dw[t], dw[0], n * k * sizeof **dw);
        assert_memory_equal(db[t], db[0], n * sizeof **db);
        assert_memory_equal(dn[t], dn[0], m * k * sizeof **dn);
        assert_memory_equal(ds[t], ds[0], 2 * k * sizeof **ds);
    }
    for (int t = 0; t < 3; t++) {
        float *const all[] = {dx[t], dw[t], db[t], dn[t], ds[t]};
        for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
    }
    free(x);
    free(dy);
    free(scale);
    operand_free(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_linear),
        cmocka_unit_test(test_linear_differences),
        cmocka_unit_test(test_lora),
        cmocka_unit_test(test_norms),
        cmocka_unit_test(test_norm_unit),
        cmocka_unit_test(test_activations),
        cmocka_unit_test(test_rope),
        cmocka_unit_test(test_embed),
        cmocka_unit_test(test_threads_change_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
