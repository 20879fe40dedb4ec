/* cmd_bench.c: paligemma bench. One run that is not counted brings the weights into memory; then the medians. */
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "input.h"
#include "limits.h"
#include "report.h"

#define PICTURE_WIDTH 640
#define PICTURE_HEIGHT 480

typedef struct times {
    double preprocess_ms, vision_ms, prefill_ms, decode_ms;
} times;

typedef struct measurement {
    times median;
    double load_ms, decode_tok_s;
    size_t prefill_tok, n_steps; /* decode steps: the first token comes out of prefill */
    uint64_t peak_rss_bytes;
    size_t n_limit_threads;
    double read_gb_s, fp32_gop_s, fp16_gop_s, int8_gop_s;      /* the machine's limits; 0: it has none of the kind */
    double vision_fraction, prefill_fraction, decode_fraction; /* of the limit of the arithmetic used, and of reading */
    const char *vision_limit, *prefill_limit;                  /* which one */
} measurement;

static int compare_doubles(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The median of one field of n runs; scratch has room for n. */
static double median(const times *runs, size_t n, size_t offset, double *scratch) {
    for (size_t i = 0; i < n; i++) memcpy(&scratch[i], (const char *)&runs[i] + offset, sizeof *scratch);
    qsort(scratch, n, sizeof *scratch, compare_doubles);
    return n % 2 ? scratch[n / 2] : (scratch[n / 2 - 1] + scratch[n / 2]) / 2;
}

/* A smooth made-up picture: its content does not change the times. */
static int make_picture(cli *c, pali_image **out) {
    uint8_t *rgb = malloc((size_t)3 * PICTURE_WIDTH * PICTURE_HEIGHT);
    if (!rgb) return cli_fail(c, "bench: out of memory");
    for (size_t y = 0; y < PICTURE_HEIGHT; y++) {
        for (size_t x = 0; x < PICTURE_WIDTH; x++) {
            uint8_t *p = rgb + 3 * (y * PICTURE_WIDTH + x);
            p[0] = (uint8_t)(x * 255 / PICTURE_WIDTH);
            p[1] = (uint8_t)(y * 255 / PICTURE_HEIGHT);
            p[2] = (uint8_t)((x ^ y) & 255);
        }
    }
    pali_status status = pali_image_from_rgb(out, rgb, PICTURE_WIDTH, PICTURE_HEIGHT, 0);
    free(rgb);
    return status == PALI_OK ? CLI_OK : cli_fail_library(c, status, "picture");
}

/* Copies of the pictures that differ from any other run's in one pixel: a session remembers pictures that it has seen, and
 * the time to see them is what is asked for. */
static int make_variants(cli *c, pictures *out, const pictures *images, size_t run) {
    *out = (pictures){calloc(images->n, sizeof *out->items), 0};
    if (!out->items) return cli_fail(c, "bench: out of memory");
    for (; out->n < images->n; out->n++) {
        const pali_image *image = images->items[out->n];
        int32_t width = pali_image_width(image), height = pali_image_height(image);
        size_t n_bytes = (size_t)3 * (size_t)width * (size_t)height;
        uint8_t *rgb = malloc(n_bytes);
        if (!rgb) return cli_fail(c, "bench: out of memory");
        memcpy(rgb, pali_image_rgb(image), n_bytes);
        for (size_t i = 0; i < 3; i++) rgb[i] = (uint8_t)(run >> (8 * i));
        pali_status status = pali_image_from_rgb(&out->items[out->n], rgb, width, height, 0);
        free(rgb);
        if (status != PALI_OK) return cli_fail_library(c, status, "picture");
    }
    return CLI_OK;
}

/* Image ids, bos and some text ids; *out is [*out_n], free() it. */
static int make_ids(cli *c, const pali_model_info *m, size_t n_images, int32_t **out, size_t *out_n) {
    size_t n_image = n_images * (size_t)m->n_image_tokens, n_prompt = (size_t)c->args.prompt_tokens, n = n_image + 1 + n_prompt;
    int32_t *ids = malloc(n * sizeof *ids);
    if (!ids) return cli_fail(c, "bench: out of memory");
    for (size_t i = 0; i < n_image; i++) ids[i] = m->image_token;
    ids[n_image] = m->bos_token;
    for (size_t i = 0; i < n_prompt; i++) {
        int32_t id = (int32_t)(4 + i % 61) % m->vocab_size;
        ids[n_image + 1 + i] = id == m->image_token ? m->bos_token : id;
    }
    *out = ids;
    *out_n = n;
    return CLI_OK;
}

static uint64_t peak_rss_bytes(void) {
    struct rusage usage;
    return getrusage(RUSAGE_SELF, &usage) == 0 ? (uint64_t)usage.ru_maxrss * 1024 : 0;
}

static int measure_runs(cli *c, pali_session *session, const pictures *images, const int32_t *ids, size_t n_ids, measurement *x) {
    size_t n_runs = (size_t)c->args.n_runs;
    times *runs = calloc(n_runs, sizeof *runs);
    double *scratch = calloc(n_runs, sizeof *scratch);
    pali_generate_options options;
    pali_generate_options_init(&options);
    options.max_tokens = c->args.max_tokens ? (int32_t)c->args.max_tokens : CLI_BENCH_TOKENS;
    options.ignore_eos = 1;
    options.progress = cli_progress;
    options.user = c;
    int code = runs && scratch ? CLI_OK : cli_fail(c, "bench: out of memory");
    for (size_t i = 0; i <= n_runs && !code; i++) {
        pali_result *result = NULL;
        pali_stats s = {.struct_size = sizeof s};
        pictures variants;
        code = make_variants(c, &variants, images, i);
        if (!code) {
            pali_status status =
                pali_generate_tokens(session, (const pali_image *const *)variants.items, variants.n, ids, n_ids, &options, &result);
            if (status == PALI_OK) status = pali_result_get_stats(result, &s);
            if (status != PALI_OK) code = cli_fail_library(c, status, "bench");
        }
        pali_result_free(result);
        pictures_free(&variants);
        if (i > 0) runs[i - 1] = (times){s.preprocess_ms, s.vision_ms, s.prefill_ms, s.decode_ms};
        x->n_steps = s.generated_tokens > 1 ? s.generated_tokens - 1 : 0;
        cli_progress_clear(c);
    }
    if (!code) {
        x->median = (times){median(runs, n_runs, offsetof(times, preprocess_ms), scratch), median(runs, n_runs, offsetof(times, vision_ms), scratch),
                            median(runs, n_runs, offsetof(times, prefill_ms), scratch), median(runs, n_runs, offsetof(times, decode_ms), scratch)};
        x->prefill_tok = n_ids;
        x->decode_tok_s = x->median.decode_ms > 0 ? (double)x->n_steps / x->median.decode_ms * 1e3 : 0;
        x->peak_rss_bytes = peak_rss_bytes();
    }
    free(scratch);
    free(runs);
    return code;
}

static double fraction(double work_per_s, double limit_per_s) {
    return limit_per_s > 0 ? work_per_s / limit_per_s : 0;
}

static double bits_per_weight(pali_dtype dtype) {
    switch (dtype) {
    case PALI_DTYPE_F32: return 32;
    case PALI_DTYPE_Q8_0: return 8.5; /* 34 bytes for 32 */
    case PALI_DTYPE_Q4_1: return 5;
    case PALI_DTYPE_Q4_0:
    case PALI_DTYPE_Q4_K:
    case PALI_DTYPE_NF4:
    case PALI_DTYPE_FP4: return 4.5;
    case PALI_DTYPE_INT8: return 8;
    default: return 16;
    }
}

/* What the tensors say about a step of the text model: bytes of all its matrices and the head, and the types of the largest
 * matrices of the tower and of the text layers. */
static double decode_bytes(const pali_model *model, pali_dtype *vision, pali_dtype *text) {
    double bytes = 0, table = 0, head = 0;
    *vision = *text = PALI_DTYPE_BF16;
    for (size_t i = 0; i < pali_model_tensor_count(model); i++) {
        pali_tensor_info t = {.struct_size = sizeof t};
        if (pali_model_get_tensor(model, i, &t) != PALI_OK || t.n_dims != 2) continue;
        double n = (double)t.dims[0] * (double)t.dims[1] * bits_per_weight(t.dtype) / 8;
        if (strstr(t.name, "mlp.fc1.")) *vision = t.dtype;
        if (strstr(t.name, "mlp.gate_proj.")) *text = t.dtype;
        if (strstr(t.name, "embed_tokens."))
            table = n;
        else if (!strncmp(t.name, "lm_head.", 8))
            head = n;
        else if (!strncmp(t.name, "language_model.", 15))
            bytes += n;
    }
    return bytes + (head > 0 ? head : table);
}

/* The limit of the arithmetic that products with weights of this type use where the processor has it. */
static double limit_of(const measurement *x, pali_dtype dtype, const char **name) {
    bool blocks = dtype >= PALI_DTYPE_Q8_0 && dtype <= PALI_DTYPE_Q4_K, half = dtype == PALI_DTYPE_BF16 || dtype == PALI_DTYPE_F16 || dtype == PALI_DTYPE_NF4 || dtype == PALI_DTYPE_FP4;
    *name = blocks && x->int8_gop_s > 0 ? "int8" : half && x->fp16_gop_s > 0 ? "fp16" : "fp32";
    return !strcmp(*name, "int8") ? x->int8_gop_s : !strcmp(*name, "fp16") ? x->fp16_gop_s : x->fp32_gop_s;
}

/* Work that the mathematics demands (two operations a multiply-add; decoding reads every weight of the text model, its
 * head and the KV cache once a token) over what the machine could do in the time. */
static void measure_limits(cli *c, const pali_model *model, const pali_model_info *m, size_t n_images, measurement *x) {
    x->n_limit_threads = c->args.n_threads ? (size_t)c->args.n_threads : limits_n_threads();
    x->read_gb_s = limits_read_gb_s(x->n_limit_threads);
    x->fp32_gop_s = limits_fp32_gop_s(x->n_limit_threads);
    x->fp16_gop_s = limits_fp16_gop_s(x->n_limit_threads);
    x->int8_gop_s = limits_int8_gop_s(x->n_limit_threads);

    pali_dtype vision_dtype, text_dtype;
    double weight_bytes = decode_bytes(model, &vision_dtype, &text_dtype);
    double vision_limit = limit_of(x, vision_dtype, &x->vision_limit), prefill_limit = limit_of(x, text_dtype, &x->prefill_limit);
    double images = (double)n_images, patches = m->n_image_tokens, width = m->vision_width;
    double vision = patches * m->vision_layers * (4 * width * width + 2 * width * m->vision_mlp_width) /* linear */
                    + 2 * patches * patches * width * m->vision_layers                                /* attention */
                    + 3.0 * m->image_size * m->image_size * width                                     /* patch embedding */
                    + patches * width * m->text_width;                                                /* projector */
    double rows = (double)x->prefill_tok, heads = (double)m->text_heads * m->text_head_dim,
           kv_heads = (double)m->text_kv_heads * m->text_head_dim, d = m->text_width, layers = m->text_layers;
    double layer_weights = d * (heads + 2 * kv_heads) + heads * d + 3 * d * m->text_mlp_width, head = d * m->vocab_size;
    double prefill = layers * (rows * layer_weights + 2 * rows * rows * heads) + head;
    double step_bytes = weight_bytes + (double)m->kv_bytes_per_token * (rows + (double)x->n_steps / 2);
    if (x->median.vision_ms > 0) x->vision_fraction = fraction(2 * images * vision / x->median.vision_ms / 1e6, vision_limit);
    if (x->median.prefill_ms > 0) x->prefill_fraction = fraction(2 * prefill / x->median.prefill_ms / 1e6, prefill_limit);
    x->decode_fraction = fraction(step_bytes * x->decode_tok_s / 1e9, x->read_gb_s);
}

static json_t *measurement_json(cli *c, const pali_model_info *m, const measurement *x) {
    return json_pack("{s:i, s:s, s:i, s:o, s:o, s:o, s:o, s:I, s:o, s:f, s:I, s:{s:I, s:f, s:f, s:f, s:f}, s:{s:f, s:f, s:f}}", "schema", REPORT_SCHEMA,
                     "model", m->name, "runs", (int)c->args.n_runs, "load_ms", report_ms(x->load_ms), "preprocess_ms",
                     report_ms(x->median.preprocess_ms), "vision_ms", report_ms(x->median.vision_ms), "prefill_ms",
                     report_ms(x->median.prefill_ms), "prefill_tok", (json_int_t)x->prefill_tok, "decode_ms", report_ms(x->median.decode_ms),
                     "decode_tok_s", x->decode_tok_s, "peak_rss_bytes", (json_int_t)x->peak_rss_bytes, "limits", "threads",
                     (json_int_t)x->n_limit_threads, "read_gb_s", x->read_gb_s, "fp32_gflop_s", x->fp32_gop_s, "fp16_gflop_s",
                     x->fp16_gop_s, "int8_gop_s", x->int8_gop_s, "fractions", "vision",
                     x->vision_fraction, "prefill", x->prefill_fraction, "decode", x->decode_fraction);
}

static void print_plain(cli *c, const pali_model_info *m, const measurement *x) {
    fprintf(c->out, "model       %s%s\n", m->name, c->args.random ? ", random weights" : "");
    fprintf(c->out, "load        %10.1f ms\n", x->load_ms);
    fprintf(c->out, "preprocess  %10.1f ms\n", x->median.preprocess_ms);
    fprintf(c->out, "vision      %10.1f ms  %20s %5.1f %% of the %s limit\n", x->median.vision_ms, "", x->vision_fraction * 100, x->vision_limit);
    fprintf(c->out, "prefill     %10.1f ms  %5zu tok, %6.1f tok/s %5.1f %% of the %s limit\n", x->median.prefill_ms, x->prefill_tok,
            x->median.prefill_ms > 0 ? (double)x->prefill_tok / x->median.prefill_ms * 1e3 : 0, x->prefill_fraction * 100, x->prefill_limit);
    fprintf(c->out, "decode      %10.1f ms  %5zu tok, %6.2f tok/s %5.1f %% of the read limit\n", x->median.decode_ms, x->n_steps, x->decode_tok_s,
            x->decode_fraction * 100);
    fprintf(c->out, "peak memory %10.2f GiB\n", (double)x->peak_rss_bytes / (1024.0 * 1024.0 * 1024.0));
    fprintf(c->out, "limits      %.1f GB/s read, %.0f GFLOP/s fp32, %.0f fp16, %.0f GOP/s int8 (0: none), measured on %zu threads\n", x->read_gb_s,
            x->fp32_gop_s, x->fp16_gop_s, x->int8_gop_s, x->n_limit_threads);
}

int cmd_bench(cli *c) {
    const args *a = &c->args;
    if (a->model && a->random) return cli_usage(c, "bench: --random: no -m expected");
    int code = input_check_stdin(c);
    if (code) return code;
    pali_model *model = NULL;
    pali_session *session = NULL;
    pictures images = {0};
    measurement x = {0};
    pali_model_info info = {.struct_size = sizeof info};
    int32_t *ids = NULL;
    size_t n_ids = 0;
    code = input_pictures(c, &images, a->images.items, a->images.n);
    if (!code && !images.n) {
        code = make_picture(c, &images.items[0]);
        images.n = !code;
    }
    double start_ms = cli_clock_ms();
    if (!code) code = cli_open(c, &model, &session);
    x.load_ms = cli_clock_ms() - start_ms;
    if (!code) {
        pali_status status = pali_model_get_info(model, &info);
        if (status != PALI_OK) code = cli_fail_library(c, status, "bench");
    }
    if (!code) code = make_ids(c, &info, images.n, &ids, &n_ids);
    if (!code) code = measure_runs(c, session, &images, ids, n_ids, &x);
    if (!code && !cli_interrupted()) {
        measure_limits(c, model, &info, images.n, &x);
        if (a->json) {
            code = report_print(c, measurement_json(c, &info, &x));
        } else {
            print_plain(c, &info, &x);
        }
    }
    free(ids);
    cli_watch(NULL);
    pali_session_free(session);
    pali_model_free(model);
    pictures_free(&images);
    return code;
}
