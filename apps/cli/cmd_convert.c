/* cmd_convert.c: paligemma convert, quantize and merge: a model read in one form and written in another. */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "calibrate.h"
#include "report.h"

/* The file would replace what the tokenizer was read from. */
static bool is_tokenizer(const args *a) {
    struct stat output, tokenizer;
    return a->tokenizer && stat(a->output, &output) == 0 && stat(a->tokenizer, &tokenizer) == 0 && output.st_dev == tokenizer.st_dev &&
           output.st_ino == tokenizer.st_ino;
}

static bool ends_in(const char *name, const char *ending) {
    size_t n = strlen(name), m = strlen(ending);
    return n > m && !strcmp(name + n - m, ending);
}

/* Bytes of a file, or of the files in a directory. */
static bool size_of(const char *path, uint64_t *out) {
    struct stat info;
    *out = 0;
    if (stat(path, &info) != 0) return false;
    *out = (uint64_t)info.st_size;
    if (!S_ISDIR(info.st_mode)) return true;
    DIR *dir = opendir(path);
    if (!dir) return false;
    *out = 0;
    for (struct dirent *entry; (entry = readdir(dir));)
        if (fstatat(dirfd(dir), entry->d_name, &info, 0) == 0 && S_ISREG(info.st_mode)) *out += (uint64_t)info.st_size;
    closedir(dir);
    return true;
}

static json_t *merge_json(const pali_merge_error *m) {
    return json_pack("{s:I, s:f, s:f, s:f, s:o}", "matrices", (json_int_t)m->n_merged, "weights_error", m->weights, "updates_error", m->updates, "worst_error",
                     m->worst, "worst", *m->worst_name ? report_text(m->worst_name, strlen(m->worst_name)) : json_null());
}

static void print_merge(cli *c, const pali_merge_error *m) {
    (void)fprintf(c->out, "merged   %zu matrices\nweights  %.2g of their norm lost by rounding\nupdates  %.2g of their norm lost by rounding", m->n_merged, m->weights,
                  m->updates);
    if (*m->worst_name) (void)fprintf(c->out, ", %.2g in %s", m->worst, m->worst_name);
    (void)fputc('\n', c->out);
}

/* calibrated: rows answered for it, 0: none. merge NULL: no adapters. */
static int print_summary(cli *c, const char *dtype, size_t calibrated, const pali_merge_error *merge) {
    uint64_t n_bytes;
    if (!size_of(c->args.output, &n_bytes)) return cli_fail(c, "%s: %s: vanished", c->command->name, c->args.output);
    json_t *object = json_pack("{s:i, s:o, s:s, s:I}", "schema", REPORT_SCHEMA, "output", report_text(c->args.output, strlen(c->args.output)),
                                     "dtype", dtype ? dtype : "stored", "bytes", (json_int_t)n_bytes);
    int failed = object && calibrated && json_object_set_new(object, "calibrated_rows", json_integer((json_int_t)calibrated)) != 0;
    if (object && merge) failed |= json_object_set_new(object, "merge", merge_json(merge));
    if (failed) {
        json_decref(object);
        object = NULL;
    }
    return report_print(c, object);
}

static bool is_quantized(const pali_model *model) {
    for (size_t i = 0; i < pali_model_tensor_count(model); i++) {
        pali_tensor_info t = {.struct_size = sizeof t};
        if (pali_model_get_tensor(model, i, &t) == PALI_OK && t.dtype != PALI_DTYPE_F32 && t.dtype != PALI_DTYPE_BF16 && t.dtype != PALI_DTYPE_F16) return true;
    }
    return false;
}

/* What the output does not have. */
static void say_losses(cli *c, const pali_model *model, const char *dtype) {
    const char *name = c->command->name, *output = c->args.output;
    if (!dtype && !ends_in(output, ".gguf") && is_quantized(model)) cli_note(c, "%s: %s: quantized weights became bf16", name, output);
    if (ends_in(output, ".npz")) cli_note(c, "%s: %s: has weights only: give --tokenizer to use it", name, output);
}

/* merge NULL: no adapters. */
static int write_model(cli *c, const char *dtype, pali_merge_error *merge) {
    const args *a = &c->args;
    const char *name = c->command->name;
    pali_save_options options;
    if (is_tokenizer(a)) return cli_usage(c, "%s: -o %s: also given as --tokenizer: another name expected", name, a->output);
    pali_save_options_init(&options);
    options.dtype = cli_dtype(dtype);
    options.vision_dtype = cli_dtype(a->vision_dtype);
    options.embed_dtype = cli_dtype(a->embed_dtype);
    options.n_threads = (int32_t)a->n_threads;
    options.progress = cli_progress;
    options.user = c;
    if (a->shard_size) options.shard_bytes = a->shard_size;
    if (a->calibrate && options.dtype != PALI_DTYPE_Q4_K) return cli_usage(c, "%s: --calibrate: of use to 4-bit weights only: --dtype q4 expected", name);
    if (a->calibrate && !ends_in(a->output, ".gguf")) return cli_usage(c, "%s: --calibrate: 4-bit weights need a name that ends in .gguf: -o %s", name, a->output);
    pali_model *model = NULL;
    pali_calibration *calibration = NULL;
    size_t calibrated = 0;
    int code = a->calibrate ? calibrate(c, &model, &calibration, &calibrated) : cli_open_stored(c, &model);
    options.calibration = calibration;
    if (!code) code = cli_loras_open(c, model);
    if (!code) {
        options.adapters = c->loras.uses;
        options.n_adapters = c->loras.n;
        options.merge_error = merge;
        pali_status status = pali_model_save(model, a->output, &options);
        cli_progress_clear(c);
        if (status != PALI_OK) code = cli_fail_library(c, status, name);
    }
    if (!code) say_losses(c, model, dtype);
    if (!code && a->json) code = print_summary(c, dtype, calibrated, merge);
    if (!code && merge && !a->json) print_merge(c, merge);
    cli_loras_close(c);
    pali_calibration_free(calibration);
    pali_model_free(model);
    return code;
}

int cmd_quantize(cli *c) {
    if (!c->args.output) return cli_usage(c, "quantize: no output: -o FILE.gguf expected");
    if (!ends_in(c->args.output, ".gguf")) return cli_usage(c, "quantize: -o %s: a name that ends in .gguf expected (convert writes others)", c->args.output);
    return write_model(c, c->args.dtype ? c->args.dtype : "q8", NULL);
}

int cmd_convert(cli *c) {
    if (!c->args.output) return cli_usage(c, "convert: no output: -o DIR, FILE.gguf or FILE.npz expected");
    return write_model(c, c->args.dtype, NULL);
}

int cmd_merge(cli *c) {
    pali_merge_error merge = {.struct_size = sizeof merge};
    if (!c->loras.n) return cli_usage(c, "merge: no adapter: --lora DIR expected");
    if (!c->args.output) return cli_usage(c, "merge: no output: -o DIR, FILE.gguf or FILE.npz expected");
    return write_model(c, c->args.dtype, &merge);
}
