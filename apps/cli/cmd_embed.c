/* cmd_embed.c: paligemma embed. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "input.h"
#include "npy.h"
#include "report.h"

static pali_embedding embedding_of(const char *what) {
    return !strcmp(what, "pixels")      ? PALI_EMBED_PIXELS
           : !strcmp(what, "projector") ? PALI_EMBED_PROJECTOR
           : !strcmp(what, "mean")      ? PALI_EMBED_MEAN
                                        : PALI_EMBED_VISION;
}

static int print_summary(cli *c, const uint64_t *dims, size_t n_dims) {
    json_t *shape = json_array();
    for (size_t i = 0; i < n_dims; i++) {
        if (json_array_append_new(shape, json_integer((json_int_t)dims[i])) != 0) return cli_fail(c, "embed: out of memory");
    }
    return report_print(c, json_pack("{s:i, s:s, s:s, s:o, s:o}", "schema", REPORT_SCHEMA, "what", c->args.what, "dtype", "float32",
                                     "shape", shape, "output", report_text(c->args.output, strlen(c->args.output))));
}

int cmd_embed(cli *c) {
    const args *a = &c->args;
    bool hidden = !strcmp(a->what, "hidden");
    int code = input_check_stdin(c);
    if (code) return code;
    if (!a->images.n) return cli_usage(c, "embed: no picture: -i FILE expected");
    if (!a->output) return cli_usage(c, "embed: no output: -o OUT.npy expected");
    if (hidden && !a->prompt) return cli_usage(c, "embed: --what hidden: -p TEXT expected");
    if (!hidden && a->prompt) return cli_usage(c, "embed: -p: only --what hidden takes a prompt");
    if (!hidden && a->images.n > 1) return cli_usage(c, "embed: -i: one picture expected");
    bool to_stdout = !strcmp(a->output, "-");
    if (to_stdout && a->json) return cli_usage(c, "embed: --json: a file expected as -o");
    if (to_stdout && isatty(STDOUT_FILENO)) return cli_usage(c, "embed: -o -: a binary array is not for a terminal: a file or a pipe expected");

    char *prompt = NULL;
    pictures images = {0};
    pali_model *model = NULL;
    pali_session *session = NULL;
    float *values = NULL;
    uint64_t dims[3] = {0};
    int32_t n_dims = 0;
    if (hidden) code = input_prompt_string(c, &prompt, a->prompt);
    if (!code) code = input_pictures(c, &images, a->images.items, a->images.n);
    if (!code) code = cli_open(c, &model, &session);
    if (!code) {
        pali_status status = hidden ? pali_embed_prompt(session, (const pali_image *const *)images.items, images.n, prompt, &values, dims, &n_dims)
                                    : pali_embed(session, images.items[0], embedding_of(a->what), &values, dims, &n_dims);
        if (status != PALI_OK) code = cli_fail_library(c, status, "embed");
    }
    if (!code && cli_interrupted()) code = CLI_INTERRUPTED;
    if (!code) code = npy_write(c, a->output, values, dims, (size_t)n_dims);
    if (!code && a->json) code = print_summary(c, dims, (size_t)n_dims);
    pali_free(values);
    cli_watch(NULL);
    pali_session_free(session);
    pali_model_free(model);
    pictures_free(&images);
    free(prompt);
    return code;
}
