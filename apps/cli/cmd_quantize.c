/* cmd_quantize.c: paligemma quantize. */
#include <string.h>
#include <sys/stat.h>

#include "report.h"

/* The file would replace what the tokenizer was read from. */
static bool is_tokenizer(const args *a) {
    struct stat output, tokenizer;
    return a->tokenizer && stat(a->output, &output) == 0 && stat(a->tokenizer, &tokenizer) == 0 && output.st_dev == tokenizer.st_dev &&
           output.st_ino == tokenizer.st_ino;
}

static int print_summary(cli *c, const char *dtype) {
    struct stat info;
    if (stat(c->args.output, &info) != 0) return cli_fail(c, "quantize: %s: vanished", c->args.output);
    return report_print(c, json_pack("{s:i, s:o, s:s, s:I}", "schema", REPORT_SCHEMA, "output", report_text(c->args.output, strlen(c->args.output)),
                                     "dtype", dtype, "bytes", (json_int_t)info.st_size));
}

int cmd_quantize(cli *c) {
    const args *a = &c->args;
    const char *dtype = a->dtype ? a->dtype : "q8";
    if (!a->output) return cli_usage(c, "quantize: no output: -o FILE.gguf expected");
    if (is_tokenizer(a)) return cli_usage(c, "quantize: -o %s: also given as --tokenizer: another name expected", a->output);
    pali_save_options options;
    pali_save_options_init(&options);
    options.dtype = cli_dtype(dtype);
    options.vision_dtype = cli_dtype(a->vision_dtype);
    options.embed_dtype = cli_dtype(a->embed_dtype);
    options.n_threads = (int32_t)a->n_threads;
    options.progress = cli_progress;
    options.user = c;
    pali_model *model = NULL;
    int code = cli_open_stored(c, &model);
    if (!code) {
        pali_status status = pali_model_save(model, a->output, &options);
        cli_progress_clear(c);
        if (status != PALI_OK) code = cli_fail_library(c, status, "quantize");
    }
    if (!code && a->json) code = print_summary(c, dtype);
    pali_model_free(model);
    return code;
}
