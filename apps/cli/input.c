#include "input.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

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
static bool line_grow(input_text *line, size_t *capacity) {
    if (line->n_bytes + 1 < *capacity) return true;
    if (line->n_bytes >= INPUT_MAX_LINE_BYTES) return false;
    size_t grown = *capacity ? *capacity * 2 : 4096;
    if (grown > INPUT_MAX_LINE_BYTES + 1) grown = INPUT_MAX_LINE_BYTES + 1;
    char *bytes = realloc(line->bytes, grown);
    if (!bytes) return false;
    line->bytes = bytes;
    *capacity = grown;
    return true;
}

line_state input_line(FILE *file, input_text *line, size_t *capacity) {
    line_state state = LINE_END;
    line->n_bytes = 0;
    for (int ch; (ch = getc(file)) != EOF;) {
        if (state == LINE_END) state = line_grow(line, capacity) ? LINE_OK : LINE_TOO_LONG; /* the NUL of an empty line */
        if (ch == '\n') break;
        if (state == LINE_OK && !line_grow(line, capacity)) state = LINE_TOO_LONG;
        if (state == LINE_OK) line->bytes[line->n_bytes++] = (char)ch;
    }
    if (ferror(file)) return LINE_FAILED;
    if (state == LINE_OK) line->bytes[line->n_bytes] = 0;
    return state;
}
