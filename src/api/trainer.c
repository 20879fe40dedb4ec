/* trainer.c: fine-tuning: options from what callers say to what the loop takes. */
#include "api/handles.h"

#include <math.h>

#include "base/mem.h"
#include "infer/generate.h"
#include "infer/plan.h"
#include "train/dataset.h"
#include "train/trainer.h"

#define COUNT_MAX ((uint64_t)1 << 40)
#define BATCH_MAX 65536u
#define SAMPLES_MAX 10000u
#define WEIGHT_MIN 1e-9
#define WEIGHT_MAX 1e9

void pali_train_options_init(pali_train_options *options) {
    *options = (pali_train_options){.struct_size = sizeof *options, .lr = 5e-5, .beta1 = -1, .beta2 = -1, .eps = -1, .momentum = -1,
                                    .epochs = 3, .batch_size = 8, .grad_accum = 1, .max_grad_norm = 1, .seed = 42, .logging_steps = 1, .save_steps = 500};
}

static pali_status real_check(double x, double low, double high, const char *name) {
    return x >= low && x <= high ? PALI_OK : status_fail(PALI_ERR_ARGUMENT, "pali_train_options: %s: %g: expected %g to %g", name, x, low, high);
}

static pali_status count_check(uint64_t n, uint64_t low, uint64_t high, const char *name) {
    if (n >= low && n <= high) return PALI_OK;
    return status_fail(PALI_ERR_ARGUMENT, "pali_train_options: %s: %llu: expected %llu to %llu", name, (unsigned long long)n, (unsigned long long)low, (unsigned long long)high);
}

static pali_status numbers_check(const pali_train_options *o) {
    const struct {
        double x, low, high;
        const char *name;
    } reals[] = {{o->lr, 0, 1e30, "lr"}, {o->weight_decay, 0, 1e6, "weight_decay"}, {o->warmup_steps, 0, 1e12, "warmup_steps"}, {o->epochs, 0, 1e9, "epochs"},
                 {o->max_grad_norm, 0, 1e30, "max_grad_norm"}, {o->label_smoothing, 0, 0.999, "label_smoothing"}, {o->dropout, 0, 0.999, "dropout"}, {o->lora_dropout, 0, 0.999, "lora_dropout"}};
    const struct {
        uint64_t n, low, high;
        const char *name;
    } counts[] = {{o->max_steps, 0, COUNT_MAX, "max_steps"}, {o->batch_size, 1, BATCH_MAX, "batch_size"}, {o->grad_accum, 1, COUNT_MAX, "grad_accum"},
                  {o->logging_steps, 0, COUNT_MAX, "logging_steps"}, {o->eval_steps, 0, COUNT_MAX, "eval_steps"}, {o->save_steps, 0, COUNT_MAX, "save_steps"},
                  {o->save_total_limit, 0, COUNT_MAX, "save_total_limit"}, {o->samples, 0, SAMPLES_MAX, "samples"}, {o->text_len, 0, SESSION_MAX_POSITIONS, "text_len"}};
    for (size_t i = 0; i < sizeof reals / sizeof *reals; i++) STATUS_TRY(real_check(reals[i].x, reals[i].low, reals[i].high, reals[i].name));
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) STATUS_TRY(count_check(counts[i].n, counts[i].low, counts[i].high, counts[i].name));
    return PALI_OK;
}

/* -1 leaves the optimizer's own. */
static pali_status own_or(double *out, double given, double high, const char *name) {
    if (given == -1) return PALI_OK;
    STATUS_TRY(real_check(given, 0, high, name));
    *out = given;
    return PALI_OK;
}

static pali_status optimizer_read(optim_options *out, const pali_train_options *o, const char *output) {
    STATUS_TRY(optim_options_named(out, o->optimizer ? o->optimizer : "adamw"));
    STATUS_TRY(own_or(&out->beta1, o->beta1, 0.999999, "beta1"));
    STATUS_TRY(own_or(&out->beta2, o->beta2, 0.999999, "beta2"));
    STATUS_TRY(own_or(&out->eps, o->eps, 1, "eps"));
    STATUS_TRY(own_or(&out->momentum, o->momentum, 0.999999, "momentum"));
    out->weight_decay = o->weight_decay;
    out->seed = o->seed;
    out->stochastic = o->stochastic != 0;
    out->paged_dir = output;
    return PALI_OK;
}

/* Of most matrices that are to be trained. */
static param_storage storage_stored(const model *m) {
    const pali_dtype dtype = m->text.layers[0].q.dtype;
    return dtype == PALI_DTYPE_F32 ? PARAM_F32 : PARAM_MASTER;
}

