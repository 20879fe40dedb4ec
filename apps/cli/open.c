/* open.c: from -m, --tokenizer, --dtype and -t to a model and a session. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "builtin.h"
#include "memory.h"

pali_dtype cli_dtype(const char *name) {
    static const struct {
        const char *name;
        pali_dtype dtype;
    } k_names[] = {{"f32", PALI_DTYPE_F32}, {"bf16", PALI_DTYPE_BF16}, {"f16", PALI_DTYPE_F16}, {"q8", PALI_DTYPE_Q8_0}, {"q4", PALI_DTYPE_Q4_K},
                 {"nf4", PALI_DTYPE_NF4}, {"int8", PALI_DTYPE_INT8}};
    for (size_t i = 0; name && i < sizeof k_names / sizeof k_names[0]; i++)
        if (!strcmp(name, k_names[i].name)) return k_names[i].dtype;
    return PALI_DTYPE_AUTO;
}

bool cli_model_is_builtin(const cli *c) {
    size_t n_bytes;
    return !c->args.model && !c->args.random && builtin_model(&n_bytes);
}

const char *cli_model_name(const cli *c) {
    return c->args.model ? c->args.model : BUILTIN_NAME;
}

/* Whether there is a model to open. */
static int model_check(cli *c) {
    const args *a = &c->args;
    if (a->random || cli_model_is_builtin(c)) return CLI_OK;
    if (!a->model) {
        return cli_usage(c, "%s: no model, and this program was built without one: -m PATH expected, a PaliGemma directory in Hugging Face layout "
                            "(such as a download of google/paligemma-3b-mix-224) or a .gguf or .npz file", c->command->name);
    }
    if (access(a->model, F_OK) != 0) {
        return cli_fail(c, "model: %s: %s: a directory in Hugging Face layout or a .gguf or .npz file expected", a->model, strerror(errno));
    }
    return CLI_OK;
}

static void options_stored(cli *c, pali_model_options *options) {
    const args *a = &c->args;
    pali_model_options_init(options);
    options->tokenizer_path = a->tokenizer;
    options->mmproj_path = a->mmproj;
    if (cli_model_is_builtin(c)) options->gguf = builtin_model(&options->n_gguf_bytes);
    options->n_threads = (int32_t)a->n_threads;
    options->no_sliding_window = a->no_sliding_window;
    options->no_final_softcap = a->no_final_softcap;
    options->progress = cli_progress;
    options->user = c;
}

int cli_model_options(cli *c, pali_model_options *options) {
    options_stored(c, options);
    options->dtype = cli_dtype(c->args.dtype);
    options->vision_dtype = cli_dtype(c->args.vision_dtype);
    options->embed_dtype = cli_dtype(c->args.embed_dtype);
    return model_check(c);
}

/* A type of a file that no matrix is held in. */
static bool is_only_read(const char *stored) {
    bool known = !*stored;
    for (int d = PALI_DTYPE_F32; d <= PALI_DTYPE_INT8; d++) known |= !strcasecmp(stored, pali_dtype_name((pali_dtype)d));
    return !known;
}

/* What became of such types, a line for each. */
static void note_types(cli *c, const pali_model *model) {
    size_t n = pali_model_tensor_count(model);
    for (size_t i = 0; i < n; i++) {
        pali_tensor_info t = {.struct_size = sizeof t}, other = {.struct_size = sizeof other};
        size_t before = 0, same = 0;
        if (pali_model_get_tensor(model, i, &t) != PALI_OK || !is_only_read(t.stored)) continue;
        for (size_t j = 0; j < n && pali_model_get_tensor(model, j, &other) == PALI_OK; j++) {
            if (strcmp(other.stored, t.stored) != 0 || other.dtype != t.dtype) continue;
            before += j < i;
            same++;
        }
        if (!before) cli_note(c, "tensors of type %s (%zu) are held as %s", t.stored, same, pali_dtype_name(t.dtype));
    }
}

int cli_open_model(cli *c, pali_model **model, const pali_model_options *options) {
    const args *a = &c->args;
    pali_status status = a->random ? pali_model_random(model, a->random, a->seed, options) : pali_model_load(model, cli_model_name(c), options);
    cli_progress_clear(c);
    if (status != PALI_OK) return cli_fail_library(c, status, "model");
    if (a->verbose) note_types(c, *model);
    return CLI_OK;
}

