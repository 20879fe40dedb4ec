/* batch.c: run --batch: a stream of JSON requests, one a line, one JSON object a line out in the same order. A line that
 * fails is answered by {"schema", "error"}.
 *
 *   line -> entry -> the library's batch -> answer -> printed when all lines before it are
 *
 * Lines are read ahead so that the batch never lacks requests, but never waited for while there is work: whoever writes one
 * line and waits for its answer gets it. Memory is bounded by the lines ahead and by the bytes of their pictures. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "answer.h"
#include "request.h"

#define PICTURE_BYTES_MAX ((size_t)512 << 20) /* decoded pictures of lines ahead; one line may have more */

/* A line on its way. */
typedef struct entry {
    size_t index;      /* in the library's batch */
    size_t line;
    char *name;        /* of the first picture's file */
    bool pending;
    pictures images;
    json_t *answer;    /* NULL when done: error says why */
    char error[1024];
    double start_ms, images_ms;
} entry;

typedef struct stream {
    answering *a;
    const char *shown; /* where the lines come from */
    line_source lines;
    bool ended;
    pali_batch *batch;
    entry *ring;       /* [n_ring]; the n from `first` on are in use */
    size_t n_ring, first, n, picture_bytes;
    size_t n_lines, n_failed, first_failed;
} stream;

static entry *entry_at(const stream *s, size_t i) {
    return &s->ring[(s->first + i) % s->n_ring];
}

static size_t pictures_bytes(const pictures *p) {
    size_t n = 0;
    for (size_t i = 0; i < p->n; i++) n += (size_t)pali_image_width(p->items[i]) * (size_t)pali_image_height(p->items[i]) * 3;
    return n;
}

/* The pictures are needed until the objects are drawn. */
static void entry_free_pictures(stream *s, entry *e) {
    s->picture_bytes -= pictures_bytes(&e->images);
    pictures_free(&e->images);
}

/* Decodes the pictures of a request and hands it to the batch. */
static pali_status entry_add(stream *s, entry *e, const request *r) {
    pali_request q;
    pali_status status = PALI_OK;
    e->images.items = calloc(r->n_paths, sizeof *e->images.items);
    e->name = strdup(r->paths[0]);
    if (!e->images.items || !e->name) return PALI_ERR_MEMORY;
    for (; e->images.n < r->n_paths && status == PALI_OK; e->images.n += status == PALI_OK)
        status = pali_image_load(&e->images.items[e->images.n], r->paths[e->images.n]);
    s->picture_bytes += pictures_bytes(&e->images);
    e->images_ms = cli_clock_ms() - e->start_ms;
    if (status != PALI_OK) return status;
    pali_request_init(&q);
    q.images = (const pali_image *const *)e->images.items;
    q.n_images = e->images.n;
    q.prompt = r->prompt;
    q.options = &s->a->options;
    return pali_batch_add(s->batch, &q, &e->index);
}

/* Starts a line. */
static void entry_start(stream *s, line_state state) {
    entry *e = entry_at(s, s->n++);
    request r = {0};
    *e = (entry){.start_ms = cli_clock_ms(), .line = ++s->n_lines};
    if (state == LINE_TOO_LONG) {
        (void)snprintf(e->error, sizeof e->error, "request: too long: a line of at most %zu bytes expected", INPUT_MAX_LINE_BYTES);
    } else if (request_parse(&r, &s->lines.line, e->error, sizeof e->error)) {
        pali_status status = entry_add(s, e, &r);
        e->pending = status == PALI_OK;
        if (!e->pending) {
            (void)snprintf(e->error, sizeof e->error, "%s", status == PALI_ERR_MEMORY ? "out of memory" : pali_last_error());
            entry_free_pictures(s, e);
        }
    }
    json_decref(r.object);
}

/* Reads a line if there is room for it; waits for it only if there is nothing else to do. One for each step of the batch is
 * enough to fill all its slots, and the first request need not wait for the pictures of the others. */
static int line_read(stream *s) {
    if (s->ended || s->n == s->n_ring || (s->n && s->picture_bytes >= PICTURE_BYTES_MAX)) return CLI_OK;
    line_state state = input_line(&s->lines, s->n == 0);
    if (cli_interrupted()) return CLI_INTERRUPTED;
    if (state == LINE_FAILED) return cli_fail(s->a->c, "batch: %s: %s", s->shown, strerror(errno));
    if (state == LINE_END)
        s->ended = true;
    else if (state != LINE_LATER)
        entry_start(s, state);
    return CLI_OK;
}

