/* run_log.h: what is written of a run while it runs: OUT/log.jsonl, one object a line, the same for TensorBoard, and the log in
 * trainer_state.json under the names that Transformers' Trainer has for it.
 *
 *   {"step": 1, "loss": 2.31, "lr": 1e-5, "grad_norm": 0.8, "tokens": 271, "ms": 5100}
 *   {"step": 1, "eval_loss": 2.2, "eval_accuracy": 0.5, "eval_tokens": 20, "ms": 900}
 *   {"step": 1, "kind": "sample", "line": 7, "prefix": "caption en", "want": "a cat asleep", "got": "a dog"}
 *
 * Of several updates a line has the mean loss, rate and norm of the last, and sums of tokens and milliseconds. */
#ifndef PALI_TRAIN_RUN_LOG_H
#define PALI_TRAIN_RUN_LOG_H

#include "train/answered.h"
#include "train/events.h"
#include "train/trainer_state.h"

typedef struct run_log {
    char *path;
    int fd;
    events board;         /* not open: none */
    trainer_state *state; /* whose step and epoch lines are of */
} run_log;

typedef struct run_log_update {
    double loss, lr, grad_norm, ms;
    size_t n_tokens;
} run_log_update;

typedef struct run_log_eval {
    double loss, accuracy, ms; /* accuracy: share of targets that are the likeliest token */
    size_t n_targets;
} run_log_eval;

/* Goes on after the state's step: lines of later ones, of a run that went further, are cut off. board_dir NULL: no TensorBoard. */
pali_status run_log_open(run_log *out, const char *out_dir, const char *board_dir, trainer_state *state);
void run_log_close(run_log *l);
pali_status run_log_add_update(run_log *l, const run_log_update *u);
pali_status run_log_add_eval(run_log *l, const run_log_eval *v);
/* Sample `index` of those that every validation has. */
pali_status run_log_add_sample(run_log *l, size_t index, const answered *a);

#endif
