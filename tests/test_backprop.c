/* test_backprop.c: loss and gradients of whole micro-batches: the tiny model of spec training 12 against PyTorch's numbers there,
 * and that what is kept, how many threads work and what is frozen changes no bit of them. */
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
#include "train/lora.h"
#include "train/optim.h"

/* The spec's: its numbers have seven digits, and so have f32 sums. */
#define LOSS_TOLERANCE 1e-5
#define NORM_TOLERANCE 1e-4

enum { R = 28, PIXELS = 3 * R * R };

/* ---- The tiny model ---- */

/* u(k, i) in [-1, 1). */
static double hashed(uint64_t k, uint64_t i) {
    uint64_t z = (k << 32) + i + 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    z ^= z >> 31;
    return (double)(z >> 11) * 0x1p-53 * 2 - 1;
}

static const config k_config = {
    .vit = {.image_size = R, .patch_size = 14, .n_patches = 4, .width = 32, .n_layers = 2, .n_heads = 2, .mlp_width = 48, .norm_eps = 1e-6f},
    .text = {.generation = 1, .width = 64, .n_layers = 2, .n_heads = 4, .n_kv_heads = 1, .head_dim = 16, .mlp_width = 96, .vocab_size = 300,
             .norm_eps = 1e-6f, .rope_theta = 10000, .attn_scale = 0.25f},
    .image_token = 256, .bos_token = 2, .eos_token = 1, .tied = true, .resample = 3,
};

typedef struct tiny {
    model *base, *m; /* m: with the parameters as weights */
    params p;
} tiny;

static bool contains(const char *s, const char *part) {
    return strstr(s, part) != NULL;
}

static int by_name(const void *a, const void *b) {
    return strcmp((*(param *const *)a)->name, (*(param *const *)b)->name);
}

/* Parameters in the order of their names; free(). */
static param **sorted(const params *p) {
    param **list = malloc(p->n * sizeof *list);
    assert_non_null(list);
    for (size_t i = 0; i < p->n; i++) list[i] = &p->items[i];
    qsort(list, p->n, sizeof *list, by_name);
    return list;
}

static void fill(const param *q, uint64_t k, double offset, double amplitude) {
    for (size_t i = 0; i < q->n; i++) q->value[i] = (float)(offset + amplitude * hashed(k, i));
}

/* Spec training 12's weights. */
static void formula_fill(const params *p) {
    param **list = sorted(p);
    for (size_t k = 0; k < p->n; k++) {
        const param *q = list[k];
        bool norm = contains(q->name, "norm"), vit_norm = norm && contains(q->name, "vision_tower"), weight = contains(q->name, ".weight");
        double amplitude = contains(q->name, "embed_tokens") ? 0.2 : contains(q->name, "position_embedding") ? 0.5 : q->n_dims == 1 ? 0.1 : sqrt(3.0 / (double)(q->n / q->dims[0]));
        fill(q, k, vit_norm && weight ? 1 : 0, amplitude);
    }
    free(list);
}

static void tiny_open_of(tiny *t, const config *c) {
    assert_int_equal(model_random_of(&t->base, c, 1, &(model_options){.dtype = PALI_DTYPE_F32, .n_threads = 1}), PALI_OK);
    assert_int_equal(view_new(&t->m, t->base), PALI_OK);
    assert_int_equal(params_of_spec(&t->p, &t->m->spec, PARAMS_ALL_GROUPS), PALI_OK);
    assert_int_equal(params_alloc(&t->p, PARAM_F32, false), PALI_OK);
    formula_fill(&t->p);
    params_bind(&t->p);
}

static void tiny_open(tiny *t) {
    tiny_open_of(t, &k_config);
    assert_int_equal(t->p.n, 59);
}

static void tiny_close(tiny *t) {
    model_free(t->m);
    model_free(t->base);
    params_free(&t->p);
}

static const param *find(const params *p, const char *part) {
    const param *found = NULL;
    for (size_t i = 0; i < p->n; i++) {
        if (!contains(p->items[i].name, part)) continue;
        if (found) fail_msg("two parameters have \"%s\" in their names", part);
        found = &p->items[i];
    }
    if (!found) fail_msg("no parameter has \"%s\" in its name", part);
    return found;
}

