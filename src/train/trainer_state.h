/* trainer_state.h: trainer_state.json of a checkpoint, as Transformers' Trainer writes it and tools for its runs read it (spec
 * training 6.3): counters, settings, and everything that was logged. Going on needs the counters and the log again. */
#ifndef PALI_TRAIN_TRAINER_STATE_H
#define PALI_TRAIN_TRAINER_STATE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"

#define TRAINER_STATE_MAX_ENTRIES 1000000u /* of the log */

typedef struct trainer_state {
    double epoch;        /* epochs done, with the fraction */
    size_t global_step;  /* updates done */
    size_t max_steps;    /* of the whole run */
    size_t n_epochs, batch_size, logging_steps, eval_steps, save_steps;
    size_t n_input_tokens;
    double total_flos;   /* 6 * input ids * parameters that are not embeddings, added up */
    json_t *log;         /* owned: array of objects of numbers */
} trainer_state;

/* One number of an entry: "loss", "grad_norm", "learning_rate"; "eval_loss"; "train_runtime" ... */
typedef struct trainer_value {
    const char *key;
    double x;
} trainer_value;

pali_status trainer_state_init(trainer_state *s);
void trainer_state_free(trainer_state *s);
/* Appends an entry of the current step and epoch. What is not finite becomes null: JSON has no such numbers. */
pali_status trainer_state_log(trainer_state *s, const trainer_value *values, size_t n);
/* Writes the file whole or not at all; stop: the run has ended or been stopped. */
pali_status trainer_state_save(const trainer_state *s, const char *path, bool stop);
/* On failure *out holds nothing. */
pali_status trainer_state_load(trainer_state *out, const char *path);
pali_status trainer_state_parse(trainer_state *out, const char *json, size_t n_bytes, const char *name);

#endif
