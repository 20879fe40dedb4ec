/* sampler.h: from logits to the next token (spec inference 7.2). Order as in the reference: repetition penalty, then, only
 * when sampling, temperature, top-k, top-p, min-p, softmax, one draw.
 *
 * Random streams cannot match another library's. Here: xoshiro256** from the seed, one uniform number a token. */
#ifndef PALI_INFER_SAMPLER_H
#define PALI_INFER_SAMPLER_H

#include <stdbool.h>

#include "base/rng.h"
#include "base/status.h"

/* Plain log-softmax of a row: x - max - log_sum, subtracted in this order as the reference does. */
typedef struct log_softmax {
    float max, log_sum;
} log_softmax;

log_softmax log_softmax_of(const float *logits, size_t n);
static inline float log_softmax_at(log_softmax l, float logit) {
    return logit - l.max - l.log_sum;
}

typedef struct sampler_options {
    float temperature; /* 0: greedy; ties take the lowest id */
    size_t top_k;      /* 0: off; scores equal to the k-th largest stay */
    float top_p, min_p;
    float repetition_penalty; /* 1: off */
    uint64_t seed;
    size_t n_drawable;        /* ids from here on are padding rows without text: never drawn. 0: all can be */
    int32_t never;            /* an id never drawn (<image>), or -1 */
} sampler_options;

/* A set of ids: those with one of the bits in their mark, which lies in [low, high]. */
typedef struct sampler_filter {
    const uint16_t *marks; /* [V]; NULL: all ids */
    uint16_t bits, low, high;
} sampler_filter;

static inline bool sampler_passes(const sampler_filter *f, size_t id) {
    return !f->marks || ((f->marks[id] & f->bits) && f->marks[id] >= f->low && f->marks[id] <= f->high);
}

typedef struct sampler_candidate {
    float score; /* later its probability, up to a factor */
    int32_t id;
} sampler_candidate;

typedef struct sampler {
    sampler_options o;
    rng r;
    size_t vocab;            /* V */
    sampler_candidate *pool; /* [V], sampling only */
    bool *seen;              /* [V] ids of prompt and answer, penalty only */
    sampler_filter only;     /* what may be chosen; the caller's, not empty. Log-probabilities are over all ids whatever it says */
} sampler;

pali_status sampler_init(sampler *s, const sampler_options *o, size_t vocab);
void sampler_free(sampler *s);
/* Tells the penalty about ids of the prompt; chosen tokens are seen by themselves. */
void sampler_see(sampler *s, const int32_t *ids, size_t n);
/* Picks a token of logits [V]; *logprob is its plain log-softmax. */
int32_t sampler_pick(sampler *s, const float *logits, float *logprob);

/* The penalty itself; a log-probability is a score like any other. */
static inline float sampler_penalized(float score, float penalty) {
    return score < 0 ? score * penalty : score / penalty;
}

#endif
