/* schedule.h: which part of the base learning rate an update gets, and how many updates there are (spec training 4.5, 4.6). Pure
 * functions.
 *
 * Surprise: with a warm-up the first update has factor 0 in both references. It changes no weight, but Adam's means. */
#ifndef PALI_TRAIN_SCHEDULE_H
#define PALI_TRAIN_SCHEDULE_H

#include <stdint.h>

#include "base/status.h"

typedef enum schedule_kind {
    SCHEDULE_LINEAR,    /* Transformers: up to 1, then down to 0 at the end */
    SCHEDULE_COSINE,    /* Transformers: half a cosine after the warm-up */
    SCHEDULE_CONSTANT,  /* 1 after the warm-up */
    SCHEDULE_COSINE_BV  /* big_vision: the same product of both */
} schedule_kind;

typedef struct schedule {
    schedule_kind kind;
    uint64_t warmup, total; /* updates */
} schedule;

/* "linear", "cosine", "constant" (also constant_with_warmup), "cosine_big_vision" */
pali_status schedule_kind_named(schedule_kind *out, const char *name);
/* Factor of update s = 0, 1, ... Counted from 1 with a total one larger this is what big_vision's notebook does. */
double schedule_factor(const schedule *s, uint64_t update);

/* Transformers' warmup_steps: a number of updates, or below 1 a fraction of the total, rounded up. */
uint64_t schedule_warmup(double steps, uint64_t total);
/* big_vision's warmup_percent as a fraction: rounded half to even, at least 1. */
uint64_t schedule_warmup_bv(double fraction, uint64_t total);

/* Updates of a run over n_samples rows. */
typedef struct schedule_count {
    uint64_t micro_batches; /* an epoch; the last may be short */
    uint64_t updates;       /* an epoch; the last may have fewer micro-batches and counts in full */
    uint64_t total;         /* all epochs, or max_steps */
} schedule_count;

/* n_epochs may have a fraction; max_steps 0: none. Everything else at least 1. */
pali_status schedule_count_of(schedule_count *out, uint64_t n_samples, uint64_t batch, uint64_t accumulate, double n_epochs, uint64_t max_steps);

#endif
