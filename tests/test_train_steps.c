/* test_train_steps.c: twenty updates of the tiny models equal to those of Transformers' Trainer and PEFT (tests/golden/train/steps.*,
 * tools/make_train_goldens.py): order of the rows, loss, learning rate, gradient norm, and where the weights end, for every method,
 * with accumulation, micro-batches of unequal lengths and short last ones. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "golden.h"
#include "model/view.h"
#include "train/backprop.h"
#include "train/clip.h"
#include "train/loader.h"
#include "train/lora.h"
#include "train/optim.h"
#include "train/schedule.h"

/* Relative. The reference's own loss and norm change by 1e-5 and 2e-5 at most, its tensors by 2e-4, when its weights are off by a
 * rounding (the script refuses other numbers): Adam divides by what can be small. */
#define STEP_TOLERANCE 5e-5
#define MOVED_TOLERANCE 1e-3

#define DATA PALI_TEST_DATA "/train/"

enum { R = 28, PIXELS = 3 * R * R, MAX_PICTURES = 4, MAX_ITEMS = 2 };

static json_t *g_steps;
static safetensors g_tensors;
static exec g_exec; /* one thread: at these sizes others cost more than they do */

/* ---- What is trained ---- */

typedef struct trained {
    model *base, *whole, *view; /* whole: with all weights as parameters */
    params weights, *p;
    lora_training lora;
    float *start;               /* values of all parameters, one after the other */
} trained;

static const float *tensor_values(const char *prefix, const param *q) {
    char name[PARAM_NAME_MAX + 64];
    (void)snprintf(name, sizeof name, "%s/%s", prefix, q->name);
    for (size_t i = 0; i < g_tensors.n_tensors; i++) {
        const st_tensor *t = &g_tensors.tensors[i];
        if (strcmp(t->name, name) != 0) continue;
        assert_true(t->dtype == ST_F32 && t->n_bytes == q->n * sizeof(float));
        return (const float *)(const void *)t->data;
    }
    fail_msg("no golden tensor %s", name);
    return NULL;
}

static bool is_factor_a(const param *q) {
    return strstr(q->name, ".lora_A.") != NULL;
}

static void adapters_open(trained *t, const json_t *c, bool text_only) {
    char prefix[64];
    const lora_options o = {.text_only = text_only, .rank = (size_t)golden_number(g_steps, "rank"), .alpha = golden_number(g_steps, "alpha")};
    if (lora_training_new(&t->lora, t->base, &o) != PALI_OK) fail_msg("%s", pali_last_error());
    t->p = &t->lora.params;
    t->view = t->lora.view;
    (void)snprintf(prefix, sizeof prefix, "A/%s", golden_string(c, "model"));
    for (size_t i = 0; i < t->p->n; i++) {
        param *q = &t->p->items[i];
        if (is_factor_a(q)) memcpy(q->value, tensor_values(prefix, q), q->n * sizeof *q->value);
    }
}

static void groups_open(trained *t, const char *train, const char *freeze) {
    unsigned groups;
    assert_int_equal(params_groups_parse(&groups, train, freeze), PALI_OK);
    assert_int_equal(view_new(&t->whole, t->base), PALI_OK);
    assert_int_equal(params_of_spec(&t->weights, &t->whole->spec, groups), PALI_OK);
    assert_int_equal(params_alloc(&t->weights, PARAM_F32, false), PALI_OK);
    assert_int_equal(params_load(&t->weights, &g_exec), PALI_OK);
    params_bind(&t->weights);
    t->p = &t->weights;
    t->view = t->whole;
}

static void trained_open(trained *t, const json_t *c) {
    char path[600];
    const char *method = golden_string(c, "method");
    const model_options o = {.dtype = json_is_true(json_object_get(c, "nf4")) ? PALI_DTYPE_NF4 : PALI_DTYPE_F32, .n_threads = 1};
    *t = (trained){0};
    (void)snprintf(path, sizeof path, "%s/%s", GOLDEN_DIR, golden_string(c, "model"));
    if (model_load(&t->base, path, &o) != PALI_OK) fail_msg("%s", pali_last_error());
    if (strcmp(method, "full") == 0) groups_open(t, NULL, NULL);
    else if (strcmp(method, "frozen_vision") == 0) groups_open(t, NULL, "img");
    else if (strcmp(method, "attention") == 0) groups_open(t, "llm.attn", NULL);
    else adapters_open(t, c, strcmp(method, "lora_text") == 0);
    assert_int_equal(t->p->n_values, (size_t)golden_number(c, "n_trained"));
    float *at = t->start = malloc(t->p->n_values * sizeof *at);
    assert_non_null(at);
    for (size_t i = 0; i < t->p->n; at += t->p->items[i++].n) memcpy(at, t->p->items[i].value, t->p->items[i].n * sizeof *at);
}

