/* cmd_tokenize.c: paligemma tokenize. The tokenizer alone is opened where that is enough, so that no weights are. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "input.h"
#include "report.h"

typedef struct tokenizing {
    cli *c;
    opened_tokenizer opened;
    const pali_model *model;         /* NULL unless opened */
    const pali_tokenizer *tokenizer;
} tokenizing;

static int print_ids(const tokenizing *t, const int32_t *ids, size_t n) {
    cli *c = t->c;
    int code = CLI_OK;
    if (!c->args.json) {
        for (size_t i = 0; i < n && !code; i++) {
            char number[16];
            int n_number = snprintf(number, sizeof number, "%s%d", i ? " " : "", (int)ids[i]);
            code = cli_write(c, number, (size_t)n_number);
        }
        return code ? code : cli_write(c, "\n", 1);
    }
    json_t *pieces = json_array();
    for (size_t i = 0; i < n; i++) {
        const char *piece = pali_tokenizer_piece(t->tokenizer, ids[i]);
        if (json_array_append_new(pieces, piece ? report_text(piece, strlen(piece)) : json_string("")) != 0) {
            json_decref(pieces);
            return cli_fail(c, "tokenize: out of memory");
        }
    }
    return report_print(c, json_pack("{s:i, s:o, s:o}", "schema", REPORT_SCHEMA, "ids", report_ids(ids, n), "tokens", pieces));
}

static int encode(const tokenizing *t, const input_text *line) {
    cli *c = t->c;
    int32_t *ids = NULL;
    size_t n = 0;
    pali_status status;
    if (!c->args.prompt_template) {
        status = pali_tokenizer_encode(t->tokenizer, line->bytes, line->n_bytes, 0, &ids, &n);
    } else if (strlen(line->bytes) != line->n_bytes) {
        return cli_fail(c, "prompt: byte %zu: NUL: text expected", strlen(line->bytes));
    } else {
        status = pali_prompt_tokens(t->model, c->args.images.n, line->bytes, &ids, &n);
    }
    if (status != PALI_OK) return cli_fail_library(c, status, "tokenize");
    int code = print_ids(t, ids, n);
    pali_free(ids);
    return code;
}

static bool is_blank(char ch) {
    return ch == ' ' || ch == '\t' || ch == '\n' || ch == '\r';
}

/* Ids separated by blanks into a fresh array. */
static int parse_ids(cli *c, const input_text *line, int32_t **out, size_t *out_n) {
    *out = malloc((line->n_bytes / 2 + 1) * sizeof **out); /* an id and its blank take two bytes at least */
    if (!*out) return cli_fail(c, "tokenize: out of memory");
    size_t n = 0;
    for (size_t at = 0; at < line->n_bytes;) {
        if (is_blank(line->bytes[at])) {
            at++;
            continue;
        }
        char *end = line->bytes + at;
        errno = 0;
        long value = line->bytes[at] >= '0' && line->bytes[at] <= '9' ? strtol(line->bytes + at, &end, 10) : -1;
        if (value < 0 || value > INT32_MAX || errno || (*end && !is_blank(*end))) {
            return cli_fail(c, "tokenize: --decode: byte %zu: token ids separated by blanks expected", at);
        }
        (*out)[n++] = (int32_t)value;
        at = (size_t)(end - line->bytes);
    }
    *out_n = n;
    return CLI_OK;
}

static int decode(const tokenizing *t, const input_text *line) {
    cli *c = t->c;
    int32_t *ids = NULL;
    char *text = NULL;
    size_t n = 0, n_text = 0;
    int code = parse_ids(c, line, &ids, &n);
    if (!code) {
        pali_status status = pali_tokenizer_decode(t->tokenizer, ids, n, &text, &n_text);
        if (status != PALI_OK) code = cli_fail_library(c, status, "tokenize");
    }
    if (!code && c->args.json) {
        code = report_print(c, json_pack("{s:i, s:o}", "schema", REPORT_SCHEMA, "text", report_text(text, n_text)));
    } else if (!code) {
        code = cli_write_text(c, text, n_text);
        if (!code) code = cli_write(c, "\n", 1);
    }
    pali_free(text);
    free(ids);
    return code;
}

static int each_line(const tokenizing *t) {
    cli *c = t->c;
    line_source lines;
    int code = CLI_OK;
    if (!input_lines_open(&lines, "-")) return cli_fail(c, "standard input: %s", strerror(errno));
    for (size_t n = 1; !code; n++) {
        line_state state = input_line(&lines, true);
        if (cli_interrupted()) {
            code = CLI_INTERRUPTED;
        } else if (state == LINE_FAILED) {
            code = cli_fail(c, "standard input: %s", strerror(errno));
        } else if (state == LINE_TOO_LONG) {
            code = cli_fail(c, "standard input: line %zu: at most %zu bytes expected", n, INPUT_MAX_LINE_BYTES);
        } else if (state == LINE_END) {
            break;
        } else {
            code = c->args.decode ? decode(t, &lines.line) : encode(t, &lines.line);
        }
    }
    input_lines_close(&lines);
    return code;
}

int cmd_tokenize(cli *c) {
    const args *a = &c->args;
    if (a->lines && a->prompt) return cli_usage(c, "tokenize: --lines: text on standard input expected, no -p");
    if (a->decode && a->prompt_template) return cli_usage(c, "tokenize: --decode: no --prompt-template expected");
    if (a->images.n && !a->prompt_template) return cli_usage(c, "tokenize: -i: only --prompt-template takes pictures");
    tokenizing t = {.c = c};
    int code = cli_open_tokenizer(c, a->prompt_template, &t.opened);
    t.model = t.opened.model;
    t.tokenizer = t.opened.tokenizer;
    if (!code && a->lines) {
        code = each_line(&t);
    } else if (!code) {
        input_text whole = {0};
        code = input_prompt(c, &whole, a->prompt ? a->prompt : "-");
        if (!code) code = a->decode ? decode(&t, &whole) : encode(&t, &whole);
        free(whole.bytes);
    }
    opened_tokenizer_free(&t.opened);
    return code;
}
