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
 * Query t of T stands at key position n_keys - T + t. It sees everything if bidirectional, else keys up to and including
 * its own position; with a window, only those less than `window` positions back. */
typedef struct attention {
    float *out;     /* [T, N, H] */
    const float *q; /* [T, N, H] */
    size_t n_queries, n_heads, n_kv_heads, head_dim;
    attention_span spans[2];
    float scale, softcap; /* softcap 0: none */
    bool bidirectional;
    size_t window; /* 0: none; ignored if bidirectional */
} attention;

#define ATTENTION_MAX 64u /* sequences at once */

/* n <= ATTENTION_MAX sequences, side by side on the threads (a decode step has too little work in each to share out); what
 * one gets does not depend on the others. */
pali_status attention_forward(exec *e, const attention *a, size_t n);
/* Adds what one of them needs; its pointers are not looked at. */
void attention_need(exec_need *need, exec *e, const attention *a);

#endif
