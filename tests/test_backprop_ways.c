/* test_backprop_ways.c: the gradients of micro-batches are those of the loss, and the same to the bit whatever is kept, frozen or
 * cached and for any number of threads; memory as it was planned; what is refused. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/halffloat.h"
#include "base/mem.h"
#include "model/view.h"
#include "tiny.h"

/* ---- The same bits ---- */

static float *grads_copy(const params *p) {
    size_t n = 0, at = 0;
    for (size_t i = 0; i < p->n; i++) n += p->items[i].n;
    float *all = malloc(n * sizeof *all);
    assert_non_null(all);
    for (size_t i = 0; i < p->n; at += p->items[i++].n) memcpy(all + at, p->items[i].grad, p->items[i].n * sizeof *all);
    return all;
}

static void same_grads(const params *p, const float *want) {
    for (size_t i = 0; i < p->n; want += p->items[i++].n)
        if (memcmp(p->items[i].grad, want, p->items[i].n * sizeof *want) != 0) fail_msg("%s: other bits", p->items[i].name);
}

static void test_bits(void **state) {
    (void)state;
    static const struct {
        int threads;
        uint64_t keep;
    } k_ways[] = {{1, 0}, {2, 0}, {3, 0}, {1, UINT64_MAX}, {2, 100000}, {2, UINT64_MAX}}; /* 100000 bytes: the inside of one block */
    tiny t;
    tiny_batch in;
    tiny_open(&t);
    tiny_batch_make(&in, 0.25, 0.5);
    double loss = tiny_run(t.m, &t.p, &in, 2, &k_tiny_plain, 1, NULL);
    float *want = grads_copy(&t.p);
    for (size_t i = 0; i < sizeof k_ways / sizeof *k_ways; i++) {
        params_clear_grads(&t.p);
        assert_true(tiny_run(t.m, &t.p, &in, 2, &(backprop_options){.keep_bytes = k_ways[i].keep}, k_ways[i].threads, NULL) == loss);
        same_grads(&t.p, want);
    }
    assert_true(tiny_run(t.m, &t.p, &in, 2, &(backprop_options){.loss_only = true}, 1, NULL) == loss);
    same_grads(&t.p, want); /* which a loss alone does not touch */
    free(want);
    tiny_close(&t);
}

static void test_frozen(void **state) {
    (void)state;
    static const char *const k_train[] = {"img", "proj", "embed", "llm.attn", "llm.mlp", "llm.norm", "proj,embed,llm.attn,llm.mlp,llm.norm", "embed,llm.norm", "img,proj"};
    tiny t;
    tiny_batch in;
    exec e;
    tiny_open(&t);
    tiny_batch_make(&in, 0.25, 0.5);
    assert_int_equal(exec_init(&e, 2), PALI_OK);
    double loss = tiny_run(t.m, &t.p, &in, 2, &k_tiny_plain, 2, NULL);
    for (size_t i = 0; i < sizeof k_train / sizeof *k_train; i++) {
        model *m;
        params p;
        unsigned groups;
        assert_int_equal(params_groups_parse(&groups, k_train[i], NULL), PALI_OK);
        assert_int_equal(view_new(&m, t.m), PALI_OK);
        assert_int_equal(params_of_spec(&p, &m->spec, groups), PALI_OK);
        assert_int_equal(params_alloc(&p, PARAM_F32, false), PALI_OK);
        assert_int_equal(params_load(&p, &e), PALI_OK);
        params_bind(&p);
        assert_true(tiny_run(m, &p, &in, 2, &k_tiny_plain, 2, NULL) == loss);
        for (size_t j = 0; j < p.n; j++) assert_memory_equal(p.items[j].grad, tiny_param(&t.p, p.items[j].name)->grad, p.items[j].n * sizeof(float));
        params_free(&p);
        model_free(m);
    }
    exec_free(&e);
    tiny_close(&t);
}

