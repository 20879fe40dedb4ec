#include "infer/result.h"

#include <string.h>

#include "base/mem.h"

pali_status result_new(result **out, size_t n) {
    result *r = mem_calloc(1, sizeof *r);
    *out = NULL;
    if (!r) return status_no_memory(sizeof *r);
    r->sequences = mem_calloc(n, sizeof *r->sequences);
    if (!r->sequences) {
        mem_free(r);
        return status_no_memory(n * sizeof *r->sequences);
    }
    r->n_sequences = n;
    *out = r;
    return PALI_OK;
}

static void sequences_free(result *r) {
    for (size_t i = 0; i < r->n_sequences; i++) {
        mem_free(r->sequences[i].text);
        mem_free(r->sequences[i].tokens);
        mem_free(r->sequences[i].logprobs);
    }
    mem_free(r->sequences);
    r->sequences = NULL;
    r->n_sequences = 0;
}

void result_free(result *r) {
    if (!r) return;
    sequences_free(r);
    mem_free(r->error);
    mem_free(r);
}

void result_fail(result *r, pali_status status) {
    size_t n = strlen(status_message()) + 1;
    sequences_free(r);
    r->status = status;
    r->error = mem_alloc(n, 1);
    if (r->error) memcpy(r->error, status_message(), n);
}

pali_status sequence_reserve(sequence *s, size_t n) {
    if (n <= s->cap) return PALI_OK;
    int32_t *tokens = mem_grow(s->tokens, s->n, n, sizeof *tokens);
    if (!tokens) return status_no_memory(n * sizeof *tokens);
    s->tokens = tokens;
    float *logprobs = mem_grow(s->logprobs, s->n, n, sizeof *logprobs);
    if (!logprobs) return status_no_memory(n * sizeof *logprobs);
    s->logprobs = logprobs;
    s->cap = n;
    return PALI_OK;
}

pali_status sequence_push(sequence *s, int32_t token, float logprob) {
    if (s->n == s->cap) STATUS_TRY(sequence_reserve(s, s->cap ? 2 * s->cap : 32));
    s->tokens[s->n] = token;
    s->logprobs[s->n++] = logprob;
    s->score += (double)logprob;
    return PALI_OK;
}

pali_status sequence_decode(sequence *s, const tokenizer *t) {
    if (t) return tokenizer_decode(t, s->tokens, s->n, &s->text, &s->n_text);
    s->text = mem_calloc(1, 1);
    return s->text ? PALI_OK : status_no_memory(1);
}
