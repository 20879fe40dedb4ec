/* linear.h: products with weight matrices; the only place that knows how weights are stored. */
#ifndef PALI_TENSOR_LINEAR_H
#define PALI_TENSOR_LINEAR_H

#include "tensor/exec.h"
#include "tensor/mat.h"

#define LINEAR_FEW_ROWS 8u /* up to here streaming rows of weights beats expanding panels (measured) */

typedef enum linear_op {
    LINEAR_SET, /* y  = x W^T + b */
    LINEAR_ADD, /* y += x W^T + b: residual connections */
    LINEAR_GELU, /* y  = gelu_tanh(x W^T + b) */
    /* Or-ed to one of these: the rows belong to different sequences (decode), and each gets the bits it would get alone,
     * however many there are. Without it, the order of a row's sums is one for few rows and another for many. */
    LINEAR_ALONE = 4
} linear_op;

/* y [m, w->rows] from x [m, w->cols]; bias [w->rows] or NULL. y and x must not overlap. What adapters of w add to the product
 * comes before GELU. */
pali_status linear(exec *e, float *y, const float *x, const mat *w, const float *bias, size_t m, linear_op op);

/* y [m, F] = gelu_tanh(x gate^T) * (x up^T), spec 2.8: both products of a tile while x is in cache. op is LINEAR_SET or
 * LINEAR_ALONE. */
pali_status linear_geglu(exec *e, float *y, const float *x, const mat *gate, const mat *up, size_t m, linear_op op);

/* Gradients of one adapter of a matrix, of the shapes of the adapter; each += , NULL: frozen. */
typedef struct lora_grad {
    float *a, *b, *bias;
} lora_grad;

/* Gradients of a matrix [n, k] and its bias; each += , f32 whatever the weights are; NULL: frozen, and its work left out. */
typedef struct linear_grad {
    float *w;              /* [n, k] += dy^T x */
    float *b;              /* [n] += sum of the rows of dy */
    const lora_grad *lora; /* one for each adapter, in the order of the list; NULL: none is trained */
} linear_grad;

/* Backward of y = x W^T + b, given dy [m, w->rows]: dx [m, w->cols] = dy W (LINEAR_SET) or += (LINEAR_ADD), W with its adapters. dx
 * NULL: not wanted; g NULL: all is frozen, and x not looked at. The weights are exactly those of the forward: quantized ones are
 * expanded, and nothing is rounded but sums in f32, unless the forward itself is a product in 16-bit floats (pairs.h): then so is dx. */
pali_status linear_backward(exec *e, float *dx, const linear_grad *g, const float *dy, const float *x, const mat *w, size_t m, linear_op op);
/* Adds what that needs. */
void linear_backward_need(exec_need *need, exec *e, const mat *w, size_t m);

/* Adds what linear, or with `up` linear_geglu, needs; data of the weights is not looked at. */
void linear_need(exec_need *need, exec *e, const mat *w, const mat *up, size_t m, linear_op op);

#endif
