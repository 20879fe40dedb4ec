/* beam.h: the reference's beam search as bookkeeping over log-probabilities (spec inference 7.3); it never sees a model. */
#ifndef PALI_INFER_BEAM_H
#define PALI_INFER_BEAM_H

#include <stdbool.h>

#include "infer/result.h"

#define BEAM_MAX 64u

typedef struct beam_options {
    size_t n_beams, n_return; /* B; n_return <= B */
    size_t max_tokens;        /* eos included */
    float length_penalty;
    pali_early_stopping early_stopping;
    int32_t eos;              /* -1: none */
    float repetition_penalty; /* 1: off; needs the prompt */
    const int32_t *prompt;
    size_t n_prompt;
} beam_options;

typedef struct beam_search beam_search;

pali_status beam_new(beam_search **out, const beam_options *o, size_t vocab);
void beam_free(beam_search *b);
/* One step: logits [B] rows of [V] (the first step: the same row B times). Writes which beam each running beam continues
 * and by which token; *done means that the answer is settled. */
pali_status beam_step(beam_search *b, const float *const *logits, size_t *parents, int32_t *tokens, bool *done);
/* The best n_return finished sequences (fewer if fewer finished), best first, into r->sequences. */
pali_status beam_finish(beam_search *b, result **out);

#endif
