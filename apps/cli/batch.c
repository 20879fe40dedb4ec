/* batch.c: run --batch: a stream of JSON requests, one a line, answered in order, one JSON object a line. Memory stays
 * bounded: one line, its pictures and its answer at a time. A line that fails is answered by {"schema", "error"}. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "answer.h"

#define BATCH_MAX_IMAGES 64

typedef struct request {
    json_t *object; /* owns what the others point to */
    const char *prompt;
    const char *paths[BATCH_MAX_IMAGES];
    size_t n_paths;
} request;

/* Reads the line into r; false: error says what is wrong. request_free(r) in either case. */
static bool request_parse(request *r, const input_text *line, char *error, size_t n_error) {
    json_error_t where;
    memset(r, 0, sizeof *r);
    r->object = json_loadb(line->bytes, line->n_bytes, JSON_REJECT_DUPLICATES, &where);
    if (!r->object) return (void)snprintf(error, n_error, "request: %s", where.text), false;
    r->prompt = json_string_value(json_object_get(r->object, "prompt"));
    if (!r->prompt) return (void)snprintf(error, n_error, "request: prompt: a string expected"), false;
    const json_t *image = json_object_get(r->object, "image");
    size_t n = json_is_array(image) ? json_array_size(image) : 1;
    if (n < 1 || n > BATCH_MAX_IMAGES) {
        return (void)snprintf(error, n_error, "request: image: 1 to %d pictures expected", BATCH_MAX_IMAGES), false;
    }
    for (; r->n_paths < n; r->n_paths++) {
        r->paths[r->n_paths] = json_string_value(json_is_array(image) ? json_array_get(image, r->n_paths) : image);
        if (!r->paths[r->n_paths]) return (void)snprintf(error, n_error, "request: image: a file name or a list of them expected"), false;
    }
    return true;
}

/* The answer to a request, or NULL after writing to error. */
static json_t *request_answer(answering *a, const request *r, char *error, size_t n_error) {
    pali_image *items[BATCH_MAX_IMAGES] = {NULL};
    pictures images = {items, 0};
    pali_result *result = NULL;
    pali_objects *objects = NULL;
    json_t *answer = NULL;
    int code;
    double start_ms = cli_clock_ms();
    pali_status status = PALI_OK;
    while (status == PALI_OK && images.n < r->n_paths) {
        status = pali_image_load(&items[images.n], r->paths[images.n]);
        if (status == PALI_OK) images.n++;
    }
    double images_ms = cli_clock_ms() - start_ms;
    if (status == PALI_OK) status = answer_generate(a, &images, r->prompt, false, &result, &code);
    if (status == PALI_OK) status = answer_objects(a, &images, result, &objects);
    if (status != PALI_OK) {
        (void)snprintf(error, n_error, "%s", pali_last_error());
    } else if (!report_is_finite(result)) {
        (void)snprintf(error, n_error, "%s", REPORT_NOT_FINITE);
    } else {
        answer = answer_json(a, &images, result, objects, images_ms, cli_clock_ms() - start_ms);
        if (!answer) (void)snprintf(error, n_error, "out of memory");
    }
    pali_objects_free(objects);
    pali_result_free(result);
    for (size_t i = 0; i < images.n; i++) pali_image_free(items[i]);
    return answer;
}

int batch_run(answering *a, const char *path) {
    cli *c = a->c;
    bool is_stdin = !strcmp(path, "-");
    FILE *file = is_stdin ? stdin : fopen(path, "re");
    if (!file) return cli_fail(c, "batch: %s: %s", path, strerror(errno));
    input_text line = {0};
    size_t capacity = 0, n_lines = 0, n_failed = 0, first_failed = 0;
    int code = CLI_OK;
    while (!code) {
        line_state state = input_line(file, &line, &capacity);
        if (cli_interrupted()) code = CLI_INTERRUPTED;
        else if (state == LINE_FAILED) code = cli_fail(c, "batch: %s: %s", is_stdin ? "standard input" : path, strerror(errno));
        if (code || state == LINE_END) break;
        n_lines++;
        char error[1024];
        request r = {0};
        json_t *answer = NULL;
        if (state == LINE_TOO_LONG) {
            (void)snprintf(error, sizeof error, "request: too long: a line of at most %zu bytes expected", INPUT_MAX_LINE_BYTES);
        } else if (request_parse(&r, &line, error, sizeof error)) {
            answer = request_answer(a, &r, error, sizeof error);
        }
        json_decref(r.object);
        if (cli_interrupted()) {
            json_decref(answer);
            code = CLI_INTERRUPTED;
            break;
        }
        if (!answer) {
            if (!n_failed++) first_failed = n_lines;
            answer = json_pack("{s:i, s:o}", "schema", REPORT_SCHEMA, "error", report_text(error, strlen(error)));
        }
        code = report_print(c, answer);
        if (!code) code = cli_flush(c);
    }
    free(line.bytes);
    if (!is_stdin) (void)fclose(file);
    if (!code && n_failed) {
        code = cli_fail(c, "batch: %s: %zu of %zu requests failed, the first on line %zu", is_stdin ? "standard input" : path, n_failed,
                        n_lines, first_failed);
    }
    return code;
}
