/* decode.h: an answer being written, token by token: its prefix, its cache, its sampler, its text. A call of pali_generate
 * runs one; a batch runs many side by side, whose rows share each read of the weights. What one gets does not depend on the
 * others (gemma.h). */
#ifndef PALI_INFER_DECODE_H
#define PALI_INFER_DECODE_H

#include "infer/sampler.h"
#include "infer/session.h"

/* Memory for a step of up to n rows. */
typedef struct decode_buffers {
    float *x;      /* [n, D] */
    float *logits; /* [n, V] */
} decode_buffers;

pali_status decode_buffers_get(decode_buffers *b, const gemma_config *c, size_t n);
void decode_buffers_free(decode_buffers *b);
/* Runs a checked request's prefix; logits [1, V] for what follows it. kv_free *prefix if that succeeds. */
pali_status decode_prefix(session *s, kv_cache *prefix, const decode_buffers *b, const request *q, result *stats);
/* Pushes one token of each of n sequences; logits [n, V] for what follows them. */
pali_status decode_rows(session *s, const decode_buffers *b, const gemma_segment *segments, const int32_t *tokens, size_t n);

/* Greedy or sampled. */
typedef struct decoding {
    const request *q;
    const pali_generate_options *o;
    result *r;            /* its only sequence is being written */
    kv_cache prefix, own; /* own stands on prefix */
    sampler pick;
    const grammar *g;     /* NULL: the answer is free */
    grammar_state place;  /* of the answer and the token */
    token_stream stream;
    int32_t token;        /* the last one picked; the next step pushes it */
    float logprob;
    bool done;
} decoding;

#define DECODE_MAX 64u /* sequences in a step at most */

/* Runs the prefix of a checked request and picks the first token. q, o and r (one sequence, empty) must outlive d, which
 * must not move: decoding_free it, also on failure. */
pali_status decoding_start(decoding *d, session *s, const request *q, const pali_generate_options *o, result *r, const decode_buffers *b);
/* Appends the picked token to the answer and hands it to the caller; sets done, and then completes the result. */
pali_status decoding_accept(decoding *d, const session *s);
/* Pushes the token of each of n <= DECODE_MAX and picks the next one. */
pali_status decoding_step(session *s, const decode_buffers *b, decoding *const *list, size_t n);
void decoding_free(decoding *d);

#endif
