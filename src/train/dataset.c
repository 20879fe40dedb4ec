#include "train/dataset.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/rng.h"
#include "io/json.h"
#include "train/order.h"

#define CHUNK ((size_t)1 << 16)

/* ---- One row ---- */

static pali_status row_text(const json_t *object, const char *key, const char **out, size_t *n, const char *name) {
    const json_t *value = json_object_get(object, key);
    if (!value) return status_fail(PALI_ERR_FORMAT, "%s: no \"%s\"", name, key);
    if (!json_is_string(value)) return status_fail(PALI_ERR_FORMAT, "%s: %s: expected a string", name, key);
    *out = json_string_value(value);
    *n = json_string_length(value);
    return PALI_OK;
}

static void row_suffix(dataset_row *row, const json_t *value) {
    row->suffix = json_string_value(value);
    row->n_suffix = json_string_length(value);
}

/* A text or a list of texts. */
static pali_status row_suffixes(dataset_row *row, const char *name) {
    const json_t *list = json_object_get(row->json, "suffix");
    if (!json_is_array(list)) return row_text(row->json, "suffix", &row->suffix, &row->n_suffix, name);
    const size_t n = json_array_size(list);
    if (n == 0 || n > DATASET_MAX_SUFFIXES) return status_fail(PALI_ERR_LIMIT, "%s: suffix: %zu texts: expected 1 to %u", name, n, DATASET_MAX_SUFFIXES);
    for (size_t i = 0; i < n; i++) {
        const json_t *value = json_array_get(list, i);
        if (!json_is_string(value)) return status_fail(PALI_ERR_FORMAT, "%s: suffix[%zu]: expected a string", name, i);
        if (!row->suffix || json_string_length(value) > row->n_suffix) row_suffix(row, value);
    }
    row->suffixes = list;
    return PALI_OK;
}

void dataset_row_draw(dataset_row *row, uint64_t seed, uint64_t epoch, size_t index) {
    const size_t n = json_array_size(row->suffixes), turn = n ? (size_t)(epoch % n) : 0;
    uint16_t turns[DATASET_MAX_SUFFIXES];
    rng r;
    if (n == 0) return;
    const uint64_t what[] = {seed, index, epoch / n};
    rng_seed(&r, hash_bytes((hash_key){{0}}, what, sizeof what).hash[0]);
    for (size_t i = 0; i < n; i++) turns[i] = (uint16_t)i;
    for (size_t i = 0; i <= turn; i++) {
        const size_t j = i + (size_t)rng_below(&r, n - i);
        const uint16_t at = turns[i];
        turns[i] = turns[j];
        turns[j] = at;
    }
    row_suffix(row, json_array_get(row->suffixes, turns[turn]));
}

static pali_status row_image(dataset_row *row, const json_t *value, const char *dir, const char *name) {
    const char *path = json_string_value(value);
    if (!path || !*path) return status_fail(PALI_ERR_FORMAT, "%s: image: expected the name of a file, or a list of them", name);
    char *full = *path == '/' ? mem_copy_string(path) : file_join(dir, path);
    if (!full) return status_no_memory(strlen(path));
    row->images[row->n_images++] = full;
    return PALI_OK;
}

static pali_status row_images(dataset_row *row, const char *dir, const char *name) {
    const json_t *one = json_object_get(row->json, "image"), *list = json_object_get(row->json, "images"), *value = one ? one : list;
    if (!value) return status_fail(PALI_ERR_FORMAT, "%s: no \"image\"", name);
    if (one && list) return status_fail(PALI_ERR_FORMAT, "%s: both \"image\" and \"images\"", name);
    const size_t n = json_is_array(value) ? json_array_size(value) : 1;
    if (n == 0 || n > DATASET_MAX_IMAGES) return status_fail(PALI_ERR_LIMIT, "%s: %zu images: expected 1 to %u", name, n, DATASET_MAX_IMAGES);
    row->images = mem_calloc(n, sizeof *row->images);
    if (!row->images) return status_no_memory(n * sizeof *row->images);
    for (size_t i = 0; i < n; i++) STATUS_TRY(row_image(row, json_is_array(value) ? json_array_get(value, i) : value, dir, name));
    return PALI_OK;
}

