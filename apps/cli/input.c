#include "input.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *shown(const char *path) {
    return strcmp(path, "-") ? path : "standard input";
}

static int read_failed(cli *c, const char *path) {
    if (cli_interrupted()) return CLI_INTERRUPTED;
    return cli_fail(c, "%s: %s", shown(path), strerror(errno));
}

static int read_stream(cli *c, input_text *out, FILE *file, const char *path, size_t max_bytes) {
    size_t capacity = 1 << 16, n = 0;
    char *bytes = malloc(capacity);
    int code = CLI_OK;
    while (bytes) {
        size_t got = fread(bytes + n, 1, capacity - 1 - n, file);
        n += got;
        if (ferror(file) || cli_interrupted()) code = read_failed(c, path);
        if (n > max_bytes) code = cli_fail(c, "%s: too long: at most %zu bytes expected", shown(path), max_bytes);
        if (code || feof(file)) break;
        if (n < capacity - 1) continue;
        capacity *= 2;
        char *grown = realloc(bytes, capacity);
        if (!grown) free(bytes);
        bytes = grown;
    }
    if (!bytes) return cli_fail(c, "%s: out of memory", shown(path));
    if (code) {
        free(bytes);
        return code;
    }
    bytes[n] = 0;
    *out = (input_text){bytes, n};
    return CLI_OK;
}

int input_read(cli *c, input_text *out, const char *path, size_t max_bytes) {
    *out = (input_text){0};
    bool is_stdin = !strcmp(path, "-");
    FILE *file = is_stdin ? stdin : fopen(path, "re");
    if (!file) return cli_fail(c, "%s: %s", path, strerror(errno));
    int code = read_stream(c, out, file, path, max_bytes);
    if (!is_stdin) (void)fclose(file);
    return code;
}

int input_prompt(cli *c, input_text *out, const char *prompt) {
    *out = (input_text){0};
    if (prompt[0] != '@' && strcmp(prompt, "-")) {
        out->bytes = strdup(prompt);
        out->n_bytes = strlen(prompt);
        return out->bytes ? CLI_OK : cli_fail(c, "prompt: out of memory");
    }
    int code = input_read(c, out, prompt[0] == '@' ? prompt + 1 : prompt, INPUT_MAX_TEXT_BYTES);
    if (code) return code;
    if (out->n_bytes && out->bytes[out->n_bytes - 1] == '\n') out->bytes[--out->n_bytes] = 0;
    return CLI_OK;
}

int input_prompt_string(cli *c, char **out, const char *prompt) {
    input_text t;
    *out = NULL;
    int code = input_prompt(c, &t, prompt);
    if (code) return code;
    if (strlen(t.bytes) != t.n_bytes) {
        code = cli_fail(c, "prompt: byte %zu: NUL: text expected", strlen(t.bytes));
        free(t.bytes);
        return code;
    }
    *out = t.bytes;
    return CLI_OK;
}

int input_check_stdin(cli *c) {
    const args *a = &c->args;
    int n = a->prompt && !strcmp(a->prompt, "-");
    n += a->batch && !strcmp(a->batch, "-");
    n += a->answers_file && !strcmp(a->answers_file, "-");
    for (size_t i = 0; i < a->images.n; i++) n += !strcmp(a->images.items[i], "-");
    return n <= 1 ? CLI_OK : cli_usage(c, "%s: -: only one input can be standard input", c->command->name);
}

int input_picture(cli *c, pali_image **out, const char *path) {
    pali_status status;
    *out = NULL;
    if (strcmp(path, "-")) {
        status = pali_image_load(out, path);
    } else {
        input_text bytes;
        int code = input_read(c, &bytes, path, INPUT_MAX_PICTURE_BYTES);
        if (code) return code;
        if (!bytes.n_bytes) {
            free(bytes.bytes);
            return cli_fail(c, "picture: standard input: empty: a picture file expected");
        }
        status = pali_image_from_memory(out, bytes.bytes, bytes.n_bytes);
        free(bytes.bytes);
    }
    return status == PALI_OK ? CLI_OK : cli_fail_library(c, status, "picture");
}

int input_pictures(cli *c, pictures *out, const char *const *paths, size_t n) {
    out->n = 0;
    out->items = calloc(n ? n : 1, sizeof *out->items);
    if (!out->items) return cli_fail(c, "picture: out of memory");
    for (; out->n < n; out->n++) {
        int code = input_picture(c, &out->items[out->n], paths[out->n]);
        if (code) {
            pictures_free(out);
            return code;
        }
    }
    return CLI_OK;
}

void pictures_free(pictures *p) {
    for (size_t i = 0; i < p->n; i++) pali_image_free(p->items[i]);
    free(p->items);
    *p = (pictures){0};
}

/* Room for one more byte and a NUL. */
static bool line_grow(line_source *s) {
    if (s->line.n_bytes + 1 < s->capacity) return true;
    if (s->line.n_bytes >= INPUT_MAX_LINE_BYTES) return false;
    size_t grown = s->capacity ? s->capacity * 2 : 4096;
    if (grown > INPUT_MAX_LINE_BYTES + 1) grown = INPUT_MAX_LINE_BYTES + 1;
    char *bytes = realloc(s->line.bytes, grown);
    if (!bytes) return false;
    s->line.bytes = bytes;
    s->capacity = grown;
    return true;
}

bool input_lines_open(line_source *s, const char *path) {
    memset(s, 0, sizeof *s);
    s->state = LINE_END;
    s->fd = strcmp(path, "-") ? open(path, O_RDONLY | O_CLOEXEC) : STDIN_FILENO;
    return s->fd >= 0;
}

void input_lines_close(line_source *s) {
    if (s->fd > STDIN_FILENO) (void)close(s->fd);
    free(s->line.bytes);
    memset(s, 0, sizeof *s);
}

enum { BYTE_END = -1, BYTE_FAILED = -2, BYTE_LATER = -3 };

static int next_byte(line_source *s, bool wait) {
    if (s->begin == s->end) {
        struct pollfd p = {.fd = s->fd, .events = POLLIN};
        if (!wait && poll(&p, 1, 0) == 0) return BYTE_LATER;
        ssize_t n = read(s->fd, s->buffer, sizeof s->buffer);
        if (n <= 0) return n < 0 ? BYTE_FAILED : BYTE_END;
        s->begin = 0;
        s->end = (size_t)n;
    }
    return (unsigned char)s->buffer[s->begin++];
}

line_state input_line(line_source *s, bool wait) {
    int ch;
    if (s->complete) {
        s->line.n_bytes = 0;
        s->state = LINE_END;
        s->complete = false;
    }
    while ((ch = next_byte(s, wait)) >= 0) {
        if (s->state == LINE_END) s->state = line_grow(s) ? LINE_OK : LINE_TOO_LONG; /* the NUL of an empty line */
        if (ch == '\n') break;
        if (s->state == LINE_OK && !line_grow(s)) s->state = LINE_TOO_LONG;
        if (s->state == LINE_OK) s->line.bytes[s->line.n_bytes++] = (char)ch;
    }
    if (ch == BYTE_LATER) return LINE_LATER;
    if (ch == BYTE_FAILED) return LINE_FAILED;
    if (s->state == LINE_OK) s->line.bytes[s->line.n_bytes] = 0;
    s->complete = true;
    return s->state;
}
