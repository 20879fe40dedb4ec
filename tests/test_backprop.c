/* test_backprop.c: loss and gradients of whole micro-batches against PyTorch's: the tiny model of spec training 12 with the numbers
 * there, and tiny models of both generations, with adapters and over NF4 weights, with those of tools/make_walk_goldens.py. */
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
#include "tiny.h"
#include "train/clip.h"
#include "train/optim.h"

/* The spec's: its numbers have seven digits, and so have f32 sums. */
#define LOSS_TOLERANCE 1e-5
#define NORM_TOLERANCE 1e-4

static void gradient_near(const params *p, const char *part, double norm, double first) {
    const param *q = tiny_param(p, part);
    assert_near(part, tiny_norm(q->grad, q->n), norm, NORM_TOLERANCE * norm);
    if (first != 0) assert_near(part, (double)q->grad[0], first, 1e-6 * norm + 1e-6 * fabs(first)); /* an element errs by a share of the tensor's size */
}

/* ---- Against the spec ---- */

static void test_formula(void **state) {
    (void)state;
    assert_near("u(0,0)", tiny_u(0, 0), 0.7666216164272852, 1e-15);
    assert_near("u(1,2)", tiny_u(1, 2), 0.401862483741414, 1e-15);
    assert_near("u(58,31)", tiny_u(58, 31), 0.19119075947637, 1e-14);
}

static void test_full(void **state) {
    (void)state;
    static const struct {
        const char *name;
        double norm, first;
    } k_want[] = {
        {"embed_tokens", 8.668139, 4.776714e-4},
        {"language_model.layers.0.input_layernorm", 0.4642673, 4.201721e-2},
        {"language_model.layers.0.mlp.down", 3.778661, -3.932541e-3},
        {"language_model.layers.0.mlp.gate", 2.941719, 4.115695e-2},
        {"language_model.layers.0.mlp.up", 2.945421, 1.559885e-2},
        {"language_model.layers.0.post_attention_layernorm", 0.6149160, 2.144617e-2},
        {"language_model.layers.0.self_attn.k", 2.126726, -5.595725e-3},
        {"language_model.layers.0.self_attn.o", 3.177434, -3.804248e-2},
        {"language_model.layers.0.self_attn.q", 2.656454, -7.046460e-2},
        {"language_model.layers.0.self_attn.v", 2.509965, -2.540978e-2},
        {"language_model.layers.1.self_attn.k", 1.858423, -1.706393e-2},
        {"language_model.layers.1.self_attn.o", 2.157125, -1.541956e-2},
        {"language_model.layers.1.self_attn.q", 1.327348, 1.424565e-2},
        {"language_model.layers.1.self_attn.v", 2.266596, -1.934564e-2},
        {"language_model.norm", 0.5796435, -1.138901e-2},
        {"projector.linear.bias", 0.4772768, -3.006117e-3},
        {"projector.linear.weight", 2.592492, 2.909302e-3},
        {"patch_embedding.bias", 0.5280905, 0.1031610},
        {"patch_embedding.weight", 8.488117, 8.086401e-2},
        {"position_embedding", 0.3408049, 1.023628e-2},
        {"encoder.layers.0.mlp.fc1.weight", 0.7734927, 9.264295e-3},
        {"encoder.layers.0.mlp.fc2.weight", 0.9558145, 1.065799e-3},
        {"encoder.layers.0.self_attn.q_proj.weight", 0.4192726, -1.629634e-2},
        {"encoder.layers.0.self_attn.v_proj.weight", 1.458518, -1.457557e-2},
        {"encoder.layers.0.self_attn.out_proj.weight", 1.679264, 2.471640e-2},
        {"post_layernorm.bias", 0.4869594, 7.400493e-3},
        {"post_layernorm.weight", 0.5257398, 6.545972e-3},
    };
    static const double k_nll[] = {5.737953, 6.516629, 6.739372};
    tiny t;
    tiny_batch in;
    double row_loss[3];
    tiny_open(&t);
    tiny_batch_make(&in, 1.0 / 3, 0);
    assert_near("loss", tiny_run(t.m, &t.p, &in, 1, &k_tiny_plain, 2, row_loss), 6.3313179, LOSS_TOLERANCE);
    for (size_t i = 0; i < 3; i++) assert_near("nll", row_loss[i], k_nll[i], LOSS_TOLERANCE);
    for (size_t i = 0; i < sizeof k_want / sizeof *k_want; i++) gradient_near(&t.p, k_want[i].name, k_want[i].norm, k_want[i].first);
    assert_near("total norm", tiny_total_norm(&t.p), 16.153909, NORM_TOLERANCE * 16);
    const param *k_bias = tiny_param(&t.p, "encoder.layers.0.self_attn.k_proj.bias");
    assert_true(tiny_norm(k_bias->grad, k_bias->n) < 1e-7); /* a constant added to all keys changes nothing */
    assert_near("smoothing 0.1", tiny_run(t.m, &t.p, &in, 1, &(backprop_options){.smoothing = 0.1f, .loss_only = true}, 1, NULL), 6.323511, LOSS_TOLERANCE);
    assert_near("smoothing 0.3", tiny_run(t.m, &t.p, &in, 1, &(backprop_options){.smoothing = 0.3f, .loss_only = true}, 1, NULL), 6.307897, LOSS_TOLERANCE);
    tiny_close(&t);
}

