/* train_plan.h: what a run will need of memory, found out before anything is loaded. */
#ifndef PALI_TRAIN_TRAIN_PLAN_H
#define PALI_TRAIN_TRAIN_PLAN_H

#include "train/backprop.h"
#include "train/dataset.h"
#include "train/optim.h"
#include "train/trainable.h"

typedef struct train_plan {
    uint64_t needed;      /* values, gradients, states, activations of the longest rows together, pictures; not the model's files */
    uint64_t available;   /* UINT64_MAX: unknown */
    uint64_t keep_bytes;  /* of what is left, for insides of blocks (backprop.h) */
    uint64_t cache_bytes; /* and for features of pictures */
    uint64_t n_parameters;
    bool trains_vision;   /* the tower: pixels, not features, go in */
} train_plan;

/* Micro-batches of batch_size rows of the data. augmented: the tower sees pictures in every micro-batch though it is frozen. */
pali_status train_plan_make(train_plan *out, exec *e, const model *base, const trainable_options *what, const optim_options *optimizer, const dataset *d,
                            const sample_rules *rules, size_t batch_size, bool augmented);

#endif
