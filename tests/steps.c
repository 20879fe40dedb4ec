/* steps.c: how long a micro-batch of training takes at the 3B shape, and how much memory. Not a test: random weights, one sample of
 * 256 image rows, a prefix of 12 and an answer of 3, LoRA of rank 8 on the text model (frozen vision) or also on the tower:
 *
 *   steps [TYPE [THREADS [KEEP_GB [features | pixels | tower]]]]
 *
 * TYPE of the text model's weights: f32, bf16 or nf4. KEEP_GB: of blocks' insides. features: the tower's are cached; pixels: it runs but
 * is frozen; tower: it has adapters too. Prints the loss alone, then steps with backward and AdamW. Processor time of all threads
 * stands beside the clock's, for machines that others use too. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "base/clock.h"
#include "train/backprop.h"
#include "train/clip.h"
#include "train/lora.h"
#include "train/optim.h"

enum { PREFIX = 12, SUFFIX = 3, STEPS = 3 };

static void fail(const char *what) {
    fprintf(stderr, "steps: %s: %s\n", what, pali_last_error());
    exit(2);
}

static void check(pali_status s, const char *what) {
    if (s != PALI_OK) fail(what);
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

int main(int argc, char **argv) {
    const char *type = argc > 1 ? argv[1] : "bf16", *vision = argc > 4 ? argv[4] : "pixels";
    model_options mo = {.n_threads = argc > 2 ? atoi(argv[2]) : 0};
    mo.dtype = strcmp(type, "f32") == 0 ? PALI_DTYPE_F32 : strcmp(type, "nf4") == 0 ? PALI_DTYPE_NF4 : PALI_DTYPE_BF16;
    if (mo.dtype == PALI_DTYPE_NF4) mo.embed_dtype = mo.vision_dtype = PALI_DTYPE_BF16;
    const backprop_options plain = {.keep_bytes = (uint64_t)((argc > 3 ? atof(argv[3]) : 0) * 1e9)}, only = {.loss_only = true};
    const lora_options lo = {.rank = 8, .alpha = 8, .seed = 1, .text_only = strcmp(vision, "tower") != 0};
    model *m;
    lora_training l;
    backprop b;
    exec e;
    optim *opt;
    optim_options oo;
    check(model_random(&m, "3b-224", 1, &mo), "model");
    check(lora_training_new(&l, m, &lo), "lora");
    check(backprop_init(&b, l.view, &l.params), "backprop");
    check(exec_init(&e, mo.n_threads), "exec");
    check(optim_options_named(&oo, "adamw"), "optimizer");
    check(optim_new(&opt, &oo, &l.params), "optimizer");

    size_t n_image = m->cfg.vit.n_patches, n = n_image + PREFIX + SUFFIX, n_pixels = 3 * m->cfg.vit.image_size * m->cfg.vit.image_size;
    int32_t *ids = calloc(n, sizeof *ids);
    float *pixels = calloc(n_pixels, sizeof *pixels), *features = calloc(n_image * m->cfg.vit.width, sizeof *features);
    if (!ids || !pixels || !features) return 2;
    for (size_t i = 0; i < n; i++) ids[i] = i < n_image ? m->cfg.image_token : (int32_t)(1000 + 77 * i);
    for (size_t i = 0; i < n_pixels; i++) pixels[i] = (float)(i % 255) / 127.5f - 1;
    const sample text = {ids, n, n_image + PREFIX};
    backprop_picture picture = {.pixels = pixels};
    if (strcmp(vision, "features") == 0) {
        check(vit_forward(&e, &l.view->vit, features, pixels), "tower");
        picture = (backprop_picture){.features = features};
    }
    const backprop_item item = {&text, &picture, 1, 1.0 / SUFFIX};
    backprop_result result = {0};
    for (int i = 0; i < 2; i++) {
        timing start = now();
        check(backprop_run(&b, &e, &result, &item, 1, &only), "loss");
        print_since("forward", start, result.loss);
    }
    for (int i = 0; i < STEPS; i++) {
        double norm;
        timing start = now();
        params_clear_grads(&l.params);
        check(backprop_run(&b, &e, &result, &item, 1, &plain), "step");
        check(clip_norm(&norm, &e, &l.params), "norm");
        optim_begin(opt, (optim_rate){1e-4, 1, clip_scale(norm, 1)});
        optim_update(opt, &e, 0, l.params.n);
        print_since("step", start, result.loss);
    }
    optim_free(opt);
    backprop_free(&b);
    lora_training_free(&l);
    model_free(m);
    exec_free(&e);
    free(ids);
    free(pixels);
    free(features);
    return 0;
}
