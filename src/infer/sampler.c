#include "infer/sampler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

pali_status sampler_init(sampler *s, const sampler_options *o, size_t vocab, size_t n_choosable) {
    *s = (sampler){.o = *o, .vocab = vocab, .n_choosable = n_choosable && n_choosable < vocab ? n_choosable : vocab};
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

double sampler_log_sum_exp(const float *x, size_t n) {
    float max = x[0];
    double sum = 0;
    for (size_t i = 1; i < n; i++) max = x[i] > max ? x[i] : max;
    for (size_t i = 0; i < n; i++) {
        float below = x[i] - max;
        if (below > -40) sum += (double)expf(below); /* e^-40 times 257,000 is below the sum's last bit */
    }
    return (double)max + log(sum);
}

static int by_score(const void *a, const void *b) {
    const sampler_candidate *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

/* The k-th largest score, by a heap of the k largest seen so far (its root is the least of them). */
static float kth_largest(const float *scores, size_t n, size_t k, sampler_candidate *heap) {
    size_t size = 0;
    for (size_t i = 0; i < n; i++) {
        float x = scores[i];
        size_t at;
        if (size < k) {
            for (at = size++; at > 0 && x < heap[(at - 1) / 2].score; at = (at - 1) / 2) heap[at] = heap[(at - 1) / 2];
        } else if (x > heap[0].score) {
            at = 0;
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

/* Fills the pool with the ids that may be drawn, probabilities in place of scores; returns how many. */
static size_t pool_fill(sampler *s, const float *logits) {
    size_t n = s->n_choosable, m = 0;
    float least = -INFINITY, max = -INFINITY;
    if (s->o.top_k && s->o.top_k < n) least = kth_largest(logits, n, s->o.top_k, s->pool);
    for (size_t i = 0; i < n; i++) {
        if (!(logits[i] >= least)) continue;
        s->pool[m++] = (sampler_candidate){logits[i] / s->o.temperature, (int32_t)i};
        if (logits[i] / s->o.temperature > max) max = logits[i] / s->o.temperature;
    }
    double sum = 0;
    for (size_t i = 0; i < m; i++) sum += (double)(s->pool[i].score = expf(s->pool[i].score - max));
    for (size_t i = 0; i < m; i++) s->pool[i].score = (float)((double)s->pool[i].score / sum);
    return m;
}

/* Top-p: in falling order, a token stays while less than p has gone before it. Only those that can matter are sorted: the
 * likeliest, collected at ever lower thresholds until they hold p. */
static size_t pool_nucleus(sampler *s, size_t n) {
    float max = 0;
    for (size_t i = 0; i < n; i++) max = s->pool[i].score > max ? s->pool[i].score : max;
    size_t m = 0;
    double mass = 0;
    for (float threshold = max * 0.01f;; threshold *= 0.01f) {
        bool all = threshold < 1e-30f;
        for (size_t i = m; i < n; i++) { /* the front [0, m) is collected already */
            if (!all && s->pool[i].score < threshold) continue;
            sampler_candidate c = s->pool[i];
            s->pool[i] = s->pool[m];
            s->pool[m++] = c;
            mass += (double)c.score;
        }
        if (all || mass >= (double)s->o.top_p) break;
    }
    qsort(s->pool, m, sizeof *s->pool, by_score);
    double before = 0;
    size_t kept = 0;
    while (kept < m && (kept == 0 || before < (double)s->o.top_p)) before += (double)s->pool[kept++].score;
    return kept;
}

static int32_t draw(sampler *s, const float *logits) {
    size_t n = pool_fill(s, logits);
    if (s->o.top_p < 1) n = pool_nucleus(s, n);
    double sum = 0;
    float max = 0;
    for (size_t i = 0; i < n; i++) max = s->pool[i].score > max ? s->pool[i].score : max;
    for (size_t i = 0; i < n; i++) {
        if (s->pool[i].score < s->o.min_p * max) s->pool[i].score = 0;
        sum += (double)s->pool[i].score;
    }
    double at = rng_uniform(&s->r) * sum;
    int32_t id = 0;
    for (size_t i = 0; i < n; i++) {
        if (s->pool[i].score <= 0) continue;
        id = s->pool[i].id;
        if ((at -= (double)s->pool[i].score) < 0) break;
    }
    return id;
}

int32_t sampler_pick(sampler *s, float *logits, float *logprob) {
    double log_sum = sampler_log_sum_exp(logits, s->vocab);
    if (s->seen)
        for (size_t i = 0; i < s->vocab; i++)
            if (s->seen[i]) logits[i] = logits[i] < 0 ? logits[i] * s->o.repetition_penalty : logits[i] / s->o.repetition_penalty;
    int32_t id = 0;
    if (s->o.temperature > 0) {
        id = draw(s, logits);
    } else {
        for (size_t i = 1; i < s->vocab; i++)
            if (logits[i] > logits[id]) id = (int32_t)i;
    }
    float raw = logits[id];
    if (s->seen && s->seen[id]) raw = raw < 0 ? raw / s->o.repetition_penalty : raw * s->o.repetition_penalty;
    *logprob = (float)((double)raw - log_sum);
    if (s->seen) s->seen[id] = true;
    return id;
}
