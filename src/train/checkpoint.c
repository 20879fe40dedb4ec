/* checkpoint.c: see checkpoint.h. */
#include "train/checkpoint.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "io/json.h"
#include "io/safetensors_write.h"
#include "model/save.h"
#include "train/adapter_files.h"

#define STATE_FILE "train_state.json"
#define ARRAYS_FILE "optimizer.safetensors"

/* ---- Arrays ---- */

static size_t n_arrays(const checkpoint *c) {
    return 2 * c->what->p->n + optim_n_arrays(c->optimizer);
}

/* false: the parameter has no such storage. */
static bool array_at(const checkpoint *c, size_t i, optim_array *out) {
    if (i >= 2 * c->what->p->n) {
        optim_array_get(c->optimizer, i - 2 * c->what->p->n, out);
        return true;
    }
    const param *q = &c->what->p->items[i / 2];
    const bool half = i % 2;
    *out = (optim_array){.prefix = half ? "h." : "p.", .param = q->name, .dtype = half ? OPTIM_BF16 : OPTIM_F32, .n_dims = q->n_dims};
    memcpy(out->dims, q->dims, sizeof out->dims);
    out->data = half ? (void *)q->half : q->value;
    out->n_bytes = q->n * (half ? 2 : 4);
    return out->data;
}

static st_dtype stored_of(optim_dtype dtype) {
    return dtype == OPTIM_F32 ? ST_F32 : dtype == OPTIM_BF16 ? ST_BF16 : ST_U8;
}

static void array_name(char out[PARAM_NAME_MAX + 8], const optim_array *a) {
    (void)snprintf(out, PARAM_NAME_MAX + 8, "%s%s", a->prefix, a->param);
}

/* Lists or writes all arrays, those of larger elements first. */
static pali_status arrays_pass(const checkpoint *c, safetensors_writer *w, bool data) {
    static const optim_dtype k_order[] = {OPTIM_F32, OPTIM_BF16, OPTIM_U8};
    for (size_t k = 0; k < sizeof k_order / sizeof *k_order; k++) {
        for (size_t i = 0; i < n_arrays(c); i++) {
            optim_array a;
            char name[PARAM_NAME_MAX + 8];
            if (!array_at(c, i, &a) || a.dtype != k_order[k]) continue;
            array_name(name, &a);
            STATUS_TRY(data ? safetensors_writer_data(w, a.data, a.n_bytes) : safetensors_writer_put(w, name, stored_of(a.dtype), a.n_dims, a.dims));
        }
    }
    return PALI_OK;
}

static pali_status arrays_write(const checkpoint *c, const dir_out *dir) {
    file_out file;
    safetensors_writer w;
    STATUS_TRY(dir_out_file(dir, &file, ARRAYS_FILE));
    STATUS_TRY(safetensors_writer_open(&w, &file));
    pali_status s = arrays_pass(c, &w, false);
    if (s == PALI_OK) s = safetensors_writer_begin(&w);
    if (s == PALI_OK) s = arrays_pass(c, &w, true);
    if (s == PALI_OK) s = safetensors_writer_commit(&w);
    safetensors_writer_free(&w);
    return s;
}

/* `from` is where the last one was found: the order is the same. */
static const st_tensor *array_find(const safetensors *file, const char *name, size_t *from) {
    for (size_t i = 0; i < file->n_tensors; i++) {
        size_t at = (*from + i) % file->n_tensors;
        if (strcmp(file->tensors[at].name, name) != 0) continue;
        *from = at;
        return &file->tensors[at];
    }
    return NULL;
}

static pali_status arrays_fill(const checkpoint *c, const safetensors *file, const char *path) {
    size_t n = 0;
    for (size_t i = 0, from = 0; i < n_arrays(c); i++) {
        optim_array a;
        char name[PARAM_NAME_MAX + 8];
        if (!array_at(c, i, &a)) continue;
        array_name(name, &a);
        const st_tensor *t = array_find(file, name, &from);
        if (!t) return status_fail(PALI_ERR_FORMAT, "%s: %s: missing", path, name);
        if (t->dtype != stored_of(a.dtype) || t->n_bytes != a.n_bytes)
            return status_fail(PALI_ERR_FORMAT, "%s: %s: %zu bytes of %s; expected %zu of %s", path, name, t->n_bytes, safetensors_dtype_name(t->dtype), a.n_bytes,
                               safetensors_dtype_name(stored_of(a.dtype)));
        memcpy(a.data, t->data, a.n_bytes);
        n++;
    }
    return n == file->n_tensors ? PALI_OK : status_fail(PALI_ERR_FORMAT, "%s: %zu arrays; expected %zu: another method, optimizer or set of parameters", path, file->n_tensors, n);
}

static pali_status arrays_load(const checkpoint *c, const char *dir) {
    safetensors file;
    char *path = file_join(dir, ARRAYS_FILE);
    if (!path) return status_no_memory(strlen(dir));
    pali_status s = safetensors_open(&file, path);
    if (s == PALI_OK) {
        s = arrays_fill(c, &file, path);
        safetensors_close(&file);
    }
    mem_free(path);
    return s;
}

/* ---- train_state.json ---- */

static pali_status state_write(const checkpoint *c, const dir_out *dir) {
    json_t *root = json_pack("{s:i, s:I, s:{s:f, s:I, s:I, s:b}, s:O}", "version", 1, "step", (json_int_t)c->state->global_step, "since_log", "loss", c->sums->loss,
                             "updates", (json_int_t)c->sums->n_updates, "tokens", (json_int_t)c->sums->n_tokens, "eval_due", (int)c->sums->eval_due, "settings", c->settings);
    char *text = root ? json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(17)) : NULL;
    json_decref(root);
    pali_status s = text ? dir_out_write(dir, STATE_FILE, text, strlen(text)) : status_no_memory(1);
    mem_free(text);
    return s;
}

