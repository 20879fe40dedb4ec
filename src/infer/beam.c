/* beam.c: see spec inference 7.3, whose numbered steps the comments name. Scores are float32, as the reference's are.
 *
 * Hypotheses share their beginnings, so they are paths of a tree: a node is one token, a hypothesis is its last node.
 *
 *   NO_NODE <- "a" <- "red" <- "car"     running
 *                  <- "cat" <- eos       in the pool */
#include "infer/beam.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "infer/sampler.h"

#define NEVER -1e9f /* the score of what does not exist: the reference computes with it, so we do */
#define NO_NODE SIZE_MAX
#define RUN 64u /* ids looked at together */

typedef struct node {
    size_t parent; /* NO_NODE: a first token */
    int32_t token;
    float logprob; /* plain */
} node;

typedef struct hypothesis {
    size_t last;   /* node */
    grammar_state place; /* of a constrained answer */
    float score;   /* running: sum of processed log-probabilities; finished: normalised by length */
} hypothesis;

typedef struct candidate {
    float total, logprob; /* processed sum; plain log-probability of the token */
    size_t parent;        /* running beam */
    int32_t token;
    bool ended;
} candidate;

struct beam_search {
    beam_options o;
    size_t vocab, n; /* n: tokens generated so far */
    node *nodes;     /* [n_nodes] */
    size_t n_nodes, cap;
    hypothesis running[BEAM_MAX]; /* [B] */
    hypothesis pool[BEAM_MAX];    /* [n_pool] finished, falling score */
    size_t n_pool;
    candidate best[2 * BEAM_MAX]; /* [n_best] of the current step, falling total */
    size_t n_best;
    bool *seen;      /* [V] ids of the beam at hand; NULL: no penalty */
    bool improvable; /* could a running beam still enter the pool? Sticky */
};

pali_status beam_new(beam_search **out, const beam_options *o, size_t vocab) {
    beam_search *b = mem_calloc(1, sizeof *b);
    *out = NULL;
    if (!b) return status_no_memory(sizeof *b);
    b->o = *o;
    b->vocab = vocab;
    b->improvable = true;
    if (o->repetition_penalty != 1 && !(b->seen = mem_alloc(vocab, sizeof *b->seen))) {
        beam_free(b);
        return status_no_memory(vocab * sizeof *b->seen);
    }
    for (size_t i = 0; i < o->n_beams; i++) b->running[i] = (hypothesis){.last = NO_NODE, .score = i == 0 ? 0 : NEVER};
    *out = b;
    return PALI_OK;
}

void beam_free(beam_search *b) {
    if (!b) return;
    mem_free(b->nodes);
    mem_free(b->seen);
    mem_free(b);
}

static void see(beam_search *b, int32_t id) {
    if (id >= 0 && (size_t)id < b->vocab) b->seen[id] = true;
}

static void see_beam(beam_search *b, const hypothesis *beam) {
    memset(b->seen, 0, b->vocab * sizeof *b->seen);
    for (size_t i = 0; i < b->o.n_prompt; i++) see(b, b->o.prompt[i]);
    for (size_t at = beam->last; at != NO_NODE; at = b->nodes[at].parent) see(b, b->nodes[at].token);
}

/* Keeps the list of the 2 B best in order; equal totals stay in order of beam and id. */
static void candidate_insert(beam_search *b, const candidate *c) {
    size_t at = b->n_best < 2 * b->o.n_beams ? b->n_best++ : b->n_best - 1;
    for (; at > 0 && c->total > b->best[at - 1].total; at--) b->best[at] = b->best[at - 1];
    b->best[at] = *c;
}

/* Puts those of a short run of totals [n] in the list that belong there. Most runs have none: the test for that is a loop
 * the compiler can use vectors for. */
static void candidates_take(beam_search *b, const float *totals, const float *row, log_softmax l, size_t beam, size_t first, size_t n) {
    size_t max = 2 * b->o.n_beams;
    float least = b->n_best == max ? b->best[max - 1].total : -INFINITY;
    int any = b->n_best < max;
    for (size_t j = 0; j < n; j++) any |= totals[j] > least;
    for (size_t j = 0; j < n && any; j++) {
        if (b->o.grammar && totals[j] == -INFINITY) continue; /* one that the grammar forbids: no candidate even while there is room */
        if (b->n_best == max && !(totals[j] > b->best[max - 1].total)) continue;
        int32_t token = (int32_t)(first + j);
        bool ended = token == b->o.eos || b->n + 1 == b->o.max_tokens;
        candidate_insert(b, &(candidate){totals[j], log_softmax_at(l, row[j]), beam, token, ended});
    }
}

/* Steps 1 to 3. The penalty acts on log-probabilities, which are not normalised again. */
static void candidates_find(beam_search *b, const float *const *logits) {
    b->n_best = 0;
    for (size_t beam = 0; beam < b->o.n_beams; beam++) {
        float totals[RUN], score = b->running[beam].score;
        sampler_filter only = {0};
        if (b->o.grammar) only = grammar_filter(b->o.grammar, b->o.constrain, &b->running[beam].place, b->o.max_tokens - b->n);
        log_softmax l = log_softmax_of(logits[beam], b->vocab);
        if (b->seen) see_beam(b, &b->running[beam]);
        for (size_t i = 0; i < b->vocab; i += RUN) {
            const float *row = logits[beam] + i;
            size_t n = b->vocab - i < RUN ? b->vocab - i : RUN;
            for (size_t j = 0; j < n; j++) totals[j] = log_softmax_at(l, row[j]);
            for (size_t j = 0; j < n && b->seen; j++)
                if (b->seen[i + j]) totals[j] = sampler_penalized(totals[j], b->o.repetition_penalty);
            for (size_t j = 0; j < n; j++) totals[j] += score;
            for (size_t j = 0; j < n && only.marks; j++)
                if (!sampler_passes(&only, i + j)) totals[j] = -INFINITY;
            candidates_take(b, totals, row, l, beam, i, n);
        }
    }
}

