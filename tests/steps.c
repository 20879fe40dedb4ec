/* steps.c: how long a micro-batch of training takes at the 3B shape, and how much memory beside what the plan says. Not a test: random
 * weights, rows of R image rows, a prefix of 12 and an answer of 3.
 *
 *   steps [NAME=VALUE ...]
 *
 *   shape=3b-224    layers=N       text blocks, fewer than the shape has; not with steps=0
 *   type=bf16       of the model's weights: f32, bf16 or nf4 (of the text model's matrices alone)
 *   method=lora     lora: rank 8; full: the groups of train= themselves, in f32, or `pure` in bf16 alone with gradients in bf16
 *   train=GROUPS    llm.attn or whatever the option of finetune takes; everything but img unless said
 *   optim=adamw     as finetune knows them; paged=DIR: where the paged ones have their file, in memory without
 *   vision=pixels   features: the tower's are cached; pixels: it runs but is frozen; tower: adapters too, or img is trained
 *   rows=1          of the micro-batch
 *   memory=GB       bound on the whole; what is kept is the plan's choice, unless keep=GB says it
 *   threads=N       forward=1: alone too     steps=3, 0: the plan, of no weights
 *
 * Prints the loss alone, then steps with backward and update. Processor time of all threads stands beside the clock's, for machines
 * that others use too. Weights that are trained are in memory once: pages of the random ones that parameters were made of are given
 * back, as those of a mapped file would be. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>

#include "base/clock.h"
#include "train/clip.h"
#include "train/train_plan.h"

enum { PREFIX = 12, SUFFIX = 3, MAX_ROWS = 64 };

static void fail(const char *what) {
    fprintf(stderr, "steps: %s: %s\n", what, pali_last_error());
    exit(2);
}

static void check(pali_status s, const char *what) {
    if (s != PALI_OK) fail(what);
}

/* The value of NAME=VALUE among the arguments, or what it is otherwise. */
static const char *given(char **argv, const char *name, const char *otherwise) {
    size_t n = strlen(name);
    for (; *argv; argv++)
        if (strncmp(*argv, name, n) == 0 && (*argv)[n] == '=') return *argv + n + 1;
    return otherwise;
}

typedef struct timing {
    double wall, cpu;
} timing;

static timing now(void) {
    struct timespec t = {0};
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (timing){clock_ms() * 1e-3, (double)t.tv_sec + (double)t.tv_nsec * 1e-9};
}

static void print_since(const char *what, timing start, double loss) {
    timing end = now();
    struct rusage usage;
    (void)getrusage(RUSAGE_SELF, &usage);
    printf("%-10s %7.2f s, processor %7.2f s, loss %.4f, peak %.2f GB\n", what, end.wall - start.wall, end.cpu - start.cpu, loss, (double)usage.ru_maxrss * 1024e-9);
    fflush(stdout);
}

/* Whole pages of the random weights that are parameters now; returns their bytes, also of an outline. */
static uint64_t pages_give_back(const model *m, unsigned groups) {
    enum { PAGE = 4096 };
    uint64_t n_bytes = 0;
    for (size_t i = 0; i < m->spec.n; i++) {
        const spec_tensor *t = &m->spec.tensors[i];
        if (!(groups & PARAMS_GROUP(t->group)) || !t->matrix || (t->optional && !t->matrix->data)) continue;
        size_t at = (size_t)t->matrix->data, before = (PAGE - at % PAGE) % PAGE, n = mat_bytes(t->matrix);
        if (at && n > before) (void)madvise((void *)(at + before), (n - before) / PAGE * PAGE, MADV_DONTNEED);
        n_bytes += n;
    }
    return n_bytes;
}

static uint64_t gigabytes(const char *text) {
    return (uint64_t)(atof(text) * 1e9);
}

