/* vit_train.h: the image encoder for training (spec training 2): n pictures at once, which do not see each other. Of a block the
 * caller keeps the residual stream before it, and if there is memory what the forward computed inside; otherwise backward computes
 * that again. Both ways give the same bits.
 *
 * Pictures go through in groups of about VIT_TRAIN_ROWS rows: large products for small pictures, and memory for one group. */
#ifndef PALI_MODEL_VIT_TRAIN_H
#define PALI_MODEL_VIT_TRAIN_H

#include "model/vit.h"
#include "tensor/linear.h"

/* Mirrors vit_layer; what is NULL is frozen. */
typedef struct vit_layer_grad {
    float *norm1_w, *norm1_b, *norm2_w, *norm2_b; /* [W] */
    linear_grad q, k, v, o, fc1, fc2;
} vit_layer_grad;

/* x [n, P, W] = patches of pixels, embedded; then through one block after the other, in place: the bits of vit_forward. keep
 * [vit_block_keep_floats]: filled; NULL: not kept. */
pali_status vit_embed(exec *e, const vit *v, float *x, const float *const *pixels, size_t n);
pali_status vit_block_forward(exec *e, const vit *v, size_t layer, float *x, float *keep, size_t n);
/* Floats that keep a block's inside. */
size_t vit_block_keep_floats(const vit_config *cfg, size_t n);

/* dx [n, P, W], in: the gradient by what the block made of x; out: by x. keep: what forward filled, which is used up; NULL: computed
 * again from x. goes_on false: nothing before the block is trained, and what is left in dx means nothing. */
pali_status vit_block_backward(exec *e, const vit *v, size_t layer, float *dx, const vit_layer_grad *grad, const float *x, float *keep, size_t n,
                               bool goes_on);
/* Of vit_embed; dposition [P, W] += , NULL: frozen. */
pali_status vit_embed_backward(exec *e, const vit *v, const linear_grad *patch, float *dposition, const float *dx, const float *const *pixels, size_t n);

/* Adds what all of these need; data of the weights is not looked at. */
void vit_train_need(exec_need *need, exec *e, const vit *v, size_t n);

#endif