static pali_status what_read(trainable_options *out, const pali_train_options *o, const model *m) {
    *out = (trainable_options){.adapters = o->method == PALI_TRAIN_LORA};
    if (o->method != PALI_TRAIN_LORA && o->method != PALI_TRAIN_FULL) return status_fail(PALI_ERR_ARGUMENT, "pali_train_options: method: %d is unknown", (int)o->method);
    if (out->adapters) {
        if (o->train || o->freeze) return status_fail(PALI_ERR_ARGUMENT, "pali_train_options: train, freeze: groups are for the full method; lora_targets says where adapters go");
        const bool fresh = !o->lora_init;
        if (o->lora_rank < 0) return status_fail(PALI_ERR_ARGUMENT, "pali_train_options: lora_rank: %d: expected at least 0", (int)o->lora_rank);
        out->lora = (lora_options){.targets = o->lora_targets, .text_only = o->lora_text_only != 0, .rank = !o->lora_rank && fresh ? 8 : (size_t)o->lora_rank,
                                   .alpha = o->lora_alpha == 0 && fresh ? 8 : o->lora_alpha, .rslora = o->lora_rslora != 0, .dropout = o->lora_dropout, .seed = o->seed};
        out->init = o->lora_init;
        return PALI_OK;
    }
    if (o->dtype != PALI_DTYPE_AUTO && o->dtype != PALI_DTYPE_F32 && o->dtype != PALI_DTYPE_BF16)
        return status_fail(PALI_ERR_ARGUMENT, "pali_train_options: dtype: %s: expected f32 or bf16", pali_dtype_name(o->dtype));
    out->storage = o->dtype == PALI_DTYPE_F32 ? PARAM_F32 : o->dtype == PALI_DTYPE_BF16 ? PARAM_MASTER : storage_stored(m);
    if (o->pure_bf16 && o->dtype == PALI_DTYPE_F32) return status_fail(PALI_ERR_ARGUMENT, "pali_train_options: pure_bf16: dtype is f32");
    if (o->pure_bf16) out->storage = PARAM_BF16;
    out->half_grads = o->pure_bf16 != 0;
    return params_groups_parse(&out->groups, o->train, o->freeze);
}

static pali_status loss_read(trainer_options *out, const pali_train_options *o) {
    if (o->loss != PALI_TRAIN_LOSS_HF && o->loss != PALI_TRAIN_LOSS_BIG_VISION) return status_fail(PALI_ERR_ARGUMENT, "pali_train_options: loss: %d is unknown", (int)o->loss);
    out->clip_big_vision = o->loss == PALI_TRAIN_LOSS_BIG_VISION;
    out->mean = out->clip_big_vision ? SAMPLE_EXAMPLE_MEAN : SAMPLE_TOKEN_MEAN_WINDOW;
    out->spread = out->clip_big_vision ? XENT_SPREAD_OTHERS : XENT_SPREAD_ALL;
    out->smoothing = (float)o->label_smoothing;
    out->dropout = o->dropout;
    return PALI_OK;
}

/* ---- Files ---- */

typedef struct files {
    const char *paths[DATASET_MAX_FILES];
    double weights[DATASET_MAX_FILES];
    size_t n;
    bool mixed;
} files;

static pali_status files_read(files *out, const char *data, const pali_train_options *o) {
    *out = (files){.paths = {data}, .n = 1};
    if (!o->n_files) return data ? PALI_OK : status_fail(PALI_ERR_ARGUMENT, "pali_finetune: data is NULL");
    if (data) return status_fail(PALI_ERR_ARGUMENT, "pali_train_options: files: data is given too");
    API_NEED_AS(o->files, "files");
    if (o->n_files > DATASET_MAX_FILES) return status_fail(PALI_ERR_LIMIT, "pali_train_options: files: more than %u", DATASET_MAX_FILES);
    out->n = (size_t)o->n_files;
    for (size_t i = 0; i < out->n; i++) out->mixed |= o->files[i].weight != 0;
    for (size_t i = 0; i < out->n; i++) {
        if (!o->files[i].path) return status_fail(PALI_ERR_ARGUMENT, "pali_train_options: files: path %zu is NULL", i);
        if (out->mixed) STATUS_TRY(real_check(o->files[i].weight, WEIGHT_MIN, WEIGHT_MAX, "files: weight"));
        out->paths[i] = o->files[i].path;
        out->weights[i] = o->files[i].weight;
    }
    return PALI_OK;
}

/* ---- Answers while training ---- */