pali_status dataset_row_parse(dataset_row *out, const char *line, size_t n_bytes, const char *dir, const char *name) {
    *out = (dataset_row){0};
    STATUS_TRY(json_parse(&out->json, line, n_bytes, name));
    if (!json_is_object(out->json)) return status_fail(PALI_ERR_FORMAT, "%s: expected an object", name);
    STATUS_TRY(row_text(out->json, "prefix", &out->prefix, &out->n_prefix, name));
    STATUS_TRY(row_suffixes(out, name));
    STATUS_TRY(json_get_string(out->json, "id", &out->id, name));
    return row_images(out, dir, name);
}

void dataset_row_free(dataset_row *row) {
    for (size_t i = 0; i < row->n_images; i++) mem_free(row->images[i]);
    mem_free(row->images);
    json_decref(row->json);
    *row = (dataset_row){0};
}

/* "FILE:LINE" in a fresh block. */
static char *line_name(const dataset_file *f, size_t number) {
    const size_t n = strlen(f->path) + 24;
    char *name = mem_alloc(n, 1);
    if (name) (void)snprintf(name, n, "%s:%zu", f->path, number);
    return name;
}

static pali_status line_parse(dataset_row *out, const dataset_file *f, const char *text, size_t n_bytes, size_t number) {
    char *name = line_name(f, number);
    *out = (dataset_row){0};
    if (!name) return status_no_memory(strlen(f->path));
    pali_status s = dataset_row_parse(out, text, n_bytes, f->dir, name);
    out->line = number;
    mem_free(name);
    return s;
}

static pali_status line_read(char *text, const dataset_file *f, const dataset_line *line) {
    for (size_t got = 0; got < line->n_bytes;) {
        const ssize_t r = pread(f->fd, text + got, line->n_bytes - got, (off_t)(line->offset + got));
        if (r < 0 && errno == EINTR) continue;
        if (r <= 0) return status_fail(PALI_ERR_IO, "%s:%u: cannot read: %s", f->path, line->number, r < 0 ? strerror(errno) : "the file is shorter than it was");
        got += (size_t)r;
    }
    return PALI_OK;
}

const dataset_file *dataset_file_of(const dataset *d, size_t i) {
    const dataset_file *f = d->files;
    while (i >= f->end) f++;
    return f;
}

pali_status dataset_row_read(dataset_row *out, const dataset *d, size_t i) {
    const dataset_line *line = &d->lines[i];
    const dataset_file *f = dataset_file_of(d, i);
    char *text = mem_alloc(line->n_bytes, 1);
    *out = (dataset_row){0};
    if (!text) return status_no_memory(line->n_bytes);
    pali_status s = line_read(text, f, line);
    if (s == PALI_OK) s = line_parse(out, f, text, line->n_bytes, line->number);
    mem_free(text);
    return s;
}

/* ---- Bad rows ---- */

static pali_status bad(dataset *d, const dataset_file *f, const char *message) {
    d->n_bad++;
    if (d->on_bad) d->on_bad(d->user, message);
    if (d->n_bad <= d->max_bad) return PALI_OK;
    /* The message may be the thread's own, which the new one replaces. */
    char *last = mem_copy_string(message);
    pali_status s = status_fail(PALI_ERR_FORMAT, "%s: %zu bad rows, more than the %zu allowed; the last one: %s", f->path, d->n_bad, d->max_bad, last ? last : "");
    mem_free(last);
    return s;
}

pali_status dataset_row_bad(dataset *d, size_t i, const char *message) {
    const uint8_t bit = (uint8_t)(1u << i % 8);
    if (d->bad_later[i / 8] & bit) return PALI_OK;
    d->bad_later[i / 8] |= bit;
    return bad(d, dataset_file_of(d, i), message);
}

/* ---- Opening ---- */

/* Goes through the lines. */
typedef struct reader {
    dataset *d;
    const dataset_file *f;
    char *line;           /* [DATASET_MAX_LINE_BYTES] */
    uint64_t offset;      /* of the line's begin */
    size_t n_line;        /* bytes of it, also of those beyond the limit */
    size_t number;
    bool blank;           /* so far */
} reader;

typedef pali_status (*line_fn)(void *context, const reader *r);