/* The hypothesis that a candidate makes. The caller has seen to the room. */
static hypothesis extend(beam_search *b, const candidate *c, float score) {
    hypothesis h = b->running[c->parent];
    b->nodes[b->n_nodes] = (node){h.last, c->token, c->logprob};
    h.last = b->n_nodes++;
    h.score = score;
    if (b->o.grammar) (void)grammar_take(b->o.grammar, b->o.constrain, &h.place, c->token);
    return h;
}

/* Room for the nodes of one step: at most B running and B pooled. */
static pali_status nodes_reserve(beam_search *b) {
    size_t need = b->n_nodes + 2 * b->o.n_beams;
    if (need <= b->cap) return PALI_OK;
    size_t cap = 2 * need;
    node *nodes = mem_grow(b->nodes, b->n_nodes, cap, sizeof *nodes);
    if (!nodes) return status_no_memory(cap * sizeof *nodes);
    b->nodes = nodes;
    b->cap = cap;
    return PALI_OK;
}

/* Step 5: ended candidates among the first B enter the pool where their normalised score is better. */
static void pool_update(beam_search *b) {
    size_t n_beams = b->o.n_beams;
    float norm = powf((float)(b->n + 1), b->o.length_penalty);
    if (!b->improvable || (b->o.early_stopping == PALI_EARLY_STOPPING_TRUE && b->n_pool == n_beams)) return;
    for (size_t i = 0; i < n_beams && i < b->n_best; i++) {
        float score = b->best[i].total / norm, worst = b->n_pool < n_beams ? NEVER : b->pool[n_beams - 1].score;
        if (!b->best[i].ended || !(score > worst)) continue;
        size_t at = b->n_pool < n_beams ? b->n_pool++ : n_beams - 1;
        for (; at > 0 && score > b->pool[at - 1].score; at--) b->pool[at] = b->pool[at - 1];
        b->pool[at] = extend(b, &b->best[i], score);
    }
}

/* Step 4: those that go on, in order; ended ones only fill up, at a score that never wins. */
static size_t running_update(beam_search *b, size_t *parents, int32_t *tokens) {
    hypothesis next[BEAM_MAX];
    size_t n = 0;
    for (int fill_up = 0; fill_up < 2; fill_up++) {
        for (size_t i = 0; i < b->n_best && n < b->o.n_beams; i++) {
            const candidate *c = &b->best[i];
            if (c->ended != (fill_up == 1)) continue;
            parents[n] = c->parent;
            tokens[n] = c->token;
            next[n++] = extend(b, c, c->ended ? c->total + NEVER : c->total);
        }
    }
    memcpy(b->running, next, n * sizeof *next);
    return n;
}

pali_status beam_step(beam_search *b, const float *const *logits, size_t *parents, int32_t *tokens, bool *done) {
    const beam_options *o = &b->o;
    size_t n_ended = 0;
    STATUS_TRY(nodes_reserve(b));
    candidates_find(b, logits);
    for (size_t i = 0; i < b->n_best; i++) n_ended += b->best[i].ended;
    pool_update(b);
    size_t n_running = running_update(b, parents, tokens);
    b->n++; /* step 6 */
    bool full = b->n_pool == o->n_beams;
    size_t length = o->early_stopping == PALI_EARLY_STOPPING_NEVER && o->length_penalty > 0 ? o->max_tokens : b->n;
    float hoped = b->running[0].score / powf((float)length, o->length_penalty), worst = full ? b->pool[o->n_beams - 1].score : NEVER;
    b->improvable = b->improvable && hoped > worst;
    /* Step 7. Fewer than B candidates only come out of a vocabulary smaller than that. */
    *done = !b->improvable || (o->early_stopping == PALI_EARLY_STOPPING_TRUE && full) || n_ended == b->n_best || n_running < o->n_beams;
    return PALI_OK;
}

/* Writes a path from its end; the nodes are linked backwards. */
static pali_status sequence_fill(const beam_search *b, sequence *s, const hypothesis *h) {
    size_t n = 0;
    for (size_t at = h->last; at != NO_NODE; at = b->nodes[at].parent) n++;
    STATUS_TRY(sequence_reserve(s, n));
    s->n = n;
    for (size_t at = h->last; at != NO_NODE; at = b->nodes[at].parent) {
        s->tokens[--n] = b->nodes[at].token;
        s->logprobs[n] = b->nodes[at].logprob;
    }
    s->score = (double)h->score;
    s->finish = b->nodes[h->last].token == b->o.eos ? PALI_FINISH_STOP : PALI_FINISH_LENGTH;
    return PALI_OK;
}

pali_status beam_finish(const beam_search *b, result **out) {
    bool none = b->n_pool == 0; /* only NaN logits end like this: the best running beam is as good an answer as any */
    size_t n = none ? 1 : b->n_pool < b->o.n_return ? b->n_pool : b->o.n_return;
    pali_status status = result_new(out, n);
    for (size_t i = 0; i < n && status == PALI_OK; i++)
        status = sequence_fill(b, &(*out)->sequences[i], none ? &b->running[0] : &b->pool[i]);
    if (status != PALI_OK) {
        result_free(*out);
        *out = NULL;
    }
    return status;
}