typedef struct answerer {
    const tokenizer *t;
    int n_threads;
} answerer;

/* A session for each answer: the weights are others every time. */
static pali_status answer_make(void *user, char **out, const model *m, const image *const *pictures, size_t n_pictures, const int32_t *ids, size_t n_ids,
                               size_t max_tokens) {
    const answerer *a = user;
    const request q = {.images = pictures, .n_images = n_pictures, .ids = ids, .n_ids = n_ids};
    pali_generate_options o;
    session s;
    result *r = NULL;
    pali_generate_options_init(&o);
    o.max_tokens = max_tokens < INT32_MAX ? (int32_t)max_tokens : INT32_MAX;
    STATUS_TRY(session_init(&s, m, a->t, a->n_threads));
    pali_status status = generate(&s, &q, &o, &r);
    session_free(&s);
    if (status != PALI_OK) return status;
    *out = mem_copy_string(r->sequences[0].text);
    result_free(r);
    return *out ? PALI_OK : status_no_memory(1);
}

/* Of a picture, and prompt and answer of usual length. */
static pali_status answer_need(uint64_t *out, const model *m, int n_threads) {
    const weights_memory none = {0};
    const plan_request q = {.n_threads = n_threads, .n_images = 1, .n_text_tokens = 64, .max_tokens = 64, .n_beams = 1, .n_sequences = 1};
    pali_memory_plan p;
    STATUS_TRY(plan_make(&p, m, &none, &q));
    *out = p.features + p.activations + p.kv_cache + p.logits;
    return PALI_OK;
}

static pali_status resize_read(resize_filter *out, const char *name, const model *m) {
    *out = (resize_filter)m->cfg.resample;
    if (!name || !strcmp(name, "model")) return PALI_OK;
    *out = !strcmp(name, "big_vision_aa") ? RESIZE_BV_AA : RESIZE_BV;
    if (*out == RESIZE_BV_AA || !strcmp(name, "big_vision")) return PALI_OK;
    return status_fail(PALI_ERR_ARGUMENT, "pali_train_options: resize: \"%.64s\": model, big_vision or big_vision_aa expected", name);
}

pali_status pali_finetune(const pali_model *handle, const char *data, const char *output, const pali_train_options *options) {
    pali_train_options o;
    answerer answers;
    files rows;
    API_NEED_AS(handle, "model");
    API_NEED(output);
    pali_train_options_init(&o);
    STATUS_TRY(options_read(&o, sizeof o, options, "pali_train_options"));
    STATUS_TRY(numbers_check(&o));
    STATUS_TRY(files_read(&rows, data, &o));
    STATUS_TRY(model_check_runs(handle->m));
    trainer_options inner = {.data = rows.paths, .n_data = rows.n, .weights = rows.mixed ? rows.weights : NULL, .val = o.val_data, .out_dir = output, .resume = o.resume, .board_dir = o.tensorboard, .feature_dir = o.feature_cache, .tokenizer_path = handle->tokenizer_path,
                             .lr = o.lr, .warmup = o.warmup_steps, .epochs = o.epochs, .max_steps = o.max_steps, .batch_size = (size_t)o.batch_size,
                             .grad_accum = (size_t)o.grad_accum, .max_grad_norm = o.max_grad_norm, .shuffle = !o.no_shuffle, .seed = o.seed,
                             .logging_steps = (size_t)o.logging_steps, .eval_steps = (size_t)o.eval_steps, .save_steps = (size_t)o.save_steps,
                             .save_limit = (size_t)o.save_total_limit, .n_samples = (size_t)o.samples, .answer = answer_make, .answer_user = &answers, .n_threads = o.n_threads,
                             .memory_bytes = o.memory_bytes, .force = o.force != 0, .on_event = o.on_event, .user = o.user};
    STATUS_TRY(what_read(&inner.what, &o, handle->m));
    STATUS_TRY(optimizer_read(&inner.optimizer, &o, output));
    STATUS_TRY(schedule_kind_named(&inner.schedule, o.schedule ? o.schedule : "linear"));
    STATUS_TRY(loss_read(&inner, &o));
    inner.text_len = (size_t)o.text_len;
    inner.augment.seed = o.seed;
    STATUS_TRY(resize_read(&inner.filter, o.resize, handle->m));
    STATUS_TRY(augment_options_parse(&inner.augment, o.augment));
    answers = (answerer){handle->t, o.n_threads};
    if (o.samples) STATUS_TRY(answer_need(&inner.answer_bytes, handle->m, o.n_threads));
    return trainer_run(handle->m, handle->t, &inner);
}
