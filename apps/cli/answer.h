/* answer.h: one request of `run`: pictures and a prompt in, text or the JSON object of the contract out. */
#ifndef PALI_CLI_ANSWER_H
#define PALI_CLI_ANSWER_H

#include "input.h"
#include "export.h"
#include "outputs.h"

typedef struct answering {
    cli *c;
    pali_session *session;
    pali_generate_options options; /* from the command line; the callbacks belong to answer.c */
    outputs outputs;
    export_set *export;            /* --format; NULL: none */
    double load_ms;
} answering;

/* An exit code; answering_free in either case. */
int answering_init(answering *a, cli *c, const pali_model *model, pali_session *session, double load_ms);
void answering_free(answering *a);

/* Generates into *result (pali_result_free). With `stream`, text goes to the output as it comes. *code is the exit code
 * if the output failed, else 0. */
pali_status answer_generate(answering *a, const pictures *images, const char *prompt, bool stream, pali_result **result, int *code);

/* outputs_find on the result's first sequence and the first picture. */
bool answer_objects(answering *a, const pictures *images, const pali_result *result, size_t line, const char *name, found *out, fault *f);

/* [{"width", "height"}] of the contract; NULL: no memory. */
json_t *images_json(const pictures *images);

/* The object of `run --json`; images_ms is the time that decoding the picture files took, total_ms all but loading. NULL:
 * no memory. */
json_t *answer_json(const answering *a, const pictures *images, const pali_result *result, const found *objects, double images_ms,
                    double total_ms);

#define BATCH_AHEAD 4u /* lines read for each request that is answered at once */

/* run --batch */
int batch_run(answering *a, const char *path);

#endif
