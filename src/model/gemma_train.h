/* gemma_train.h: the blocks of gemma.h for training (spec training 2): whole sequences, prefix and answer, without caches. The
 * residual stream before a block is all that need be kept of it: backward computes the rest again. */
#ifndef PALI_MODEL_GEMMA_TRAIN_H
#define PALI_MODEL_GEMMA_TRAIN_H

#include "model/gemma.h"
#include "tensor/linear.h"

/* A run of rows: the first n_prefix see each other, the others what is before them and themselves. */
typedef struct gemma_sequence {
    size_t n_rows, n_prefix;
} gemma_sequence;

/* The rows of all sequences, one after the other. */
typedef struct gemma_rows {
    const gemma_sequence *sequences;
    size_t n_sequences, n_rows; /* n_rows: their sum, T */
} gemma_rows;

/* Mirrors gemma_layer; what is NULL is frozen. */
typedef struct gemma_layer_grad {
    float *norm_attn_in, *norm_attn_out, *norm_mlp_in, *norm_mlp_out; /* [D] */
    linear_grad q, k, v, o, gate, up, down;
} gemma_layer_grad;

/* x [T, D] through one block, in place: the bits of gemma_forward. */
pali_status gemma_block_forward(exec *e, const gemma *g, size_t layer, float *x, const gemma_rows *rows);

/* dx [T, D], in: the gradient by what the block made of x; out: by x. goes_on false: nothing before the block is trained, and
 * what is left in dx means nothing. */
pali_status gemma_block_backward(exec *e, const gemma *g, size_t layer, float *dx, const gemma_layer_grad *grad, const float *x,
                                 const gemma_rows *rows, bool goes_on);

/* Adds what both need for one layer; data of the weights is not looked at. */
void gemma_block_need(exec_need *need, exec *e, const gemma *g, size_t layer, const gemma_rows *rows);

#endif
