#include "calibrate.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "request.h"

#define ROWS_DEFAULT 128u
#define ANSWER_TOKENS 64 /* of an answer; more of the same would tell nothing new */

/* The picture's name from the directory of the file on, as in training data; malloc'd. */
static char *beside(const char *file, const char *name) {
    const char *slash = strrchr(file, '/');
    const size_t n = *name == '/' || !slash ? 0 : (size_t)(slash - file) + 1;
    char *path = malloc(n + strlen(name) + 1);
    if (!path) return NULL;
    memcpy(path, file, n);
    memcpy(path + n, name, strlen(name) + 1);
    return path;
}

static int row_run(cli *c, pali_session *session, const request *r, size_t line) {
    const char *file = c->args.calibrate;
    pali_image *images[REQUEST_MAX_IMAGES] = {0};
    pali_status status = PALI_OK;
    pali_result *result = NULL;
    size_t n = 0;
    for (; n < r->n_paths && status == PALI_OK; n++) {
        char *path = beside(file, r->paths[n]);
        status = path ? pali_image_load(&images[n], path) : PALI_ERR_MEMORY;
        free(path);
    }
    if (status == PALI_OK) {
        pali_generate_options options;
        pali_generate_options_init(&options);
        options.max_tokens = ANSWER_TOKENS;
        status = pali_generate(session, (const pali_image *const *)images, n, r->prompt, &options, &result);
    }
    pali_result_free(result);
    for (size_t i = 0; i < n; i++) pali_image_free(images[i]);
    if (status == PALI_OK) return CLI_OK;
    if (status == PALI_ERR_CANCELLED) return cli_fail_library(c, status, "calibrate");
    return cli_fail(c, "calibrate: %s: line %zu: %s", file, line, status == PALI_ERR_MEMORY ? "out of memory" : pali_last_error());
}

static int line_run(cli *c, pali_session *session, const line_source *lines, line_state state, size_t line) {
    char error[1024];
    request r = {0};
    if (state == LINE_TOO_LONG) return cli_fail(c, "calibrate: %s: line %zu: at most %zu bytes expected", c->args.calibrate, line, INPUT_MAX_LINE_BYTES);
    int code = request_parse(&r, &lines->line, error, sizeof error) ? row_run(c, session, &r, line)
                                                                    : cli_fail(c, "calibrate: %s: line %zu: %s", c->args.calibrate, line, error);
    json_decref(r.object);
    return code;
}

static int rows_run(cli *c, pali_session *session, size_t *n_rows) {
    const size_t n = c->args.calibrate_rows ? (size_t)c->args.calibrate_rows : ROWS_DEFAULT;
    line_source lines;
    int code = CLI_OK;
    size_t row = 0;
    if (!input_lines_open(&lines, c->args.calibrate)) return cli_fail(c, "calibrate: %s: %s", c->args.calibrate, strerror(errno));
    for (; row < n && !code; row++) {
        line_state state = input_line(&lines, true);
        if (cli_interrupted() || cli_progress(c, "calibrating", row, n)) code = CLI_INTERRUPTED;
        else if (state == LINE_FAILED) code = cli_fail(c, "calibrate: %s: %s", c->args.calibrate, strerror(errno));
        else if (state == LINE_END) break;
        else code = line_run(c, session, &lines, state, row + 1);
    }
    cli_progress_clear(c);
    input_lines_close(&lines);
    *n_rows = row;
    if (!code && row == 0) code = cli_fail(c, "calibrate: %s: empty: a JSON object a line expected, {\"image\", \"prompt\"} or {\"image\", \"prefix\"}", c->args.calibrate);
    return code;
}

int calibrate(cli *c, pali_model **model, pali_calibration **calibration, size_t *n_rows) {
    pali_session *session;
    *calibration = NULL;
    int code = cli_open_as_stored(c, model, &session);
    if (code) return code;
    pali_status status = pali_calibration_begin(calibration, session);
    if (status != PALI_OK) code = cli_fail_library(c, status, "calibrate");
    if (!code) code = rows_run(c, session, n_rows);
    if (!code && (status = pali_calibration_end(*calibration, cli_progress, c)) != PALI_OK) code = cli_fail_library(c, status, "calibrate");
    cli_progress_clear(c);
    cli_watch(NULL);
    pali_session_free(session);
    return code;
}
