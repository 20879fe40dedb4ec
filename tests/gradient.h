/* gradient.h: central differences in double of a forward in double, against a gradient computed in f32. */
#ifndef PALI_TESTS_GRADIENT_H
#define PALI_TESTS_GRADIENT_H

#include <stddef.h>

/* The bound. Gradients come out of f32 sums, whose elements err by a few 2^-24 (6e-8) of the sizes of their terms; of an
 * element that is small because its terms cancel, that is any share. So the error is measured over a tensor: |g - numeric| /
 * |numeric|, Euclidean norms. */
#define GRADIENT_TOLERANCE 1e-6

/* A loss in double, of inputs that the context holds as doubles. */
typedef double (*gradient_loss)(const void *context);

/* Fails unless g [n], f32, is the gradient of the loss by x [n], one of those inputs: at up to 60 of its elements, spread evenly. */
void gradient_check(const char *what, const float *g, double *x, size_t n, gradient_loss loss, const void *context, double tolerance);

/* x [n] as doubles; the caller frees. */
double *gradient_doubles(const float *x, size_t n);

#endif
