/* grads.h: the gradients of what is trained, arranged as the model is: structs that mirror its own and say, for every matrix and
 * vector, where its gradient is added up. NULL: frozen.
 *
 * A parameter is where the model reads it: one whose value (or half) is the data of a matrix, a vector or an adapter's factor. So
 * one rule does for everything, groups and adapters alike, and a parameter that the model does not read is an error.
 *
 * Operations add up in f32. Gradients that are kept in bf16 (params.h) get theirs in memory that all stages of the model share, one
 * after the other: backward ends a stage when everything of the micro-batch has gone through it. */
#ifndef PALI_TRAIN_GRADS_H
#define PALI_TRAIN_GRADS_H

#include "model/gemma_train.h"
#include "model/model.h"
#include "model/vit_train.h"
#include "train/params.h"

/* The sum of a stage for a gradient in bf16. */
typedef struct grads_sum {
    size_t stage, n;
    float *sum;     /* [n] */
    uint16_t *grad; /* [n] */
} grads_sum;

enum { GRADS_PATCH, GRADS_PROJECTOR, GRADS_VIT_BLOCKS }; /* stages; after the tower's blocks come the text model's */

typedef struct grads {
    float *embed, *head, *norm_final; /* embed: of a tied head too */
    gemma_layer_grad *text;           /* [L] */
    linear_grad projector, patch;
    float *position, *post_w, *post_b;
    vit_layer_grad *vit;              /* [n_layers] */
    lora_grad *loras;                 /* what the linear_grads' lists are in */
    /* How far backward goes. first_*: the lowest block in which something is trained, or all of them below which something is;
     * the number of blocks: none. before_*: something is trained that the first block's input depends on. */
    size_t first_text, first_vit;
    bool before_text, before_vit;
    bool trains_vit;                  /* any of the tower */
    grads_sum *sums;                  /* [n_sums] */
    size_t n_sums;
    float *stage;                     /* [stage_floats] what they are in */
    size_t stage_floats;
} grads;

/* Of a model whose weights params_bind has led to the parameters. */
pali_status grads_init(grads *out, const model *m, const params *p);
/* How far backward would go, and memory for stages, if all tensors of these groups (or adapters of them) were trained; nothing else.
 * For plans of models without weights. */
void grads_outline(grads *out, const model *m, unsigned groups, bool half_grads);
void grads_free(grads *g);
/* Adds the stage's sums to its gradients in bf16, each rounded once, and makes room for the next stage. */
void grads_stage_end(const grads *g, exec *e, size_t stage);
/* Forgets what a stage that failed has summed up. */
void grads_stage_drop(const grads *g);

#endif