static pali_status line_end(reader *r, line_fn fn, void *context) {
    pali_status s = r->blank ? PALI_OK : fn(context, r);
    r->offset += r->n_line + 1;
    r->n_line = 0;
    r->number++;
    r->blank = true;
    return s;
}

static bool is_blank(char c) {
    return c == ' ' || c == '\t' || c == '\r';
}

static void line_add(reader *r, const char *bytes, size_t n) {
    for (size_t i = 0; r->blank && i < n; i++) r->blank = is_blank(bytes[i]);
    if (r->n_line < DATASET_MAX_LINE_BYTES) {
        const size_t room = DATASET_MAX_LINE_BYTES - r->n_line;
        memcpy(r->line + r->n_line, bytes, n < room ? n : room);
    }
    r->n_line += n;
}

static pali_status chunk_read(char *chunk, ssize_t *n, const dataset_file *f, uint64_t at) {
    do *n = pread(f->fd, chunk, CHUNK, (off_t)at);
    while (*n < 0 && errno == EINTR);
    return *n < 0 ? status_fail(PALI_ERR_IO, "%s: cannot read: %s", f->path, strerror(errno)) : PALI_OK;
}

/* Calls fn for every line that is not blank. */
static pali_status each_line(reader *r, char *chunk, line_fn fn, void *context) {
    static const char k_mark[3] = {'\xef', '\xbb', '\xbf'}; /* a byte order mark, which Windows puts before UTF-8 */
    uint64_t at = 0;
    *r = (reader){.d = r->d, .f = r->f, .line = r->line, .number = 1, .blank = true};
    for (;;) {
        ssize_t n;
        STATUS_TRY(chunk_read(chunk, &n, r->f, at));
        if (n == 0) break;
        const size_t skip = at == 0 && n >= 3 && !memcmp(chunk, k_mark, 3) ? 3 : 0;
        const char *from = chunk + skip, *end = chunk + n;
        r->offset += skip;
        for (const char *newline; (newline = memchr(from, '\n', (size_t)(end - from))); from = newline + 1) {
            line_add(r, from, (size_t)(newline - from));
            STATUS_TRY(line_end(r, fn, context));
        }
        line_add(r, from, (size_t)(end - from));
        at += (uint64_t)n;
    }
    return r->n_line ? line_end(r, fn, context) : PALI_OK;
}

static pali_status count_line(void *context, const reader *r) {
    size_t *n = context;
    if (++*n <= ORDER_MAX_ROWS && r->number <= UINT32_MAX) return PALI_OK;
    return status_fail(PALI_ERR_LIMIT, "%s: more than %u rows", r->f->path, ORDER_MAX_ROWS);
}

static pali_status images_look(const dataset_row *row, const dataset_file *f) {
    struct stat st;
    for (size_t i = 0; i < row->n_images; i++) {
        if (stat(row->images[i], &st) != 0) return status_fail(PALI_ERR_IO, "%s:%zu: %s: %s", f->path, row->line, row->images[i], strerror(errno));
        if (!S_ISREG(st.st_mode)) return status_fail(PALI_ERR_IO, "%s:%zu: %s: not a regular file", f->path, row->line, row->images[i]);
    }
    return PALI_OK;
}

static pali_status line_check(const reader *r) {
    dataset_row row = {0};
    pali_status s;
    if (r->n_line > DATASET_MAX_LINE_BYTES)
        s = status_fail(PALI_ERR_LIMIT, "%s:%zu: %zu bytes, more than the limit of %zu for a line", r->f->path, r->number, r->n_line, DATASET_MAX_LINE_BYTES);
    else
        s = line_parse(&row, r->f, r->line, r->n_line, r->number);
    if (s == PALI_OK) s = images_look(&row, r->f);
    dataset_row_free(&row);
    return s;
}

static pali_status index_line(void *context, const reader *r) {
    size_t *cap = context;
    dataset *d = r->d;
    pali_status s = line_check(r);
    if (s == PALI_ERR_MEMORY) return s;
    if (s != PALI_OK) return bad(d, r->f, status_message());
    if (d->n == *cap) {
        const size_t more = *cap ? 2 * *cap : 1024;
        dataset_line *grown = mem_grow(d->lines, d->n, more, sizeof *grown);
        if (!grown) return status_no_memory(more * sizeof *grown);
        d->lines = grown;
        *cap = more;
    }
    d->lines[d->n++] = (dataset_line){r->offset, (uint32_t)r->n_line, (uint32_t)r->number};
    return PALI_OK;
}