static void test_batch_of_two(void **state) {
    (void)state;
    static const double k_nll[] = {5.737953, 6.516629, 6.739372, 4.532497, 6.980270};
    tiny t;
    tiny_batch in;
    double row_loss[5];
    tiny_open(&t);
    tiny_batch_make(&in, 1.0 / 5, 1.0 / 5);
    assert_near("mean over tokens", tiny_run(t.m, &t.p, &in, 2, &k_tiny_plain, 2, row_loss), 6.101344, LOSS_TOLERANCE);
    for (size_t i = 0; i < 5; i++) assert_near("nll", row_loss[i], k_nll[i], LOSS_TOLERANCE);
    tiny_batch_make(&in, sample_weight(SAMPLE_EXAMPLE_MEAN, 3, 5) / 2, sample_weight(SAMPLE_EXAMPLE_MEAN, 2, 5) / 2);
    assert_near("mean over examples", tiny_run(t.m, &t.p, &in, 2, &k_tiny_plain, 2, NULL), 6.043851, LOSS_TOLERANCE);
    tiny_close(&t);
}

static void test_lora(void **state) {
    (void)state;
    tiny t;
    tiny_batch in;
    lora_training l;
    tiny_open(&t);
    tiny_batch_make(&in, 1.0 / 3, 0);
    assert_int_equal(lora_training_new(&l, t.m, &(lora_options){.rank = 8, .alpha = 8, .seed = 1}), PALI_OK);
    assert_int_equal(l.params.n, 40);
    assert_near("loss with B zero", tiny_run(l.view, &l.params, &in, 1, &k_tiny_plain, 2, NULL), 6.3313179, LOSS_TOLERANCE);
    tiny_adapters_fill(&l.params);
    params_clear_grads(&l.params);
    assert_near("loss", tiny_run(l.view, &l.params, &in, 1, &k_tiny_plain, 2, NULL), 6.2692218, LOSS_TOLERANCE);
    assert_near("total norm", tiny_total_norm(&l.params), 3.857307, NORM_TOLERANCE * 3.86);
    gradient_near(&l.params, "language_model.layers.0.mlp.down_proj.lora_A", 0.3438319, 0);
    gradient_near(&l.params, "language_model.layers.0.mlp.down_proj.lora_B", 1.185337, 0);
    gradient_near(&l.params, "language_model.layers.0.self_attn.q_proj.lora_A", 0.2059588, 0);
    gradient_near(&l.params, "language_model.layers.0.self_attn.q_proj.lora_B", 1.242120, 0);
    gradient_near(&l.params, "vision_tower.encoder.layers.0.self_attn.v_proj.lora_A", 0.1528393, 0);
    gradient_near(&l.params, "vision_tower.encoder.layers.0.self_attn.v_proj.lora_B", 0.6024112, 0);
    lora_training_free(&l);
    tiny_close(&t);
}

/* ---- Against PyTorch, Transformers and PEFT (tools/make_walk_goldens.py) ---- */

/* f32 here and there, sums in another order: measured 1.6e-5 of a tensor's length. */
#define PEERS_TOLERANCE 3e-5

#define MAX_IDS 64

