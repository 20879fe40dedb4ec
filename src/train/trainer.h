/* trainer.h: the loop of fine-tuning (spec training 4.5 - 4.8, 6.4).
 *
 *   an update: grad_accum micro-batches forward and backward | gradients' norm, clipping | optimizer | log, validate, save
 *
 * Everything that a run depends on is in its options, its data and the number of updates done, so that going on from a checkpoint
 * gives the same bits as not having stopped, as does any number of threads. */
#ifndef PALI_TRAIN_TRAINER_H
#define PALI_TRAIN_TRAINER_H

#include "input/tokenizer.h"
#include "paligemma_train.h"
#include "tensor/xent.h"
#include "train/answered.h"
#include "train/optim.h"
#include "train/sample.h"
#include "train/schedule.h"
#include "train/trainable.h"

typedef struct trainer_options {
    const char *const *data; /* [n_data] files */
    size_t n_data;
    const double *weights;   /* [n_data] of a mixture; NULL: each row once an epoch */
    const char *val, *out_dir; /* val NULL: none */
    const char *resume;      /* as in pali_train_options */
    const char *board_dir;   /* TensorBoard; NULL: none */
    const char *feature_dir; /* features of a frozen tower are kept there; NULL: in memory only */
    const char *tokenizer_path;
    trainable_options what;
    optim_options optimizer;
    schedule_kind schedule;
    double lr, warmup, epochs;
    uint64_t max_steps;
    size_t batch_size, grad_accum;
    double max_grad_norm;    /* 0: off */
    bool clip_big_vision;
    float smoothing;
    double dropout;          /* of what the text model's branches add, in [0, 1) */
    xent_spread spread;
    sample_mean mean;
    bool shuffle;
    size_t text_len;         /* 0: texts are not cut */
    resize_filter filter;    /* of pictures */
    augment_options augment;
    uint64_t seed;
    size_t logging_steps, eval_steps, save_steps, save_limit; /* eval and save 0: at the end only; save_limit 0: none */
    size_t n_samples;        /* rows that are answered when it validates */
    answer_fn answer;        /* by this */
    void *answer_user;
    uint64_t answer_bytes;   /* memory that it takes */
    int n_threads;
    uint64_t memory_bytes;   /* of the whole run; 0: as there is (train_plan.h) */
    bool force;
    pali_train_fn on_event;
    void *user;
} trainer_options;

/* From reading the data to the result in out_dir. PALI_ERR_CANCELLED: on_event asked to stop, and a checkpoint is saved. */
pali_status trainer_run(const model *base, const tokenizer *t, const trainer_options *o);

#endif
