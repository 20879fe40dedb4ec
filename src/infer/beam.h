/* beam.h: the reference's beam search as bookkeeping over logits (spec inference 7.3); it never sees a model. */
#ifndef PALI_INFER_BEAM_H
#define PALI_INFER_BEAM_H

#include <stdbool.h>

#include "infer/grammar.h"
#include "infer/result.h"

#define BEAM_MAX 64u

typedef struct beam_options {
    size_t n_beams, n_return; /* B; 1 <= n_return <= B <= BEAM_MAX */
    size_t max_tokens;        /* eos included; at least 1 */
    float length_penalty;
    pali_early_stopping early_stopping;
    int32_t eos;              /* -1: none */
    float repetition_penalty; /* 1: off */
    const int32_t *prompt;    /* [n_prompt] for the penalty; must outlive the search */
    size_t n_prompt;
    const grammar *grammar;   /* NULL: answers are free */
    pali_constraint constrain;
} beam_options;

typedef struct beam_search beam_search;

pali_status beam_new(beam_search **out, const beam_options *o, size_t vocab);
void beam_free(beam_search *b);
/* One step. logits [B] rows of [V]: what each running beam predicts; in the first step the same row B times. Writes which
 * beam each running beam continues and by which token. *done: the answer is settled, there is nothing to continue. */
pali_status beam_step(beam_search *b, const float *const *logits, size_t *parents, int32_t *tokens, bool *done);
/* The best n_return finished sequences (fewer if fewer finished), best first; result_free it. */
pali_status beam_finish(const beam_search *b, result **out);

#endif