/* Gradients in bf16: those of one micro-batch are the f32 ones rounded once; a second one's are added. */
static void test_half_grads(void **state) {
    (void)state;
    tiny t;
    tiny_batch in;
    exec e;
    model *m;
    params p;
    size_t n_half = 0;
    tiny_open(&t);
    tiny_batch_make(&in, 0.25, 0.5);
    (void)tiny_run(t.m, &t.p, &in, 2, &k_tiny_plain, 2, NULL);
    assert_int_equal(exec_init(&e, 2), PALI_OK);
    assert_int_equal(view_new(&m, t.m), PALI_OK);
    assert_int_equal(params_of_spec(&p, &m->spec, PARAMS_ALL_GROUPS), PALI_OK);
    assert_int_equal(params_alloc(&p, PARAM_F32, true), PALI_OK);
    assert_int_equal(params_load(&p, &e), PALI_OK);
    params_bind(&p);
    for (int times = 1; times <= 2; times++) {
        (void)tiny_run(m, &p, &in, 2, &k_tiny_plain, times, NULL);
        for (size_t i = 0; i < p.n; i++) {
            const param *q = &p.items[i], *want = &t.p.items[i];
            n_half += q->grad_half != NULL;
            for (size_t j = 0; q->grad_half && j < q->n; j++) {
                float once = half_from_bf16(half_to_bf16(want->grad[j])), twice = half_from_bf16(half_to_bf16(once + want->grad[j]));
                assert_true(half_from_bf16(q->grad_half[j]) == (times == 1 ? once : twice));
            }
            if (q->grad && times == 1) assert_memory_equal(q->grad, want->grad, q->n * sizeof *q->grad);
        }
    }
    assert_int_equal(n_half, 2 * (2 * 7 + 2 * 6 + 2)); /* text, tower, patch and projector */
    params_free(&p);
    model_free(m);
    exec_free(&e);
    tiny_close(&t);
}

/* A tower that is frozen worked before: the same as from pixels. And a walk that goes on: gradients add up, larger batches fit. */
static void test_features(void **state) {
    (void)state;
    tiny t;
    tiny_batch in;
    exec e;
    lora_training l;
    backprop b;
    float features[2][4 * 32];
    tiny_open(&t);
    tiny_batch_make(&in, 0.25, 0.5);
    assert_int_equal(lora_training_new(&l, t.m, &(lora_options){.rank = 4, .alpha = 8, .text_only = true}), PALI_OK);
    tiny_adapters_fill(&l.params);
    double loss = tiny_run(l.view, &l.params, &in, 2, &k_tiny_plain, 2, NULL);
    float *want = grads_copy(&l.params);
    params_clear_grads(&l.params);
    assert_int_equal(exec_init(&e, 2), PALI_OK);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(vit_forward(&e, &l.view->vit, features[i], in.pixels[i]), PALI_OK);
        in.pictures[i] = (backprop_picture){.features = features[i]};
    }
    assert_int_equal(backprop_init(&b, l.view, &l.params), PALI_OK);
    assert_true(b.grads.first_text == 0 && !b.grads.before_text && !b.grads.trains_vit);
    backprop_result first = {0}, both = {0};
    assert_int_equal(backprop_run(&b, &e, &first, in.items, 1, &k_tiny_plain), PALI_OK);
    params_clear_grads(&l.params);
    assert_int_equal(backprop_run(&b, &e, &both, in.items, 2, &k_tiny_plain), PALI_OK);
    assert_true(both.loss == loss && both.n_targets == 5 && first.n_targets == 3);
    same_grads(&l.params, want);
    assert_int_equal(backprop_run(&b, &e, &both, in.items, 2, &k_tiny_plain), PALI_OK);
    size_t at = 0;
    for (size_t i = 0; i < l.params.n; i++) {
        const param *q = &l.params.items[i];
        double size = tiny_norm(q->grad, q->n); /* sums go on from what is there: rounded at another size */
        for (size_t j = 0; j < q->n; j++) assert_near(q->name, (double)q->grad[j], 2 * (double)want[at++], 1e-6 * size);
    }
    free(want);
    backprop_free(&b);
    exec_free(&e);
    lora_training_free(&l);
    tiny_close(&t);
}

