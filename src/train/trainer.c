/* trainer.c: see trainer.h. */
#include "train/trainer.h"

#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/dir.h"
#include "base/mem.h"
#include "train/answered.h"
#include "train/checkpoint.h"
#include "train/clip.h"
#include "train/crew.h"
#include "train/loader.h"
#include "train/micro.h"
#include "train/run_log.h"
#include "train/train_plan.h"

typedef struct trainer {
    const model *base;
    const tokenizer *t;
    const trainer_options *o;
    exec e;
    dataset data, val;
    order order, val_order;
    sample_rules rules;
    train_plan plan;
    trainable what;
    crew crew;
    optim *optimizer;
    feature_cache *cache; /* NULL: the tower is trained; rows that are cropped or flipped do without */
    loader *loader;
    trainer_state state;  /* its global_step: updates done */
    checkpoint_sums sums;
    json_t *settings;
    run_log log;
    schedule schedule;
    size_t n_dirs;        /* made for the output */
    double log_ms;        /* when the last update was logged */
    bool prune;           /* old checkpoints go once a newer one has proved good */
} trainer;

/* ---- Events ---- */

static pali_status emit(const trainer *t, pali_train_event *event) {
    event->step = t->state.global_step;
    event->n_steps = t->schedule.total;
    event->epoch = t->state.epoch;
    if (!t->o->on_event || t->o->on_event(t->o->user, event) == 0) return PALI_OK;
    return status_fail(PALI_ERR_CANCELLED, "stopped after %zu of %llu steps", t->state.global_step, (unsigned long long)t->schedule.total);
}

static void on_bad(void *user, const char *message) {
    pali_train_event event = {.kind = PALI_TRAIN_BAD_ROW, .text = message};
    (void)emit(user, &event);
}

static void on_note(void *user, const char *message) {
    pali_train_event event = {.kind = PALI_TRAIN_NOTE, .text = message};
    (void)emit(user, &event);
}

/* ---- An update ---- */

/* Of a micro-batch, wherever a run is resumed. */
static uint64_t dropout_key(const trainer *t, const loader_batch *b) {
    uint64_t place = b->epoch << 32 | b->micro;
    return t->o->seed ^ place * 0x9e3779b97f4a7c15u;
}

static pali_status micro_run(trainer *t, loader_batch *b, sample_counts *counts, double *loss) {
    const backprop_options o = {.smoothing = t->o->smoothing, .spread = t->o->spread, .keep_bytes = t->plan.keep_bytes,
                                .drop = {(float)t->o->dropout, dropout_key(t, b)}};
    backprop_result result = {0};
    micro m;
    if (b->n == 0) return PALI_OK;
    pali_status s = micro_make(&m, &t->e, t->what.view, augment_any(&t->o->augment) ? NULL : t->cache, b, t->o->mean);
    lora_training_dropout(&t->what.lora, true, dropout_key(t, b));
    if (s == PALI_OK) s = crew_run(&t->crew, &t->e, &result, m.items, m.n, &o);
    lora_training_dropout(&t->what.lora, false, 0);
    *loss += result.loss;
    counts->n_targets += m.n_targets;
    counts->n_micro++;
    counts->n_samples += m.n;
    t->sums.n_tokens += m.n_tokens;
    micro_free(&m);
    return s;
}

/* Gradients of a window, summed up but not scaled. Cancelled half way it leaves values, states and sums as they were. */
static pali_status window_run(trainer *t, sample_counts *counts, double *loss) {
    uint64_t epoch;
    size_t first;
    const size_t n_tokens = t->sums.n_tokens;
    order_resume(&t->order, t->state.global_step, &epoch, &first);
    params_clear_grads(t->what.p);
    pali_status s = PALI_OK;
    for (size_t i = 0, n = order_window(&t->order, first); i < n && s == PALI_OK; i++) {
        loader_batch b;
        pali_train_event event = {.kind = PALI_TRAIN_WORK};
        s = loader_next(t->loader, &b, NULL);
        if (s != PALI_OK) break;
        s = micro_run(t, &b, counts, loss);
        loader_batch_free(&b);
        if (s == PALI_OK) s = emit(t, &event);
    }
    if (s != PALI_OK) t->sums.n_tokens = n_tokens;
    return s;
}

