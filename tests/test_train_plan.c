/* test_train_plan.c: a training run takes what its plan says, to the byte, whatever is trained and kept; and a bound on the whole run
 * decides what is kept. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tiny.h"
#include "train/loader.h"
#include "train/train_plan.h"

enum { N_ROWS = 2, N_THREADS = 2 };

static void check(pali_status s) {
    if (s != PALI_OK) fail_msg("%s", pali_last_error());
}

/* Pictures of the micro-batch and those that wait: what the plan counts without a walk's taking it. */
static uint64_t picture_bytes(const model *m, bool trains_vision) {
    const vit_config *v = &m->cfg.vit;
    const uint64_t pixels = 3 * v->image_size * v->image_size, features = v->n_patches * v->width * sizeof(float);
    return N_ROWS * (trains_vision ? pixels * sizeof(float) : features) + loader_ahead(N_ROWS) * (pixels + (trains_vision ? 0 : features));
}

/* What a step has taken. */
static uint64_t bytes_taken(const trainable *t, const backprop *b, const exec *e, const optim_options *optimizer) {
    uint64_t states, file, scratch = e->acts.n_bytes + e->shared.n_bytes;
    for (size_t i = 0; i < e->n_workers; i++) scratch += e->worker[i].n_bytes;
    optim_need(optimizer, t->p, &states, &file);
    return t->p->block.n_bytes + states + b->block_bytes + b->grads.stage_floats * sizeof(float) + scratch;
}

/* Features go in where the tower is frozen. */
static pali_status batch_run(backprop *b, exec *e, const model *m, const backprop_item *given, const backprop_options *how) {
    enum { N_FEATURES = 4 * 32 };
    float features[N_ROWS][N_FEATURES];
    backprop_picture pictures[N_ROWS];
    backprop_item items[N_ROWS];
    backprop_result result = {0};
    assert_int_equal(m->cfg.vit.n_patches * m->cfg.vit.width, N_FEATURES);
    for (size_t i = 0; i < N_ROWS; i++) {
        items[i] = given[i];
        if (b->grads.trains_vit) continue;
        check(vit_forward(e, &m->vit, features[i], given[i].pictures->pixels));
        pictures[i] = (backprop_picture){.features = features[i]};
        items[i].pictures = &pictures[i];
    }
    return backprop_run(b, e, &result, items, N_ROWS, how);
}

static uint64_t step_run(const model *base, const train_plan_options *o, const backprop_item *items, uint64_t keep_bytes) {
    trainable t;
    backprop b;
    exec e;
    optim *optimizer;
    const backprop_options how = {.keep_bytes = keep_bytes};
    check(exec_init(&e, N_THREADS));
    check(trainable_new(&t, base, o->what, &e));
    exec_free(&e); /* loading has scratch of its own, and is over before a step needs any */
    check(exec_init(&e, N_THREADS));
    check(backprop_init(&b, t.view, t.p));
    check(optim_new(&optimizer, o->optimizer, t.p));
    check(batch_run(&b, &e, t.view, items, &how));
    optim_begin(optimizer, (optim_rate){1e-3, 1, 1});
    assert_int_equal(optim_update(optimizer, &e, 0, t.p->n), PALI_OK);
    const uint64_t taken = bytes_taken(&t, &b, &e, o->optimizer);
    optim_free(optimizer);
    backprop_free(&b);
    trainable_free(&t);
    exec_free(&e);
    return taken;
}

static train_plan plan_of(const model *base, const train_plan_options *o, const backprop_item *items) {
    train_plan p;
    exec e;
    check(exec_init(&e, N_THREADS));
    check(train_plan_micro(&p, &e, base, o, items, N_ROWS));
    exec_free(&e);
    return p;
}

static model *model_make(pali_dtype dtype) {
    model *m;
    check(model_random_of(&m, &k_tiny_config, 1, &(model_options){.dtype = dtype, .n_threads = 1}));
    return m;
}