static double norm_of(const float *x, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)x[i] * (double)x[i];
    return sqrt(sum);
}

static double total_norm(const params *p) {
    double sum = 0;
    for (size_t i = 0; i < p->n; i++) sum += pow(norm_of(p->items[i].grad, p->items[i].n), 2);
    return sqrt(sum);
}

/* ---- Its batches ---- */

static int32_t g_ids1[] = {256, 256, 256, 256, 2, 10, 20, 108, 30, 40, 1}, g_ids2[] = {256, 256, 256, 256, 2, 50, 108, 60, 1};
static const sample k_first = {g_ids1, 11, 8}, k_second = {g_ids2, 9, 7};

/* Two pictures: the spec's, and that one flipped. */
typedef struct batch {
    float pixels[2][PIXELS];
    backprop_picture pictures[2];
    backprop_item items[2];
} batch;

/* weights: of the targets of either sample. */
static void batch_make(batch *b, double first, double second) {
    for (size_t j = 0; j < PIXELS; j++) {
        b->pixels[0][j] = (float)sin(0.05 * (double)j);
        b->pixels[1][j - j % R + R - 1 - j % R] = b->pixels[0][j];
    }
    b->pictures[0] = (backprop_picture){.pixels = b->pixels[0]};
    b->pictures[1] = (backprop_picture){.pixels = b->pixels[1]};
    b->items[0] = (backprop_item){&k_first, &b->pictures[0], 1, first};
    b->items[1] = (backprop_item){&k_second, &b->pictures[1], 1, second};
}

/* One run with a walk of its own. */
static double run(const model *m, const params *p, const batch *in, size_t n, const backprop_options *o, int threads, double *row_loss) {
    backprop b;
    exec e;
    backprop_result result = {.row_loss = row_loss};
    assert_int_equal(exec_init(&e, threads), PALI_OK);
    assert_int_equal(backprop_init(&b, m, p), PALI_OK);
    if (backprop_run(&b, &e, &result, in->items, n, o) != PALI_OK) fail_msg("%s", pali_last_error());
    backprop_free(&b);
    exec_free(&e);
    return result.loss;
}

static void near(const char *what, double got, double want, double tolerance) {
    if (!(fabs(got - want) <= tolerance)) fail_msg("%s: %.9g, expected %.9g", what, got, want);
}

static void gradient_near(const params *p, const char *part, double norm, double first) {
    const param *q = find(p, part);
    near(part, norm_of(q->grad, q->n), norm, NORM_TOLERANCE * norm);
    if (first != 0) near(part, (double)q->grad[0], first, 1e-6 * norm + 1e-6 * fabs(first)); /* an element errs by a share of the tensor's size */
}

/* ---- Against the spec ---- */

static const backprop_options k_plain = {0};

static void test_formula(void **state) {
    (void)state;
    near("u(0,0)", hashed(0, 0), 0.7666216164272852, 1e-15);
    near("u(1,2)", hashed(1, 2), 0.401862483741414, 1e-15);
    near("u(58,31)", hashed(58, 31), 0.19119075947637, 1e-14);
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
    batch in;
    double row_loss[3];
    tiny_open(&t);
    batch_make(&in, 1.0 / 3, 0);
    near("loss", run(t.m, &t.p, &in, 1, &k_plain, 2, row_loss), 6.3313179, LOSS_TOLERANCE);
    for (size_t i = 0; i < 3; i++) near("nll", row_loss[i], k_nll[i], LOSS_TOLERANCE);
    for (size_t i = 0; i < sizeof k_want / sizeof *k_want; i++) gradient_near(&t.p, k_want[i].name, k_want[i].norm, k_want[i].first);
    near("total norm", total_norm(&t.p), 16.153909, NORM_TOLERANCE * 16);
    const param *k_bias = find(&t.p, "encoder.layers.0.self_attn.k_proj.bias");
    assert_true(norm_of(k_bias->grad, k_bias->n) < 1e-7); /* a constant added to all keys changes nothing */
    near("smoothing 0.1", run(t.m, &t.p, &in, 1, &(backprop_options){.smoothing = 0.1f, .loss_only = true}, 1, NULL), 6.323511, LOSS_TOLERANCE);
    near("smoothing 0.3", run(t.m, &t.p, &in, 1, &(backprop_options){.smoothing = 0.3f, .loss_only = true}, 1, NULL), 6.307897, LOSS_TOLERANCE);
    tiny_close(&t);
}