static pali_status finite_check(const trainer *t, double loss, double norm) {
    if (isfinite(loss) && isfinite(norm)) return PALI_OK;
    return status_fail(PALI_ERR_ARGUMENT, "step %zu: the %s is not a number: a smaller learning rate may help; checkpoints from before are kept", t->state.global_step + 1,
                       isfinite(loss) ? "gradients' norm" : "loss");
}

/* *log: what there is to say of it. */
static pali_status update_run(trainer *t, run_log_update *log) {
    const trainer_options *o = t->o;
    sample_counts counts = {0};
    const size_t tokens_before = t->sums.n_tokens;
    double loss = 0, norm;
    STATUS_TRY(window_run(t, &counts, &loss));
    const double scale = sample_scale(o->mean, &counts);
    STATUS_TRY(clip_norm(&norm, &t->e, t->what.p));
    loss *= scale;
    norm *= scale;
    STATUS_TRY(finite_check(t, loss, norm));
    const float clip = o->clip_big_vision ? clip_scale_bv(norm, o->max_grad_norm) : clip_scale(norm, o->max_grad_norm);
    const optim_rate rate = {.lr = o->lr, .factor = schedule_factor(&t->schedule, t->state.global_step), .grad_scale = (float)scale * clip};
    optim_begin(t->optimizer, rate);
    STATUS_TRY(optim_update(t->optimizer, &t->e, 0, t->what.p->n));

    const size_t n_tokens = t->sums.n_tokens - tokens_before;
    const config *c = &t->base->cfg;
    const uint64_t n_embed = (c->tied ? 1u : 2u) * (uint64_t)c->text.vocab_size * c->text.width;
    t->state.global_step++;
    t->state.epoch = order_epochs_done(&t->order, t->state.global_step);
    t->state.n_input_tokens += n_tokens;
    t->state.total_flos += 6.0 * (double)n_tokens * (double)(config_n_parameters(c) - n_embed);
    t->sums.loss += loss;
    t->sums.n_updates++;
    *log = (run_log_update){.lr = rate.lr * rate.factor, .grad_norm = norm};
    return PALI_OK;
}

/* ---- Between updates ---- */

static pali_status update_log(trainer *t, run_log_update *log) {
    const double now = clock_ms();
    log->loss = t->sums.loss / (double)t->sums.n_updates;
    log->n_tokens = t->sums.n_tokens;
    log->ms = now - t->log_ms;
    t->log_ms = now;
    t->sums = (checkpoint_sums){0};
    STATUS_TRY(run_log_add_update(&t->log, log));
    pali_train_event event = {.kind = PALI_TRAIN_LOGGED, .loss = log->loss, .lr = log->lr, .grad_norm = log->grad_norm, .n_tokens = log->n_tokens, .ms = log->ms};
    return emit(t, &event);
}

typedef struct eval_sums {
    sample_counts counts;
    double loss;
    size_t n_right;
} eval_sums;

static pali_status eval_micro(trainer *t, const loader_batch *b, sample_mean mean, eval_sums *sums) {
    const backprop_options o = {.loss_only = true};
    backprop_result result = {0};
    micro m;
    if (b->n == 0) return PALI_OK;
    pali_status s = micro_make(&m, &t->e, t->what.view, t->cache, b, mean);
    if (s == PALI_OK && !(result.row_right = mem_calloc(m.n_targets, sizeof *result.row_right))) s = status_no_memory(m.n_targets);
    if (s == PALI_OK) s = crew_run(&t->crew, &t->e, &result, m.items, m.n, &o);
    for (size_t i = 0; s == PALI_OK && i < result.n_targets; i++) sums->n_right += result.row_right[i];
    sums->loss += result.loss;
    sums->counts.n_targets += m.n_targets;
    sums->counts.n_samples += m.n;
    mem_free(result.row_right);
    micro_free(&m);
    return s;
}

static pali_status eval_pass(trainer *t, loader *l, sample_mean mean, eval_sums *sums) {
    for (size_t i = 0; i < t->val_order.n_micro; i++) {
        loader_batch b;
        pali_train_event event = {.kind = PALI_TRAIN_WORK};
        STATUS_TRY(loader_next(l, &b, NULL));
        pali_status s = eval_micro(t, &b, mean, sums);
        loader_batch_free(&b);
        if (s == PALI_OK) s = emit(t, &event);
        if (s != PALI_OK) return s;
    }
    return PALI_OK;
}

