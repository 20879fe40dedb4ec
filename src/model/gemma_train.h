/* gemma_train.h: the blocks of gemma.h for training (spec training 2): whole sequences, prefix and answer, without caches. Of a block
 * the caller keeps the residual stream before it, and if there is memory what the forward computed inside (at 271 rows of the 3B
 * model 47 MB a layer); otherwise backward computes that again, which costs one more forward. Both ways give the same bits.
 *
 * Of the last block only rows that predict something are wanted. It computes keys and values of all rows, and the rest of those:
 *
 *   x [T, D]  rows of sample 1 | rows of sample 2        block        y [M, D]  the last rows of 1 | of 2
 *             ......++++         ....+++                 ---->                  ++++                 +++           */
#ifndef PALI_MODEL_GEMMA_TRAIN_H
#define PALI_MODEL_GEMMA_TRAIN_H

#include "model/gemma.h"
#include "tensor/dropout.h"
#include "tensor/linear.h"

/* A run of rows: the first n_prefix see each other, the others what is before them and themselves. */
typedef struct gemma_sequence {
    size_t n_rows, n_prefix;
    size_t n_unused; /* rows at its begin whose output nobody wants */
} gemma_sequence;

/* The rows of all sequences, one after the other. */
typedef struct gemma_rows {
    const gemma_sequence *sequences;
    size_t n_sequences, n_rows; /* n_rows: the sum of theirs, T */
    dropout drop; /* of what attention and MLP add to the residual stream, as in big_vision; its p 0: none */
} gemma_rows;

/* Mirrors gemma_layer; what is NULL is frozen. */
typedef struct gemma_layer_grad {
    float *norm_attn_in, *norm_attn_out, *norm_mlp_in, *norm_mlp_out; /* [D] */
    linear_grad q, k, v, o, gate, up, down;
} gemma_layer_grad;

/* Floats that keep a block's inside. */
size_t gemma_block_keep_floats(const gemma *g, const gemma_rows *rows);

/* x [T, D] through one block, in place: the bits of gemma_forward. Of the last block x becomes [M, D]. keep
 * [gemma_block_keep_floats]: filled; NULL: not kept. */
pali_status gemma_block_forward(exec *e, const gemma *g, size_t layer, float *x, float *keep, const gemma_rows *rows);

/* dx [T, D], in: the gradient by what the block made of x, [M, D] of the last; out: by x. keep: what forward filled, which is used up; NULL: computed
 * again from x. goes_on false: nothing before the block is trained, and what is left in dx means nothing. */
pali_status gemma_block_backward(exec *e, const gemma *g, size_t layer, float *dx, const gemma_layer_grad *grad, const float *x, float *keep,
                                 const gemma_rows *rows, bool goes_on);

/* Adds what both need for one layer; data of the weights is not looked at. */
void gemma_block_need(exec_need *need, exec *e, const gemma *g, size_t layer, const gemma_rows *rows);

#endif
