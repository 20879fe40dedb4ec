/* test_gemma.c: the one forward serves prefill, decode, beams and scoring: whatever way rows are pushed through, they must
 * come out the same. A tiny random decoder of each generation, built in memory. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "model/gemma.h"

enum { D = 40, L = 3, F = 51, V = 60, H = 16, PREFIX = 11, SUFFIX = 9 };

typedef struct fixture {
    gemma g;
    gemma_layer layers[L];
    float *blocks[64];
    size_t n_blocks;
    rng r;
} fixture;

static void fill(fixture *f, void *out, size_t n) {
    for (float *x = out, *end = x + n; x < end; x++) *x = rng_normal(&f->r);
}

static float *numbers(fixture *f, size_t n, float scale) {
    float *x = malloc(n * sizeof *x);
    assert_non_null(x);
    for (size_t i = 0; i < n; i++) x[i] = scale * rng_normal(&f->r);
    f->blocks[f->n_blocks++] = x;
    return x;
}

static mat matrix(fixture *f, size_t rows, size_t cols) {
    return mat_f32(rows, cols, numbers(f, rows * cols, 0.25f));
}

static void fixture_init(fixture *f, int generation) {
    *f = (fixture){0};
    rng_seed(&f->r, (uint64_t)generation);
    size_t kv = generation == 1 ? 1 : 2;
    f->g.cfg = (gemma_config){.generation = generation, .width = D, .n_layers = L, .n_heads = 4, .n_kv_heads = kv, .head_dim = H,
                              .mlp_width = F, .vocab_size = V, .norm_eps = 1e-6f, .rope_theta = 10000, .attn_scale = 0.25f};
    if (generation == 2) {
        f->g.cfg.attn_softcap = 50;
        f->g.cfg.final_softcap = 30;
        f->g.cfg.sliding_window = 5;
        f->g.cfg.layer_slides[0] = f->g.cfg.layer_slides[2] = true;
    }
    f->g.embed = matrix(f, V, D);
    f->g.layers = f->layers;
    for (size_t i = 0; i < L; i++) {
        gemma_layer *l = &f->layers[i];
        l->q = matrix(f, 4 * H, D);
        l->k = matrix(f, kv * H, D);
        l->v = matrix(f, kv * H, D);
        l->o = matrix(f, D, 4 * H);
        l->gate = matrix(f, F, D);
        l->up = matrix(f, F, D);
        l->down = matrix(f, D, F);
        l->norm_attn_in = numbers(f, D, 0.1f);
        l->norm_mlp_in = numbers(f, D, 0.1f);
        if (generation == 2) {
            l->norm_attn_out = numbers(f, D, 0.1f);
            l->norm_mlp_out = numbers(f, D, 0.1f);
        }
    }
    f->g.norm_final = numbers(f, D, 0.1f);
}

static void fixture_free(fixture *f) {
    for (size_t i = 0; i < f->n_blocks; i++) free(f->blocks[i]);
}

static void forward_one(exec *e, fixture *f, float *x, kv_cache *kv, size_t n, bool prefix) {
    gemma_segment s = {.kv = kv, .n_rows = n, .prefix = prefix};
    assert_int_equal(gemma_forward(e, &f->g, x, &s, 1), PALI_OK);
}

/* Different tilings sum in different orders: a few hundred f32 roundings on values of size ~1 to 10. */
static void assert_close(const float *a, const float *b, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!(fabsf(a[i] - b[i]) <= 1e-4f * (1 + fabsf(b[i])))) fail_msg("element %zu: %g, not %g", i, (double)a[i], (double)b[i]);
}