static loader_options loader_of(trainer *t, dataset *d, order *o) {
    return (loader_options){.data = d, .order = o, .rules = &t->rules, .seed = t->o->seed, .image_size = t->base->cfg.vit.image_size,
                            .filter = t->o->filter, .cache = t->cache};
}

/* Of the rows' loss. */
static pali_status eval_loss(trainer *t) {
    const sample_mean mean = t->o->mean == SAMPLE_EXAMPLE_MEAN ? SAMPLE_EXAMPLE_MEAN : SAMPLE_TOKEN_MEAN_WINDOW;
    const loader_options options = loader_of(t, &t->val, &t->val_order);
    const double begin = clock_ms();
    eval_sums sums = {0};
    loader *l;
    STATUS_TRY(loader_open(&l, &options));
    pali_status s = eval_pass(t, l, mean, &sums);
    loader_close(l);
    STATUS_TRY(s);
    const size_t n = sums.counts.n_targets;
    const run_log_eval v = {.loss = sums.loss * sample_scale(mean, &sums.counts), .accuracy = n ? (double)sums.n_right / (double)n : 0, .ms = clock_ms() - begin, .n_targets = n};
    t->log_ms += v.ms; /* is no part of the next update's time */
    if (!isfinite(v.loss)) return status_fail(PALI_ERR_ARGUMENT, "step %zu: the validation loss is not a number; checkpoints from before are kept", t->state.global_step);
    STATUS_TRY(run_log_add_eval(&t->log, &v));
    pali_train_event event = {.kind = PALI_TRAIN_EVAL, .loss = v.loss, .accuracy = v.accuracy, .n_tokens = n, .ms = v.ms};
    return emit(t, &event);
}

static bool evaluates(const trainer *t) {
    return t->val.n || t->o->n_samples;
}

/* n rows that lie evenly in the file, which has those of one picture next to one another. */
static pali_status samples_answer(trainer *t, answered *out, size_t n) {
    dataset *d = t->val.n ? &t->val : &t->data;
    const loader_options rows = loader_of(t, d, NULL);
    for (size_t i = 0; i < n; i++) {
        pali_train_event event = {.kind = PALI_TRAIN_WORK};
        STATUS_TRY(answered_make(&out[i], &rows, i * d->n / n, t->what.view, t->o->answer, t->o->answer_user));
        STATUS_TRY(emit(t, &event));
    }
    return PALI_OK;
}

static pali_status samples_log(trainer *t, const answered *list, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (!list[i].line) continue;
        pali_train_event event = {.kind = PALI_TRAIN_SAMPLE, .prefix = list[i].prefix, .want = list[i].want, .got = list[i].got};
        STATUS_TRY(run_log_add_sample(&t->log, i, &list[i]));
        STATUS_TRY(emit(t, &event));
    }
    return PALI_OK;
}

/* Answers first: if they are stopped nothing is logged, and all of it is made up for. */
static pali_status eval_run(trainer *t) {
    const size_t n_rows = t->val.n ? t->val.n : t->data.n, n = t->o->n_samples < n_rows ? t->o->n_samples : n_rows;
    const double begin = clock_ms();
    answered *list = n ? mem_calloc(n, sizeof *list) : NULL;
    pali_status s = !n || list ? PALI_OK : status_no_memory(n * sizeof *list);
    if (s == PALI_OK) s = samples_answer(t, list, n);
    t->log_ms += clock_ms() - begin;
    if (s == PALI_OK && t->val.n) s = eval_loss(t);
    t->sums.eval_due &= s != PALI_OK;
    if (s == PALI_OK) s = samples_log(t, list, n);
    for (size_t i = 0; list && i < n; i++) answered_free(&list[i]);
    mem_free(list);
    return s;
}

static pali_status eval_if_due(trainer *t) {
    return t->sums.eval_due && evaluates(t) ? eval_run(t) : PALI_OK;
}

/* ---- Checkpoints ---- */

static checkpoint checkpoint_of(trainer *t) {
    return (checkpoint){.what = &t->what, .optimizer = t->optimizer, .state = &t->state, .sums = &t->sums, .settings = t->settings, .t = t->t,
                        .tokenizer_path = t->o->tokenizer_path, .base_name = t->base->path, .n_threads = t->o->n_threads};
}

