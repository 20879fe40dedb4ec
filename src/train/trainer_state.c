/* trainer_state.c: one document, both ways. */
#include "train/trainer_state.h"

#include <math.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "io/json.h"

#define MAX_COUNT ((size_t)1 << 53) /* what every reader of JSON has exactly */
#define DIGITS 17                   /* of a double that comes back the same */

/* A counter and its key. */
typedef struct counter {
    const char *key;
    size_t *value;
} counter;

enum { N_COUNTERS = 8 };

static void counters_of(trainer_state *s, counter out[N_COUNTERS]) {
    const counter all[N_COUNTERS] = {{"global_step", &s->global_step},     {"max_steps", &s->max_steps},   {"num_train_epochs", &s->n_epochs},
                                     {"train_batch_size", &s->batch_size}, {"eval_steps", &s->eval_steps}, {"logging_steps", &s->logging_steps},
                                     {"save_steps", &s->save_steps},       {"num_input_tokens_seen", &s->n_input_tokens}};
    memcpy(out, all, sizeof all);
}

pali_status trainer_state_init(trainer_state *s) {
    *s = (trainer_state){.log = json_array()};
    return s->log ? PALI_OK : status_no_memory(sizeof *s);
}

void trainer_state_free(trainer_state *s) {
    json_decref(s->log);
    *s = (trainer_state){0};
}

static json_t *number(double x) {
    return isfinite(x) ? json_real(x) : json_null();
}

/* Takes the value over; false: no memory. */
static bool put(json_t *object, const char *key, json_t *value) {
    return json_object_set_new(object, key, value) == 0;
}

pali_status trainer_state_log(trainer_state *s, const trainer_value *values, size_t n) {
    if (json_array_size(s->log) >= TRAINER_STATE_MAX_ENTRIES)
        return status_fail(PALI_ERR_LIMIT, "log: more than %u entries", TRAINER_STATE_MAX_ENTRIES);
    json_t *entry = json_object();
    bool ok = entry && put(entry, "epoch", number(s->epoch)) && put(entry, "step", json_integer((json_int_t)s->global_step));
    for (size_t i = 0; i < n && ok; i++) ok = put(entry, values[i].key, number(values[i].x));
    if (!ok) {
        json_decref(entry);
        return status_no_memory(n * sizeof *values);
    }
    return json_array_append_new(s->log, entry) == 0 ? PALI_OK : status_no_memory(sizeof entry);
}

/* The constant part: what a run on one machine, without a search, with no best model kept, looks like. */
static json_t *frame(bool stop) {
    return json_pack("{s:n, s:n, s:n, s:b, s:b, s:b, s:n, s:n, s:{s:{s:{s:b, s:b, s:b, s:b, s:b}, s:{}}}}", "best_global_step", "best_metric",
                     "best_model_checkpoint", "is_hyper_param_search", 0, "is_local_process_zero", 1, "is_world_process_zero", 1, "trial_name",
                     "trial_params", "stateful_callbacks", "TrainerControl", "args", "should_epoch_stop", 0, "should_evaluate", 0, "should_log", 0,
                     "should_save", 1, "should_training_stop", (int)stop, "attributes");
}

pali_status trainer_state_save(const trainer_state *s, const char *path, bool stop) {
    trainer_state copy = *s;
    counter counters[N_COUNTERS];
    json_t *document = frame(stop);
    counters_of(&copy, counters);
    bool ok = document && put(document, "epoch", number(s->epoch)) && put(document, "total_flos", number(s->total_flos)) &&
              json_object_set(document, "log_history", s->log) == 0;
    for (size_t i = 0; i < N_COUNTERS && ok; i++) ok = put(document, counters[i].key, json_integer((json_int_t)*counters[i].value));
    char *text = ok ? json_dumps(document, JSON_INDENT(2) | JSON_SORT_KEYS | JSON_REAL_PRECISION(DIGITS)) : NULL;
    json_decref(document);
    if (!text) return status_no_memory(json_array_size(s->log) * sizeof(trainer_value));
    size_t n = strlen(text);
    text[n] = '\n'; /* in the place of its end */
    pali_status status = file_write_atomic(path, text, n + 1);
    mem_free(text);
    return status;
}

static pali_status check_log(const json_t *log, const char *name) {
    size_t i;
    json_t *entry, *value;
    const char *key;
    if (!json_is_array(log)) return status_fail(PALI_ERR_FORMAT, "%s: log_history: expected an array", name);
    if (json_array_size(log) > TRAINER_STATE_MAX_ENTRIES)
        return status_fail(PALI_ERR_LIMIT, "%s: log_history: more than %u entries", name, TRAINER_STATE_MAX_ENTRIES);
    json_array_foreach(log, i, entry) {
        if (!json_is_object(entry)) return status_fail(PALI_ERR_FORMAT, "%s: log_history[%zu]: expected an object", name, i);
        json_object_foreach(entry, key, value) {
            if (!json_is_number(value) && !json_is_null(value))
                return status_fail(PALI_ERR_FORMAT, "%s: log_history[%zu].%s: expected a number", name, i, key);
        }
    }
    return PALI_OK;
}

static pali_status get_number(const json_t *document, const char *key, double *out, const char *name) {
    const json_t *value = json_object_get(document, key);
    if (!value || json_is_null(value)) return PALI_OK;
    if (!json_is_number(value) || !(json_number_value(value) >= 0))
        return status_fail(PALI_ERR_FORMAT, "%s: %s: expected a number of at least 0", name, key);
    *out = json_number_value(value);
    return PALI_OK;
}

static pali_status read_fields(trainer_state *s, const json_t *document, const char *name) {
    counter counters[N_COUNTERS];
    if (!json_is_object(document)) return status_fail(PALI_ERR_FORMAT, "%s: expected an object", name);
    counters_of(s, counters);
    for (size_t i = 0; i < N_COUNTERS; i++) STATUS_TRY(json_get_size(document, counters[i].key, counters[i].value, 0, MAX_COUNT, name));
    STATUS_TRY(get_number(document, "epoch", &s->epoch, name));
    STATUS_TRY(get_number(document, "total_flos", &s->total_flos, name));
    json_t *log = json_object_get(document, "log_history");
    STATUS_TRY(check_log(log, name));
    s->log = json_incref(log);
    return PALI_OK;
}

/* Takes the document over. */
static pali_status read_document(trainer_state *out, json_t *document, const char *name) {
    trainer_state s = {0};
    pali_status status = read_fields(&s, document, name);
    if (status == PALI_OK) *out = s;
    json_decref(document);
    return status;
}

pali_status trainer_state_parse(trainer_state *out, const char *json, size_t n_bytes, const char *name) {
    json_t *document;
    *out = (trainer_state){0};
    STATUS_TRY(json_parse(&document, json, n_bytes, name));
    return read_document(out, document, name);
}

pali_status trainer_state_load(trainer_state *out, const char *path) {
    json_t *document;
    *out = (trainer_state){0};
    STATUS_TRY(json_read(&document, path));
    return read_document(out, document, path);
}
