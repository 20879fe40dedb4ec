/* norm.h: row-wise normalisations over [rows, n], in parallel. */
#ifndef PALI_TENSOR_NORM_H
#define PALI_TENSOR_NORM_H

#include "tensor/exec.h"

/* y = rms_norm(x) * (1 + w), spec 2.5; y may be x. */
void norm_rms(exec *e, float *y, const float *x, const float *w, size_t rows, size_t n, float eps);
/* y += rms_norm(x) * (1 + w): Gemma 2's norm on a branch before the residual addition; x is overwritten. */
void norm_rms_add(exec *e, float *y, float *x, const float *w, size_t rows, size_t n, float eps);
/* y = layer_norm(x) * w + b, spec 2.2; y may be x. */
void norm_layer(exec *e, float *y, const float *x, const float *w, const float *b, size_t rows, size_t n, float eps);

/* Backward of norm_rms: dx = or (accumulate) += the gradient by x, dw [n] += the gradient by w, NULL: frozen. dx is neither
 * dy nor x. */
pali_status norm_rms_backward(exec *e, float *dx, float *dw, const float *dy, const float *x, const float *w, size_t rows, size_t n,
                              float eps, bool accumulate);
/* Of norm_layer; db [n] += as well. */
pali_status norm_layer_backward(exec *e, float *dx, float *dw, float *db, const float *dy, const float *x, const float *w, size_t rows,
                                size_t n, float eps, bool accumulate);
/* Adds what either needs. */
void norm_backward_need(exec_need *need, size_t rows);

#endif