static pali_status save(trainer *t, bool done) {
    const checkpoint c = checkpoint_of(t);
    if (!trainable_is_finite(&t->what))
        return status_fail(PALI_ERR_ARGUMENT, "step %zu: weights are not numbers any more: a smaller learning rate may help; checkpoints from before are kept", t->state.global_step);
    const double begin = clock_ms();
    STATUS_TRY(checkpoint_save(&c, t->o->out_dir, done));
    t->log_ms += clock_ms() - begin;
    t->prune = t->o->save_limit > 0;
    char *path = checkpoint_path(t->o->out_dir, t->state.global_step);
    if (!path) return status_no_memory(strlen(t->o->out_dir));
    pali_train_event event = {.kind = PALI_TRAIN_SAVED, .text = path};
    pali_status s = emit(t, &event);
    mem_free(path);
    return s;
}

static pali_status prune(trainer *t) {
    if (!t->prune) return PALI_OK;
    t->prune = false;
    return checkpoint_prune(t->o->out_dir, t->o->save_limit);
}

/* Of what the run has come to, unless it is there. */
static pali_status save_last(trainer *t, bool done) {
    char *path = checkpoint_path(t->o->out_dir, t->state.global_step);
    if (!path) return status_no_memory(strlen(t->o->out_dir));
    pali_status s = file_is_dir(path) ? PALI_OK : save(t, done);
    if (s == PALI_OK && done) s = checkpoint_publish(path, t->o->out_dir);
    mem_free(path);
    return s;
}

/* ---- The loop ---- */

static bool is_due(const trainer *t, size_t every) {
    return t->state.global_step == t->schedule.total || (every && t->state.global_step % every == 0);
}

static pali_status step(trainer *t) {
    run_log_update log;
    STATUS_TRY(update_run(t, &log));
    STATUS_TRY(prune(t)); /* the loss of what was saved is a number */
    if (is_due(t, t->o->logging_steps)) STATUS_TRY(update_log(t, &log));
    t->sums.eval_due = evaluates(t) && is_due(t, t->o->eval_steps);
    STATUS_TRY(eval_if_due(t));
    return is_due(t, t->o->save_steps) ? save(t, t->state.global_step == t->schedule.total) : PALI_OK;
}

static pali_status loop(trainer *t) {
    pali_train_event event = {.kind = PALI_TRAIN_START, .n_rows = t->data.n, .n_parameters = t->plan.n_parameters, .memory_bytes = t->plan.needed + t->plan.keep_bytes,
                              .memory_available = t->plan.available};
    pali_status s = emit(t, &event);
    if (t->cache && augment_any(&t->o->augment))
        on_note(t, "augment: pictures are other ones in every epoch: the tower, though frozen, sees them each time, and features are kept for validation only");
    t->log_ms = clock_ms();
    if (s == PALI_OK) s = eval_if_due(t);
    while (s == PALI_OK && t->state.global_step < t->schedule.total) s = step(t);
    if (s == PALI_OK) s = save_last(t, true);
    if (s == PALI_OK) s = prune(t);
    if (s != PALI_ERR_CANCELLED || t->state.global_step == 0) return s;
    pali_status saved = save_last(t, false);
    return saved == PALI_OK || saved == PALI_ERR_CANCELLED ? status_fail(s, "stopped after %zu of %llu steps", t->state.global_step, (unsigned long long)t->schedule.total) : saved;
}

/* ---- Getting ready ---- */

static pali_status mixture_make(trainer *t) {
    size_t n_rows[DATASET_MAX_FILES];
    for (size_t i = 0, first = 0; i < t->data.n_files; first = t->data.files[i++].end) n_rows[i] = t->data.files[i].end - first;
    return order_mix(&t->order, n_rows, t->o->weights, t->data.n_files);
}

