/* answer.h: one request of `run`: pictures and a prompt in, text or the JSON object of the contract out. */
#ifndef PALI_CLI_ANSWER_H
#define PALI_CLI_ANSWER_H

#include "input.h"
#include "objects.h"

typedef struct answering {
    cli *c;
    const pali_model *model;
    pali_session *session;
    pali_generate_options options; /* from the command line; the callbacks belong to answer.c */
    pali_locate_options locate;    /* from the command line */
    double load_ms;
} answering;

void answering_init(answering *a, cli *c, const pali_model *model, pali_session *session, double load_ms);

/* Generates into *result (pali_result_free). With `stream`, text goes to the output as it comes. *code is the exit code
 * if the output failed, else 0. */
pali_status answer_generate(answering *a, const pictures *images, const char *prompt, bool stream, pali_result **result, int *code);

/* The objects of a result's first sequence, in pixels of the first picture, into *objects (pali_objects_free). */
pali_status answer_objects(const answering *a, const pictures *images, const pali_result *result, pali_objects **objects);

/* The object of `run --json`; images_ms is the time that decoding the picture files took, total_ms all but loading. NULL:
 * no memory. */
json_t *answer_json(const answering *a, const pictures *images, const pali_result *result, const pali_objects *objects, double images_ms,
                    double total_ms);

/* run --batch */
int batch_run(answering *a, const char *path);

#endif
