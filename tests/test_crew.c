/* test_crew.c: micro-batches of a small model, cut into shares: what they come to is what backprop.h makes of the whole, the same bits
 * for any number of threads; failures; memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "tiny.h"
#include "train/crew.h"

#define N 480u        /* items of 11 and 9 rows in turn: 4800 rows, four shares */
#define N_TARGETS (N / 2 * 5)
#define A_PICTURE 50u /* items, one after the other */

typedef struct many {
    tiny t;
    tiny_batch in;
    backprop_item items[N];
} many;

static void many_open(many *m) {
    tiny_open(&m->t);
    tiny_batch_make(&m->in, 0.001, 0.002);
    for (size_t i = 0; i < N; i++) {
        m->items[i] = m->in.items[i % 2];
        m->items[i].pictures = &m->in.pictures[i / A_PICTURE % 2];
    }
}

/* The gradients, one after the other, of a run that begins with none. */
static float *crew_grads(many *m, int threads, const backprop_options *o, backprop_result *result) {
    crew c;
    exec e;
    params *p = &m->t.p;
    float *all = malloc(p->n_values * sizeof *all);
    assert_non_null(all);
    params_clear_grads(p);
    assert_int_equal(exec_init(&e, threads), PALI_OK);
    assert_int_equal(crew_init(&c, &e, m->t.m, p), PALI_OK);
    assert_int_equal(crew_run(&c, &e, result, m->items, N, o), PALI_OK);
    assert_int_equal(result->n_targets, N_TARGETS);
    for (size_t i = 0, at = 0; i < p->n; at += p->items[i++].n) memcpy(all + at, p->items[i].grad, p->items[i].n * sizeof *all);
    crew_free(&c);
    exec_free(&e);
    return all;
}

static void test_shares_are_the_whole(void **state) {
    (void)state;
    many *m = calloc(1, sizeof *m);
    double *whole_loss = calloc(N_TARGETS, sizeof *whole_loss), *loss = calloc(N_TARGETS, sizeof *loss);
    backprop b;
    exec e;
    backprop_result whole = {.row_loss = whole_loss}, result = {.row_loss = loss};
    many_open(m);
    float *got = crew_grads(m, 2, &k_tiny_plain, &result);
    params_clear_grads(&m->t.p);
    assert_int_equal(exec_init(&e, 2), PALI_OK);
    assert_int_equal(backprop_init(&b, m->t.m, &m->t.p), PALI_OK);
    assert_int_equal(backprop_run(&b, &e, &whole, m->items, N, &k_tiny_plain), PALI_OK);
    assert_memory_equal(loss, whole_loss, N_TARGETS * sizeof *loss);
    assert_near("loss", result.loss, whole.loss, 1e-12 * whole.loss);
    for (size_t i = 0, at = 0; i < m->t.p.n; i++) {
        const param *q = &m->t.p.items[i];
        double size = tiny_norm(q->grad, q->n); /* sums of the same terms in another order; biases of keys have none but rounding */
        for (size_t j = 0; j < q->n; j++) assert_near(q->name, (double)got[at++], (double)q->grad[j], 1e-5 * size + 1e-7);
    }
    backprop_free(&b);
    exec_free(&e);
    tiny_close(&m->t);
    free(got);
    free(whole_loss);
    free(loss);
    free(m);
}

static void test_bits(void **state) {
    (void)state;
    many *m = calloc(1, sizeof *m);
    const backprop_options keep = {.keep_bytes = UINT64_MAX}, loss_only = {.loss_only = true};
    backprop_result first = {0}, result = {0};
    many_open(m);
    float *want = crew_grads(m, 1, &k_tiny_plain, &first);
    for (int threads = 1; threads <= 5; threads++) {
        float *got = crew_grads(m, threads, threads % 2 ? &keep : &k_tiny_plain, &result);
        assert_true(result.loss == first.loss);
        assert_memory_equal(got, want, m->t.p.n_values * sizeof *got);
        free(got);
    }
    float *none = crew_grads(m, 2, &loss_only, &result);
    assert_true(result.loss == first.loss);
    for (size_t i = 0; i < m->t.p.n_values; i++) assert_true(none[i] == 0);
    free(none);
    free(want);
    tiny_close(&m->t);
    free(m);
}