static pali_status data_open(trainer *t) {
    const trainer_options *o = t->o;
    const config *c = &t->base->cfg;
    if (!t->t) return status_fail(PALI_ERR_ARGUMENT, "the model has no tokenizer");
    t->rules = (sample_rules){.tokenizer = t->t, .image_token = c->image_token, .bos_token = c->bos_token, .eos_token = c->eos_token, .n_image_ids = c->vit.n_patches, .text_len = o->text_len};
    STATUS_TRY(dataset_open_all(&t->data, o->data, o->n_data, DATASET_BAD_DEFAULT, on_bad, t));
    STATUS_TRY(order_init(&t->order, t->data.n, o->batch_size, o->grad_accum, o->seed, o->shuffle));
    if (o->weights) STATUS_TRY(mixture_make(t));
    t->schedule = (schedule){.kind = o->schedule, .total = order_total_updates(&t->order, o->epochs, o->max_steps)};
    t->schedule.warmup = o->schedule == SCHEDULE_COSINE_BV && o->warmup > 0 && o->warmup < 1 ? schedule_warmup_bv(o->warmup, t->schedule.total)
                                                                                             : schedule_warmup(o->warmup, t->schedule.total);
    if (!o->val) return PALI_OK;
    STATUS_TRY(dataset_open(&t->val, o->val, DATASET_BAD_DEFAULT, on_bad, t));
    return order_init(&t->val_order, t->val.n, o->batch_size, 1, 0, false);
}

static pali_status memory_check(trainer *t) {
    const trainer_options *o = t->o;
    const train_plan_options asked = {.what = &o->what, .optimizer = &o->optimizer, .memory_bytes = o->memory_bytes,
                                      .extra_bytes = o->n_samples ? o->answer_bytes : 0, .augmented = augment_any(&o->augment)};
    STATUS_TRY(train_plan_make(&t->plan, &t->e, t->base, &asked, &t->data, &t->rules, o->batch_size));
    if (o->force || t->plan.needed <= t->plan.available) return PALI_OK;
    const uint64_t there = t->plan.weights + t->plan.others, all = t->plan.needed + there;
    if (o->memory_bytes && all > o->memory_bytes)
        return status_fail(PALI_ERR_MEMORY, "memory: training needs %.3g GB, %.3g GB of it for the model as it is; %.3g GB are allowed", (double)all * 1e-9, (double)there * 1e-9,
                           (double)o->memory_bytes * 1e-9);
    return status_fail(PALI_ERR_MEMORY, "memory: training needs %.1f GB beside the model's files, %.1f GB are available", (double)t->plan.needed * 1e-9,
                       (double)t->plan.available * 1e-9);
}

/* Of the frozen tower, which is the base's. */
static pali_status cache_make(trainer *t) {
    const vit *v = &t->base->vit;
    feature_cache_options o = {.n_floats = v->cfg.n_patches * v->cfg.width, .memory_bytes = (size_t)t->plan.cache_bytes, .dir = t->o->feature_dir, .warn = on_note, .user = t};
    if (o.dir) STATUS_TRY(feature_fingerprint(&o.fingerprint, t->e.k, v, (int)t->o->filter));
    return feature_cache_new(&t->cache, &o);
}

static pali_status parts_make(trainer *t) {
    const trainer_options *o = t->o;
    STATUS_TRY(trainable_new(&t->what, t->base, &o->what, &t->e));
    STATUS_TRY(crew_init(&t->crew, &t->e, t->what.view, t->what.p));
    STATUS_TRY(optim_new(&t->optimizer, &o->optimizer, t->what.p));
    return t->plan.trains_vision ? PALI_OK : cache_make(t);
}

/* Where each file ends among the rows, and its weight. */
static json_t *files_list(const trainer *t) {
    json_t *list = json_array();
    for (size_t i = 0; list && i < t->data.n_files; i++) {
        json_t *file = json_pack("[I, f]", (json_int_t)t->data.files[i].end, t->o->weights ? t->o->weights[i] : 0);
        if (json_array_append_new(list, file) == 0) continue;
        json_decref(list);
        list = NULL;
    }
    return list;
}

/* What a checkpoint must have in common with a run that goes on from it; sizes of arrays tell the rest. */
static pali_status settings_make(trainer *t) {
    const trainer_options *o = t->o;
    t->settings = json_pack("{s:b, s:o, s:I, s:I, s:I, s:b, s:i, s:i, s:i, s:b, s:i, s:I}", "adapters", (int)o->what.adapters, "rows", files_list(t), "batch_size",
                            (json_int_t)o->batch_size, "grad_accum", (json_int_t)o->grad_accum, "seed", (json_int_t)(o->seed & INT64_MAX), "shuffle", (int)o->shuffle,
                            "loss", (int)o->mean, "optimizer", (int)o->optimizer.kind, "crop", (int)o->augment.crop, "flip", (int)o->augment.flip, "resize",
                            (int)o->filter, "text_len", (json_int_t)o->text_len);
    return t->settings ? PALI_OK : status_no_memory(1);
}