static void check_ways(int generation) {
    fixture f;
    exec e;
    kv_cache prefix, whole, steps, beams[2], scored;
    fixture_init(&f, generation);
    assert_int_equal(exec_init(&e, 2), PALI_OK);
    float rows[PREFIX + SUFFIX][D], x[PREFIX + SUFFIX][D], y[SUFFIX][D], z[2 * SUFFIX][D];
    fill(&f, rows, (PREFIX + SUFFIX) * D);

    /* Truth: prefix, then the whole suffix causally in the same cache. */
    assert_int_equal(kv_init(&whole, &f.g.cfg, NULL), PALI_OK);
    memcpy(x, rows, sizeof x);
    forward_one(&e, &f, x[0], &whole, PREFIX, true);
    forward_one(&e, &f, x[PREFIX], &whole, SUFFIX, false);
    assert_int_equal(kv_total(&whole), PREFIX + SUFFIX);

    /* The same suffix one row at a time on a shared prefix. */
    assert_int_equal(kv_init(&prefix, &f.g.cfg, NULL), PALI_OK);
    memcpy(z, rows, PREFIX * sizeof z[0]);
    forward_one(&e, &f, z[0], &prefix, PREFIX, true);
    assert_memory_equal(z, x, PREFIX * sizeof z[0]);
    assert_int_equal(kv_init(&steps, &f.g.cfg, &prefix), PALI_OK);
    memcpy(y, rows[PREFIX], sizeof y);
    for (size_t i = 0; i < SUFFIX; i++) forward_one(&e, &f, y[i], &steps, 1, false);
    assert_close(y[0], x[PREFIX], SUFFIX * D);

    /* Two sequences at once, one row each per step; the second sees other rows and must not disturb the first. */
    for (size_t b = 0; b < 2; b++) assert_int_equal(kv_init(&beams[b], &f.g.cfg, &prefix), PALI_OK);
    for (size_t i = 0; i < SUFFIX; i++) {
        float pair[2][D];
        gemma_segment s[2] = {{.kv = &beams[0], .n_rows = 1}, {.kv = &beams[1], .n_rows = 1}};
        memcpy(pair[0], rows[PREFIX + i], sizeof pair[0]);
        memcpy(pair[1], rows[i], sizeof pair[1]);
        assert_int_equal(gemma_forward(&e, &f.g, pair[0], s, 2), PALI_OK);
        assert_memory_equal(pair[0], y[i], sizeof pair[0]); /* few rows: bit for bit what one row alone gives */
        if (i == 3) { /* a beam takes over its parent and goes on like it */
            assert_int_equal(kv_copy(&beams[1], &beams[0]), PALI_OK);
            assert_int_equal(kv_total(&beams[1]), PREFIX + 4);
        }
    }

    /* Two candidates as causal segments of one call. */
    assert_int_equal(kv_init(&scored, &f.g.cfg, &prefix), PALI_OK);
    kv_cache other;
    assert_int_equal(kv_init(&other, &f.g.cfg, &prefix), PALI_OK);
    gemma_segment s[2] = {{.kv = &other, .n_rows = 4}, {.kv = &scored, .n_rows = SUFFIX}};
    memcpy(z, rows, 4 * sizeof z[0]);
    memcpy(z[4], rows[PREFIX], SUFFIX * sizeof z[0]);
    assert_int_equal(gemma_forward(&e, &f.g, z[0], s, 2), PALI_OK);
    assert_close(z[4], x[PREFIX], SUFFIX * D);

    kv_free(&other);
    kv_free(&scored);
    kv_free(&beams[0]);
    kv_free(&beams[1]);
    kv_free(&steps);
    kv_free(&prefix);
    kv_free(&whole);
    exec_free(&e);
    fixture_free(&f);
}

static void test_ways_gemma1(void **state) {
    (void)state;
    check_ways(1);
}

static void test_ways_gemma2(void **state) {
    (void)state;
    check_ways(2);
}

static void test_prefix_sees_itself_whole(void **state) {
    (void)state;
    fixture f;
    exec e;
    kv_cache a, b;
    fixture_init(&f, 2); /* with a sliding window, which must not touch the prefix */
    assert_int_equal(exec_init(&e, 1), PALI_OK);
    float x[PREFIX][D], y[PREFIX][D];
    fill(&f, x, PREFIX * D);
    memcpy(y, x, sizeof y);
    y[PREFIX - 1][0] += 1;
    assert_int_equal(kv_init(&a, &f.g.cfg, NULL), PALI_OK);
    assert_int_equal(kv_init(&b, &f.g.cfg, NULL), PALI_OK);
    forward_one(&e, &f, x[0], &a, PREFIX, true);
    forward_one(&e, &f, y[0], &b, PREFIX, true);
    assert_memory_not_equal(x[0], y[0], sizeof x[0]); /* the first row notices a change of the last */
    kv_free(&a);
    kv_free(&b);
    exec_free(&e);
    fixture_free(&f);
}

static void test_errors(void **state) {
    (void)state;
    fixture f;
    exec e;
    kv_cache kv, on_top, twice;
    float x[2 * D] = {0};
    atomic_int stop = 1;
    fixture_init(&f, 1);
    assert_int_equal(exec_init(&e, 1), PALI_OK);
    assert_int_equal(gemma_embed(&e, &f.g, x, (const int32_t[]){1, V}, 2), PALI_ERR_ARGUMENT);
    assert_int_equal(gemma_embed(&e, &f.g, x, (const int32_t[]){-1}, 1), PALI_ERR_ARGUMENT);
    assert_int_equal(kv_init(&kv, &f.g.cfg, NULL), PALI_OK);
    gemma_segment s = {.kv = &kv, .n_rows = 2, .prefix = true};
    e.cancel = &stop;
    assert_int_equal(gemma_forward(&e, &f.g, x, &s, 1), PALI_ERR_CANCELLED);
    assert_int_equal(kv.len, 0);
    e.cancel = NULL;
    assert_int_equal(gemma_forward(&e, &f.g, x, &s, 1), PALI_OK);
    assert_int_equal(gemma_forward(&e, &f.g, x, &s, 1), PALI_ERR_INTERNAL); /* a second prefix */
    assert_int_equal(kv_init(&on_top, &f.g.cfg, &kv), PALI_OK);
    assert_int_equal(kv_init(&twice, &f.g.cfg, &on_top), PALI_ERR_INTERNAL);
    kv_free(&on_top);
    kv_free(&kv);
    exec_free(&e);
    fixture_free(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ways_gemma1),
        cmocka_unit_test(test_ways_gemma2),
        cmocka_unit_test(test_prefix_sees_itself_whole),
        cmocka_unit_test(test_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