/* Makes the answer of a request that is done. */
static void entry_finish(stream *s, entry *e, const pali_result *result) {
    found objects = {0};
    fault f;
    pali_status status = pali_result_status(result);
    e->pending = false;
    if (status != PALI_OK) {
        (void)snprintf(e->error, sizeof e->error, "%s", pali_result_error(result));
    } else if (!report_is_finite(result)) {
        (void)snprintf(e->error, sizeof e->error, "%s", REPORT_NOT_FINITE);
    } else if (!answer_objects(s->a, &e->images, result, e->line, e->name, &objects, &f)) {
        (void)snprintf(e->error, sizeof e->error, "%s", f.text);
    } else {
        e->answer = answer_json(s->a, &e->images, result, &objects, e->images_ms, cli_clock_ms() - e->start_ms);
        if (!e->answer) (void)snprintf(e->error, sizeof e->error, "out of memory");
    }
    found_free(&objects);
    entry_free_pictures(s, e);
}

/* A step of the batch, and what it brought to an end. */
static int work(stream *s) {
    pali_result *result = NULL;
    size_t index;
    if (pali_batch_step(s->batch) != PALI_OK) return cli_fail_library(s->a->c, PALI_ERR_CANCELLED, "batch");
    while (pali_batch_take(s->batch, &index, &result) == PALI_OK && result) {
        size_t i = 0;
        while (i < s->n && !(entry_at(s, i)->pending && entry_at(s, i)->index == index)) i++;
        if (i < s->n) entry_finish(s, entry_at(s, i), result);
        pali_result_free(result);
    }
    return CLI_OK;
}

/* Prints an answer, or keeps it for --format; then errors are told at once, because the result has no place for them. */
static int entry_print(stream *s, entry *e) {
    cli *c = s->a->c;
    fault f;
    if (e->answer && s->a->export && !export_add(s->a->export, e->name, e->answer, &f)) {
        (void)snprintf(e->error, sizeof e->error, "%s", f.text);
        json_decref(e->answer);
        e->answer = NULL;
    }
    if (!e->answer) {
        if (!s->n_failed++) s->first_failed = e->line;
        if (s->a->export) cli_note(c, "batch: %s: line %zu: %s", s->shown, e->line, e->error);
        else e->answer = json_pack("{s:i, s:o}", "schema", REPORT_SCHEMA, "error", report_text(e->error, strlen(e->error)));
    }
    json_t *answer = e->answer;
    e->answer = NULL;
    if (s->a->export) {
        json_decref(answer);
        return CLI_OK;
    }
    int code = report_print(c, answer);
    return code ? code : cli_flush(c);
}

static void entry_free(stream *s, entry *e) {
    entry_free_pictures(s, e);
    json_decref(e->answer);
    free(e->name);
    *e = (entry){0};
}

/* Prints what is done and has nothing pending before it. */
static int print_done(stream *s) {
    int code = CLI_OK;
    for (; s->n && !entry_at(s, 0)->pending && !code; s->first++, s->n--) {
        code = entry_print(s, entry_at(s, 0));
        entry_free(s, entry_at(s, 0));
    }
    return code;
}

static int stream_run(stream *s) {
    int code = CLI_OK;
    while (!code) {
        code = line_read(s);
        if (!code && pali_batch_pending(s->batch)) code = work(s);
        if (!code) code = print_done(s);
        if (!code && s->ended && !s->n) break;
    }
    return code;
}

int batch_run(answering *a, const char *path) {
    cli *c = a->c;
    pali_batch_options options;
    stream s = {.a = a, .shown = strcmp(path, "-") ? path : "standard input"};
    if (!input_lines_open(&s.lines, path)) return cli_fail(c, "batch: %s: %s", path, strerror(errno));
    pali_batch_options_init(&options);
    if (c->args.batch_size) options.max_sequences = (int32_t)c->args.batch_size;
    s.n_ring = BATCH_AHEAD * (size_t)options.max_sequences;
    s.ring = calloc(s.n_ring, sizeof *s.ring);
    int code = s.ring ? CLI_OK : cli_fail(c, "batch: out of memory");
    pali_status status = code ? PALI_OK : pali_batch_new(&s.batch, a->session, &options);
    if (status != PALI_OK) code = cli_fail_library(c, status, "batch");
    if (!code) code = stream_run(&s);
    pali_batch_free(s.batch); /* before the pictures */
    for (size_t i = 0; i < s.n; i++) entry_free(&s, entry_at(&s, i));
    free(s.ring);
    input_lines_close(&s.lines);
    if (!code && a->export) code = export_write(c, a->export);
    if (!code && s.n_failed) {
        code = cli_fail(c, "batch: %s: %zu of %zu requests failed, the first on line %zu", s.shown, s.n_failed, s.n_lines, s.first_failed);
    }
    return code;
}