static void trained_close(trained *t) {
    free(t->start);
    model_free(t->whole);
    params_free(&t->weights);
    lora_training_free(&t->lora);
    model_free(t->base);
    *t = (trained){0};
}

/* ---- Micro-batches ---- */

typedef struct reader {
    tokenizer *tokenizer;
    dataset data;
    order order;
    sample_rules rules;
    loader *loader;
} reader;

static void reader_open(reader *r, const model *m) {
    *r = (reader){0};
    assert_int_equal(tokenizer_load(&r->tokenizer, GOLDEN_DIR "/pg1-f32/tokenizer.json"), PALI_OK);
    if (dataset_open(&r->data, DATA "steps.jsonl", 0, NULL, NULL) != PALI_OK) fail_msg("%s", pali_last_error());
    assert_int_equal(order_init(&r->order, r->data.n, (size_t)golden_number(g_steps, "batch_size"), (size_t)golden_number(g_steps, "grad_accum"),
                                (uint64_t)golden_number(g_steps, "seed"), true), PALI_OK);
    r->rules = (sample_rules){.tokenizer = r->tokenizer, .image_token = m->cfg.image_token, .bos_token = m->cfg.bos_token, .eos_token = m->cfg.eos_token,
                              .n_image_ids = m->vit.cfg.n_patches};
    const loader_options o = {.data = &r->data, .order = &r->order, .rules = &r->rules, .image_size = R, .filter = (resize_filter)m->cfg.resample};
    if (loader_open(&r->loader, &o) != PALI_OK) fail_msg("%s", pali_last_error());
}

static void reader_close(reader *r) {
    loader_close(r->loader);
    order_free(&r->order);
    dataset_close(&r->data);
    tokenizer_free(r->tokenizer);
    *r = (reader){0};
}

/* The next micro-batch, number `micro` of the run, through the model; its targets are counted. */
static double micro_run(reader *r, backprop *b, size_t micro, sample_counts *window) {
    static float pixels[MAX_PICTURES][PIXELS];
    loader_batch batch;
    backprop_item items[MAX_ITEMS];
    backprop_picture pictures[MAX_PICTURES];
    backprop_result result = {0};
    size_t n_pictures = 0, n_rows;
    if (loader_next(r->loader, &batch, NULL) != PALI_OK) fail_msg("%s", pali_last_error());
    int32_t *rows = golden_ids(json_array_get(golden_field(g_steps, "order"), micro), &n_rows);
    assert_int_equal(batch.n, n_rows);
    assert_true(n_rows <= MAX_ITEMS);
    for (size_t i = 0; i < n_rows; i++) {
        const loader_item *item = &batch.items[i];
        assert_int_equal(item->row, rows[i]);
        const size_t n_targets = sample_n_targets(&item->text);
        items[i] = (backprop_item){&item->text, &pictures[n_pictures], item->n_pictures, sample_weight(SAMPLE_TOKEN_MEAN_WINDOW, n_targets, 0)};
        window->n_targets += n_targets;
        for (size_t j = 0; j < item->n_pictures; j++, n_pictures++) {
            assert_true(n_pictures < MAX_PICTURES);
            assert_int_equal(resize_to_pixels(pixels[n_pictures], R, &item->pictures[j].rgb, RESIZE_BICUBIC), PALI_OK);
            pictures[n_pictures] = (backprop_picture){.pixels = pixels[n_pictures]};
        }
    }
    free(rows);
    const backprop_options o = {.keep_bytes = micro % 2 ? 1 << 24 : 0}; /* or the insides of blocks are computed again */
    if (backprop_run(b, &g_exec, &result, items, batch.n, &o) != PALI_OK) fail_msg("%s", pali_last_error());
    loader_batch_free(&batch);
    return result.loss;
}

/* ---- Updates ---- */

static void near(const char *name, const char *what, size_t step, double got, double want, double tolerance) {
    if (!(fabs(got - want) <= tolerance)) fail_msg("%s: %s %zu: %.9g, expected %.9g", name, what, step + 1, got, want);
}

