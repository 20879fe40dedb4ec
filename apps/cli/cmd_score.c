/* cmd_score.c: paligemma score. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "input.h"
#include "report.h"

typedef struct answer_list {
    char **items; /* [n], owned */
    size_t n, capacity;
} answer_list;

static bool answer_add(answer_list *list, const char *answer) {
    if (list->n == list->capacity) {
        size_t grown = list->capacity ? list->capacity * 2 : 16;
        char **items = realloc(list->items, grown * sizeof *items);
        if (!items) return false;
        list->items = items;
        list->capacity = grown;
    }
    list->items[list->n] = strdup(answer);
    return list->items[list->n] ? (list->n++, true) : false;
}

static void answers_free(answer_list *list) {
    for (size_t i = 0; i < list->n; i++) free(list->items[i]);
    free(list->items);
}

/* Each line of the file is an answer. */
static int read_answers(cli *c, answer_list *list, const char *path) {
    const char *shown = strcmp(path, "-") ? path : "standard input";
    line_source lines;
    if (!input_lines_open(&lines, path)) return cli_fail(c, "answers: %s: %s", path, strerror(errno));
    int code = CLI_OK;
    for (size_t n = 1; !code; n++) {
        line_state state = input_line(&lines, true);
        if (cli_interrupted()) {
            code = CLI_INTERRUPTED;
        } else if (state == LINE_FAILED) {
            code = cli_fail(c, "answers: %s: %s", shown, strerror(errno));
        } else if (state == LINE_TOO_LONG) {
            code = cli_fail(c, "answers: %s: line %zu: at most %zu bytes expected", shown, n, INPUT_MAX_LINE_BYTES);
        } else if (state == LINE_END) {
            break;
        } else if (strlen(lines.line.bytes) != lines.line.n_bytes) {
            code = cli_fail(c, "answers: %s: line %zu: NUL: text expected", shown, n);
        } else if (!answer_add(list, lines.line.bytes)) {
            code = cli_fail(c, "answers: out of memory");
        }
    }
    input_lines_close(&lines);
    if (!code && !list->n) code = cli_fail(c, "answers: %s: empty: an answer a line expected", shown);
    return code;
}

static int gather_answers(cli *c, answer_list *list) {
    const args *a = &c->args;
    for (size_t i = 0; i < a->answers.n; i++) {
        if (!answer_add(list, a->answers.items[i])) return cli_fail(c, "answers: out of memory");
    }
    return a->answers_file ? read_answers(c, list, a->answers_file) : CLI_OK;
}

static json_t *candidate_json(const pali_sequence *s, const char *answer) {
    return json_pack("{s:o, s:o, s:o, s:o}", "text", report_text(answer, strlen(answer)), "logprob", json_real(s->score),
                     "token_logprobs", report_floats(s->logprobs, s->n_tokens), "tokens", report_ids(s->tokens, s->n_tokens));
}

static int print_scores(cli *c, const pali_result *result, const answer_list *answers) {
    json_t *candidates = json_array();
    size_t best = 0;
    double best_score = 0;
    int code = CLI_OK;
    for (size_t i = 0; i < answers->n && !code; i++) {
        pali_sequence s = {.struct_size = sizeof s};
        pali_status status = pali_result_get(result, i, &s);
        if (status != PALI_OK) {
            code = cli_fail_library(c, status, "score");
        } else if (c->args.json) {
            if (json_array_append_new(candidates, candidate_json(&s, answers->items[i])) != 0) code = cli_fail(c, "score: out of memory");
        } else {
            char number[64];
            int n = snprintf(number, sizeof number, "%.6f\t", s.score);
            code = cli_write(c, number, (size_t)n);
            if (!code) code = cli_write_text(c, answers->items[i], strlen(answers->items[i]));
            if (!code) code = cli_write(c, "\n", 1);
        }
        if (i == 0 || s.score > best_score) {
            best = i;
            best_score = s.score;
        }
    }
    if (c->args.json && !code) {
        return report_print(c, json_pack("{s:i, s:I, s:o}", "schema", REPORT_SCHEMA, "best", (json_int_t)best, "candidates", candidates));
    }
    json_decref(candidates);
    return code;
}

int cmd_score(cli *c) {
    const args *a = &c->args;
    int code = input_check_stdin(c);
    if (code) return code;
    if (!a->images.n) return cli_usage(c, "score: no picture: -i FILE expected");
    if (!a->prompt) return cli_usage(c, "score: no prompt: -p TEXT expected");
    if (!a->answers.n && !a->answers_file) return cli_usage(c, "score: no answers: --answer TEXT or --answers FILE expected");
    char *prompt = NULL;
    answer_list answers = {0};
    pictures images = {0};
    pali_model *model = NULL;
    pali_session *session = NULL;
    pali_result *result = NULL;
    code = input_prompt_string(c, &prompt, a->prompt);
    if (!code) code = gather_answers(c, &answers);
    if (!code) code = input_pictures(c, &images, a->images.items, a->images.n);
    if (!code) code = cli_open(c, &model, &session);
    if (!code) {
        pali_status status = pali_score(session, (const pali_image *const *)images.items, images.n, prompt,
                                        (const char *const *)answers.items, answers.n, &result);
        if (status != PALI_OK) {
            code = cli_fail_library(c, status, "score");
        } else {
            code = report_is_finite(result) ? print_scores(c, result, &answers) : cli_fail(c, "score: %s", REPORT_NOT_FINITE);
        }
    }
    pali_result_free(result);
    cli_watch(NULL);
    pali_session_free(session);
    pali_model_free(model);
    pictures_free(&images);
    answers_free(&answers);
    free(prompt);
    return code;
}