/* A run with other settings would be another run. */
static pali_status settings_check(const checkpoint *c, const json_t *there, const char *path) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)c->settings, key, value) {
        const json_t *other = json_object_get(there, key);
        if (other && json_equal(other, value)) continue;
        char *was = other ? json_dumps(other, JSON_ENCODE_ANY) : NULL, *now = json_dumps(value, JSON_ENCODE_ANY);
        pali_status s = status_fail(PALI_ERR_ARGUMENT, "%s: %s: was %s and is now %s: cannot go on with that", path, key, was ? was : "not there", now ? now : "?");
        mem_free(was);
        mem_free(now);
        return s;
    }
    return PALI_OK;
}

static pali_status sums_read(const checkpoint *c, const json_t *root, const char *path) {
    const json_t *sums, *settings, *loss;
    STATUS_TRY(json_get_object(root, "since_log", &sums, path));
    STATUS_TRY(json_get_object(root, "settings", &settings, path));
    if (!sums || !settings) return status_fail(PALI_ERR_FORMAT, "%s: since_log or settings: missing", path);
    loss = json_object_get(sums, "loss");
    if (!json_is_number(loss)) return status_fail(PALI_ERR_FORMAT, "%s: since_log: loss: a number expected", path);
    *c->sums = (checkpoint_sums){.loss = json_number_value(loss)};
    STATUS_TRY(json_get_size(sums, "updates", &c->sums->n_updates, 0, SIZE_MAX / 2, path));
    STATUS_TRY(json_get_bool(sums, "eval_due", &c->sums->eval_due, path));
    STATUS_TRY(json_get_size(sums, "tokens", &c->sums->n_tokens, 0, SIZE_MAX / 2, path));
    return settings_check(c, settings, path);
}

pali_status checkpoint_state_parse(const checkpoint *c, const char *json, size_t n_bytes, const char *name) {
    json_t *root;
    size_t step = 0;
    STATUS_TRY(json_parse(&root, json, n_bytes, name));
    pali_status s = sums_read(c, root, name);
    if (s == PALI_OK) s = json_get_size(root, "step", &step, 0, SIZE_MAX / 2, name);
    if (s == PALI_OK && step != c->state->global_step)
        s = status_fail(PALI_ERR_FORMAT, "%s: step: %zu, but trainer_state.json has %zu", name, step, c->state->global_step);
    json_decref(root);
    return s;
}

static pali_status state_read(const checkpoint *c, const char *dir) {
    char *path = file_join(dir, STATE_FILE), *text = NULL;
    size_t n;
    if (!path) return status_no_memory(strlen(dir));
    pali_status s = file_read(&text, &n, path, JSON_MAX_FILE_BYTES);
    if (s == PALI_OK) s = checkpoint_state_parse(c, text, n, path);
    mem_free(text);
    mem_free(path);
    return s;
}

/* ---- All of it ---- */

static pali_status values_write(const checkpoint *c, const dir_out *dir) {
    const trainable *what = c->what;
    model_save_options o = {.tokenizer_path = c->tokenizer_path, .n_threads = c->n_threads};
    if (what->o.adapters) return adapter_files_write(dir, &what->lora, &what->o.lora, c->base_name);
    return model_save(what->view, c->t, dir->temp, &o); /* a directory of its own, which takes the place of the empty one */
}

static pali_status trainer_state_write(const checkpoint *c, const dir_out *dir, bool done) {
    char *path = file_join(dir->temp, "trainer_state.json");
    if (!path) return status_no_memory(strlen(dir->temp));
    pali_status s = trainer_state_save(c->state, path, done);
    mem_free(path);
    return s;
}

static pali_status files_write(const checkpoint *c, const dir_out *dir, bool done) {
    STATUS_TRY(values_write(c, dir));
    STATUS_TRY(arrays_write(c, dir));
    STATUS_TRY(trainer_state_write(c, dir, done));
    return state_write(c, dir);
}

pali_status checkpoint_save(const checkpoint *c, const char *out_dir, bool done) {
    dir_out dir = {0};
    char *path = checkpoint_path(out_dir, c->state->global_step);
    if (!path) return status_no_memory(strlen(out_dir));
    pali_status s = checkpoint_drop(out_dir, c->state->global_step);
    if (s == PALI_OK) s = dir_out_open(&dir, path);
    mem_free(path);
    if (s == PALI_OK) s = files_write(c, &dir, done);
    if (s == PALI_OK) s = dir_out_commit(&dir);
    dir_out_abort(&dir);
    return s == PALI_OK ? dir_sync(out_dir) : s;
}

static pali_status trainer_state_read(const checkpoint *c, const char *dir) {
    trainer_state state;
    char *path = file_join(dir, "trainer_state.json");
    if (!path) return status_no_memory(strlen(dir));
    pali_status s = trainer_state_load(&state, path);
    mem_free(path);
    STATUS_TRY(s);
    trainer_state_free(c->state);
    *c->state = state;
    return PALI_OK;
}

pali_status checkpoint_load(const checkpoint *c, const char *dir) {
    STATUS_TRY(trainer_state_read(c, dir));
    STATUS_TRY(state_read(c, dir));
    STATUS_TRY(arrays_load(c, dir));
    optim_set_step(c->optimizer, c->state->global_step);
    return PALI_OK;
}