static void test_batch_of_two(void **state) {
    (void)state;
    static const double k_nll[] = {5.737953, 6.516629, 6.739372, 4.532497, 6.980270};
    tiny t;
    batch in;
    double row_loss[5];
    tiny_open(&t);
    batch_make(&in, 1.0 / 5, 1.0 / 5);
    near("mean over tokens", run(t.m, &t.p, &in, 2, &k_plain, 2, row_loss), 6.101344, LOSS_TOLERANCE);
    for (size_t i = 0; i < 5; i++) near("nll", row_loss[i], k_nll[i], LOSS_TOLERANCE);
    batch_make(&in, sample_weight(SAMPLE_EXAMPLE_MEAN, 3, 5) / 2, sample_weight(SAMPLE_EXAMPLE_MEAN, 2, 5) / 2);
    near("mean over examples", run(t.m, &t.p, &in, 2, &k_plain, 2, NULL), 6.043851, LOSS_TOLERANCE);
    tiny_close(&t);
}

static void adapters_fill(const params *p) {
    param **list = sorted(p);
    for (size_t k = 0; k < p->n; k++) fill(list[k], 1000 + k, 0, contains(list[k]->name, "lora_A") ? sqrt(3.0 / (double)list[k]->dims[1]) : 0.05);
    free(list);
}

static void test_lora(void **state) {
    (void)state;
    tiny t;
    batch in;
    lora_training l;
    tiny_open(&t);
    batch_make(&in, 1.0 / 3, 0);
    assert_int_equal(lora_training_new(&l, t.m, &(lora_options){.rank = 8, .alpha = 8, .seed = 1}), PALI_OK);
    assert_int_equal(l.params.n, 40);
    near("loss with B zero", run(l.view, &l.params, &in, 1, &k_plain, 2, NULL), 6.3313179, LOSS_TOLERANCE);
    adapters_fill(&l.params);
    params_clear_grads(&l.params);
    near("loss", run(l.view, &l.params, &in, 1, &k_plain, 2, NULL), 6.2692218, LOSS_TOLERANCE);
    near("total norm", total_norm(&l.params), 3.857307, NORM_TOLERANCE * 3.86);
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
        const param *q = find(p, name);
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
        assert_int_equal(lora_training_new(&s->lora, s->base, contains(dir, "nf4") ? &for_nf4 : &recipe), PALI_OK);
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
    assert_int_equal(backprop_run(&b, e, &result, items, 2, &k_plain), PALI_OK);
    assert_int_equal(result.n_targets, n_rows);
    for (size_t i = 0; i < n_rows; i++) near("nll", row_loss[i], nll[i], LOSS_TOLERANCE * nll[i]);
    const json_t *theirs = golden_field(c, "grads");
    assert_int_equal(json_object_size(theirs), s.p->n);
    double total = total_norm(s.p);
    for (size_t i = 0; i < s.p->n; i++) {
        const param *q = &s.p->items[i];
        size_t n;
        double *want = golden_numbers(golden_field(theirs, q->name), &n);
        const double got[] = {norm_of(q->grad, q->n), (double)q->grad[0], (double)q->grad[q->n / 2], (double)q->grad[q->n - 1]};
        for (size_t j = 0; j < 4; j++) near(q->name, got[j], want[j], PEERS_TOLERANCE * want[0] + 1e-7 * total); /* what ought to be 0 is noise in both */
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
    batch in;
    exec e;
    optim *opt;
    optim_options options;
    double norm;
    tiny_open(&t);
    batch_make(&in, 1.0 / 3, 0);
    assert_int_equal(exec_init(&e, 2), PALI_OK);
    assert_int_equal(optim_options_named(&options, "adamw_torch"), PALI_OK);
    options.weight_decay = 0.01;
    assert_int_equal(optim_new(&opt, &options, &t.p), PALI_OK);
    for (size_t i = 0; i < 4; i++) {
        params_clear_grads(&t.p);
        near("loss", run(t.m, &t.p, &in, 1, &k_plain, 2, NULL), k_loss[i], LOSS_TOLERANCE);
        assert_int_equal(clip_norm(&norm, &e, &t.p), PALI_OK);
        near("norm", norm, k_norm[i], NORM_TOLERANCE * k_norm[i]);
        optim_begin(opt, (optim_rate){1e-3, 1, clip_scale(norm, 1)});
        optim_update(opt, &e, 0, t.p.n);
    }
    optim_free(opt);
    exec_free(&e);
    tiny_close(&t);
}

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
    batch in;
    tiny_open(&t);
    batch_make(&in, 0.25, 0.5);
    double loss = run(t.m, &t.p, &in, 2, &k_plain, 1, NULL);
    float *want = grads_copy(&t.p);
    for (size_t i = 0; i < sizeof k_ways / sizeof *k_ways; i++) {
        params_clear_grads(&t.p);
        assert_true(run(t.m, &t.p, &in, 2, &(backprop_options){.keep_bytes = k_ways[i].keep}, k_ways[i].threads, NULL) == loss);
        same_grads(&t.p, want);
    }
    assert_true(run(t.m, &t.p, &in, 2, &(backprop_options){.loss_only = true}, 1, NULL) == loss);
    same_grads(&t.p, want); /* which a loss alone does not touch */
    free(want);
    tiny_close(&t);
}