static void assert_plan(pali_dtype dtype, const trainable_options *what, const char *optimizer, bool trains_vision) {
    model *base = model_make(dtype);
    optim_options oo;
    tiny_batch in;
    tiny_batch_make(&in, 0.1, 0.1);
    check(optim_options_named(&oo, optimizer));
    const train_plan_options o = {.what = what, .optimizer = &oo};
    const train_plan p = plan_of(base, &o, in.items);
    assert_int_equal(p.trains_vision, trains_vision);
    assert_int_equal(p.weights, base->weight_bytes);
    assert_true(p.keep_bytes > 0); /* kilobytes: there is room for all of them */
    assert_int_equal(step_run(base, &o, in.items, 0) + picture_bytes(base, trains_vision), p.needed);
    /* With all insides kept, scratch has none: less by that of one block, if the tower does not need as much. */
    const uint64_t kept = step_run(base, &o, in.items, p.keep_bytes) + picture_bytes(base, trains_vision), one = p.keep_bytes / k_tiny_config.text.n_layers;
    assert_in_range(kept, p.needed + p.keep_bytes - one, p.needed + p.keep_bytes);
    model_free(base);
}

static void needed_is_taken(void **state) {
    (void)state;
    const trainable_options full = {.groups = PARAMS_ALL_GROUPS}, text = {.groups = PARAMS_ALL_GROUPS & ~PARAMS_GROUP(SPEC_IMG), .storage = PARAM_MASTER};
    const trainable_options pure = {.groups = PARAMS_ALL_GROUPS, .storage = PARAM_BF16, .half_grads = true}, attention = {.groups = PARAMS_GROUP(SPEC_LLM_ATTN)};
    const trainable_options text_lora = {.adapters = true, .lora = {.rank = 4, .alpha = 4, .text_only = true}}, all_lora = {.adapters = true, .lora = {.rank = 4, .alpha = 4}};
    assert_plan(PALI_DTYPE_F32, &full, "adamw", true);
    assert_plan(PALI_DTYPE_BF16, &text, "adafactor", false);
    assert_plan(PALI_DTYPE_BF16, &pure, "adamw8bit", true);
    assert_plan(PALI_DTYPE_F32, &attention, "sgd", false);
    assert_plan(PALI_DTYPE_F32, &text, "muon", false);
    assert_plan(PALI_DTYPE_BF16, &text_lora, "adamw", false);
    assert_plan(PALI_DTYPE_NF4, &all_lora, "adamw", true);
}

static void bound_is_kept(void **state) {
    (void)state;
    model *base = model_make(PALI_DTYPE_BF16);
    const trainable_options what = {.adapters = true, .lora = {.rank = 4, .alpha = 4, .text_only = true}};
    optim_options oo;
    tiny_batch in;
    tiny_batch_make(&in, 0.1, 0.1);
    check(optim_options_named(&oo, "adamw"));
    train_plan_options o = {.what = &what, .optimizer = &oo};
    const train_plan free = plan_of(base, &o, in.items);
    const uint64_t least = free.needed + free.weights + free.others;

    o.memory_bytes = least - 1;
    train_plan p = plan_of(base, &o, in.items);
    assert_true(p.needed > p.available);
    assert_int_equal(p.keep_bytes + p.cache_bytes, 0);
    o.memory_bytes = least;
    p = plan_of(base, &o, in.items);
    assert_int_equal(p.needed, p.available);
    assert_int_equal(p.keep_bytes + p.cache_bytes, 0);
    for (uint64_t more = 30; more < 3 * free.keep_bytes; more *= 3) {
        o.memory_bytes = least + more;
        p = plan_of(base, &o, in.items);
        assert_int_equal(p.keep_bytes + p.cache_bytes, more);
        assert_int_equal(p.keep_bytes, more / 3 * 2 < free.keep_bytes ? more / 3 * 2 : free.keep_bytes);
        assert_true(step_run(base, &o, in.items, p.keep_bytes) <= p.needed + p.keep_bytes);
    }
    o.memory_bytes = 1;
    p = plan_of(base, &o, in.items);
    assert_int_equal(p.available, 0);
    model_free(base);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(needed_is_taken),
        cmocka_unit_test(bound_is_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
