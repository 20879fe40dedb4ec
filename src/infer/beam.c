/* beam.c: see spec inference 7.3, whose numbered steps the comments name. Scores are float32, as the reference's are. */
#include "infer/beam.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "infer/sampler.h"

#define NEVER -1e9f /* the score of what does not exist */

typedef struct hypothesis {
    int32_t *tokens;  /* [max_tokens] */
    float *logprobs;  /* [max_tokens] */
    size_t n;
    float score;      /* running: sum; finished: normalised */
    bool finished;
} hypothesis;

typedef struct candidate {
    float total, logprob; /* processed total; plain log-probability */
    size_t parent;
    int32_t token;
} candidate;

struct beam_search {
    beam_options o;
    size_t vocab, n; /* n: tokens generated so far */
    hypothesis *running, *next, *pool, *pool_next; /* [B] each */
    candidate *best;    /* [2 B], in order */
    float *scores;      /* [V] of one beam */
    bool *seen;         /* [V] */
    bool improvable;
};

static pali_status hypotheses_new(hypothesis **out, size_t n, size_t max_tokens) {
    hypothesis *h = mem_calloc(n, sizeof *h);
    *out = h;
    if (!h) return status_no_memory(n * sizeof *h);
    for (size_t i = 0; i < n; i++) {
        h[i].tokens = mem_alloc(max_tokens, sizeof *h[i].tokens);
        h[i].logprobs = mem_alloc(max_tokens, sizeof *h[i].logprobs);
        h[i].score = NEVER;
        if (!h[i].tokens || !h[i].logprobs) return status_no_memory(max_tokens * sizeof *h[i].tokens);
    }
    return PALI_OK;
}

static void hypotheses_free(hypothesis *h, size_t n) {
    for (size_t i = 0; h && i < n; i++) {
        mem_free(h[i].tokens);
        mem_free(h[i].logprobs);
    }
    mem_free(h);
}

pali_status beam_new(beam_search **out, const beam_options *o, size_t vocab) {
    beam_search *b = mem_calloc(1, sizeof *b);
    *out = NULL;
    if (!b) return status_no_memory(sizeof *b);
    *b = (beam_search){.o = *o, .vocab = vocab, .improvable = true};
    pali_status s = hypotheses_new(&b->running, o->n_beams, o->max_tokens);
    if (s == PALI_OK) s = hypotheses_new(&b->next, o->n_beams, o->max_tokens);
    if (s == PALI_OK) s = hypotheses_new(&b->pool, o->n_beams, o->max_tokens);
    if (s == PALI_OK) s = hypotheses_new(&b->pool_next, o->n_beams, o->max_tokens);
    b->best = mem_alloc(2 * o->n_beams, sizeof *b->best);
    b->scores = mem_alloc(vocab, sizeof *b->scores);
    b->seen = mem_alloc(vocab, sizeof *b->seen);
    if (s == PALI_OK && (!b->best || !b->scores || !b->seen)) s = status_no_memory(vocab * sizeof *b->scores);
    if (s != PALI_OK) {
        beam_free(b);
        return s;
    }
    b->running[0].score = 0;
    *out = b;
    return PALI_OK;
}

void beam_free(beam_search *b) {
    if (!b) return;
    hypotheses_free(b->running, b->o.n_beams);
    hypotheses_free(b->next, b->o.n_beams);
    hypotheses_free(b->pool, b->o.n_beams);
    hypotheses_free(b->pool_next, b->o.n_beams);
    mem_free(b->best);
    mem_free(b->scores);
    mem_free(b->seen);
    mem_free(b);
}

static void see(bool *seen, size_t vocab, const int32_t *ids, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (ids[i] >= 0 && (size_t)ids[i] < vocab) seen[ids[i]] = true;
}

/* Step 1: processed log-probabilities of one beam plus its running score, into b->scores. Returns log(sum(exp(logits))). */
static double beam_scores(beam_search *b, const float *logits, const hypothesis *beam) {
    double log_sum = sampler_log_sum_exp(logits, b->vocab);
    for (size_t i = 0; i < b->vocab; i++) b->scores[i] = (float)((double)logits[i] - log_sum);
    if (b->o.repetition_penalty != 1) {
        memset(b->seen, 0, b->vocab * sizeof *b->seen);
        see(b->seen, b->vocab, b->o.prompt, b->o.n_prompt);
        see(b->seen, b->vocab, beam->tokens, beam->n);
        for (size_t i = 0; i < b->vocab; i++)
            if (b->seen[i]) b->scores[i] = b->scores[i] < 0 ? b->scores[i] * b->o.repetition_penalty : b->scores[i] / b->o.repetition_penalty;
    }
    for (size_t i = 0; i < b->vocab; i++) b->scores[i] += beam->score;
    return log_sum;
}

/* Step 2: the 2 B best of all beams, in falling order, ties by beam and id. */
static size_t candidates_find(beam_search *b, const float *const *logits) {
    size_t n = 0, max = 2 * b->o.n_beams;
    for (size_t beam = 0; beam < b->o.n_beams; beam++) {
        double log_sum = beam_scores(b, logits[beam], &b->running[beam]);
        for (size_t i = 0; i < b->vocab; i++) {
            float total = b->scores[i];
            if (n == max && !(total > b->best[n - 1].total)) continue;
            size_t at = n < max ? n++ : n - 1;
            for (; at > 0 && total > b->best[at - 1].total; at--) b->best[at] = b->best[at - 1];
            b->best[at] = (candidate){total, (float)((double)logits[beam][i] - log_sum), beam, (int32_t)i};
        }
    }
    return n;
}