/* Two samples of one picture: the loss to the bit and the gradients of two pictures that are alike, with any number of threads. */
static void test_shared_picture(void **state) {
    (void)state;
    tiny t;
    tiny_batch in;
    tiny_open(&t);
    tiny_batch_make(&in, 0.25, 0.5);
    memcpy(in.pixels[1], in.pixels[0], sizeof in.pixels[0]);
    double apart = tiny_run(t.m, &t.p, &in, 2, &k_tiny_plain, 1, NULL);
    float *want = grads_copy(&t.p), *first = NULL;
    in.pictures[1].pixels = in.pixels[0];
    for (int threads = 1; threads <= 3; threads++) {
        params_clear_grads(&t.p);
        assert_true(tiny_run(t.m, &t.p, &in, 2, &(backprop_options){.keep_bytes = threads == 3 ? UINT64_MAX : 0}, threads, NULL) == apart);
        if (first) same_grads(&t.p, first);
        else first = grads_copy(&t.p);
    }
    for (size_t i = 0, at = 0; i < t.p.n; i++) {
        const param *q = &t.p.items[i];
        double size = tiny_norm(q->grad, q->n); /* sums of the same terms in another order */
        for (size_t j = 0; j < q->n; j++) assert_near(q->name, (double)q->grad[j], (double)want[at++], 1e-5 * size + 1e-7); /* biases of keys have none: what is there is rounding */
    }
    free(want);
    free(first);
    tiny_close(&t);
}

/* ---- Differences of the loss ---- */

/* The loss along d, h away. */
static double loss_along(const model *m, const params *p, const tiny_batch *in, const backprop_options *o, float *const *at, float *const *d, double h) {
    backprop_options only = *o;
    only.loss_only = true;
    for (size_t i = 0; i < p->n; i++)
        for (size_t j = 0; j < p->items[i].n; j++) p->items[i].value[j] = (float)((double)at[i][j] + h * (double)d[i][j]);
    return tiny_run(m, p, in, 2, &only, 2, NULL);
}

/* Along the gradient of a group itself, of length 1, the loss grows as fast as the gradient is long. Steps change it by ALONG: f32 loses
 * some 1e-6 of a loss, 2e-5 of that, and the fourth-order difference a fifth derivative's share: measured 3e-5. */
#define ALONG 0.05
#define ALONG_TOLERANCE 1e-4

static void differences_check(const model *m, params *p) {
    const backprop_options o = {.smoothing = 0.1f};
    tiny_batch in;
    tiny_batch_make(&in, 0.25, 0.5);
    float **at = calloc(p->n, sizeof *at), **d = calloc(p->n, sizeof *d);
    assert_true(at && d);
    params_clear_grads(p);
    (void)tiny_run(m, p, &in, 2, &o, 2, NULL);
    for (size_t i = 0; i < p->n; i++) {
        at[i] = malloc(p->items[i].n * sizeof **at);
        d[i] = malloc(p->items[i].n * sizeof **d);
        assert_true(at[i] && d[i]);
        memcpy(at[i], p->items[i].value, p->items[i].n * sizeof **at);
    }
    for (int group = SPEC_IMG; group <= SPEC_LLM_NORM; group++) {
        double sum = 0;
        for (size_t i = 0; i < p->n; i++) sum += p->items[i].group == (spec_group)group ? pow(tiny_norm(p->items[i].grad, p->items[i].n), 2) : 0;
        if (!(sum > 0)) continue; /* none of it is trained */
        for (size_t i = 0; i < p->n; i++)
            for (size_t j = 0; j < p->items[i].n; j++) d[i][j] = p->items[i].group == (spec_group)group ? (float)((double)p->items[i].grad[j] / sqrt(sum)) : 0;
        double h = ALONG / sqrt(sum), step[4];
        for (int i = 0; i < 4; i++) step[i] = loss_along(m, p, &in, &o, at, d, h * (i < 2 ? i - 2 : i - 1));
        double numeric = (step[0] - 8 * step[1] + 8 * step[2] - step[3]) / (12 * h);
        assert_near(params_group_name((spec_group)group), sqrt(sum), numeric, ALONG_TOLERANCE * numeric);
    }
    for (size_t i = 0; i < p->n; i++) {
        free(at[i]);
        free(d[i]);
    }
    free(at);
    free(d);
}