/* One share fails: its message, and the next run is as if nothing had been. */
static void test_failure(void **state) {
    (void)state;
    static int32_t k_ids[] = {256, 256, 256, 256, 2, 10, 20, 108, 30, 300, 1}; /* 300: the model has no such id */
    static const sample k_wrong = {k_ids, 11, 8};
    many *m = calloc(1, sizeof *m);
    backprop_result result = {0};
    crew c;
    exec e;
    many_open(m);
    params *p = &m->t.p;
    float *want = crew_grads(m, 2, &k_tiny_plain, &result);
    assert_int_equal(exec_init(&e, 2), PALI_OK);
    assert_int_equal(crew_init(&c, &e, m->t.m, p), PALI_OK);
    const sample *right = m->items[300].text;
    m->items[300].text = &k_wrong;
    assert_int_equal(crew_run(&c, &e, &result, m->items, N, &k_tiny_plain), PALI_ERR_ARGUMENT);
    assert_true(tiny_contains(pali_last_error(), "token id 300"));
    m->items[300].text = right;
    params_clear_grads(p);
    assert_int_equal(crew_run(&c, &e, &result, m->items, N, &k_tiny_plain), PALI_OK);
    for (size_t i = 0, at = 0; i < p->n; at += p->items[i++].n) assert_memory_equal(p->items[i].grad, want + at, p->items[i].n * sizeof(float));
    const atomic_int cancel = 1;
    e.cancel = &cancel;
    assert_int_equal(crew_run(&c, &e, &result, m->items, N, &k_tiny_plain), PALI_ERR_CANCELLED);
    crew_free(&c);
    exec_free(&e);
    free(want);
    tiny_close(&m->t);
    free(m);
}

static void test_need(void **state) {
    (void)state;
    static const size_t k_items[] = {N, 100, 1}; /* four shares; too few rows for more than one */
    many *m = calloc(1, sizeof *m);
    many_open(m);
    for (size_t i = 0; i < sizeof k_items / sizeof *k_items; i++) {
        crew c;
        exec e;
        exec_need need = {0};
        backprop_result result = {0};
        uint64_t n_bytes = 0, taken = 0;
        assert_int_equal(exec_init(&e, 2), PALI_OK);
        assert_int_equal(crew_init(&c, &e, m->t.m, &m->t.p), PALI_OK);
        assert_int_equal(crew_need(&need, &n_bytes, &e, &c, m->items, N, &k_tiny_plain), PALI_OK);
        assert_int_equal(crew_run(&c, &e, &result, m->items, k_items[i], &k_tiny_plain), PALI_OK);
        for (size_t j = 0; j < CREW_MAX_SHARES; j++) taken += c.walks[j].block_bytes;
        assert_true(taken > 0 && taken + (i == 0 ? 3 * params_twin_bytes(&m->t.p) : 0) <= n_bytes);
        assert_int_equal(c.walks[3].block_bytes > 0, i == 0);
        assert_true(c.walks[4].block_bytes == 0);
        assert_true(e.acts.n_bytes <= need.acts && e.shared.n_bytes <= need.shared);
        for (size_t j = 0; j < c.n_execs; j++)
            assert_true(c.execs[j].acts.n_bytes + c.execs[j].shared.n_bytes + c.execs[j].worker[0].n_bytes + e.worker[j].n_bytes <= need.worker);
        crew_free(&c);
        exec_free(&e);
    }
    tiny_close(&m->t);
    free(m);
}

/* Every allocation of the beginning fails once. */
static void test_no_memory(void **state) {
    (void)state;
    many *m = calloc(1, sizeof *m);
    exec e;
    crew c;
    size_t k = 1;
    many_open(m);
    assert_int_equal(exec_init(&e, 2), PALI_OK);
    for (;; k++) {
        mem_fail_after(k);
        pali_status s = crew_init(&c, &e, m->t.m, &m->t.p);
        mem_fail_after(0);
        crew_free(&c);
        if (s == PALI_OK) break;
        assert_int_equal(s, PALI_ERR_MEMORY);
    }
    assert_true(k > 20);
    exec_free(&e);
    tiny_close(&m->t);
    free(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shares_are_the_whole),
        cmocka_unit_test(test_bits),
        cmocka_unit_test(test_failure),
        cmocka_unit_test(test_need),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
