/* sampler.c: a vocabulary has 257,216 entries, so nothing here sorts it: top-k keeps a heap of k, top-p collects the likely
 * end first and sorts no more than that. */
#include "infer/sampler.h"

#include <math.h>
#include <stdlib.h>

#include "base/mem.h"

#define LANES 16u /* independent partial results, so that the compiler can use vectors without reordering a sum */

/* exp(x) for x <= 0, relative error below 2e-7; NaN stays NaN. x = n ln 2 + r, |r| <= ln 2 / 2, with the polynomial of
 * Cephes' expf (Moshier). In plain C and inline, because libm's expf cannot be vectorised: over a vocabulary it would
 * cost more than a millisecond a token. */
static inline float exp_fast(float x) {
    const float magic = 0x1.8p23f; /* adding it rounds to an integer and leaves that in the low bits */
    union {
        float f;
        uint32_t u;
    } n, scale;
    x = x < -87.0f ? -87.0f : x;
    n.f = x * 1.44269504f + magic;
    float whole = n.f - magic, r = x - whole * 0.693359375f + whole * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    scale.u = (n.u + 127u) << 23;
    return p * scale.f;
}

log_softmax log_softmax_of(const float *logits, size_t n) {
    size_t whole = n - n % LANES;
    float max[LANES], sum[LANES] = {0};
    for (size_t j = 0; j < LANES; j++) max[j] = logits[0];
    for (size_t i = 0; i < whole; i += LANES)
        for (size_t j = 0; j < LANES; j++) max[j] = logits[i + j] > max[j] ? logits[i + j] : max[j];
    for (size_t i = whole; i < n; i++) max[0] = logits[i] > max[0] ? logits[i] : max[0];
    for (size_t j = 1; j < LANES; j++) max[0] = max[j] > max[0] ? max[j] : max[0];
    const float best = max[0];
    double total = 0;
    for (size_t i = 0; i < whole;) { /* short float sums, gathered in double */
        size_t end = whole - i > 64 * LANES ? i + 64 * LANES : whole;
        for (; i < end; i += LANES)
            for (size_t j = 0; j < LANES; j++) sum[j] += exp_fast(logits[i + j] - best);
        for (size_t j = 0; j < LANES; j++) {
            total += (double)sum[j];
            sum[j] = 0;
        }
    }
    for (size_t i = whole; i < n; i++) total += (double)exp_fast(logits[i] - best);
    return (log_softmax){best, (float)log(total)};
}

pali_status sampler_init(sampler *s, const sampler_options *o, size_t vocab) {
    *s = (sampler){.o = *o, .vocab = vocab};
    if (o->n_drawable == 0 || o->n_drawable > vocab) s->o.n_drawable = vocab;
    rng_seed(&s->r, o->seed);
    if (o->temperature > 0 && !(s->pool = mem_alloc(vocab, sizeof *s->pool))) return status_no_memory(vocab * sizeof *s->pool);
    if (o->repetition_penalty != 1 && !(s->seen = mem_calloc(vocab, sizeof *s->seen))) {
        sampler_free(s);
        return status_no_memory(vocab * sizeof *s->seen);
    }
    return PALI_OK;
}

void sampler_free(sampler *s) {
    mem_free(s->pool);
    mem_free(s->seen);
    *s = (sampler){0};
}

void sampler_see(sampler *s, const int32_t *ids, size_t n) {
    if (!s->seen) return;
    for (size_t i = 0; i < n; i++)
        if (ids[i] >= 0 && (size_t)ids[i] < s->vocab) s->seen[ids[i]] = true;
}

static float score_at(const sampler *s, const float *logits, size_t id) {
    return s->seen && s->seen[id] ? sampler_penalized(logits[id], s->o.repetition_penalty) : logits[id];
}

/* What sampling compares: minus infinity for what is never drawn. */
static float tempered_at(const sampler *s, const float *logits, size_t id) {
    return (int64_t)id == s->o.never || !sampler_passes(&s->only, id) ? -INFINITY : score_at(s, logits, id) / s->o.temperature;
}

/* The first id that may be chosen: the choice among NaNs. */
static size_t first_id(const sampler *s) {
    size_t id = 0;
    while (id + 1 < s->vocab && !sampler_passes(&s->only, id)) id++;
    return id;
}