int cli_open_stored(cli *c, pali_model **model) {
    pali_model_options options;
    *model = NULL;
    options_stored(c, &options);
    options.no_prefault = 1;
    int code = model_check(c);
    return code ? code : cli_open_model(c, model, &options);
}

int cli_open_contents(cli *c, pali_contents **contents) {
    const args *a = &c->args;
    pali_model_options options;
    *contents = NULL;
    options_stored(c, &options);
    int code = model_check(c);
    if (code) return code;
    pali_status status = a->random ? pali_contents_random(contents, a->random, &options) : pali_contents_load(contents, cli_model_name(c), &options);
    return status == PALI_OK ? CLI_OK : cli_fail_library(c, status, "model");
}

/* The model and a session with the adapters of --lora. */
static int open_to_run(cli *c, pali_model **model, pali_session **session, const pali_model_options *options) {
    int code = memory_check(c, options);
    if (!code) code = cli_open_model(c, model, options);
    if (code) return code;

    pali_session_options session_options;
    pali_session_options_init(&session_options);
    session_options.n_threads = (int32_t)c->args.n_threads;
    pali_status status = pali_session_new(session, *model, &session_options);
    if (status != PALI_OK) code = cli_fail_library(c, status, "session");
    if (!code) code = cli_loras_open(c, *model);
    if (!code && (status = pali_session_set_adapters(*session, c->loras.uses, c->loras.n)) != PALI_OK) code = cli_fail_library(c, status, "lora");
    cli_loras_close(c); /* the session keeps what it uses */
    if (code) {
        pali_session_free(*session);
        pali_model_free(*model);
        *session = NULL;
        *model = NULL;
        return code;
    }
    cli_watch(*session);
    return CLI_OK;
}

int cli_open(cli *c, pali_model **model, pali_session **session) {
    pali_model_options options;
    *model = NULL;
    *session = NULL;
    int code = cli_model_options(c, &options);
    return code ? code : open_to_run(c, model, session, &options);
}

int cli_open_as_stored(cli *c, pali_model **model, pali_session **session) {
    pali_model_options options;
    *model = NULL;
    *session = NULL;
    options_stored(c, &options);
    int code = model_check(c);
    return code ? code : open_to_run(c, model, session, &options);
}

static int open_tokenizer_file(cli *c, const char *path, opened_tokenizer *t) {
    pali_status status = pali_tokenizer_load(&t->own, path);
    if (status != PALI_OK) return cli_fail_library(c, status, "tokenizer");
    t->tokenizer = t->own;
    return CLI_OK;
}

int cli_open_tokenizer(cli *c, bool with_model, opened_tokenizer *t) {
    static const char *const names[] = {"tokenizer.json", "tokenizer.model"};
    const args *a = &c->args;
    *t = (opened_tokenizer){0};
    if (!with_model && a->tokenizer) return open_tokenizer_file(c, a->tokenizer, t);
    if (!a->model && !cli_model_is_builtin(c)) return cli_usage(c, "%s: no tokenizer: --tokenizer FILE or -m MODEL expected", c->command->name);
    for (size_t i = 0; a->model && !with_model && i < sizeof names / sizeof *names; i++) {
        size_t n = strlen(a->model) + strlen(names[i]) + 2;
        char *path = malloc(n);
        if (!path) return cli_fail(c, "tokenizer: out of memory");
        (void)snprintf(path, n, "%s/%s", a->model, names[i]);
        int code = access(path, F_OK) == 0 ? open_tokenizer_file(c, path, t) : CLI_OK;
        free(path);
        if (code || t->tokenizer) return code;
    }
    int code = cli_open_stored(c, &t->model);
    if (code) return code;
    t->tokenizer = pali_model_tokenizer(t->model);
    return t->tokenizer ? CLI_OK : cli_fail(c, "tokenizer: %s: none beside the model: --tokenizer FILE expected", cli_model_name(c));
}

void opened_tokenizer_free(opened_tokenizer *t) {
    pali_tokenizer_free(t->own);
    pali_model_free(t->model);
    *t = (opened_tokenizer){0};
}