/* A case's model with what is trained of it. */
typedef struct subject {
    model *base, *view;
    lora_training lora; /* of an adapter */
    params whole;       /* or of everything */
    const model *m;
    params *p;
} subject;

/* The values of PEFT's file, some of whose names are an older version's. */
static void adapter_take(params *p, const char *dir) {
    char path[512], name[PARAM_NAME_MAX];
    safetensors st;
    (void)snprintf(path, sizeof path, PALI_TEST_DATA "/%s/adapter_model.safetensors", dir);
    assert_int_equal(safetensors_open(&st, path), PALI_OK);
    assert_int_equal(st.n_tensors, p->n);
    for (size_t i = 0; i < st.n_tensors; i++) {
        const char *old = strstr(st.tensors[i].name, "vision_model.");
        (void)snprintf(name, sizeof name, "%s", st.tensors[i].name);
        if (old) (void)snprintf(name + (old - st.tensors[i].name), sizeof name - (size_t)(old - st.tensors[i].name), "%s", old + strlen("vision_model."));
        const param *q = tiny_param(p, name);
        assert_int_equal(st.tensors[i].n_bytes, q->n * sizeof *q->value);
        memcpy(q->value, st.tensors[i].data, st.tensors[i].n_bytes);
    }
    safetensors_close(&st);
}

static void subject_open(subject *s, const json_t *c, exec *e) {
    char path[512];
    const char *dir = json_string_value(json_object_get(c, "adapter"));
    *s = (subject){0};
    (void)snprintf(path, sizeof path, PALI_TEST_DATA "/%s", golden_string(c, "model"));
    assert_int_equal(model_load(&s->base, path, &(model_options){.n_threads = 1}), PALI_OK);
    if (dir) {
        const lora_options recipe = {.rank = 2, .alpha = 8}, for_nf4 = {.rank = 4, .alpha = 6, .targets = LORA_TARGETS ",fc2"};
        assert_int_equal(lora_training_new(&s->lora, s->base, tiny_contains(dir, "nf4") ? &for_nf4 : &recipe), PALI_OK);
        adapter_take(&s->lora.params, dir);
        s->m = s->lora.view;
        s->p = &s->lora.params;
        return;
    }
    assert_int_equal(view_new(&s->view, s->base), PALI_OK);
    assert_int_equal(params_of_spec(&s->whole, &s->view->spec, PARAMS_ALL_GROUPS), PALI_OK);
    assert_int_equal(params_alloc(&s->whole, PARAM_F32, false), PALI_OK);
    assert_int_equal(params_load(&s->whole, e), PALI_OK);
    params_bind(&s->whole);
    s->m = s->view;
    s->p = &s->whole;
}

static void subject_close(subject *s) {
    lora_training_free(&s->lora);
    model_free(s->view);
    model_free(s->base);
    params_free(&s->whole);
}

static void peers_sample(sample *s, int32_t *ids, const model *m, const json_t *prefix, const json_t *suffix) {
    size_t n_prefix, n_suffix;
    int32_t *a = golden_ids(prefix, &n_prefix), *b = golden_ids(suffix, &n_suffix);
    *s = (sample){ids, m->cfg.vit.n_patches, 0};
    assert_true(s->n + n_prefix + n_suffix <= MAX_IDS);
    for (size_t i = 0; i < s->n; i++) ids[i] = m->cfg.image_token;
    for (size_t i = 0; i < n_prefix; i++) ids[s->n++] = a[i];
    s->n_prefix = s->n;
    for (size_t i = 0; i < n_suffix; i++) ids[s->n++] = b[i];
    free(a);
    free(b);
}

static float *peers_pixels(const model *m, size_t shift) {
    size_t n = 3 * m->cfg.vit.image_size * m->cfg.vit.image_size;
    float *x = malloc(n * sizeof *x);
    assert_non_null(x);
    for (size_t i = 0; i < n; i++) x[i] = (float)((i * i * 7 + i * 13 + shift) % 256) / 127.5f - 1;
    return x;
}

