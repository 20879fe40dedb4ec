/* test_backprop.c: loss and gradients of whole micro-batches: the tiny model of spec training 12 against PyTorch's numbers there,
 * and that what is kept, how many threads work and what is frozen changes no bit of them. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

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

/* Trains the groups; all others have the formula's weights too, which live in `all`. */
static void tiny_open(tiny *t) {
    assert_int_equal(model_random_of(&t->base, &k_config, 1, &(model_options){.dtype = PALI_DTYPE_F32, .n_threads = 1}), PALI_OK);
    assert_int_equal(view_new(&t->m, t->base), PALI_OK);
    assert_int_equal(params_of_spec(&t->p, &t->m->spec, PARAMS_ALL_GROUPS), PALI_OK);
    assert_int_equal(t->p.n, 59);
    assert_int_equal(params_alloc(&t->p, PARAM_F32, false), PALI_OK);
    formula_fill(&t->p);
    params_bind(&t->p);
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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_formula),
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_batch_of_two),
        cmocka_unit_test(test_lora),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