static void test_frozen(void **state) {
    (void)state;
    static const char *const k_train[] = {"img", "proj", "embed", "llm.attn", "llm.mlp", "llm.norm", "proj,embed,llm.attn,llm.mlp,llm.norm", "embed,llm.norm", "img,proj"};
    tiny t;
    batch in;
    exec e;
    tiny_open(&t);
    batch_make(&in, 0.25, 0.5);
    assert_int_equal(exec_init(&e, 2), PALI_OK);
    double loss = run(t.m, &t.p, &in, 2, &k_plain, 2, NULL);
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
        assert_true(run(m, &p, &in, 2, &k_plain, 2, NULL) == loss);
        for (size_t j = 0; j < p.n; j++) assert_memory_equal(p.items[j].grad, find(&t.p, p.items[j].name)->grad, p.items[j].n * sizeof(float));
        params_free(&p);
        model_free(m);
    }
    exec_free(&e);
    tiny_close(&t);
}

/* A tower that is frozen worked before: the same as from pixels. And a walk that goes on: gradients add up, larger batches fit. */
static void test_features(void **state) {
    (void)state;
    tiny t;
    batch in;
    exec e;
    lora_training l;
    backprop b;
    float features[2][4 * 32];
    tiny_open(&t);
    batch_make(&in, 0.25, 0.5);
    assert_int_equal(lora_training_new(&l, t.m, &(lora_options){.rank = 4, .alpha = 8, .text_only = true}), PALI_OK);
    adapters_fill(&l.params);
    double loss = run(l.view, &l.params, &in, 2, &k_plain, 2, NULL);
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
    assert_int_equal(backprop_run(&b, &e, &first, in.items, 1, &k_plain), PALI_OK);
    params_clear_grads(&l.params);
    assert_int_equal(backprop_run(&b, &e, &both, in.items, 2, &k_plain), PALI_OK);
    assert_true(both.loss == loss && both.n_targets == 5 && first.n_targets == 3);
    same_grads(&l.params, want);
    assert_int_equal(backprop_run(&b, &e, &both, in.items, 2, &k_plain), PALI_OK);
    size_t at = 0;
    for (size_t i = 0; i < l.params.n; i++) {
        const param *q = &l.params.items[i];
        double size = norm_of(q->grad, q->n); /* sums go on from what is there: rounded at another size */
        for (size_t j = 0; j < q->n; j++) near(q->name, (double)q->grad[j], 2 * (double)want[at++], 1e-6 * size);
    }
    free(want);
    backprop_free(&b);
    exec_free(&e);
    lora_training_free(&l);
    tiny_close(&t);
}

