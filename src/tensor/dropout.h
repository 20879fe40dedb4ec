/* dropout.h: dropout in training (spec training 2), of what goes into adapters, and of what the branches of Gemma's blocks add to the
 * residual stream: elements become 0 with probability p, the
 * others are divided by 1 - p. Which ones is a hash of key, site and place, so backward finds the mask of forward again, in any
 * order and with any number of threads.
 *
 * A place is the row and column of one product: rows that models put through adapters in pieces (gemma_train.h has pieces of 1024 rows in its
 * MLP, vit_train.h groups of pictures, crew.h shares of samples) get one mask again and again within a micro-batch. */
#ifndef PALI_TENSOR_DROPOUT_H
#define PALI_TENSOR_DROPOUT_H

#include "tensor/exec.h"

typedef struct dropout {
    float p;      /* in [0, 1); 0: off */
    uint64_t key; /* another for each micro-batch */
} dropout;

/* y = x after dropout, [rows, cols]; accumulate: y += . */
void dropout_apply(exec *e, float *y, const float *x, size_t rows, size_t cols, const dropout *d, size_t site, bool accumulate);

#endif
