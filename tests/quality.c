/* quality.c: what a type of weights costs in accuracy. Not a test: prints, for each type, how far the logits after a picture and
 * a few text tokens are from those of f32 weights in f32 arithmetic:
 *
 *   quality MODEL|SHAPE [DTYPE...]      a directory, a .gguf file, or a real shape with random weights such as 3b-224
 *
 * error: |logits - f32 logits| / |f32 logits - their mean|, over all text positions; KL: mean of sum p ln(p / q), in nats;
 * top-1: positions whose likeliest token is the same; projector: error of the picture's rows. The first run is f32 at the level
 * PALI_CPU=avx512 (or what the machine has below it), so that bf16 and f16 runs show what faster arithmetic costs too. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/rng.h"
#include "base/status.h"
#include "infer/session.h"
#include "model/gemma.h"

#define N_TEXT 12u
#define SIDE 256u
#define ARITHMETIC "avx512" /* the highest level without halves */

typedef struct outcome {
    float *logits;    /* [N_TEXT, V] */
    float *projector; /* [P, D] */
    size_t n_vocab, n_projector;
} outcome;

static pali_status logits_get(session *s, outcome *out, const image *picture) {
    const model *m = s->m;
    size_t d = m->cfg.text.width, p = m->cfg.vit.n_patches, v = m->cfg.text.vocab_size, n = p + N_TEXT;
    int32_t *ids = malloc(n * sizeof *ids);
    float *all = malloc(n * d * sizeof *all), *hidden = malloc(d * sizeof *hidden);
    *out = (outcome){malloc(N_TEXT * v * sizeof(float)), malloc(p * d * sizeof(float)), v, p * d};
    if (!ids || !all || !hidden || !out->logits || !out->projector) exit(2);
    for (size_t i = 0; i < n; i++) ids[i] = i < p ? m->cfg.image_token : i == p ? m->cfg.bos_token : (int32_t)(5 + 37 * (i - p) % (v - 5));
    kv_cache prefix = {0};
    result stats = {0};
    request q = {.images = &picture, .n_images = 1, .ids = ids, .n_ids = n};
    pali_status status = session_pixels(s, picture);
    if (status == PALI_OK) status = session_vision(s);
    if (status == PALI_OK) status = vit_project(&s->e, &m->vit, out->projector, s->vision, p);
    if (status == PALI_OK) status = session_prefill(s, &prefix, hidden, all, &q, &stats);
    if (status == PALI_OK) status = gemma_logits(&s->e, &m->text, out->logits, all + p * d, N_TEXT, false);
    kv_free(&prefix);
    free(ids);
    free(all);
    free(hidden);
    return status;
}

static outcome run(const char *name, pali_dtype dtype, const image *picture) {
    model_options o = {.dtype = dtype};
    model *m = NULL;
    session s;
    outcome out = {0};
    pali_status status = file_exists(name) ? model_load(&m, name, &o) : model_random(&m, name, 1, &o);
    if (status == PALI_OK) status = session_init(&s, m, NULL, 0);
    if (status == PALI_OK) {
        status = logits_get(&s, &out, picture);
        session_free(&s);
    }
    model_free(m);
    if (status == PALI_OK) return out;
    fprintf(stderr, "quality: %s\n", status_message());
    exit(1);
}

static double error_of(const float *x, const float *want, size_t n, double mean) {
    double error = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        error += ((double)x[i] - (double)want[i]) * ((double)x[i] - (double)want[i]);
        size += ((double)want[i] - mean) * ((double)want[i] - mean);
    }
    return sqrt(error / size);
}

static double log_sum_exp(const float *x, size_t n, size_t *top) {
    double max = (double)x[*top = 0], sum = 0;
    for (size_t i = 1; i < n; i++)
        if ((double)x[i] > max) max = (double)x[*top = i];
    for (size_t i = 0; i < n; i++) sum += exp((double)x[i] - max);
    return max + log(sum);
}

static void compare(const char *name, const outcome *x, const outcome *want) {
    double kl = 0, error = 0;
    size_t same = 0, v = want->n_vocab;
    for (size_t r = 0; r < N_TEXT; r++) {
        const float *a = want->logits + r * v, *b = x->logits + r * v;
        size_t top_a, top_b;
        double mean = 0, za = log_sum_exp(a, v, &top_a), zb = log_sum_exp(b, v, &top_b);
        for (size_t i = 0; i < v; i++) {
            mean += (double)a[i] / (double)v;
            kl += exp((double)a[i] - za) * ((double)a[i] - za - (double)b[i] + zb) / N_TEXT;
        }
        error += error_of(b, a, v, mean) / N_TEXT;
        same += top_a == top_b;
    }
    printf("%-6s logits: error %8.2e, KL %9.2e, top-1 %2zu of %u; projector: error %8.2e\n", name, error, kl, same, N_TEXT,
           error_of(x->projector, want->projector, want->n_projector, 0));
    fflush(stdout);
}

int main(int argc, char **argv) {
    static const char *const k_all[] = {"bf16", "f16", "q8_0", "q4_k", "q4_1", "q4_0"};
    if (argc < 2) return fprintf(stderr, "usage: quality MODEL|SHAPE [DTYPE...]\n"), 2;
    rng r;
    rng_seed(&r, 7);
    uint8_t *rgb = malloc(SIDE * SIDE * 3);
    if (!rgb) return 2;
    for (size_t i = 0; i < SIDE * SIDE * 3; i++) rgb[i] = (uint8_t)(i / 3 % SIDE / 2 + rng_next(&r) % 64 + i / 3 / SIDE / 4);
    image picture = {.rgb = rgb, .width = SIDE, .height = SIDE};
    char *asked = getenv("PALI_CPU") ? strdup(getenv("PALI_CPU")) : NULL;
    setenv("PALI_CPU", ARITHMETIC, 1);
    outcome want = run(argv[1], PALI_DTYPE_F32, &picture);
    if (asked)
        setenv("PALI_CPU", asked, 1);
    else
        unsetenv("PALI_CPU");
    size_t n = argc > 2 ? (size_t)argc - 2 : sizeof k_all / sizeof *k_all;
    for (size_t i = 0; i < n; i++) {
        const char *name = argc > 2 ? argv[2 + i] : k_all[i];
        int dtype = PALI_DTYPE_F32;
        while (dtype <= PALI_DTYPE_Q4_K && strcmp(pali_dtype_name((pali_dtype)dtype), name) != 0) dtype++;
        if (dtype > PALI_DTYPE_Q4_K) return fprintf(stderr, "quality: %s: unknown type\n", name), 2;
        outcome x = run(argv[1], (pali_dtype)dtype, &picture);
        compare(name, &x, &want);
        free(x.logits);
        free(x.projector);
    }
    free(want.logits);
    free(want.projector);
    free(asked);
    free(rgb);
    return 0;
}