/* ---- Differences of the loss ---- */

/* The loss along d, h away. */
static double loss_along(const model *m, const params *p, const batch *in, const backprop_options *o, float *const *at, float *const *d, double h) {
    backprop_options only = *o;
    only.loss_only = true;
    for (size_t i = 0; i < p->n; i++)
        for (size_t j = 0; j < p->items[i].n; j++) p->items[i].value[j] = (float)((double)at[i][j] + h * (double)d[i][j]);
    return run(m, p, in, 2, &only, 2, NULL);
}

/* Along the gradient of a group itself, of length 1, the loss grows as fast as the gradient is long. Steps change it by ALONG: f32 loses
 * some 1e-6 of a loss, 2e-5 of that, and the fourth-order difference a fifth derivative's share: measured 3e-5. */
#define ALONG 0.05
#define ALONG_TOLERANCE 1e-4

static void differences_check(const model *m, params *p) {
    const backprop_options o = {.smoothing = 0.1f};
    batch in;
    batch_make(&in, 0.25, 0.5);
    float **at = calloc(p->n, sizeof *at), **d = calloc(p->n, sizeof *d);
    assert_true(at && d);
    params_clear_grads(p);
    (void)run(m, p, &in, 2, &o, 2, NULL);
    for (size_t i = 0; i < p->n; i++) {
        at[i] = malloc(p->items[i].n * sizeof **at);
        d[i] = malloc(p->items[i].n * sizeof **d);
        assert_true(at[i] && d[i]);
        memcpy(at[i], p->items[i].value, p->items[i].n * sizeof **at);
    }
    for (int group = SPEC_IMG; group <= SPEC_LLM_NORM; group++) {
        double sum = 0;
        for (size_t i = 0; i < p->n; i++) sum += p->items[i].group == (spec_group)group ? pow(norm_of(p->items[i].grad, p->items[i].n), 2) : 0;
        for (size_t i = 0; i < p->n; i++)
            for (size_t j = 0; j < p->items[i].n; j++) d[i][j] = p->items[i].group == (spec_group)group ? (float)((double)p->items[i].grad[j] / sqrt(sum)) : 0;
        double h = ALONG / sqrt(sum), step[4];
        for (int i = 0; i < 4; i++) step[i] = loss_along(m, p, &in, &o, at, d, h * (i < 2 ? i - 2 : i - 1));
        double numeric = (step[0] - 8 * step[1] + 8 * step[2] - step[3]) / (12 * h);
        near(params_group_name((spec_group)group), sqrt(sum), numeric, ALONG_TOLERANCE * numeric);
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
    config c = k_config;
    c.text.generation = 2;
    c.text.attn_softcap = 5;
    c.text.final_softcap = 4;
    c.text.sliding_window = 6;
    c.text.layer_slides[0] = true;
    tiny_open_of(&t, &c);
    differences_check(t.m, &t.p);
    tiny_close(&t);
}

/* ---- Memory, and what is refused ---- */

static void need_check(const model *m, const params *p, const batch *in, const backprop_options *o) {
    backprop b;
    exec e;
    backprop_result result = {0};
    exec_need need = {0};
    uint64_t n_bytes;
    assert_int_equal(exec_init(&e, 2), PALI_OK);
    assert_int_equal(backprop_init(&b, m, p), PALI_OK);
    assert_int_equal(backprop_need(&need, &n_bytes, &e, &b, in->items, 2, o), PALI_OK);
    assert_int_equal(backprop_run(&b, &e, &result, in->items, 2, o), PALI_OK);
    assert_int_equal(b.block_bytes, n_bytes);
    if (o->keep_bytes == 0) assert_int_equal(e.acts.n_bytes, need.acts); /* else what is kept need not be there a second time */
    assert_true(e.acts.n_bytes <= need.acts && e.shared.n_bytes <= need.shared && e.worker[0].n_bytes <= need.worker);
    backprop_free(&b);
    exec_free(&e);
}

static void test_need(void **state) {
    (void)state;
    tiny t;
    batch in;
    lora_training l;
    tiny_open(&t);
    batch_make(&in, 1, 1);
    need_check(t.m, &t.p, &in, &k_plain);
    need_check(t.m, &t.p, &in, &(backprop_options){.keep_bytes = UINT64_MAX});
    assert_int_equal(lora_training_new(&l, t.m, &(lora_options){.rank = 4, .alpha = 8, .text_only = true}), PALI_OK);
    need_check(l.view, &l.params, &in, &k_plain);
    lora_training_free(&l);
    tiny_close(&t);
}

static void refused(backprop *b, exec *e, const backprop_item *item, const char *message) {
    backprop_result result = {0};
    assert_int_equal(backprop_run(b, e, &result, item, 1, &k_plain), PALI_ERR_ARGUMENT);
    if (!contains(pali_last_error(), message)) fail_msg("\"%s\" does not say \"%s\"", pali_last_error(), message);
}

static void test_refused(void **state) {
    (void)state;
    tiny t;
    batch in;
    exec e;
    backprop b;
    params alien = {0};
    int32_t ids[] = {256, 256, 256, 256, 2, 256, 1};
    const sample stray = {ids, 7, 6}, no_prefix = {g_ids1 + 4, 7, 0}, short_prefix = {g_ids1, 11, 3}, all_prefix = {g_ids1, 11, 11};
    const float features[4 * 32] = {0};
    const backprop_picture cached = {.features = features}, none = {0};
    backprop_result result = {0};
    tiny_open(&t);
    batch_make(&in, 1, 1);
    assert_int_equal(exec_init(&e, 1), PALI_OK);
    assert_int_equal(backprop_init(&b, t.m, &t.p), PALI_OK);
    refused(&b, &e, &(backprop_item){&stray, in.pictures, 1, 1}, "sample 0: id 5: image ids are not those of its pictures");
    refused(&b, &e, &(backprop_item){&k_first, NULL, 0, 1}, "sample 0: id 0: image ids");
    refused(&b, &e, &(backprop_item){&no_prefix, NULL, 0, 1}, "a prefix of 0 of 7 rows");
    refused(&b, &e, &(backprop_item){&short_prefix, in.pictures, 1, 1}, "1 pictures do not fit in a prefix of 3 rows");
    refused(&b, &e, &(backprop_item){&k_first, &none, 1, 1}, "picture 0 is missing");
    refused(&b, &e, &(backprop_item){&k_first, &cached, 1, 1}, "features of a tower that is trained");
    ids[5] = 300;
    refused(&b, &e, &(backprop_item){&stray, in.pictures, 1, 1}, "token id 300");
    ids[5] = 10;
    ids[6] = -1;
    refused(&b, &e, &(backprop_item){&stray, in.pictures, 1, 1}, "-1");
    /* Nothing to learn from is no error. */
    assert_int_equal(backprop_run(&b, &e, &result, &(backprop_item){&all_prefix, in.pictures, 1, 1}, 1, &k_plain), PALI_OK);
    assert_true(result.loss == 0 && result.n_targets == 0);
    assert_int_equal(backprop_run(&b, &e, &result, NULL, 0, &k_plain), PALI_OK);
    backprop_free(&b);
    /* What the model does not compute with. */
    assert_int_equal(params_add(&alien, "alien", SPEC_LLM_ATTN, 1, (const size_t[]){3}), PALI_OK);
    assert_int_equal(params_alloc(&alien, PARAM_F32, false), PALI_OK);
    assert_int_equal(backprop_init(&b, t.m, &alien), PALI_ERR_ARGUMENT);
    assert_true(contains(pali_last_error(), "alien: cannot be trained"));
    params_free(&alien);
    exec_free(&e);
    tiny_close(&t);
}

/* ---- Adapters ---- */

static void count_check(const model *m, const lora_options *o, size_t n_tensors, uint64_t n_values) {
    lora_training l;
    assert_int_equal(lora_training_new(&l, m, o), PALI_OK);
    assert_int_equal(l.params.n, n_tensors);
    assert_int_equal(l.params.n_values, n_values);
    lora_training_free(&l);
}

static void test_lora_counts(void **state) {
    (void)state;
    model *m;
    weights_memory memory;
    assert_int_equal(model_outline(&m, &memory, "3b-224", true, &(model_options){.n_threads = 1}), PALI_OK);
    count_check(m, &(lora_options){.rank = 8, .alpha = 8}, 414, 11298816);
    count_check(m, &(lora_options){.rank = 8, .alpha = 8, .text_only = true}, 252, 9805824);
    count_check(m, &(lora_options){.rank = 1, .alpha = 8, .targets = "linear,fc1,q_proj"}, 2 * (1 + 27 + 27 + 18), 1152 + 2048 + 27 * (1152 + 4304) + 27 * 2304 + 18 * 4096);
    model_free(m);
}

static void lora_refused(const model *m, lora_options o, const char *message) {
    lora_training l;
    assert_int_equal(lora_training_new(&l, m, &o), PALI_ERR_ARGUMENT);
    if (!contains(pali_last_error(), message)) fail_msg("\"%s\" does not say \"%s\"", pali_last_error(), message);
}

static void test_lora_new(void **state) {
    (void)state;
    tiny t;
    lora_training l, again;
    double sum = 0, square = 0, most = 0;
    tiny_open(&t);
    lora_refused(t.m, (lora_options){.rank = 0, .alpha = 8}, "rank: 0");
    lora_refused(t.m, (lora_options){.rank = 5000, .alpha = 8}, "rank: 5000");
    lora_refused(t.m, (lora_options){.rank = 8, .alpha = NAN}, "alpha");
    lora_refused(t.m, (lora_options){.rank = 8, .alpha = 8, .targets = "q_proj,proj"}, "targets: \"proj\"");
    lora_refused(t.m, (lora_options){.rank = 8, .alpha = 8, .targets = ""}, "targets: \"\"");
    lora_refused(t.m, (lora_options){.rank = 8, .alpha = 8, .targets = "embed_tokens"}, "targets: \"embed_tokens\"");
    lora_refused(t.m, (lora_options){.rank = 8, .alpha = 8, .targets = "fc1", .text_only = true}, "no linear layer of the text model");
    assert_int_equal(lora_training_new(&l, t.m, &(lora_options){.rank = 64, .alpha = 16, .rslora = true, .seed = 7}), PALI_OK);
    assert_int_equal(lora_training_new(&again, t.m, &(lora_options){.rank = 64, .alpha = 16, .seed = 7}), PALI_OK);
    assert_true(l.view->text.layers[0].q.lora->scale == 2 && again.view->text.layers[0].q.lora->scale == 0.25f);
    const param *a = find(&l.params, "language_model.layers.1.mlp.down_proj.lora_A"), *b = find(&l.params, "language_model.layers.1.mlp.down_proj.lora_B");
    assert_string_equal(a->name, "base_model.model.model.language_model.layers.1.mlp.down_proj.lora_A.weight");
    assert_memory_equal(a->value, find(&again.params, a->name)->value, a->n * sizeof *a->value);
    for (size_t i = 0; i < a->n; i++) {
        double x = (double)a->value[i] * sqrt(96); /* uniform in [-1, 1): mean 0, variance 1/3 */
        sum += x;
        square += x * x;
        most = fabs(x) > most ? fabs(x) : most;
    }
    /* 6144 of them: the mean errs by 0.0074, the variance by 0.0038; four times that. */
    assert_true(most <= 1 && most > 0.99 && fabs(sum / (double)a->n) < 0.03 && fabs(square / (double)a->n - 1.0 / 3) < 0.015);
    for (size_t i = 0; i < b->n; i++) assert_true(b->value[i] == 0);
    lora_training_free(&l);
    lora_training_free(&again);
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
        cmocka_unit_test(test_bits),
        cmocka_unit_test(test_frozen),
        cmocka_unit_test(test_features),
        cmocka_unit_test(test_differences),
        cmocka_unit_test(test_gemma2),
        cmocka_unit_test(test_need),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_lora_counts),
        cmocka_unit_test(test_lora_new),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
