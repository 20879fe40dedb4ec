/* generate.h: answers to a request: greedy, sampled, by beams, or given ones scored (spec inference 7). */
#ifndef PALI_INFER_GENERATE_H
#define PALI_INFER_GENERATE_H

#include "infer/session.h"

/* Options are complete and checked (api/ does that). The caller frees *out with result_free. */
pali_status generate(session *s, const request *q, const pali_generate_options *o, result **out);
/* The same for a checked request as part of a longer call: into an empty result of one sequence. */
pali_status generate_into(session *s, const request *q, const pali_generate_options *o, result *r);

/* Log-probability of each answer's ids (eos included) after the prefix; sequence i is answer i. */
typedef struct score_answer {
    const int32_t *ids;
    size_t n; /* at least 1 */
} score_answer;
pali_status score(session *s, const request *q, const score_answer *answers, size_t n_answers, result **out);

#endif
