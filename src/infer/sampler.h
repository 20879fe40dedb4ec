/* sampler.h: from logits to the next token (spec inference 7.2). Order as in the reference: repetition penalty, then, only
 * when sampling, temperature, top-k, top-p, min-p, softmax, one draw. */
#ifndef PALI_INFER_SAMPLER_H
#define PALI_INFER_SAMPLER_H

#include <stdbool.h>

#include "base/rng.h"
#include "base/status.h"

typedef struct sampler_options {
    float temperature; /* 0: greedy; ties take the lowest id */
    size_t top_k;      /* 0: off; scores equal to the k-th largest stay */
    float top_p, min_p;
    float repetition_penalty; /* 1: off */
    uint64_t seed;
} sampler_options;

typedef struct sampler_candidate {
    float score;
    int32_t id;
} sampler_candidate;

typedef struct sampler {
    sampler_options o;
    rng r;
    size_t vocab;             /* V */
    size_t n_choosable;       /* ids at and above it are never drawn (padding rows without text) */
    sampler_candidate *pool;  /* [V], sampling only */
    bool *seen;               /* [V] ids of prompt and answer, penalty only */
} sampler;

pali_status sampler_init(sampler *s, const sampler_options *o, size_t vocab, size_t n_choosable);
void sampler_free(sampler *s);
/* Tells the penalty about ids of the prompt, or the token just chosen. */
void sampler_see(sampler *s, const int32_t *ids, size_t n);
/* Picks a token; *logprob is its plain log-softmax. logits [V] are changed by penalties. */
int32_t sampler_pick(sampler *s, float *logits, float *logprob);

/* log(sum(exp(x))) over n values, in double. */
double sampler_log_sum_exp(const float *x, size_t n);

#endif
