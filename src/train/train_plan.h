/* train_plan.h: what a run will need of memory, found out before anything is loaded. */
#ifndef PALI_TRAIN_TRAIN_PLAN_H
#define PALI_TRAIN_TRAIN_PLAN_H

#include "train/backprop.h"
#include "train/dataset.h"
#include "train/optim.h"
#include "train/trainable.h"

typedef struct train_plan {
    uint64_t needed;      /* values, gradients, states, activations of the longest rows together, pictures; not the model's weights */
    uint64_t weights;     /* of the model that go on being read: frozen ones, in memory or in pages of files */
    uint64_t others;      /* the program and its tokenizer, which are there already */
    uint64_t available;   /* for what is needed; UINT64_MAX: unknown */
    uint64_t keep_bytes;  /* of what is left, for insides of blocks (backprop.h), as many as there are */
    uint64_t cache_bytes; /* and for features of pictures */
    uint64_t n_parameters;
    bool trains_vision;   /* the tower: pixels, not features, go in */
} train_plan;

typedef struct train_plan_options {
    const trainable_options *what;
    const optim_options *optimizer;
    bool augmented;        /* the tower sees pictures in every micro-batch though it is frozen */
    uint64_t extra_bytes;  /* that something else will take */
    uint64_t memory_bytes; /* for the whole process; 0: three quarters of what is left are used to go faster */
} train_plan_options;

/* Of a micro-batch, of which only lengths and numbers of pictures are looked at: all are taken to be different ones. The base may be an
 * outline: its weights then count as its own. */
pali_status train_plan_micro(train_plan *out, exec *e, const model *base, const train_plan_options *o, const backprop_item *items, size_t n);
/* Micro-batches of batch_size rows of the data. */
pali_status train_plan_make(train_plan *out, exec *e, const model *base, const train_plan_options *o, const dataset *d, const sample_rules *rules, size_t batch_size);

#endif
