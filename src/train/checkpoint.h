/* checkpoint.h: folders OUT/checkpoint-N with all that a run needs to go on after N updates, and with what others load (spec training
 * 6). Each appears whole or not at all.
 *
 *   adapter_config.json, adapter_model.safetensors    PEFT: of adapters
 *   config.json, model.safetensors, tokenizer ...     Transformers: of weights
 *   trainer_state.json                                what Transformers' Trainer writes of a run
 *   optimizer.safetensors    "p.<name>" values and "h.<name>" their 16-bit halves, as they are in memory; states of the optimizer
 *   train_state.json         the settings that a run must share to go on here, and sums since the last logged update
 *
 * Values are there twice because those for others are rounded to the types of the model. */
#ifndef PALI_TRAIN_CHECKPOINT_H
#define PALI_TRAIN_CHECKPOINT_H

#include "input/tokenizer.h"
#include "train/optim.h"
#include "train/trainable.h"
#include "train/trainer_state.h"

/* Sums over the updates since the last one that was logged; and whether the last is still to be validated, its validation having been
 * stopped. */
typedef struct checkpoint_sums {
    double loss;
    size_t n_updates, n_tokens;
    bool eval_due;
} checkpoint_sums;

/* What is saved, and filled again. */
typedef struct checkpoint {
    trainable *what;
    optim *optimizer;
    trainer_state *state;    /* its global_step is N */
    checkpoint_sums *sums;
    const json_t *settings;  /* object */
    const tokenizer *t;      /* NULL: none */
    const char *tokenizer_path; /* NULL: the model's own */
    const char *base_name;
    int n_threads;
} checkpoint;

/* done: the run has ended. One of the same step, from before the run went back, is replaced. */
pali_status checkpoint_save(const checkpoint *c, const char *out_dir, bool done);
/* Checks train_state.json against the run's step and settings, and reads the sums. */
pali_status checkpoint_state_parse(const checkpoint *c, const char *json, size_t n_bytes, const char *name);
/* On failure what is there may be of both. */
pali_status checkpoint_load(const checkpoint *c, const char *dir);

/* ---- The folders (checkpoint_dirs.c) ---- */

/* OUT/checkpoint-N in a fresh block (mem_free); NULL: no memory. */
char *checkpoint_path(const char *out_dir, size_t step);
/* The last one in the folder, or *out NULL: there is none. */
pali_status checkpoint_latest(char **out, const char *out_dir);
/* Removes OUT/checkpoint-N if it is there. */
pali_status checkpoint_drop(const char *out_dir, size_t step);
/* Removes all but the last `keep`, the oldest first; and what a killed run left half-written. */
pali_status checkpoint_prune(const char *out_dir, size_t keep);
/* Lets the files for others be in OUT itself too, each replaced at once. */
pali_status checkpoint_publish(const char *dir, const char *out_dir);

#endif