static void peers_case(const json_t *all, const json_t *c, exec *e) {
    subject s;
    sample samples[2];
    int32_t ids[2][MAX_IDS];
    float *pixels[2];
    backprop_picture pictures[2];
    backprop_item items[2];
    backprop b;
    double row_loss[2 * MAX_IDS];
    backprop_result result = {.row_loss = row_loss};
    size_t n_rows;
    double *nll = golden_numbers(golden_field(c, "nll"), &n_rows);
    subject_open(&s, c, e);
    for (size_t i = 0; i < 2; i++) {
        peers_sample(&samples[i], ids[i], s.m, json_array_get(golden_field(all, "prefixes"), i), json_array_get(golden_field(all, "suffixes"), i));
        pixels[i] = peers_pixels(s.m, i);
        pictures[i] = (backprop_picture){.pixels = pixels[i]};
        items[i] = (backprop_item){&samples[i], &pictures[i], 1, 1 / (double)n_rows};
    }
    assert_int_equal(backprop_init(&b, s.m, s.p), PALI_OK);
    assert_int_equal(backprop_run(&b, e, &result, items, 2, &k_tiny_plain), PALI_OK);
    assert_int_equal(result.n_targets, n_rows);
    for (size_t i = 0; i < n_rows; i++) assert_near("nll", row_loss[i], nll[i], LOSS_TOLERANCE * nll[i]);
    const json_t *theirs = golden_field(c, "grads");
    assert_int_equal(json_object_size(theirs), s.p->n);
    double total = tiny_total_norm(s.p);
    for (size_t i = 0; i < s.p->n; i++) {
        const param *q = &s.p->items[i];
        size_t n;
        double *want = golden_numbers(golden_field(theirs, q->name), &n);
        const double got[] = {tiny_norm(q->grad, q->n), (double)q->grad[0], (double)q->grad[q->n / 2], (double)q->grad[q->n - 1]};
        for (size_t j = 0; j < 4; j++) assert_near(q->name, got[j], want[j], PEERS_TOLERANCE * want[0] + 1e-7 * total); /* what ought to be 0 is noise in both */
        free(want);
    }
    backprop_free(&b);
    subject_close(&s);
    for (size_t i = 0; i < 2; i++) free(pixels[i]);
    free(nll);
}

/* Everything of Gemma and Gemma 2, adapters, and adapters over NF4. */
static void test_peers(void **state) {
    (void)state;
    exec e;
    json_error_t error;
    json_t *all = json_load_file(PALI_TEST_DATA "/train/walk.json", 0, &error);
    assert_non_null(all);
    assert_int_equal(exec_init(&e, 2), PALI_OK);
    const json_t *cases = golden_field(all, "cases");
    assert_int_equal(json_array_size(cases), 4);
    for (size_t i = 0; i < 4; i++) peers_case(all, json_array_get(cases, i), &e);
    exec_free(&e);
    json_decref(all);
}

/* ---- Training steps ---- */

/* PyTorch's AdamW, lr 1e-3, decay 0.01, clipped at 1: four updates with the same batch. */
static void test_steps(void **state) {
    (void)state;
    static const double k_loss[] = {6.331318, 5.065547, 4.102545, 3.212708}, k_norm[] = {16.153896, 10.641373, 9.538671, 7.724021};
    tiny t;
    tiny_batch in;
    exec e;
    optim *opt;
    optim_options options;
    double norm;
    tiny_open(&t);
    tiny_batch_make(&in, 1.0 / 3, 0);
    assert_int_equal(exec_init(&e, 2), PALI_OK);
    assert_int_equal(optim_options_named(&options, "adamw_torch"), PALI_OK);
    options.weight_decay = 0.01;
    assert_int_equal(optim_new(&opt, &options, &t.p), PALI_OK);
    for (size_t i = 0; i < 4; i++) {
        params_clear_grads(&t.p);
        assert_near("loss", tiny_run(t.m, &t.p, &in, 1, &k_tiny_plain, 2, NULL), k_loss[i], LOSS_TOLERANCE);
        assert_int_equal(clip_norm(&norm, &e, &t.p), PALI_OK);
        assert_near("norm", norm, k_norm[i], NORM_TOLERANCE * k_norm[i]);
        optim_begin(opt, (optim_rate){1e-3, 1, clip_scale(norm, 1)});
        assert_int_equal(optim_update(opt, &e, 0, t.p.n), PALI_OK);
    }
    optim_free(opt);
    exec_free(&e);
    tiny_close(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_formula),
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_batch_of_two),
        cmocka_unit_test(test_lora),
        cmocka_unit_test(test_peers),
        cmocka_unit_test(test_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
