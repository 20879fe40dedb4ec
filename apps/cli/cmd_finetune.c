/* cmd_finetune.c: paligemma finetune: options to the library's, and its events to lines. */
#include <stdlib.h>
#include <string.h>

#include "memory.h"
#include "paligemma_train.h"
#include "report.h"

/* What the run has come to. */
typedef struct watch {
    cli *c;
    pali_train_event logged, eval; /* the last of each */
    double begin_ms;
    uint64_t begin_step;
} watch;

static void time_text(char text[32], double seconds) {
    const unsigned long s = seconds > 0 && seconds < 1e8 ? (unsigned long)seconds : 0;
    if (s >= 3600) (void)snprintf(text, 32, "%lu:%02lu:%02lu", s / 3600, s / 60 % 60, s % 60);
    else (void)snprintf(text, 32, "%lu:%02lu", s / 60, s % 60);
}

/* One line that is drawn over and over. */
static void show(watch *w, const pali_train_event *e) {
    cli *c = w->c;
    char left[32] = "?";
    if (!c->stderr_is_terminal || c->args.quiet) return;
    const uint64_t done = e->step - w->begin_step;
    if (done) time_text(left, (cli_clock_ms() - w->begin_ms) / 1e3 / (double)done * (double)(e->n_steps - e->step));
    (void)fprintf(stderr, "\r\033[Kstep %llu/%llu", (unsigned long long)e->step, (unsigned long long)e->n_steps);
    if (w->logged.ms > 0)
        (void)fprintf(stderr, "  loss %.4f  lr %.2e  %.1f tokens/s  %s left", w->logged.loss, w->logged.lr, (double)w->logged.n_tokens / w->logged.ms * 1e3, left);
    (void)fflush(stderr);
    c->progress_shown = true;
}

static void begin(watch *w, const pali_train_event *e) {
    char needed[32], there[32];
    w->begin_ms = cli_clock_ms();
    w->begin_step = e->step;
    cli_note(w->c, "finetune: %llu parameters, %llu rows, %llu steps; memory: %s needed beside the model, %s available", (unsigned long long)e->n_parameters,
             (unsigned long long)e->n_rows, (unsigned long long)e->n_steps, memory_text(needed, e->memory_bytes),
             e->memory_available == UINT64_MAX ? "unknown" : memory_text(there, e->memory_available));
}

static int on_event(void *user, const pali_train_event *e) {
    watch *w = user;
    switch (e->kind) {
    case PALI_TRAIN_START: begin(w, e); break;
    case PALI_TRAIN_LOGGED: w->logged = *e; break;
    case PALI_TRAIN_EVAL: w->eval = *e; break;
    case PALI_TRAIN_SAMPLE:
        if (w->c->stderr_is_terminal) cli_note(w->c, "step %llu: %s: %s (wanted: %s)", (unsigned long long)e->step, e->prefix, e->got, e->want);
        break;
    case PALI_TRAIN_NOTE:
    case PALI_TRAIN_BAD_ROW: cli_note(w->c, "finetune: %s", e->text); break;
    default: break;
    }
    show(w, e);
    return cli_interrupted();
}

static void options_fill(pali_train_options *o, const args *a) {
    pali_train_options_init(o);
    o->val_data = a->val_data;
    o->resume = a->resume;
    o->tensorboard = a->tensorboard;
    o->feature_cache = a->feature_cache;
    o->method = !strcmp(a->method, "full") ? PALI_TRAIN_FULL : PALI_TRAIN_LORA;
    o->train = a->train;
    o->freeze = a->freeze;
    o->dtype = cli_dtype(a->dtype);
    o->pure_bf16 = a->pure_bf16;
    o->stochastic = a->stochastic;
    o->lora_targets = a->lora_targets;
    o->lora_rank = (int32_t)a->lora_rank;
    o->lora_alpha = a->lora_alpha;
    o->lora_dropout = a->lora_dropout;
    o->lora_rslora = a->lora_rslora;
    o->lora_init = a->lora_init;
    o->lora_text_only = !strcmp(a->lora_scope, "llm");
    o->optimizer = a->optim;
    o->schedule = a->schedule;
    o->lr = a->lr;
    o->weight_decay = a->weight_decay;
    o->beta1 = a->beta1;
    o->beta2 = a->beta2;
    o->eps = a->eps;
    o->momentum = a->momentum;
    o->warmup_steps = a->warmup_steps;
    o->epochs = a->epochs;
    o->max_steps = a->max_steps;
    o->batch_size = a->train_batch;
    o->grad_accum = a->grad_accum;
    o->max_grad_norm = a->max_grad_norm;
    o->label_smoothing = a->label_smoothing;
    o->dropout = a->dropout;
    o->loss = !strcmp(a->loss, "hf") ? PALI_TRAIN_LOSS_HF : PALI_TRAIN_LOSS_BIG_VISION;
    o->no_shuffle = a->no_shuffle;
    o->text_len = a->text_len;
    o->resize = a->resize;
    o->augment = a->augment;
    o->seed = a->train_seed;
    o->logging_steps = a->logging_steps;
    o->eval_steps = a->eval_steps;
    o->samples = a->train_samples;
    o->save_steps = a->save_steps;
    o->save_total_limit = a->save_limit;
    o->n_threads = (int32_t)a->n_threads;
    o->force = a->force;
    o->memory_bytes = a->memory;
}

