/* attention.h: softmax(cap(scale q k^T)) v of one or several sequences, for both towers and every mask the model uses (spec 2.2,
 * 2.7, 2.10). Blocks of queries against all their keys: scratch is [block, keys], never [queries, keys]. */
#ifndef PALI_TENSOR_ATTENTION_H
#define PALI_TENSOR_ATTENTION_H

#include "tensor/exec.h"

/* A run of keys and values: row j of head h is at k + j * ld + h * H. */
typedef struct attention_span {
    const float *k, *v;
    size_t len, ld;
} attention_span;

/*            spans[0]      spans[1]
 *  keys   [ base cache ][ own cache, the new rows last ]
 *
 * Query t of T stands at key position n_keys - T + t. Those among the first n_prefix positions see these, all of them and
 * nothing else; the others see keys up to and including their own position, and with a window only those less than `window`
 * positions back:
 *
 *            keys 0 1 2 3 4
 *   n_prefix = 3  1 1 1 . .      a bidirectional sequence has n_prefix = n_keys,
 *                 1 1 1 . .      a causal one, or the rows after a prefix, 0
 *                 1 1 1 . .
 *                 1 1 1 1 .
 *                 1 1 1 1 1 */
typedef struct attention {
    float *out;     /* [T, N, H] */
    const float *q; /* [T, N, H] */
    size_t n_queries, n_heads, n_kv_heads, head_dim;
    attention_span spans[2];
    float scale, softcap; /* softcap 0: none */
    size_t n_prefix;
    size_t window; /* 0: none */
} attention;

/* Gradients of one sequence whose keys all lie in spans[0]. Every row of dq, dk and dv is set. */
typedef struct attention_grad {
    const float *dout; /* [T, N, H] */
    float *dq;         /* [T, N, H] */
    float *dk, *dv;    /* as spans[0].k and .v: rows ld apart */
} attention_grad;

#define ATTENTION_MAX 64u /* sequences at once */

/* n <= ATTENTION_MAX sequences, side by side on the threads (a decode step has too little work in each to share out); what
 * one gets does not depend on the others. */
pali_status attention_forward(exec *e, const attention *a, size_t n);
/* Adds what one of them needs; its pointers are not looked at. */
void attention_need(exec_need *need, exec *e, const attention *a);

/* Backward of the same list, one gradient each; out is not looked at. Probabilities are computed again, a tile at a time. */
pali_status attention_backward(exec *e, const attention *a, const attention_grad *g, size_t n);
void attention_backward_need(exec_need *need, const exec *e, const attention *a, size_t n);

/* The keys [begin, end) that a query sees, and the queries that see a key: both are runs. */
typedef struct attention_run {
    size_t begin, end;
} attention_run;
attention_run attention_keys_seen(const attention *a, size_t query);
attention_run attention_queries_seeing(const attention *a, size_t key);

#endif