static void test_differences(void **state) {
    (void)state;
    tiny t;
    tiny_open(&t);
    differences_check(t.m, &t.p);
    tiny_close(&t);
}

/* Four norms a layer, soft caps, a window. */
static void test_gemma2(void **state) {
    (void)state;
    tiny t;
    config c = k_tiny_config;
    c.text.generation = 2;
    c.text.attn_softcap = 5;
    c.text.final_softcap = 4;
    c.text.sliding_window = 6;
    c.text.layer_slides[0] = true;
    tiny_open_of(&t, &c);
    differences_check(t.m, &t.p);
    tiny_close(&t);
}

static void need_check(const model *m, const params *p, unsigned groups, bool half_grads, const tiny_batch *in, const backprop_options *o) {
    backprop b, outline;
    exec e;
    backprop_result result = {0};
    exec_need need = {0};
    uint64_t n_bytes, n_outline;
    assert_int_equal(exec_init(&e, 2), PALI_OK);
    assert_int_equal(backprop_init(&b, m, p), PALI_OK);
    backprop_outline(&outline, m, groups, half_grads);
    assert_int_equal(backprop_need(&need, &n_outline, &e, &outline, in->items, 2, o), PALI_OK);
    assert_int_equal(backprop_need(&need, &n_bytes, &e, &b, in->items, 2, o), PALI_OK);
    assert_int_equal(n_outline, n_bytes);
    assert_int_equal(backprop_run(&b, &e, &result, in->items, 2, o), PALI_OK);
    assert_int_equal(b.block_bytes + b.grads.stage_floats * sizeof(float), n_bytes);
    if (o->keep_bytes == 0) assert_int_equal(e.acts.n_bytes, need.acts); /* else what is kept need not be there a second time */
    assert_true(e.acts.n_bytes <= need.acts && e.shared.n_bytes <= need.shared && e.worker[0].n_bytes <= need.worker);
    backprop_free(&b);
    exec_free(&e);
}

/* Dropout in adapters: nothing while it is off; on, a loss of its own with its gradient, the same however the walk goes, and another
 * with another key. */
static void test_dropout(void **state) {
    (void)state;
    tiny t;
    tiny_batch in;
    lora_training l;
    const backprop_options keep = {.keep_bytes = UINT64_MAX};
    tiny_open(&t);
    tiny_batch_make(&in, 0.25, 0.5);
    assert_int_equal(lora_training_new(&l, t.m, &(lora_options){.rank = 8, .alpha = 8, .dropout = 0.3}), PALI_OK);
    tiny_adapters_fill(&l.params);
    double off = tiny_run(l.view, &l.params, &in, 2, &k_tiny_plain, 1, NULL);
    lora_training_dropout(&l, true, 77);
    params_clear_grads(&l.params);
    double on = tiny_run(l.view, &l.params, &in, 2, &k_tiny_plain, 1, NULL);
    float *want = grads_copy(&l.params);
    assert_true(fabs(on - off) > 1e-3);
    params_clear_grads(&l.params);
    assert_true(tiny_run(l.view, &l.params, &in, 2, &keep, 2, NULL) == on);
    same_grads(&l.params, want);
    free(want);
    need_check(l.view, &l.params, PARAMS_GROUP(SPEC_IMG) | PARAMS_GROUP(SPEC_LLM_ATTN) | PARAMS_GROUP(SPEC_LLM_MLP), false, &in, &k_tiny_plain);
    differences_check(l.view, &l.params);
    tiny_adapters_fill(&l.params); /* differences left them elsewhere */
    lora_training_dropout(&l, true, 78);
    assert_true(fabs(tiny_run(l.view, &l.params, &in, 2, &k_tiny_plain, 1, NULL) - on) > 1e-4);
    lora_training_dropout(&l, false, 79);
    assert_true(tiny_run(l.view, &l.params, &in, 2, &k_tiny_plain, 1, NULL) == off);
    lora_training_free(&l);
    tiny_close(&t);
}

