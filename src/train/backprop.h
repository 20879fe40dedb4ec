/* backprop.h: the loss of a micro-batch and its gradients by everything that is trained (spec training 1, 2): from ids and pictures
 * through the model and back, over the blocks of gemma_train.h and vit_train.h.
 *
 *   pixels -- tower --> features [P, W] -- projector --+
 *                                                      +--> x [T, D] -- blocks --> final norm, rows with a target --> xent
 *   ids ------------- table, times sqrt(D) ------------+
 *
 * T rows: those of all samples, one sample after the other. Backward goes down as far as something is trained, and computes what
 * flows on and the gradients of what is trained, no others. What is kept for it: the residual stream before every block that it
 * reaches, and the insides of as many blocks, Gemma's first, as there is memory for; the insides of others are computed
 * again. The bits are the same whichever is kept, and for any number of threads.
 *
 * A picture that several samples have goes through the tower and the projector once; the gradients by what these make of it are
 * summed up in the order of the samples. */
#ifndef PALI_TRAIN_BACKPROP_H
#define PALI_TRAIN_BACKPROP_H

#include "tensor/xent.h"
#include "train/grads.h"
#include "train/sample.h"

#define BACKPROP_MAX_ROWS (1u << 24) /* T: keeps every size below within 64 bits */

/* One of the two. Features are of a tower that is frozen: computed before, in this epoch or another. Those of a micro-batch that
 * lie in one place are one picture. */
typedef struct backprop_picture {
    const float *pixels;   /* [3, R, R] */
    const float *features; /* [P, W] */
} backprop_picture;

typedef struct backprop_item {
    const sample *text;
    const backprop_picture *pictures; /* [n_pictures] in the order of the sample's image rows, which are its first */
    size_t n_pictures;
    double weight;                    /* of each target in the sum: sample_weight */
} backprop_item;

typedef struct backprop_options {
    float smoothing;
    xent_spread spread;
    uint64_t keep_bytes; /* for insides; 0: none is kept */
    bool loss_only;      /* validation: no gradients */
    dropout drop;        /* of the branches of Gemma's blocks (gemma_train.h) */
} backprop_options;

typedef struct backprop_result {
    double loss;       /* sum of weight * loss over the targets */
    size_t n_targets;
    double *row_loss;  /* [n_targets], or NULL: not wanted */
    bool *row_right;   /* [n_targets] the target is the likeliest, or NULL */
} backprop_result;

typedef struct backprop {
    const model *m;
    grads grads;
    int32_t image_token;
    void *block;       /* of the largest micro-batch so far */
    size_t block_bytes;
} backprop;

/* The model, or view, computes with the parameters' values (params_bind, lora_training_new); both stay. */
pali_status backprop_init(backprop *b, const model *m, const params *p);
/* For backprop_need alone: a model without weights of which these groups are to be trained. */
void backprop_outline(backprop *b, const model *m, unsigned groups, bool half_grads);
void backprop_free(backprop *b);

/* *out: row_loss and row_right are in, the rest is out. Gradients += ; after a failure they hold some of the micro-batch. */
pali_status backprop_run(backprop *b, exec *e, backprop_result *out, const backprop_item *items, size_t n, const backprop_options *o);

/* What a micro-batch takes: adds scratch to `need`; *n_bytes: memory of its own, which stays for the next, that of
 * stages (grads.h) included. Of the items only lengths
 * are looked at, and whether a picture is there as pixels or as features; of the weights no data. */
pali_status backprop_need(exec_need *need, uint64_t *n_bytes, exec *e, backprop *b, const backprop_item *items, size_t n, const backprop_options *o);

#endif
