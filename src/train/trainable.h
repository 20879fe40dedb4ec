/* trainable.h: what is trained and the model that computes with it: a view of the base whose tensors of the chosen groups lead to
 * parameters, or one with new adapters. The base is never changed, so that frozen weights stay where its files are mapped. */
#ifndef PALI_TRAIN_TRAINABLE_H
#define PALI_TRAIN_TRAINABLE_H

#include "train/lora.h"

typedef struct trainable_options {
    bool adapters;           /* LoRA; otherwise the weights of `groups` themselves */
    lora_options lora;
    const char *init;        /* an adapter to begin with; NULL: a new one. Rank and alpha 0, targets NULL and text_only and rslora
                              * false are what it has; anything else must be that */
    unsigned groups;         /* PARAMS_GROUP */
    param_storage storage;   /* of weights; adapters are f32 */
    bool half_grads;         /* their gradients in bf16 (params.h) */
} trainable_options;

typedef struct trainable {
    trainable_options o;     /* init's in place of what was asked for */
    params *p;               /* of `weights` or `lora` */
    model *view;
    params weights;
    model *whole;            /* the view of `weights`; that of `lora` is its own */
    lora_training lora;
    adapter *init;           /* owns its targets' names */
} trainable;

/* e NULL: an outline, whose weights have places but no values: memory is not touched, so that it costs nothing to plan with. */
pali_status trainable_new(trainable *out, const model *base, const trainable_options *o, exec *e);
void trainable_free(trainable *t);

/* No value is infinite or not a number. */
bool trainable_is_finite(const trainable *t);

#endif