/* Its mask: a share of p, the rest scaled, all of it by key and site. */
static void test_mask(void **state) {
    (void)state;
    enum { ROWS = 50, COLS = 201, N = ROWS * COLS };
    exec e;
    float x[N], y[N], z[N];
    size_t n_zero = 0, n_both = 0;
    assert_int_equal(exec_init(&e, 2), PALI_OK);
    for (size_t i = 0; i < N; i++) x[i] = 3;
    dropout_apply(&e, y, x, ROWS, COLS, &(dropout){0.25f, 5}, 1, false);
    for (size_t i = 0; i < N; i++) {
        assert_true(y[i] == 0 || y[i] == 4);
        n_zero += y[i] == 0;
    }
    assert_true(fabs((double)n_zero / N - 0.25) < 0.02); /* four standard deviations and more */
    memcpy(z, x, sizeof z);
    dropout_apply(&e, z, x, ROWS, COLS, &(dropout){0.25f, 5}, 1, true);
    for (size_t i = 0; i < N; i++) assert_true(z[i] == 3 + y[i]);
    dropout_apply(&e, z, x, ROWS, COLS, &(dropout){0.25f, 5}, 2, false);
    for (size_t i = 0; i < N; i++) n_both += y[i] == 0 && z[i] == 0;
    assert_true(fabs((double)n_both / N - 0.0625) < 0.012);
    exec_free(&e);
}

/* ---- Memory, and what is refused ---- */

/* Plans are made of the groups alone. */
static void test_need(void **state) {
    (void)state;
    static const char *const k_train[] = {NULL, "img", "proj", "embed", "llm.attn", "llm.mlp,img", "llm.norm"};
    tiny t;
    tiny_batch in;
    exec e;
    lora_training l;
    tiny_open(&t);
    tiny_batch_make(&in, 1, 1);
    assert_int_equal(exec_init(&e, 1), PALI_OK);
    for (size_t i = 0; i < 2 * sizeof k_train / sizeof *k_train; i++) {
        model *m;
        params p;
        unsigned groups;
        const backprop_options o = {.keep_bytes = i % 2 ? UINT64_MAX : 0};
        assert_int_equal(params_groups_parse(&groups, k_train[i / 2], NULL), PALI_OK);
        assert_int_equal(view_new(&m, t.m), PALI_OK);
        assert_int_equal(params_of_spec(&p, &m->spec, groups), PALI_OK);
        assert_int_equal(params_alloc(&p, PARAM_F32, i % 2), PALI_OK);
        assert_int_equal(params_load(&p, &e), PALI_OK);
        params_bind(&p);
        need_check(m, &p, groups, i % 2, &in, &o);
        params_free(&p);
        model_free(m);
    }
    assert_int_equal(lora_training_new(&l, t.m, &(lora_options){.rank = 4, .alpha = 8, .text_only = true}), PALI_OK);
    need_check(l.view, &l.params, PARAMS_GROUP(SPEC_LLM_ATTN) | PARAMS_GROUP(SPEC_LLM_MLP), false, &in, &k_tiny_plain);
    lora_training_free(&l);
    exec_free(&e);
    tiny_close(&t);
}

static void refused(backprop *b, exec *e, const backprop_item *item, const char *message) {
    backprop_result result = {0};
    assert_int_equal(backprop_run(b, e, &result, item, 1, &k_tiny_plain), PALI_ERR_ARGUMENT);
    if (!tiny_contains(pali_last_error(), message)) fail_msg("\"%s\" does not say \"%s\"", pali_last_error(), message);
}

