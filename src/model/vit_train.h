/* vit_train.h: backward of the image encoder (spec training 2), a picture at a time: pictures do not see each other. Of a block only
 * the residual stream before it need be kept: backward computes the rest again. */
#ifndef PALI_MODEL_VIT_TRAIN_H
#define PALI_MODEL_VIT_TRAIN_H

#include "model/vit.h"
#include "tensor/linear.h"

/* Mirrors vit_layer; what is NULL is frozen. */
typedef struct vit_layer_grad {
    float *norm1_w, *norm1_b, *norm2_w, *norm2_b; /* [W] */
    linear_grad q, k, v, o, fc1, fc2;
} vit_layer_grad;

/* x [P, W] = patches of pixels, embedded; then through one block after the other, in place: the bits of vit_forward. */
pali_status vit_embed(exec *e, const vit *v, float *x, const float *pixels);
pali_status vit_block_forward(exec *e, const vit *v, size_t layer, float *x);

/* dx [P, W], in: the gradient by what the block made of x; out: by x. goes_on false: nothing before the block is trained, and
 * what is left in dx means nothing. */
pali_status vit_block_backward(exec *e, const vit *v, size_t layer, float *dx, const vit_layer_grad *grad, const float *x, bool goes_on);
/* Of vit_embed; dposition [P, W] += , NULL: frozen. */
pali_status vit_embed_backward(exec *e, const vit *v, const linear_grad *patch, float *dposition, const float *dx, const float *pixels);

/* Adds what all of these need; data of the weights is not looked at. */
void vit_train_need(exec_need *need, exec *e, const vit *v);

#endif
