/* run_log.c: see run_log.h. */
#include "train/run_log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "io/json.h"

#define MAX_LOG_BYTES ((size_t)1 << 30)
#define DIGITS 9

/* Bytes of the lines up to `step`. A last line that was not written whole goes too. */
static size_t kept_bytes(const char *text, size_t n, size_t step) {
    size_t at = 0;
    while (at < n) {
        const char *end = memchr(text + at, '\n', n - at);
        json_t *line = NULL;
        size_t found = SIZE_MAX;
        if (!end || json_parse(&line, text + at, (size_t)(end - text) - at, "log.jsonl") != PALI_OK) break;
        pali_status s = json_get_size(line, "step", &found, 0, SIZE_MAX / 2, "log.jsonl");
        json_decref(line);
        if (s != PALI_OK || found > step) break;
        at = (size_t)(end - text) + 1;
    }
    return at;
}

static pali_status cut(const run_log *l) {
    char *text;
    size_t n, kept = 0;
    if (l->state->global_step) {
        STATUS_TRY(file_read(&text, &n, l->path, MAX_LOG_BYTES));
        kept = kept_bytes(text, n, l->state->global_step);
        mem_free(text);
    }
    return ftruncate(l->fd, (off_t)kept) == 0 ? PALI_OK : status_fail(PALI_ERR_IO, "%s: cannot cut: %s", l->path, strerror(errno));
}

pali_status run_log_open(run_log *out, const char *out_dir, const char *board_dir, trainer_state *state) {
    *out = (run_log){.fd = -1, .board = {.fd = -1}, .state = state, .path = file_join(out_dir, "log.jsonl")};
    if (!out->path) return status_no_memory(strlen(out_dir));
    out->fd = open(out->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    pali_status s = out->fd >= 0 ? cut(out) : status_fail(PALI_ERR_IO, "%s: cannot open: %s", out->path, strerror(errno));
    if (s == PALI_OK && board_dir) s = events_open(&out->board, board_dir);
    if (s != PALI_OK) run_log_close(out);
    return s;
}

void run_log_close(run_log *l) {
    struct stat st;
    events_close(&l->board);
    if (l->path && l->fd >= 0) {
        if (fstat(l->fd, &st) == 0 && st.st_size == 0) (void)unlink(l->path); /* nothing came of the run */
        (void)close(l->fd);
    }
    mem_free(l->path);
    *l = (run_log){.fd = -1, .board = {.fd = -1}};
}

/* Takes the object over. One call for a line, so that a killed run leaves at most the last one incomplete. */
static pali_status line_write(const run_log *l, json_t *object) {
    char *text = object ? json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(DIGITS)) : NULL;
    json_decref(object);
    if (!text) return status_no_memory(1);
    size_t n = strlen(text);
    text[n] = '\n'; /* in the place of its end */
    ssize_t got = write(l->fd, text, n + 1);
    mem_free(text);
    if (got == (ssize_t)n + 1) return PALI_OK;
    return status_fail(PALI_ERR_IO, "%s: cannot write: %s", l->path, got < 0 ? strerror(errno) : "the disk is full");
}

static pali_status board_add(run_log *l, const char *tag, double x) {
    return events_scalar(&l->board, (int64_t)l->state->global_step, tag, (float)x);
}

pali_status run_log_add_update(run_log *l, const run_log_update *u) {
    const trainer_value values[] = {{"grad_norm", u->grad_norm}, {"learning_rate", u->lr}, {"loss", u->loss}};
    STATUS_TRY(trainer_state_log(l->state, values, sizeof values / sizeof *values));
    STATUS_TRY(line_write(l, json_pack("{s:I, s:f, s:f, s:f, s:I, s:f}", "step", (json_int_t)l->state->global_step, "loss", u->loss, "lr", u->lr, "grad_norm",
                                       u->grad_norm, "tokens", (json_int_t)u->n_tokens, "ms", u->ms)));
    STATUS_TRY(board_add(l, "train/loss", u->loss));
    STATUS_TRY(board_add(l, "train/grad_norm", u->grad_norm));
    STATUS_TRY(board_add(l, "train/learning_rate", u->lr));
    return board_add(l, "train/epoch", l->state->epoch);
}

pali_status run_log_add_eval(run_log *l, const run_log_eval *v) {
    const trainer_value values[] = {{"eval_loss", v->loss}, {"eval_accuracy", v->accuracy}, {"eval_runtime", v->ms / 1e3}};
    STATUS_TRY(trainer_state_log(l->state, values, sizeof values / sizeof *values));
    STATUS_TRY(line_write(l, json_pack("{s:I, s:f, s:f, s:I, s:f}", "step", (json_int_t)l->state->global_step, "eval_loss", v->loss, "eval_accuracy", v->accuracy,
                                       "eval_tokens", (json_int_t)v->n_targets, "ms", v->ms)));
    STATUS_TRY(board_add(l, "eval/loss", v->loss));
    return board_add(l, "eval/accuracy", v->accuracy);
}

/* Markdown, as TensorBoard shows texts. */
static pali_status board_text(run_log *l, size_t index, const answered *a) {
    char tag[64];
    const size_t n = strlen(a->prefix) + strlen(a->want) + strlen(a->got) + 64;
    if (!l->board.path || n > EVENTS_MAX_TEXT) return PALI_OK;
    char *text = mem_alloc(n, 1);
    if (!text) return status_no_memory(n);
    (void)snprintf(tag, sizeof tag, "samples/%zu", index);
    (void)snprintf(text, n, "**%s**  \nwant: %s  \ngot: %s", a->prefix, a->want, a->got);
    pali_status s = events_text(&l->board, (int64_t)l->state->global_step, tag, text);
    mem_free(text);
    return s;
}

pali_status run_log_add_sample(run_log *l, size_t index, const answered *a) {
    STATUS_TRY(line_write(l, json_pack("{s:I, s:s, s:I, s:s, s:s, s:s}", "step", (json_int_t)l->state->global_step, "kind", "sample", "line", (json_int_t)a->line, "prefix",
                                       a->prefix, "want", a->want, "got", a->got)));
    return board_text(l, index, a);
}
