/* lora.h: a model with new LoRA adapters in it, to be trained (spec training 5.1): A uniform in +-1/sqrt(in), B zero, so that the
 * model is at first what it was. They are parameters in f32 under the names that PEFT saves them by, and at the same time an
 * adapter, of which view.h makes the model; the base is not touched, whatever its weights are. */
#ifndef PALI_TRAIN_LORA_H
#define PALI_TRAIN_LORA_H

#include "model/adapter.h"
#include "tensor/dropout.h"
#include "train/params.h"

#define LORA_TARGETS "q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj" /* which the tower has three of: q, k and v */

typedef struct lora_options {
    const char *targets; /* list of last parts of modules' names; NULL: LORA_TARGETS */
    bool text_only;      /* modules of the text model only, not those of tower and projector */
    size_t rank;
    double alpha;
    bool rslora;         /* scale alpha / sqrt(rank), not alpha / rank */
    double dropout;      /* of what goes into A, in [0, 1) */
    uint64_t seed;
} lora_options;

typedef struct lora_training {
    params params;    /* of each module A [rank, in], then B [out, rank], in the order of the table of tensors */
    adapter *adapter; /* whose factors are the parameters' values */
    model *view;      /* the base with it */
    dropout *dropout; /* what its adapters look at; NULL: none */
    float p;          /* its probability when it is on */
} lora_training;

/* The base must stay. It may be an outline: then so is the view. */
pali_status lora_training_new(lora_training *out, const model *base, const lora_options *o);
void lora_training_free(lora_training *t);
/* Dropout is off until it is turned on for a micro-batch, with a key of its own, and off again for validation. Without effect if
 * there is none. */
void lora_training_dropout(lora_training *t, bool on, uint64_t key);

#endif
