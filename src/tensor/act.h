/* act.h: backward of the activations that linear and linear_geglu apply (spec training 2). What they were applied to is
 * the caller's to keep or to compute again with linear; in exchange for it and the gradient they give the gradients and the
 * activations, which the next matrix's gradient needs. All arrays [rows, n]. */
#ifndef PALI_TENSOR_ACT_H
#define PALI_TENSOR_ACT_H

#include "tensor/exec.h"

/* y = gelu_tanh(x): what linear does with LINEAR_GELU, for a forward that keeps x. */
void act_gelu(exec *e, float *y, const float *x, size_t rows, size_t n);
/* y = gelu_tanh(gate) * up: what linear_geglu does, for a forward that keeps both. */
void act_geglu(exec *e, float *y, const float *gate, const float *up, size_t rows, size_t n);

/* In: x and dy of y = gelu_tanh(x). Out: x = dx, dy = y. */
void act_gelu_backward(exec *e, float *x, float *dy, size_t rows, size_t n);
/* In: gate, up and dy of y = gelu_tanh(gate) * up. Out: gate = d gate, up = d up, dy = y. */
void act_geglu_backward(exec *e, float *gate, float *up, float *dy, size_t rows, size_t n);

#endif