/* The model as training computes with it: the type of weights that are trained is the trainer's affair. */
static int model_open(cli *c, pali_model **model) {
    pali_model_options options;
    *model = NULL;
    int code = cli_model_options(c, &options);
    if (code) return code;
    if (!strcmp(c->args.method, "full")) options.dtype = PALI_DTYPE_AUTO;
    if (!strcmp(c->args.method, "qlora")) options.dtype = PALI_DTYPE_NF4;
    return cli_open_model(c, model, &options);
}

static int say_result(cli *c, const watch *w) {
    const args *a = &c->args;
    const bool validated = w->eval.kind == PALI_TRAIN_EVAL;
    if (a->json) {
        json_t *root = json_pack("{s:i, s:o, s:I, s:f}", "schema", REPORT_SCHEMA, "output", report_text(a->output, strlen(a->output)), "steps",
                                 (json_int_t)w->logged.step, "loss", w->logged.loss);
        if (root && validated) {
            (void)json_object_set_new(root, "eval_loss", json_real(w->eval.loss));
            (void)json_object_set_new(root, "eval_accuracy", json_real(w->eval.accuracy));
        }
        return report_print(c, root);
    }
    (void)fprintf(c->out, "output         %s\nloss           %.6g\n", a->output, w->logged.loss);
    if (validated) (void)fprintf(c->out, "eval loss      %.6g\neval accuracy  %.4g\n", w->eval.loss, w->eval.accuracy);
    return CLI_OK;
}

static void files_free(pali_train_file *files, size_t n) {
    for (size_t i = 0; files && i < n; i++) free((char *)(uintptr_t)files[i].path);
    free(files);
}

/* The files of --data; where one has a weight, those without have 1. */
static int files_read(cli *c, pali_train_file **out) {
    const text_list *given = &c->args.train_data;
    bool mixed = false;
    int code = CLI_OK;
    pali_train_file *files = *out = calloc(given->n, sizeof *files);
    if (!files) return cli_fail(c, "finetune: out of memory");
    for (size_t i = 0; i < given->n && !code; i++) {
        char *path = NULL;
        code = cli_scaled_read(c, "data", given->items[i], 1e-9, 1e9, &path, &files[i].weight);
        files[i].path = path;
        mixed |= files[i].weight != 0;
    }
    for (size_t i = 0; mixed && i < given->n; i++)
        if (files[i].weight == 0) files[i].weight = 1;
    return code;
}

static int run(cli *c, const pali_train_file *files, size_t n_files) {
    pali_train_options options;
    pali_model *model;
    watch w = {.c = c};
    options_fill(&options, &c->args);
    options.files = files;
    options.n_files = n_files;
    options.on_event = on_event;
    options.user = &w;
    int code = model_open(c, &model);
    if (code) return code;
    pali_status status = pali_finetune(model, NULL, c->args.output, &options);
    pali_model_free(model);
    cli_progress_clear(c);
    return status == PALI_OK ? say_result(c, &w) : cli_fail_library(c, status, "finetune");
}

int cmd_finetune(cli *c) {
    const args *a = &c->args;
    pali_train_file *files;
    if (!a->train_data.n) return cli_usage(c, "finetune: no data: --data FILE.jsonl expected");
    if (!a->output) return cli_usage(c, "finetune: no output: -o OUTDIR expected");
    if (!strcmp(a->method, "qlora") && a->dtype) return cli_usage(c, "finetune: --dtype: qlora has the model as nf4: use --method lora");
    if (strcmp(a->method, "full") != 0 && (a->train || a->freeze)) return cli_usage(c, "finetune: --train and --freeze are for --method full; --lora-targets and --lora-scope say where adapters go");
    int code = files_read(c, &files);
    if (!code) code = run(c, files, a->train_data.n);
    files_free(files, a->train_data.n);
    return code;
}