static void test_refused(void **state) {
    (void)state;
    tiny t;
    tiny_batch in;
    exec e;
    backprop b;
    params alien = {0};
    int32_t ids[] = {256, 256, 256, 256, 2, 256, 1};
    const sample stray = {ids, 7, 6}, no_prefix = {k_tiny_first.ids + 4, 7, 0}, short_prefix = {k_tiny_first.ids, 11, 3}, all_prefix = {k_tiny_first.ids, 11, 11};
    const float features[4 * 32] = {0};
    const backprop_picture cached = {.features = features}, none = {0};
    backprop_result result = {0};
    tiny_open(&t);
    tiny_batch_make(&in, 1, 1);
    assert_int_equal(exec_init(&e, 1), PALI_OK);
    assert_int_equal(backprop_init(&b, t.m, &t.p), PALI_OK);
    refused(&b, &e, &(backprop_item){&stray, in.pictures, 1, 1}, "sample 0: id 5: image ids are not those of its pictures");
    refused(&b, &e, &(backprop_item){&k_tiny_first, NULL, 0, 1}, "sample 0: id 0: image ids");
    refused(&b, &e, &(backprop_item){&no_prefix, NULL, 0, 1}, "a prefix of 0 of 7 rows");
    refused(&b, &e, &(backprop_item){&short_prefix, in.pictures, 1, 1}, "1 pictures do not fit in a prefix of 3 rows");
    refused(&b, &e, &(backprop_item){&k_tiny_first, &none, 1, 1}, "picture 0 is missing");
    refused(&b, &e, &(backprop_item){&k_tiny_first, &cached, 1, 1}, "features of a tower that is trained");
    ids[5] = 300;
    refused(&b, &e, &(backprop_item){&stray, in.pictures, 1, 1}, "token id 300");
    ids[5] = 10;
    ids[6] = -1;
    refused(&b, &e, &(backprop_item){&stray, in.pictures, 1, 1}, "-1");
    /* Nothing to learn from is no error. */
    assert_int_equal(backprop_run(&b, &e, &result, &(backprop_item){&all_prefix, in.pictures, 1, 1}, 1, &k_tiny_plain), PALI_OK);
    assert_true(result.loss == 0 && result.n_targets == 0);
    assert_int_equal(backprop_run(&b, &e, &result, NULL, 0, &k_tiny_plain), PALI_OK);
    backprop_free(&b);
    /* What the model does not compute with. */
    assert_int_equal(params_add(&alien, "alien", SPEC_LLM_ATTN, 1, (const size_t[]){3}), PALI_OK);
    assert_int_equal(params_alloc(&alien, PARAM_F32, false), PALI_OK);
    assert_int_equal(backprop_init(&b, t.m, &alien), PALI_ERR_ARGUMENT);
    assert_true(tiny_contains(pali_last_error(), "alien: cannot be trained"));
    params_free(&alien);
    exec_free(&e);
    tiny_close(&t);
}

/* Every allocation in turn fails: an error, nothing lost, and the next run is as if nothing had been. */
static void test_no_memory(void **state) {
    (void)state;
    tiny t;
    tiny_batch in;
    size_t k = 1;
    tiny_open(&t);
    tiny_batch_make(&in, 0.25, 0.5);
    double loss = tiny_run(t.m, &t.p, &in, 2, &k_tiny_plain, 1, NULL);
    for (pali_status s = PALI_ERR_MEMORY; s != PALI_OK; k++) {
        lora_training l = {0};
        backprop b = {0};
        exec e;
        backprop_result result = {0};
        assert_int_equal(exec_init(&e, 1), PALI_OK);
        mem_fail_after(k);
        s = lora_training_new(&l, t.m, &(lora_options){.rank = 2, .alpha = 2});
        if (s == PALI_OK) s = backprop_init(&b, l.view, &l.params);
        for (int run = 0; run < 2 && s == PALI_OK; run++) s = backprop_run(&b, &e, &result, in.items, 2, &k_tiny_plain);
        mem_fail_after(0);
        assert_true(s == PALI_OK || s == PALI_ERR_MEMORY);
        if (s == PALI_OK) assert_true(result.loss == loss); /* B is zero */
        backprop_free(&b);
        lora_training_free(&l);
        exec_free(&e);
    }
    assert_true(k > 15);
    tiny_close(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bits),
        cmocka_unit_test(test_frozen),
        cmocka_unit_test(test_half_grads),
        cmocka_unit_test(test_features),
        cmocka_unit_test(test_shared_picture),
        cmocka_unit_test(test_differences),
        cmocka_unit_test(test_gemma2),
        cmocka_unit_test(test_dropout),
        cmocka_unit_test(test_mask),
        cmocka_unit_test(test_need),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