/* Twice through every file: the budget of bad rows is a share of all lines. */
static pali_status index_make(dataset *d, char *line, char *chunk) {
    reader r = {.d = d, .line = line};
    size_t n_lines = 0, cap = 0;
    for (size_t i = 0, before = 0; i < d->n_files; before = n_lines, i++) {
        r.f = &d->files[i];
        STATUS_TRY(each_line(&r, chunk, count_line, &n_lines));
        if (n_lines == before) return status_fail(PALI_ERR_FORMAT, "%s: no rows: expected one JSON object a line", r.f->path);
    }
    if (d->max_bad == DATASET_BAD_DEFAULT) {
        d->max_bad = n_lines / DATASET_BAD_SHARE;
        if (d->max_bad < DATASET_BAD_FEW) d->max_bad = DATASET_BAD_FEW;
    }
    for (size_t i = 0, before = 0; i < d->n_files; before = d->n, i++) {
        r.f = &d->files[i];
        STATUS_TRY(each_line(&r, chunk, index_line, &cap));
        if (d->n == before) return status_fail(PALI_ERR_FORMAT, "%s: %zu rows and none of them good", r.f->path, r.number - 1);
        d->files[i].end = d->n;
    }
    d->bad_later = mem_calloc(d->n / 8 + 1, 1);
    return d->bad_later ? PALI_OK : status_no_memory(d->n / 8 + 1);
}

static pali_status file_open(dataset_file *f, const char *path) {
    const char *slash = strrchr(path, '/');
    struct stat st;
    *f = (dataset_file){.path = mem_copy_string(path), .dir = mem_copy_string(slash ? path : "."), .fd = -1};
    if (!f->path || !f->dir) return status_no_memory(strlen(path));
    if (slash) f->dir[slash == path ? 1 : slash - path] = 0;
    f->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO in its place must not hang us */
    if (f->fd < 0) return status_fail(PALI_ERR_IO, "%s: cannot open: %s", path, strerror(errno));
    if (fstat(f->fd, &st) != 0 || !S_ISREG(st.st_mode)) return status_fail(PALI_ERR_IO, "%s: not a regular file", path);
    return PALI_OK;
}

static pali_status dataset_fill(dataset *d, const char *const *paths, size_t n) {
    if (n == 0 || n > DATASET_MAX_FILES) return status_fail(PALI_ERR_LIMIT, "data: %zu files: expected 1 to %u", n, DATASET_MAX_FILES);
    d->files = mem_calloc(n, sizeof *d->files);
    if (!d->files) return status_no_memory(n * sizeof *d->files);
    for (; d->n_files < n; d->n_files++) {
        pali_status s = file_open(&d->files[d->n_files], paths[d->n_files]);
        if (s == PALI_OK) continue;
        d->n_files++;
        return s;
    }
    char *line = mem_alloc(DATASET_MAX_LINE_BYTES, 1), *chunk = mem_alloc(CHUNK, 1);
    pali_status s = line && chunk ? index_make(d, line, chunk) : status_no_memory(DATASET_MAX_LINE_BYTES);
    mem_free(line);
    mem_free(chunk);
    return s;
}

pali_status dataset_open_all(dataset *d, const char *const *paths, size_t n, size_t max_bad, dataset_bad_fn on_bad, void *user) {
    *d = (dataset){.max_bad = max_bad, .on_bad = on_bad, .user = user};
    return dataset_fill(d, paths, n);
}

pali_status dataset_open(dataset *d, const char *path, size_t max_bad, dataset_bad_fn on_bad, void *user) {
    return dataset_open_all(d, &path, 1, max_bad, on_bad, user);
}

void dataset_close(dataset *d) {
    for (size_t i = 0; i < d->n_files; i++) {
        if (d->files[i].fd >= 0) close(d->files[i].fd);
        mem_free(d->files[i].path);
        mem_free(d->files[i].dir);
    }
    mem_free(d->files);
    mem_free(d->lines);
    mem_free(d->bad_later);
    *d = (dataset){0};
}