static pali_status resume_from(trainer *t, const char *dir) {
    const checkpoint c = checkpoint_of(t);
    STATUS_TRY(status_prefix(checkpoint_load(&c, dir), "resume"));
    if (t->order.n_parts && t->state.global_step / t->order.n_updates > ORDER_MAX_DRAWS / t->order.n_rows)
        return status_fail(PALI_ERR_LIMIT, "resume: %s is of step %zu: too many rows of a mixture to find the next", dir, t->state.global_step);
    if (t->state.global_step <= t->schedule.total) return PALI_OK;
    return status_fail(PALI_ERR_ARGUMENT, "resume: %s is of step %zu; this run has %llu", dir, t->state.global_step, (unsigned long long)t->schedule.total);
}

static pali_status resume(trainer *t) {
    const trainer_options *o = t->o;
    char *latest;
    STATUS_TRY(checkpoint_latest(&latest, o->out_dir));
    pali_status s = PALI_OK;
    if (!o->resume && latest)
        s = status_fail(PALI_ERR_ARGUMENT, "%s: there already: go on from it (resume), or choose another output directory", latest);
    else if (o->resume && !*o->resume && !latest)
        s = status_fail(PALI_ERR_ARGUMENT, "resume: %s: no checkpoint in it", o->out_dir);
    else if (o->resume)
        s = resume_from(t, *o->resume ? o->resume : latest);
    mem_free(latest);
    return s;
}

static pali_status state_begin(trainer *t) {
    const trainer_options *o = t->o;
    STATUS_TRY(trainer_state_init(&t->state));
    STATUS_TRY(settings_make(t));
    STATUS_TRY(resume(t));
    t->state.max_steps = t->schedule.total;
    t->state.n_epochs = (size_t)ceil((double)t->schedule.total / (double)t->order.n_updates);
    t->state.batch_size = o->batch_size;
    t->state.logging_steps = o->logging_steps;
    t->state.eval_steps = o->eval_steps;
    t->state.save_steps = o->save_steps;
    STATUS_TRY(checkpoint_prune(o->out_dir, SIZE_MAX)); /* half-written ones only */
    return run_log_open(&t->log, o->out_dir, o->board_dir, &t->state);
}

static pali_status loader_begin(trainer *t) {
    loader_options options = loader_of(t, &t->data, &t->order);
    options.augment = t->o->augment;
    if (augment_any(&options.augment)) options.cache = NULL;
    order_resume(&t->order, t->state.global_step, &options.epoch, &options.micro);
    return loader_open(&t->loader, &options);
}

static pali_status run(trainer *t) {
    STATUS_TRY(exec_init(&t->e, t->o->n_threads));
    STATUS_TRY(data_open(t));
    STATUS_TRY(memory_check(t));
    STATUS_TRY(dir_make(t->o->out_dir, &t->n_dirs));
    STATUS_TRY(parts_make(t));
    STATUS_TRY(state_begin(t));
    STATUS_TRY(loader_begin(t));
    return loop(t);
}

pali_status trainer_run(const model *base, const tokenizer *tokens, const trainer_options *o) {
    trainer t = {.base = base, .t = tokens, .o = o, .log = {.fd = -1, .board = {.fd = -1}}};
    pali_status s = run(&t);
    loader_close(t.loader);
    run_log_close(&t.log);
    json_decref(t.settings);
    trainer_state_free(&t.state);
    feature_cache_free(t.cache);
    optim_free(t.optimizer);
    crew_free(&t.crew);
    trainable_free(&t.what);
    order_free(&t.order);
    order_free(&t.val_order);
    dataset_close(&t.data);
    dataset_close(&t.val);
    exec_free(&t.e);
    if (s != PALI_OK) dir_unmake(o->out_dir, t.n_dirs); /* unless something is in it */
    return s;
}
