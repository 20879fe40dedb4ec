/* request.h: a line of JSON that says what to ask of which pictures. */
#ifndef PALI_CLI_REQUEST_H
#define PALI_CLI_REQUEST_H

#include <jansson.h>

#include "input.h"

#define REQUEST_MAX_IMAGES 64

typedef struct request {
    json_t *object; /* owns what the others point to; json_decref it, also after a failure */
    const char *prompt;
    const char *paths[REQUEST_MAX_IMAGES];
    size_t n_paths;
} request;

/* {"image": "a.jpg" or a list, "prompt": "..."}, or with "prefix" for "prompt", as rows of training data have it. false: error says what
 * is wrong. */
bool request_parse(request *r, const input_text *line, char *error, size_t n_error);

#endif