static void run_steps(const json_t *c, const trained *t, reader *r) {
    const char *name = golden_string(c, "name"), *kind = json_string_value(json_object_get(c, "optim"));
    size_t n_steps, n, micro = 0;
    double *loss = golden_numbers(golden_field(c, "loss"), &n_steps), *norm = golden_numbers(golden_field(c, "grad_norm"), &n);
    double *rate = golden_numbers(golden_field(c, "learning_rate"), &n), lr = golden_number(c, "lr"), max_norm = golden_number(g_steps, "max_grad_norm");
    optim_options o;
    optim *opt;
    backprop b;
    assert_int_equal(order_total_updates(&r->order, golden_number(g_steps, "epochs"), 0), n_steps);
    const schedule s = {SCHEDULE_LINEAR, (uint64_t)golden_number(g_steps, "warmup"), n_steps};
    assert_int_equal(optim_options_named(&o, kind ? kind : "adamw_torch"), PALI_OK);
    o.weight_decay = golden_number(g_steps, "weight_decay");
    assert_int_equal(optim_new(&opt, &o, t->p), PALI_OK);
    if (backprop_init(&b, t->view, t->p) != PALI_OK) fail_msg("%s", pali_last_error());
    for (size_t step = 0; step < n_steps; step++) {
        sample_counts window = {0};
        double sum = 0, got;
        params_clear_grads(t->p);
        for (size_t left = order_window(&r->order, micro % r->order.n_micro); left; left--) sum += micro_run(r, &b, micro++, &window);
        double scale = sample_scale(SAMPLE_TOKEN_MEAN_WINDOW, &window), factor = schedule_factor(&s, step);
        near(name, "loss", step, sum * scale, loss[step], STEP_TOLERANCE * loss[step]);
        assert_int_equal(clip_norm(&got, &g_exec, t->p), PALI_OK);
        near(name, "gradient norm", step, got * scale, norm[step], STEP_TOLERANCE * norm[step]);
        near(name, "learning rate", step, lr * factor, rate[step], 1e-15);
        optim_begin(opt, (optim_rate){lr, factor, (float)scale * clip_scale(got * scale, max_norm)});
        assert_int_equal(optim_update(opt, &g_exec, 0, t->p->n), PALI_OK);
    }
    backprop_free(&b);
    optim_free(opt);
    free(loss);
    free(norm);
    free(rate);
}

/* [norm, probe] of each tensor's change, and the adapters themselves where the golden file has them. */
static void compare_ends(const json_t *c, const trained *t) {
    const char *name = golden_string(c, "name");
    const json_t *moved = golden_field(c, "moved");
    const float *start = t->start;
    size_t n_compared = 0;
    for (size_t i = 0; i < t->p->n; start += t->p->items[i++].n) {
        const param *q = &t->p->items[i];
        char key[PARAM_NAME_MAX + 8];
        (void)snprintf(key, sizeof key, "%s%s", q->tensor ? "model." : "", q->name);
        if (strstr(key, "vision_tower") && strstr(key, "k_proj.bias")) continue;
        const json_t *want = golden_field(moved, key);
        double norm = json_number_value(json_array_get(want, 0)), sum = 0, probe = 0;
        for (size_t j = 0; j < q->n; j++) {
            double change = (double)q->value[j] - (double)start[j];
            sum += change * change;
            probe += change * cos((double)j);
        }
        near(name, key, i, sqrt(sum), norm, MOVED_TOLERANCE * norm);
        near(name, key, i, probe, json_number_value(json_array_get(want, 1)), MOVED_TOLERANCE * norm);
        n_compared++;
        if (strcmp(name, "lora") != 0) continue;
        const float *end = tensor_values(name, q);
        double apart = 0;
        for (size_t j = 0; j < q->n; j++) apart += pow((double)q->value[j] - (double)end[j], 2);
        near(name, "distance from the end of the reference's", i, sqrt(apart), 0, MOVED_TOLERANCE * norm);
    }
    assert_int_equal(n_compared, json_object_size(moved));
}

/* ---- Cases ---- */

/* Closed by the teardown, after a failure too: a loader's thread must not outlive what it reads. */
static trained g_trained;
static reader g_reader;

static void test_case(void **state) {
    const json_t *cases = golden_field(g_steps, "cases"), *c = NULL;
    for (size_t i = 0; i < json_array_size(cases); i++)
        if (strcmp(golden_string(json_array_get(cases, i), "name"), *state) == 0) c = json_array_get(cases, i);
    assert_non_null(c);
    trained_open(&g_trained, c);
    reader_open(&g_reader, g_trained.base);
    run_steps(c, &g_trained, &g_reader);
    compare_ends(c, &g_trained);
}

static int case_teardown(void **state) {
    (void)state;
    reader_close(&g_reader);
    trained_close(&g_trained);
    return 0;
}

static int group_setup(void **state) {
    (void)state;
    json_error_t error;
    g_steps = json_load_file(DATA "steps.json", 0, &error);
    return !g_steps || safetensors_open(&g_tensors, DATA "steps.safetensors") != PALI_OK || exec_init(&g_exec, 1) != PALI_OK;
}

static int group_teardown(void **state) {
    (void)state;
    json_decref(g_steps);
    safetensors_close(&g_tensors);
    exec_free(&g_exec);
    return 0;
}

#define CASE(name) {name, test_case, NULL, case_teardown, (char[]){name}}

int main(void) {
    const struct CMUnitTest tests[] = {
        CASE("full"), CASE("frozen_vision"), CASE("attention_sgd"), CASE("lora"), CASE("lora_text"), CASE("qlora"), CASE("full_gemma2"), CASE("lora_gemma2"),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
