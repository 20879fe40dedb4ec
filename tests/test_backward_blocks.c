/* test_backward_blocks.c: whole blocks against central differences of the same block in double, for Gemma 1 and 2 and the image
 * encoder, everything trained and adapters besides; and the forward of training against that of inference, to the bit. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gradient.h"
#include "model/gemma_train.h"
#include "model/kv.h"
#include "model/vit_train.h"
#include "tensors.h"

/* Values go through some twenty roundings instead of one or two: measured 1.2e-6. */
#define BLOCK_TOLERANCE 3e-6

enum { D = 24, N = 4, K = 2, H = 6, F = 40, R = 3 };

/* ---- The block in double ---- */

enum { W_Q, W_K, W_V, W_O, W_GATE, W_UP, W_DOWN, N_MATRICES };
static const size_t k_rows[] = {N * H, K * H, K * H, D, F, F, D}, k_cols[] = {D, D, D, N * H, D, D, F};

typedef struct reference {
    double *x, *dy, *w[N_MATRICES], *norm[4], *a, *b; /* norms: attn_in, attn_out, mlp_in, mlp_out; an adapter of q */
    double lora_scale;
    gemma_config cfg;
    const gemma_sequence *sequences;
    size_t n_sequences;
    bool outer_norms;
    double *mask[2];  /* [n, D] of dropout, of what attention and MLP add; NULL: none */
} reference;

static void product(double *y, const double *x, const double *w, size_t m, size_t n, size_t k) {
    for (size_t r = 0; r < m; r++)
        for (size_t j = 0; j < n; j++) {
            y[r * n + j] = 0;
            for (size_t i = 0; i < k; i++) y[r * n + j] += x[r * k + i] * w[j * k + i];
        }
}

static void norm(double *y, const double *x, const double *w, size_t m) {
    for (size_t r = 0; r < m; r++) {
        double square = 0;
        for (size_t i = 0; i < D; i++) square += x[r * D + i] * x[r * D + i] / D;
        for (size_t i = 0; i < D; i++) y[r * D + i] = x[r * D + i] / sqrt(square + 1e-6) * (1 + w[i]);
    }
}

static void rotate(double *x, size_t position) {
    for (size_t i = 0; i < H / 2; i++) { /* angles in f32, as they are defined */
        double angle = (double)((float)(position + 1) * (1.0f / (float)pow(10000, (double)((float)(2 * i) / (float)H))));
        double c = (double)(float)cos(angle), s = (double)(float)sin(angle), a = x[i], b = x[i + H / 2];
        x[i] = a * c - b * s;
        x[i + H / 2] = b * c + a * s;
    }
}

/* Of one sequence; cfg says scale, cap and window. */
static void attend(double *mix, const double *q, const double *k, const double *v, const gemma_config *cfg, const gemma_sequence *s) {
    size_t n_kv = cfg->n_kv_heads;
    for (size_t t = 0; t < s->n_rows; t++) {
        for (size_t n = 0; n < N; n++) {
            double sum = 0, *out = mix + (t * N + n) * H;
            memset(out, 0, H * sizeof *out);
            for (size_t j = 0; j < s->n_rows; j++) {
                bool sees = t < s->n_prefix ? j < s->n_prefix : j <= t && (!cfg->sliding_window || t - j < cfg->sliding_window);
                size_t at = (j * n_kv + n / (N / n_kv)) * H;
                double z = 0;
                if (!sees) continue;
                for (size_t i = 0; i < H; i++) z += q[(t * N + n) * H + i] * k[at + i];
                z *= (double)cfg->attn_scale;
                if (cfg->attn_softcap > 0) z = (double)cfg->attn_softcap * tanh(z / (double)cfg->attn_softcap);
                sum += exp(z);
                for (size_t i = 0; i < H; i++) out[i] += exp(z) * v[at + i];
            }
            for (size_t i = 0; i < H; i++) out[i] /= sum;
        }
    }
}