static void hypothesis_extend(hypothesis *to, const hypothesis *from, const candidate *c, float score, bool finished) {
    memcpy(to->tokens, from->tokens, from->n * sizeof *to->tokens);
    memcpy(to->logprobs, from->logprobs, from->n * sizeof *to->logprobs);
    to->tokens[from->n] = c->token;
    to->logprobs[from->n] = c->logprob;
    to->n = from->n + 1;
    to->score = score;
    to->finished = finished;
}

static void hypothesis_copy(hypothesis *to, const hypothesis *from) {
    memcpy(to->tokens, from->tokens, from->n * sizeof *to->tokens);
    memcpy(to->logprobs, from->logprobs, from->n * sizeof *to->logprobs);
    to->n = from->n;
    to->score = from->score;
    to->finished = from->finished;
}

static bool pool_full(const beam_search *b) {
    for (size_t i = 0; i < b->o.n_beams; i++)
        if (!b->pool[i].finished) return false;
    return true;
}

/* Step 5: the best B of the pool and the newly ended; equal scores keep the old one. */
static void pool_update(beam_search *b, size_t n, const bool *ended) {
    size_t n_beams = b->o.n_beams, old = 0, new = 0;
    float norm = powf((float)(b->n + 1), b->o.length_penalty);
    if (!b->improvable || (b->o.early_stopping == PALI_EARLY_STOPPING_TRUE && pool_full(b))) return;
    for (size_t i = 0; i < n_beams; i++) {
        while (new < n && new < n_beams && !ended[new]) new++; /* only the first B candidates may enter; they come in order */
        bool take_new = new < n && new < n_beams && b->best[new].total / norm > b->pool[old].score;
        if (take_new) {
            hypothesis_extend(&b->pool_next[i], &b->running[b->best[new].parent], &b->best[new], b->best[new].total / norm, true);
            new++;
        } else {
            hypothesis_copy(&b->pool_next[i], &b->pool[old++]);
        }
    }
    hypothesis *swap = b->pool;
    b->pool = b->pool_next;
    b->pool_next = swap;
}

pali_status beam_step(beam_search *b, const float *const *logits, size_t *parents, int32_t *tokens, bool *done) {
    size_t n_beams = b->o.n_beams, n = candidates_find(b, logits), n_running = 0, n_ended = 0;
    bool ended[2 * BEAM_MAX];
    for (size_t i = 0; i < n; i++) {
        ended[i] = b->best[i].token == b->o.eos || b->n + 1 == b->o.max_tokens; /* step 3 */
        n_ended += ended[i];
    }
    pool_update(b, n, ended);
    for (int pass = 0; pass < 2; pass++) { /* step 4: those that go on, in order; ended ones only fill up */
        for (size_t i = 0; i < n && n_running < n_beams; i++) {
            if (ended[i] != (pass == 1)) continue;
            const candidate *c = &b->best[i];
            hypothesis_extend(&b->next[n_running], &b->running[c->parent], c, pass ? c->total + NEVER : c->total, false);
            parents[n_running] = c->parent;
            tokens[n_running++] = c->token;
        }
    }
    hypothesis *swap = b->running;
    b->running = b->next;
    b->next = swap;
    b->n++; /* step 6 */
    size_t hypothetical = b->o.early_stopping == PALI_EARLY_STOPPING_NEVER && b->o.length_penalty > 0 ? b->o.max_tokens : b->n;
    float worst = b->pool[n_beams - 1].finished ? b->pool[n_beams - 1].score : NEVER;
    b->improvable = b->improvable && b->running[0].score / powf((float)hypothetical, b->o.length_penalty) > worst;
    *done = !b->improvable || (b->o.early_stopping == PALI_EARLY_STOPPING_TRUE && pool_full(b)) || n_ended == n || n_running < n_beams;
    return PALI_OK;
}

pali_status beam_finish(beam_search *b, result **out) {
    size_t n = 0;
    while (n < b->o.n_return && b->pool[n].finished) n++;
    bool none = n == 0; /* possible only where nothing could end: then the best running beam is the answer */
    STATUS_TRY(result_new(out, none ? 1 : n));
    for (size_t i = 0; i < (*out)->n_sequences; i++) {
        const hypothesis *h = none ? &b->running[0] : &b->pool[i];
        sequence *s = &(*out)->sequences[i];
        for (size_t j = 0; j < h->n; j++) {
            pali_status status = sequence_push(s, h->tokens[j], h->logprobs[j]);
            if (status != PALI_OK) {
                result_free(*out);
                *out = NULL;
                return status;
            }
        }
        s->score = (double)h->score;
        s->finish = h->n && h->tokens[h->n - 1] == b->o.eos ? PALI_FINISH_STOP : PALI_FINISH_LENGTH;
    }
    return PALI_OK;
}
