/* result.h: answers: texts, tokens, log-probabilities, and what they cost. */
#ifndef PALI_INFER_RESULT_H
#define PALI_INFER_RESULT_H

#include "input/tokenizer.h"

typedef struct sequence {
    char *text;        /* without special tokens, NUL-terminated */
    size_t n_text;
    int32_t *tokens;   /* [n] */
    float *logprobs;   /* [n] plain log-softmax over all rows of the head */
    size_t n, cap;
    double score;      /* beam score, or the sum of logprobs */
    pali_finish finish;
} sequence;

struct pali_result {
    sequence *sequences;
    size_t n_sequences;
    pali_status status; /* of a request of a batch: why there are no sequences */
    char *error;        /* its message; NULL: none, or no memory for it */
    size_t image_tokens, prompt_tokens, generated_tokens;
    double preprocess_ms, vision_ms, prefill_ms, decode_ms;
};
typedef struct pali_result result;

/* Room for n sequences, all empty. */
pali_status result_new(result **out, size_t n);
void result_free(result *r);
/* Makes it the result of a failure: without sequences, with this thread's last message. */
void result_fail(result *r, pali_status status);
/* Makes room for n tokens in all. */
pali_status sequence_reserve(sequence *s, size_t n);
/* Appends a token and adds its log-probability to the score. */
pali_status sequence_push(sequence *s, int32_t token, float logprob);
/* Sets the text from the tokens; "" without a tokenizer. */
pali_status sequence_decode(sequence *s, const tokenizer *t);

#endif