static double gelu(double x) {
    return 0.5 * x * (1 + tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
}

#define MAX_ROWS 32

static double block_loss(const void *context) {
    const reference *c = context;
    static double h[MAX_ROWS * D], q[MAX_ROWS * N * H], k[MAX_ROWS * K * H], v[MAX_ROWS * K * H], mix[MAX_ROWS * N * H], u[MAX_ROWS * R];
    static double x[MAX_ROWS * D], branch[MAX_ROWS * D], gate[MAX_ROWS * F], up[MAX_ROWS * F], low[MAX_ROWS * N * H];
    double loss = 0;
    size_t n = 0, row = 0;
    for (size_t s = 0; s < c->n_sequences; s++) n += c->sequences[s].n_rows;
    memcpy(x, c->x, n * D * sizeof *x);
    norm(h, x, c->norm[0], n);
    product(q, h, c->w[W_Q], n, N * H, D);
    product(u, h, c->a, n, R, D);
    product(low, u, c->b, n, N * H, R);
    for (size_t i = 0; i < n * N * H; i++) q[i] += c->lora_scale * low[i];
    product(k, h, c->w[W_K], n, K * H, D);
    product(v, h, c->w[W_V], n, K * H, D);
    for (size_t s = 0; s < c->n_sequences; row += c->sequences[s++].n_rows) {
        for (size_t t = row; t < row + c->sequences[s].n_rows; t++) {
            for (size_t i = 0; i < N; i++) rotate(q + (t * N + i) * H, t - row);
            for (size_t i = 0; i < K; i++) rotate(k + (t * K + i) * H, t - row);
        }
        attend(mix + row * N * H, q + row * N * H, k + row * K * H, v + row * K * H, &c->cfg, &c->sequences[s]);
    }
    product(branch, mix, c->w[W_O], n, D, N * H);
    if (c->outer_norms) norm(branch, branch, c->norm[1], n);
    for (size_t i = 0; c->mask[0] && i < n * D; i++) branch[i] *= c->mask[0][i];
    for (size_t i = 0; i < n * D; i++) x[i] += branch[i];
    norm(h, x, c->norm[2], n);
    product(gate, h, c->w[W_GATE], n, F, D);
    product(up, h, c->w[W_UP], n, F, D);
    for (size_t i = 0; i < n * F; i++) gate[i] = gelu(gate[i]) * up[i];
    product(branch, gate, c->w[W_DOWN], n, D, F);
    if (c->outer_norms) norm(branch, branch, c->norm[3], n);
    for (size_t i = 0; c->mask[1] && i < n * D; i++) branch[i] *= c->mask[1][i];
    for (size_t i = 0; i < n * D; i++) loss += c->dy[i] * (x[i] + branch[i]);
    return loss;
}

/* ---- The block under test ---- */

static const gemma_sequence k_sequences[] = {{11, 7, 0}, {1, 1, 0}, {9, 4, 0}};

typedef struct subject {
    gemma g;
    gemma_layer layer;
    operand w[N_MATRICES];
    float *norm[4], *x, *dy, *a, *b;
    lora adapter;
    gemma_rows rows;
} subject;

static mat *matrix(gemma_layer *l, size_t i) {
    mat *const list[] = {&l->q, &l->k, &l->v, &l->o, &l->gate, &l->up, &l->down};
    return list[i];
}

static subject *subject_new(bool gemma2) {
    subject *s = calloc(1, sizeof *s);
    assert_non_null(s);
    s->rows = (gemma_rows){.sequences = k_sequences, .n_sequences = 3, .n_rows = 21};
    s->g.cfg = (gemma_config){.width = D, .n_heads = N, .n_kv_heads = K, .head_dim = H, .mlp_width = F, .n_layers = 1, .attn_scale = 0.4f,
                              .attn_softcap = gemma2 ? 5 : 0, .norm_eps = 1e-6f, .rope_theta = 10000, .sliding_window = gemma2 ? 5 : 0,
                              .layer_slides = {gemma2}};
    s->g.layers = &s->layer;
    for (size_t i = 0; i < N_MATRICES; i++) {
        s->w[i] = random_operand(k_rows[i], k_cols[i], PALI_DTYPE_F32, 20 + i);
        *matrix(&s->layer, i) = s->w[i].m;
    }
    for (size_t i = 0; i < 4; i++) s->norm[i] = random_floats(D, 30 + i, 0.3f);
    s->layer.norm_attn_in = s->norm[0];
    s->layer.norm_attn_out = gemma2 ? s->norm[1] : NULL;
    s->layer.norm_mlp_in = s->norm[2];
    s->layer.norm_mlp_out = gemma2 ? s->norm[3] : NULL;
    s->x = random_floats(s->rows.n_rows * D, 1, 1);
    s->dy = random_floats(s->rows.n_rows * D, 2, 1);
    s->a = random_floats(R * D, 3, 0.5f);
    s->b = random_floats(N * H * R, 4, 0.5f);
    s->adapter = (lora){.a = mat_f32(R, D, s->a), .b = mat_f32(N * H, R, s->b), .scale = 0.5f};
    s->layer.q.lora = &s->adapter;
    return s;
}

static void subject_free(subject *s) {
    for (size_t i = 0; i < N_MATRICES; i++) operand_free(&s->w[i]);
    for (size_t i = 0; i < 4; i++) free(s->norm[i]);
    free(s->x);
    free(s->dy);
    free(s->a);
    free(s->b);
    free(s);
}

static float *zeros(size_t n) {
    float *x = calloc(n, sizeof *x);
    assert_non_null(x);
    return x;
}

/* What dropout multiplies the elements of a branch by. */
static double *mask_of(exec *e, const gemma_rows *rows, size_t site) {
    const size_t n = rows->n_rows * D;
    float *ones = zeros(n), *mask = zeros(n);
    for (size_t i = 0; i < n; i++) ones[i] = 1;
    if (rows->drop.p > 0) dropout_apply(e, mask, ones, rows->n_rows, D, &rows->drop, site, false);
    double *out = rows->drop.p > 0 ? gradient_doubles(mask, n) : NULL;
    free(ones);
    free(mask);
    return out;
}

static void block_check(exec *e, bool gemma2, float p) {
    static const char *const k_names[] = {"q", "k", "v", "o", "gate", "up", "down"};
    subject *s = subject_new(gemma2);
    size_t n = s->rows.n_rows * D;
    s->rows.drop = (dropout){p, 77};
    reference c = {.x = gradient_doubles(s->x, n), .dy = gradient_doubles(s->dy, n), .a = gradient_doubles(s->a, R * D),
                   .b = gradient_doubles(s->b, N * H * R), .lora_scale = 0.5, .cfg = s->g.cfg, .sequences = k_sequences, .n_sequences = 3,
                   .outer_norms = gemma2, .mask = {mask_of(e, &s->rows, 0), mask_of(e, &s->rows, 1)}};
    float *dw[N_MATRICES], *dnorm[4], *da = zeros(R * D), *db = zeros(N * H * R), *dx = zeros(n), *frozen = zeros(n);
    for (size_t i = 0; i < N_MATRICES; i++) {
        c.w[i] = gradient_doubles(s->w[i].values, k_rows[i] * k_cols[i]);
        dw[i] = zeros(k_rows[i] * k_cols[i]);
    }
    for (size_t i = 0; i < 4; i++) {
        c.norm[i] = gradient_doubles(s->norm[i], D);
        dnorm[i] = zeros(D);
    }
    const lora_grad adapter = {da, db, NULL};
    const gemma_layer_grad grad = {.norm_attn_in = dnorm[0], .norm_attn_out = dnorm[1], .norm_mlp_in = dnorm[2], .norm_mlp_out = dnorm[3],
                                   .q = {.w = dw[W_Q], .lora = &adapter}, .k = {.w = dw[W_K]}, .v = {.w = dw[W_V]}, .o = {.w = dw[W_O]},
                                   .gate = {.w = dw[W_GATE]}, .up = {.w = dw[W_UP]}, .down = {.w = dw[W_DOWN]}};
    exec_need need = {0};
    gemma_block_need(&need, e, &s->g, 0, &s->rows);
    memcpy(dx, s->dy, n * sizeof *dx);
    assert_int_equal(gemma_block_backward(e, &s->g, 0, dx, &grad, s->x, NULL, &s->rows, true), PALI_OK);
    assert_int_equal(e->acts.n_bytes, need.acts);
    assert_true(e->shared.n_bytes <= need.shared && e->worker[0].n_bytes <= need.worker);
    gradient_check("block dx", dx, c.x, n, block_loss, &c, BLOCK_TOLERANCE);
    for (size_t i = 0; i < N_MATRICES; i++) gradient_check(k_names[i], dw[i], c.w[i], k_rows[i] * k_cols[i], block_loss, &c, BLOCK_TOLERANCE);
    for (size_t i = 0; i < 4; i += gemma2 ? 1 : 2) gradient_check("norm", dnorm[i], c.norm[i], D, block_loss, &c, BLOCK_TOLERANCE);
    gradient_check("lora A", da, c.a, R * D, block_loss, &c, BLOCK_TOLERANCE);
    gradient_check("lora B", db, c.b, N * H * R, block_loss, &c, BLOCK_TOLERANCE);
    memcpy(frozen, s->dy, n * sizeof *frozen);
    assert_int_equal(gemma_block_backward(e, &s->g, 0, frozen, &(gemma_layer_grad){0}, s->x, NULL, &s->rows, true), PALI_OK);
    assert_memory_equal(frozen, dx, n * sizeof *dx); /* what is trained changes nothing of what flows on */
    /* From what the forward kept: the same bits. */
    float *keep = zeros(gemma_block_keep_floats(&s->g, &s->rows)), *y = zeros(n), *kept_w = zeros(D * F);
    memcpy(y, s->x, n * sizeof *y);
    memcpy(frozen, s->dy, n * sizeof *frozen);
    assert_int_equal(gemma_block_forward(e, &s->g, 0, y, keep, &s->rows), PALI_OK);
    assert_int_equal(gemma_block_backward(e, &s->g, 0, frozen, &(gemma_layer_grad){.down = {.w = kept_w}}, s->x, keep, &s->rows, true), PALI_OK);
    assert_memory_equal(frozen, dx, n * sizeof *dx);
    assert_memory_equal(kept_w, dw[W_DOWN], D * F * sizeof *kept_w);
    /* Forward, kept or not, is the reference's, too. */
    float *plain = zeros(n);
    double loss = 0;
    memcpy(plain, s->x, n * sizeof *plain);
    assert_int_equal(gemma_block_forward(e, &s->g, 0, plain, NULL, &s->rows), PALI_OK);
    assert_memory_equal(plain, y, n * sizeof *y);
    for (size_t i = 0; i < n; i++) loss += (double)plain[i] * c.dy[i];
    assert_true(fabs(loss - block_loss(&c)) < 1e-3); /* of a sum of 1,000 products, each of which f32 has to 1e-6 */
    /* The lowest trained block: the same gradients of its own. */
    float *last = zeros(k_rows[W_Q] * k_cols[W_Q]);
    memcpy(dx, s->dy, n * sizeof *dx);
    assert_int_equal(gemma_block_backward(e, &s->g, 0, dx, &(gemma_layer_grad){.q = {.w = last}}, s->x, NULL, &s->rows, false), PALI_OK);
    assert_memory_equal(last, dw[W_Q], k_rows[W_Q] * k_cols[W_Q] * sizeof *last);
    for (size_t i = 0; i < N_MATRICES; i++) {
        free(c.w[i]);
        free(dw[i]);
    }
    for (size_t i = 0; i < 4; i++) {
        free(c.norm[i]);
        free(dnorm[i]);
    }
    void *const all[] = {da, db, dx, frozen, last, keep, y, plain, kept_w, c.x, c.dy, c.a, c.b, c.mask[0], c.mask[1]};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
    subject_free(s);
}

static void blocks(exec *e) {
    for (int i = 0; i < 4; i++) block_check(e, i / 2, i % 2 ? 0.4f : 0);
}

static void test_gemma_block(void **state) {
    (void)state;
    each_level(blocks);
}

/* Prefill and scoring with caches, sequence by sequence, against all of them at once without. More than 8 rows each, so that scoring
 * makes panels too and no dot products. */
static void forward_bits(exec *e) {
    for (int gemma2 = 0; gemma2 < 2; gemma2++) {
        const gemma_sequence sequences[] = {{40, 28, 0}, {33, 12, 0}};
        subject *s = subject_new(gemma2);
        const gemma_rows rows = {.sequences = sequences, .n_sequences = 2, .n_rows = 73};
        float *x = random_floats(73 * D, 9, 1), *want = random_floats(73 * D, 9, 1), *kept = random_floats(73 * D, 9, 1);
        float *keep = zeros(gemma_block_keep_floats(&s->g, &rows));
        assert_int_equal(gemma_block_forward(e, &s->g, 0, kept, keep, &rows), PALI_OK);
        assert_int_equal(gemma_block_forward(e, &s->g, 0, x, NULL, &rows), PALI_OK);
        size_t row = 0;
        for (size_t i = 0; i < 2; row += sequences[i++].n_rows) {
            kv_cache prefix, rest;
            assert_int_equal(kv_init(&prefix, &s->g.cfg, NULL), PALI_OK);
            assert_int_equal(kv_init(&rest, &s->g.cfg, &prefix), PALI_OK);
            const gemma_segment first = {.kv = &prefix, .n_rows = sequences[i].n_prefix, .prefix = true}, second = {.kv = &rest, .n_rows = sequences[i].n_rows - sequences[i].n_prefix};
            assert_int_equal(gemma_forward(e, &s->g, want + row * D, &first, 1), PALI_OK);
            assert_int_equal(gemma_forward(e, &s->g, want + (row + sequences[i].n_prefix) * D, &second, 1), PALI_OK);
            kv_free(&rest);
            kv_free(&prefix);
        }
        assert_memory_equal(x, want, 73 * D * sizeof *x);
        assert_memory_equal(kept, want, 73 * D * sizeof *x);
        free(keep);
        free(kept);
        free(x);
        free(want);
        subject_free(s);
    }
}

static void test_forward_bits(void **state) {
    (void)state;
    each_level(forward_bits);
}

/* More rows than the inside of the MLP has at once. */
static void test_long_sequence(void **state) {
    (void)state;
    const gemma_sequence sequence = {1100, 1060, 0};
    gemma_rows rows = {.sequences = &sequence, .n_sequences = 1, .n_rows = 1100};
    const size_t n = 1100 * D;
    exec e;
    assert_int_equal(exec_init(&e, 2), PALI_OK);
    for (int way = 0; way < 4; way++) { /* Gemma and Gemma 2, without and with dropout */
        subject *s = subject_new(way % 2);
        rows.drop.p = way < 2 ? 0 : 0.3f;
        float *x = random_floats(n, 1, 1), *y = random_floats(n, 1, 1), *kept = random_floats(n, 1, 1), *keep = zeros(gemma_block_keep_floats(&s->g, &rows));
        float *dx = random_floats(n, 2, 1), *dx_kept = random_floats(n, 2, 1), *dw = zeros(D * F), *dw_kept = zeros(D * F);
        assert_int_equal(gemma_block_forward(&e, &s->g, 0, y, NULL, &rows), PALI_OK);
        assert_int_equal(gemma_block_forward(&e, &s->g, 0, kept, keep, &rows), PALI_OK);
        assert_memory_equal(y, kept, n * sizeof *y);
        assert_int_equal(gemma_block_backward(&e, &s->g, 0, dx, &(gemma_layer_grad){.up = {.w = dw}}, x, NULL, &rows, true), PALI_OK);
        assert_int_equal(gemma_block_backward(&e, &s->g, 0, dx_kept, &(gemma_layer_grad){.up = {.w = dw_kept}}, x, keep, &rows, true), PALI_OK);
        assert_memory_equal(dx, dx_kept, n * sizeof *dx);
        assert_memory_equal(dw, dw_kept, D * F * sizeof *dw);
        void *const all[] = {x, y, kept, keep, dx, dx_kept, dw, dw_kept};
        for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
        subject_free(s);
    }
    exec_free(&e);
}

/* ---- The image encoder's block ---- */

enum { P = 9, V_Q = 0, V_K, V_V, V_O, V_FC1, V_FC2, V_PATCH, N_VIT, PATCH = 12 };
static const size_t k_vit_rows[] = {D, D, D, D, F, D, D}, k_vit_cols[] = {D, D, D, D, D, F, PATCH};

typedef struct vit_reference {
    double *x, *dy, *w[N_VIT], *b[N_VIT], *norm[4]; /* norms: norm1_w, norm1_b, norm2_w, norm2_b */
} vit_reference;

static void layer_norm(double *y, const double *x, const double *w, const double *b) {
    for (size_t r = 0; r < P; r++) {
        double mean = 0, var = 0;
        for (size_t i = 0; i < D; i++) mean += x[r * D + i] / D;
        for (size_t i = 0; i < D; i++) var += (x[r * D + i] - mean) * (x[r * D + i] - mean) / D;
        for (size_t i = 0; i < D; i++) y[r * D + i] = (x[r * D + i] - mean) / sqrt(var + 1e-6) * w[i] + b[i];
    }
}

static void biased(double *y, const double *x, const vit_reference *c, size_t i) {
    product(y, x, c->w[i], P, k_vit_rows[i], k_vit_cols[i]);
    for (size_t r = 0; r < P; r++)
        for (size_t j = 0; j < k_vit_rows[i]; j++) y[r * k_vit_rows[i] + j] += c->b[i][j];
}

static double vit_loss(const void *context) {
    const vit_reference *c = context;
    static double h[P * D], q[P * D], k[P * D], v[P * D], mix[P * D], x[P * D], branch[P * D], mlp[P * F];
    const gemma_config cfg = {.n_kv_heads = N, .attn_scale = 1.0f / sqrtf(H)};
    double loss = 0;
    layer_norm(h, c->x, c->norm[0], c->norm[1]);
    biased(q, h, c, V_Q);
    biased(k, h, c, V_K);
    biased(v, h, c, V_V);
    attend(mix, q, k, v, &cfg, &(gemma_sequence){P, P, 0});
    biased(branch, mix, c, V_O);
    for (size_t i = 0; i < P * D; i++) x[i] = c->x[i] + branch[i];
    layer_norm(h, x, c->norm[2], c->norm[3]);
    biased(mlp, h, c, V_FC1);
    for (size_t i = 0; i < P * F; i++) mlp[i] = gelu(mlp[i]);
    biased(branch, mlp, c, V_FC2);
    for (size_t i = 0; i < P * D; i++) loss += c->dy[i] * (x[i] + branch[i]);
    return loss;
}

static void vit_check(exec *e) {
    static const char *const k_names[] = {"q", "k", "v", "o", "fc1", "fc2"};
    operand w[N_VIT];
    float *b[N_VIT], *norms[4], *x = random_floats(P * D, 1, 1), *dx = random_floats(P * D, 2, 1), *position = random_floats(P * D, 3, 1);
    float *dw[N_VIT], *db[N_VIT], *dnorm[4], *dposition = zeros(P * D), *pixels = random_floats(3 * 36, 4, 1), *out = zeros(P * D), *y = zeros(P * D);
    vit_reference c = {.x = gradient_doubles(x, P * D), .dy = gradient_doubles(dx, P * D)};
    for (size_t i = 0; i < N_VIT; i++) {
        w[i] = random_operand(k_vit_rows[i], k_vit_cols[i], PALI_DTYPE_F32, 20 + i);
        b[i] = random_floats(k_vit_rows[i], 40 + i, 0.5f);
        c.w[i] = gradient_doubles(w[i].values, k_vit_rows[i] * k_vit_cols[i]);
        c.b[i] = gradient_doubles(b[i], k_vit_rows[i]);
        dw[i] = zeros(k_vit_rows[i] * k_vit_cols[i]);
        db[i] = zeros(k_vit_rows[i]);
    }
    for (size_t i = 0; i < 4; i++) {
        norms[i] = random_floats(D, 60 + i, 1);
        c.norm[i] = gradient_doubles(norms[i], D);
        dnorm[i] = zeros(D);
    }
    vit_layer layer = {norms[0], norms[1], w[V_Q].m, w[V_K].m, w[V_V].m, w[V_O].m, b[V_Q], b[V_K], b[V_V], b[V_O],
                       norms[2], norms[3], w[V_FC1].m, w[V_FC2].m, b[V_FC1], b[V_FC2]};
    vit v = {.cfg = {.image_size = 6, .patch_size = 2, .n_patches = P, .width = D, .mlp_width = F, .n_layers = 1, .n_heads = N, .norm_eps = 1e-6f},
             .patch = w[V_PATCH].m, .patch_b = b[V_PATCH], .position = position, .layers = &layer, .post_w = norms[0], .post_b = norms[1], .projector = w[V_O].m};
    const vit_layer_grad grad = {dnorm[0], dnorm[1], dnorm[2], dnorm[3], {.w = dw[V_Q], .b = db[V_Q]}, {.w = dw[V_K], .b = db[V_K]},
                                 {.w = dw[V_V], .b = db[V_V]}, {.w = dw[V_O], .b = db[V_O]}, {.w = dw[V_FC1], .b = db[V_FC1]}, {.w = dw[V_FC2], .b = db[V_FC2]}};
    exec_need need = {0};
    mem_scratch_free(&e->acts);
    assert_int_equal(vit_block_backward(e, &v, 0, dx, &grad, x, NULL, 1, true), PALI_OK);
    vit_train_need(&need, e, &v, 1);
    assert_int_equal(e->acts.n_bytes, need.acts);
    assert_true(e->shared.n_bytes <= need.shared && e->worker[0].n_bytes <= need.worker);
    gradient_check("vit dx", dx, c.x, P * D, vit_loss, &c, BLOCK_TOLERANCE);
    double bias_k = 0, bias_q = 0;
    for (size_t i = 0; i < V_PATCH; i++) {
        gradient_check(k_names[i], dw[i], c.w[i], k_vit_rows[i] * k_vit_cols[i], vit_loss, &c, BLOCK_TOLERANCE);
        if (i != V_K) gradient_check(k_names[i], db[i], c.b[i], k_vit_rows[i], vit_loss, &c, BLOCK_TOLERANCE);
    }
    for (size_t i = 0; i < 4; i++) gradient_check("norm", dnorm[i], c.norm[i], D, vit_loss, &c, BLOCK_TOLERANCE);
    for (size_t i = 0; i < D; i++) {
        bias_k += fabs((double)db[V_K][i]);
        bias_q += fabs((double)db[V_Q][i]);
    }
    assert_true(bias_k <= 1e-5 * bias_q); /* adding a constant to every key moves no probability */

    /* The embedding is a product with patches, whose gradients test_backward.c has; here: which pixels, and the positions. */
    const linear_grad patch = {.w = dw[V_PATCH], .b = db[V_PATCH]};
    assert_int_equal(vit_embed_backward(e, &v, &patch, dposition, dx, &(const float *){pixels}, 1), PALI_OK);
    assert_memory_equal(dposition, dx, P * D * sizeof *dx);
    for (size_t o = 0; o < D; o++) {
        for (size_t i = 0; i < PATCH; i++) {
            double sum = 0;
            for (size_t t = 0; t < P; t++) sum += (double)dx[t * D + o] * (double)pixels[(i / 4 * 6 + t / 3 * 2 + i % 4 / 2) * 6 + t % 3 * 2 + i % 2];
            assert_true(fabs(sum - (double)dw[V_PATCH][o * PATCH + i]) <= 1e-5 * (1 + fabs(sum)));
        }
    }
    assert_int_equal(vit_embed(e, &v, y, &(const float *){pixels}, 1), PALI_OK); /* the parts of training are vit_forward */
    assert_int_equal(vit_block_forward(e, &v, 0, y, NULL, 1), PALI_OK);
    for (size_t r = 0; r < P; r++) e->k->layer_norm(y + r * D, y + r * D, norms[0], norms[1], D, 1e-6f);
    assert_int_equal(vit_forward(e, &v, out, pixels), PALI_OK);
    assert_memory_equal(out, y, P * D * sizeof *y);
    for (size_t i = 0; i < N_VIT; i++) {
        void *const all[] = {b[i], c.w[i], c.b[i], dw[i], db[i]};
        for (size_t j = 0; j < sizeof all / sizeof *all; j++) free(all[j]);
        operand_free(&w[i]);
    }
    for (size_t i = 0; i < 4; i++) {
        free(norms[i]);
        free(c.norm[i]);
        free(dnorm[i]);
    }
    void *const all[] = {x, dx, position, dposition, pixels, out, y, c.x, c.dy};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
}

static void test_vit_block(void **state) {
    (void)state;
    each_level(vit_check);
}

/* More pictures than go through at once: what each makes and gets are the bits it has alone, with the inside kept or not. */
static void test_vit_groups(void **state) {
    (void)state;
    enum { PICTURES = 70 };
    exec e;
    operand w[N_VIT];
    float *b[N_VIT], *ones = random_floats(D, 7, 1), *x = random_floats(PICTURES * P * D, 1, 1), *dy = random_floats(PICTURES * P * D, 2, 1);
    float *y = zeros(PICTURES * P * D), *dx = zeros(PICTURES * P * D), *alone = zeros(P * D), *dalone = zeros(P * D), *dw[3];
    assert_int_equal(exec_init(&e, 2), PALI_OK);
    for (size_t i = 0; i < N_VIT; i++) {
        w[i] = random_operand(k_vit_rows[i], k_vit_cols[i], PALI_DTYPE_F32, 20 + i);
        b[i] = random_floats(k_vit_rows[i], 40 + i, 0.5f);
    }
    vit_layer layer = {ones, ones, w[V_Q].m, w[V_K].m, w[V_V].m, w[V_O].m, b[V_Q], b[V_K], b[V_V], b[V_O], ones, ones, w[V_FC1].m, w[V_FC2].m, b[V_FC1], b[V_FC2]};
    vit v = {.cfg = {.image_size = 6, .patch_size = 2, .n_patches = P, .width = D, .mlp_width = F, .n_layers = 1, .n_heads = N, .norm_eps = 1e-6f}, .layers = &layer};
    float *keep = zeros(vit_block_keep_floats(&v.cfg, PICTURES));
    for (size_t way = 0; way < 3; way++) { /* all together, kept and not, and one after the other */
        dw[way] = zeros(D * D);
        const vit_layer_grad grad = {.q = {.w = dw[way]}};
        for (size_t i = 0, n = way < 2 ? PICTURES : 1; i < PICTURES; i += n) {
            float *to = way < 2 ? y : alone, *dto = way < 2 ? dx : dalone, *kept = way == 0 ? keep : NULL;
            memcpy(to, x + i * P * D, n * P * D * sizeof *to);
            memcpy(dto, dy + i * P * D, n * P * D * sizeof *dto);
            assert_int_equal(vit_block_forward(&e, &v, 0, to, kept, n), PALI_OK);
            assert_int_equal(vit_block_backward(&e, &v, 0, dto, &grad, x + i * P * D, kept, n, true), PALI_OK);
            if (way < 2) continue;
            assert_memory_equal(to, y + i * P * D, P * D * sizeof *to);
            assert_memory_equal(dto, dx + i * P * D, P * D * sizeof *dto);
        }
    }
    assert_memory_equal(dw[0], dw[1], D * D * sizeof **dw);
    for (size_t i = 0; i < D * D; i++) assert_true(fabsf(dw[2][i] - dw[0][i]) <= 1e-4f * (1 + fabsf(dw[0][i]))); /* 630 terms in another order */
    for (size_t i = 0; i < N_VIT; i++) {
        operand_free(&w[i]);
        free(b[i]);
    }
    void *const all[] = {ones, x, dy, y, dx, alone, dalone, keep, dw[0], dw[1], dw[2]};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
    exec_free(&e);
}

static void test_threads_change_nothing(void **state) {
    (void)state;
    float *dx[3], *dw[3];
    for (int threads = 1; threads <= 3; threads++) {
        exec e;
        int t = threads - 1;
        subject *s = subject_new(true);
        assert_int_equal(exec_init(&e, threads), PALI_OK);
        dx[t] = random_floats(s->rows.n_rows * D, 2, 1);
        dw[t] = zeros(D * F);
        assert_int_equal(gemma_block_backward(&e, &s->g, 0, dx[t], &(gemma_layer_grad){.down = {.w = dw[t]}}, s->x, NULL, &s->rows, true), PALI_OK);
        assert_memory_equal(dx[t], dx[0], s->rows.n_rows * D * sizeof **dx);
        assert_memory_equal(dw[t], dw[0], D * F * sizeof **dw);
        exec_free(&e);
        subject_free(s);
    }
    for (int t = 0; t < 3; t++) {
        free(dx[t]);
        free(dw[t]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gemma_block),
        cmocka_unit_test(test_forward_bits),
        cmocka_unit_test(test_long_sequence),
        cmocka_unit_test(test_vit_block),
        cmocka_unit_test(test_vit_groups),
        cmocka_unit_test(test_threads_change_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
