/* clip.h: the length of all gradients together, and what they are multiplied by to keep it in bounds (spec training 4.4).
 *
 * The scale goes into the optimizer's rate: gradients are read once, not rewritten. */
#ifndef PALI_TRAIN_CLIP_H
#define PALI_TRAIN_CLIP_H

#include "train/params.h"

/* sum of x^2 in double, in an order that depends on n alone. */
double clip_sum_squares(const float *x, size_t n);
/* The square root of the sum over all gradients, the same for any number of threads; not finite if one of them is not. */
pali_status clip_norm(double *out, exec *e, const params *p);
/* Transformers (PyTorch): min(1, max / (norm + 1e-6)), in f32 as there; max 0: off. */
float clip_scale(double norm, double max);
/* big_vision: max / norm where the norm is at least max. */
float clip_scale_bv(double norm, double max);

#endif
