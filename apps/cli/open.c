/* open.c: from -m, --tokenizer, --dtype and -t to a model and a session. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"

static pali_dtype dtype_of(const char *name) {
    static const struct {
        const char *name;
        pali_dtype dtype;
    } k_names[] = {{"f32", PALI_DTYPE_F32}, {"bf16", PALI_DTYPE_BF16}, {"f16", PALI_DTYPE_F16}, {"q8", PALI_DTYPE_Q8_0}, {"q4", PALI_DTYPE_Q4_K}};
    for (size_t i = 0; name && i < sizeof k_names / sizeof k_names[0]; i++)
        if (!strcmp(name, k_names[i].name)) return k_names[i].dtype;
    return PALI_DTYPE_AUTO;
}

int cli_open(cli *c, pali_model **model, pali_session **session) {
    const args *a = &c->args;
    *model = NULL;
    if (session) *session = NULL;
    if (!a->model && !a->random) {
        return cli_usage(c, "%s: no model: -m DIR expected, a PaliGemma directory in Hugging Face layout "
                            "(such as a download of google/paligemma-3b-mix-224)", c->command->name);
    }
    if (!a->random && access(a->model, F_OK) != 0) {
        return cli_fail(c, "model: %s: %s: a directory in Hugging Face layout expected", a->model, strerror(errno));
    }
    pali_model_options options;
    pali_model_options_init(&options);
    options.tokenizer_path = a->tokenizer;
    options.dtype = dtype_of(a->dtype);
    options.n_threads = (int32_t)a->n_threads;
    options.no_sliding_window = a->no_sliding_window;
    options.no_final_softcap = a->no_final_softcap;
    options.progress = cli_progress;
    options.user = c;
    pali_status status = a->random ? pali_model_random(model, a->random, a->seed, &options) : pali_model_load(model, a->model, &options);
    cli_progress_clear(c);
    if (status != PALI_OK) return cli_fail_library(c, status, "model");
    if (!session) return CLI_OK;

    pali_session_options session_options;
    pali_session_options_init(&session_options);
    session_options.n_threads = (int32_t)a->n_threads;
    status = pali_session_new(session, *model, &session_options);
    if (status != PALI_OK) {
        pali_model_free(*model);
        *model = NULL;
        return cli_fail_library(c, status, "session");
    }
    cli_watch(*session);
    return CLI_OK;
}