/* The first of the best scores. Without a penalty and a filter that is the first of the largest logits. */
static int32_t greedy(const sampler *s, const float *logits, float max) {
    size_t best = first_id(s);
    if (!s->seen && !s->only.marks) {
        while (best < s->vocab && logits[best] != max) best++;
        return best < s->vocab ? (int32_t)best : 0;
    }
    for (size_t i = best + 1; i < s->vocab; i++)
        if (sampler_passes(&s->only, i) && score_at(s, logits, i) > score_at(s, logits, best)) best = i;
    return (int32_t)best;
}

/* The k-th largest score: the root of a heap of the k largest so far. The pool lends its memory. */
static float kth_largest(const sampler *s, const float *logits, size_t k) {
    sampler_candidate *heap = s->pool;
    size_t size = 0;
    for (size_t i = 0; i < s->o.n_drawable; i++) {
        float x = tempered_at(s, logits, i);
        size_t at = 0;
        if (size < k) {
            for (at = size++; at > 0 && x < heap[(at - 1) / 2].score; at = (at - 1) / 2) heap[at] = heap[(at - 1) / 2];
        } else if (x > heap[0].score) {
            for (size_t child; (child = 2 * at + 1) < size; at = child) {
                if (child + 1 < size && heap[child + 1].score < heap[child].score) child++;
                if (!(heap[child].score < x)) break;
                heap[at] = heap[child];
            }
        } else {
            continue;
        }
        heap[at].score = x;
    }
    return heap[0].score;
}

/* Fills the pool with the ids that pass top-k, exp(score - best) in place of scores: 1 for the best. Returns how many. */
static size_t pool_fill(sampler *s, const float *logits) {
    size_t n = 0;
    float least = s->o.top_k && s->o.top_k < s->o.n_drawable ? kth_largest(s, logits, s->o.top_k) : -INFINITY, best = -INFINITY;
    for (size_t i = 0; i < s->o.n_drawable; i++) {
        float x = tempered_at(s, logits, i);
        if (!(x >= least) || x == -INFINITY) continue;
        s->pool[n++] = (sampler_candidate){x, (int32_t)i};
        if (x > best) best = x;
    }
    for (size_t i = 0; i < n; i++) s->pool[i].score = exp_fast(s->pool[i].score - best);
    return n;
}

static int by_falling_score(const void *a, const void *b) {
    const sampler_candidate *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

/* Top-p: in falling order, a token stays while less than p of the whole has gone before it. Collects what lies above ever
 * lower thresholds until that holds p, and sorts only this. */
static size_t pool_top_p(sampler *s, size_t n) {
    double total = 0, mass = 0, before = 0;
    size_t m = 0, kept = 0;
    for (size_t i = 0; i < n; i++) total += (double)s->pool[i].score;
    double wanted = (double)s->o.top_p * total;
    for (float threshold = 1e-2f; m < n && mass < wanted; threshold *= 1e-2f) { /* becomes 0 in the end: then all is collected */
        for (size_t i = m; i < n; i++) {
            sampler_candidate c = s->pool[i];
            if (c.score < threshold) continue;
            s->pool[i] = s->pool[m];
            s->pool[m++] = c;
            mass += (double)c.score;
        }
    }
    qsort(s->pool, m, sizeof *s->pool, by_falling_score);
    while (kept < m && (kept == 0 || before < wanted)) before += (double)s->pool[kept++].score;
    return kept;
}

static int32_t draw(sampler *s, const float *logits) {
    double total = 0;
    size_t n = pool_fill(s, logits);
    int32_t id = (int32_t)first_id(s); /* of hostile logits (all NaN) */
    if (s->o.top_p < 1) n = pool_top_p(s, n);
    for (size_t i = 0; i < n; i++) {
        if (s->pool[i].score < s->o.min_p) s->pool[i].score = 0; /* the best one's is 1 */
        total += (double)s->pool[i].score;
    }
    double at = rng_uniform(&s->r) * total;
    for (size_t i = 0; i < n; i++) {
        if (!(s->pool[i].score > 0)) continue;
        id = s->pool[i].id;
        if ((at -= (double)s->pool[i].score) < 0) break;
    }
    return id;
}

int32_t sampler_pick(sampler *s, const float *logits, float *logprob) {
    log_softmax l = log_softmax_of(logits, s->vocab);
    int32_t id = s->o.temperature > 0 ? draw(s, logits) : greedy(s, logits, l.max);
    *logprob = log_softmax_at(l, logits[id]);
    sampler_see(s, &id, 1);
    return id;
}