int main(int argc, char **argv) {
    (void)argc;
    const char *type = given(argv, "type", "bf16"), *vision = given(argv, "vision", "pixels"), *method = given(argv, "method", "lora");
    const bool tower = strcmp(vision, "tower") == 0, features_given = strcmp(vision, "features") == 0;
    model_options mo = {.n_threads = atoi(given(argv, "threads", "0"))};
    mo.dtype = strcmp(type, "f32") == 0 ? PALI_DTYPE_F32 : strcmp(type, "nf4") == 0 ? PALI_DTYPE_NF4 : PALI_DTYPE_BF16;
    if (mo.dtype == PALI_DTYPE_NF4) mo.embed_dtype = mo.vision_dtype = PALI_DTYPE_BF16;
    trainable_options what = {.adapters = strcmp(method, "lora") == 0, .lora = {.rank = 8, .alpha = 8, .seed = 1, .text_only = !tower}};
    if (strcmp(method, "pure") == 0) {
        what.storage = PARAM_BF16;
        what.half_grads = true;
    }
    check(params_groups_parse(&what.groups, given(argv, "train", NULL), tower ? NULL : "img"), "train");

    config cfg;
    const char *shape = given(argv, "shape", "3b-224");
    check(config_named(&cfg, shape), "shape");
    const size_t n_layers = (size_t)atoi(given(argv, "layers", "0"));
    if (n_layers && n_layers < cfg.text.n_layers) cfg.text.n_layers = n_layers;
    const size_t n_rows = (size_t)atoi(given(argv, "rows", "1")), n_steps = (size_t)atoi(given(argv, "steps", "3"));
    if (n_rows < 1 || n_rows > MAX_ROWS || (n_layers && !n_steps)) return 2;
    const size_t n_image = cfg.vit.n_patches, n = n_image + PREFIX + SUFFIX, n_pixels = 3 * cfg.vit.image_size * cfg.vit.image_size;
    int32_t *ids = calloc(n, sizeof *ids);
    float *pixels = calloc(n_pixels, sizeof *pixels), *features = calloc(n_image * cfg.vit.width, sizeof *features);
    if (!ids || !pixels || !features) return 2;
    for (size_t i = 0; i < n; i++) ids[i] = i < n_image ? cfg.image_token : (int32_t)(1000 + 77 * i);
    for (size_t i = 0; i < n_pixels; i++) pixels[i] = (float)(i % 255) / 127.5f - 1;
    const sample text = {ids, n, n_image + PREFIX};
    backprop_picture picture = {.pixels = pixels};
    backprop_item items[MAX_ROWS];
    for (size_t i = 0; i < n_rows; i++) items[i] = (backprop_item){&text, &picture, 1, 1.0 / (SUFFIX * (double)n_rows)};

    model *m;
    trainable t;
    backprop b;
    exec e;
    optim *opt;
    optim_options oo;
    train_plan plan;
    weights_memory sizes;
    check(optim_options_named(&oo, given(argv, "optim", "adamw")), "optimizer");
    oo.stochastic = what.half_grads;
    oo.paged_dir = given(argv, "paged", NULL);
    check(exec_init(&e, mo.n_threads), "exec");
    check(n_steps ? model_random_of(&m, &cfg, 1, &mo) : model_outline(&m, &sizes, shape, true, &mo), "model");
    const train_plan_options po = {.what = &what, .optimizer = &oo, .memory_bytes = gigabytes(given(argv, "memory", "0"))};
    check(train_plan_micro(&plan, &e, m, &po, items, n_rows), "plan");
    check(trainable_new(&t, m, &what, n_steps ? &e : NULL), "parameters");
    if (!what.adapters) plan.weights -= pages_give_back(m, what.groups);
    check(backprop_init(&b, t.view, t.p), "backprop");
    check(optim_new(&opt, &oo, t.p), "optimizer");
    const char *keep = given(argv, "keep", NULL);
    if (keep) plan.keep_bytes = gigabytes(keep);
    const backprop_options plain = {.keep_bytes = plan.keep_bytes}, only = {.loss_only = true};
    printf("plan       %.2f GB = weights %.2f + needed %.2f + kept %.2f; %llu parameters\n", (double)(plan.weights + plan.needed + plan.keep_bytes) * 1e-9,
           (double)plan.weights * 1e-9, (double)plan.needed * 1e-9, (double)plan.keep_bytes * 1e-9, (unsigned long long)plan.n_parameters);
    fflush(stdout);

    if (features_given && n_steps) {
        check(vit_forward(&e, &t.view->vit, features, pixels), "tower");
        picture = (backprop_picture){.features = features};
    }
    backprop_result result = {0};
    timing start = now();
    if (n_steps && atoi(given(argv, "forward", "1"))) {
        check(backprop_run(&b, &e, &result, items, n_rows, &only), "loss");
        print_since("forward", start, result.loss);
    }
    for (size_t i = 0; i < n_steps; i++) {
        double norm;
        start = now();
        params_clear_grads(t.p);
        check(backprop_run(&b, &e, &result, items, n_rows, &plain), "step");
        check(clip_norm(&norm, &e, t.p), "norm");
        optim_begin(opt, (optim_rate){1e-4, 1, clip_scale(norm, 1)});
        check(optim_update(opt, &e, 0, t.p->n), "update");
        print_since("step", start, result.loss);
    }
    optim_free(opt);
    backprop_free(&b);
    trainable_free(&t);
    model_free(m);
    exec_free(&e);
    free(ids);
    free(pixels);
    free(features);
    return 0;
}
