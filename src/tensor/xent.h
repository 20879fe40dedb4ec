/* xent.h: softmax cross-entropy over a vocabulary of hundreds of thousands, forward and backward (spec training 1.5, 2). Only rows
 * with a target come here. Logits exist for a chunk of rows and a chunk of the vocabulary at a time. */
#ifndef PALI_TENSOR_XENT_H
#define PALI_TENSOR_XENT_H

#include "tensor/exec.h"
#include "tensor/mat.h"

/* Where the smoothed share of the target distribution goes. */
typedef enum xent_spread {
    XENT_SPREAD_OTHERS, /* smoothing / (V - 1) to each class but the target, as big_vision does */
    XENT_SPREAD_ALL     /* smoothing / V to every class, as Transformers does */
} xent_spread;

typedef struct xent {
    const float *hidden;     /* [M, D] outputs of the final norm */
    const mat *head;         /* [V, D] */
    const int32_t *targets;  /* [M] in [0, V) */
    const float *weights;    /* [M] of each row in the sum: 1 / count for a mean over tokens, 1 / (count n) for one over examples */
    size_t n_rows;
    float softcap;           /* of the logits; 0: none */
    float smoothing;         /* in [0, 1) */
    xent_spread spread;
} xent;

typedef struct xent_result {
    double loss;       /* sum of weight * row loss */
    double *row_loss;  /* [M] against the smoothed target; NULL: not wanted */
    bool *row_right;   /* [M] no class is likelier than the target; NULL */
} xent_result;

/* dhidden [M, D] = gradient of loss; NULL: the loss only, which saves two thirds. dhead [V, D] += its gradient; NULL: frozen, and
 * with dhidden NULL not looked at. Uses e->acts. */
pali_status xent_forward_backward(exec *e, xent_result *out, float *dhidden, float *dhead, const xent *x);

/* Adds what that needs. */
void xent_need(exec_need *need, exec *e, const mat *head, size_t n_rows);

#endif
