#include "tiny.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "model/view.h"

const backprop_options k_tiny_plain = {0};

double tiny_u(uint64_t k, uint64_t i) {
    uint64_t z = (k << 32) + i + 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    z ^= z >> 31;
    return (double)(z >> 11) * 0x1p-53 * 2 - 1;
}

const config k_tiny_config = {
    .vit = {.image_size = TINY_R, .patch_size = 14, .n_patches = 4, .width = 32, .n_layers = 2, .n_heads = 2, .mlp_width = 48, .norm_eps = 1e-6f},
    .text = {.generation = 1, .width = 64, .n_layers = 2, .n_heads = 4, .n_kv_heads = 1, .head_dim = 16, .mlp_width = 96, .vocab_size = 300,
             .norm_eps = 1e-6f, .rope_theta = 10000, .attn_scale = 0.25f},
    .image_token = 256, .bos_token = 2, .eos_token = 1, .tied = true, .resample = 3,
};

bool tiny_contains(const char *s, const char *part) {
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
    for (size_t i = 0; i < q->n; i++) q->value[i] = (float)(offset + amplitude * tiny_u(k, i));
}

/* Spec training 12's weights. */
static void formula_fill(const params *p) {
    param **list = sorted(p);
    for (size_t k = 0; k < p->n; k++) {
        const param *q = list[k];
        bool norm = tiny_contains(q->name, "norm"), vit_norm = norm && tiny_contains(q->name, "vision_tower"), weight = tiny_contains(q->name, ".weight");
        double amplitude = tiny_contains(q->name, "embed_tokens") ? 0.2 : tiny_contains(q->name, "position_embedding") ? 0.5 : q->n_dims == 1 ? 0.1 : sqrt(3.0 / (double)(q->n / q->dims[0]));
        fill(q, k, vit_norm && weight ? 1 : 0, amplitude);
    }
    free(list);
}

void tiny_open_of(tiny *t, const config *c) {
    assert_int_equal(model_random_of(&t->base, c, 1, &(model_options){.dtype = PALI_DTYPE_F32, .n_threads = 1}), PALI_OK);
    assert_int_equal(view_new(&t->m, t->base), PALI_OK);
    assert_int_equal(params_of_spec(&t->p, &t->m->spec, PARAMS_ALL_GROUPS), PALI_OK);
    assert_int_equal(params_alloc(&t->p, PARAM_F32, false), PALI_OK);
    formula_fill(&t->p);
    params_bind(&t->p);
}

void tiny_open(tiny *t) {
    tiny_open_of(t, &k_tiny_config);
    assert_int_equal(t->p.n, 59);
}

void tiny_close(tiny *t) {
    model_free(t->m);
    model_free(t->base);
    params_free(&t->p);
}

const param *tiny_param(const params *p, const char *part) {
    const param *found = NULL;
    for (size_t i = 0; i < p->n; i++) {
        if (!tiny_contains(p->items[i].name, part)) continue;
        if (found) fail_msg("two parameters have \"%s\" in their names", part);
        found = &p->items[i];
    }
    if (!found) fail_msg("no parameter has \"%s\" in its name", part);
    return found;
}

double tiny_norm(const float *x, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)x[i] * (double)x[i];
    return sqrt(sum);
}

double tiny_total_norm(const params *p) {
    double sum = 0;
    for (size_t i = 0; i < p->n; i++) sum += pow(tiny_norm(p->items[i].grad, p->items[i].n), 2);
    return sqrt(sum);
}

static int32_t g_ids1[] = {256, 256, 256, 256, 2, 10, 20, 108, 30, 40, 1}, g_ids2[] = {256, 256, 256, 256, 2, 50, 108, 60, 1};
const sample k_tiny_first = {g_ids1, 11, 8}, k_tiny_second = {g_ids2, 9, 7};

/* weights: of the targets of either sample. */
void tiny_batch_make(tiny_batch *b, double first, double second) {
    for (size_t j = 0; j < TINY_PIXELS; j++) {
        b->pixels[0][j] = (float)sin(0.05 * (double)j);
        b->pixels[1][j - j % TINY_R + TINY_R - 1 - j % TINY_R] = b->pixels[0][j];
    }
    b->pictures[0] = (backprop_picture){.pixels = b->pixels[0]};
    b->pictures[1] = (backprop_picture){.pixels = b->pixels[1]};
    b->items[0] = (backprop_item){&k_tiny_first, &b->pictures[0], 1, first};
    b->items[1] = (backprop_item){&k_tiny_second, &b->pictures[1], 1, second};
}

/* One run with a walk of its own. */
double tiny_run(const model *m, const params *p, const tiny_batch *in, size_t n, const backprop_options *o, int threads, double *row_loss) {
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

void assert_near(const char *what, double got, double want, double tolerance) {
    if (!(fabs(got - want) <= tolerance)) fail_msg("%s: %.9g, expected %.9g", what, got, want);
}

void tiny_adapters_fill(const params *p) {
    param **list = sorted(p);
    for (size_t k = 0; k < p->n; k++) fill(list[k], 1000 + k, 0, tiny_contains(list[k]->name, "lora_A") ? sqrt(3.0 / (double)list[k]->dims[1]) : 0.05);
    free(list);
}
