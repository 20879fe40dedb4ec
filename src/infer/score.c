/* score.c: answers given, their probability wanted (spec inference 7.5). All answers are causal segments on one shared
 * prefix; as many as fit a budget of rows go through the layers together. */
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "infer/generate.h"
#include "infer/sampler.h"

#define ROWS_AT_ONCE 256u  /* rows of answers in one forward */
#define LOGITS_AT_ONCE 32u /* rows of logits held: 32 * 257216 * 4 bytes = 31 MiB */
#define SEGMENTS_MAX 64u

/* One group of answers. Row j of an answer predicts its token j + 1; token 0 is predicted by the prefix. */
typedef struct group {
    const score_answer *answers;
    result *r;
    size_t first, n, n_rows;
} group;

static pali_status rows_score(session *s, const group *gr, const float *x, float *logits) {
    const gemma *g = &s->m->text;
    size_t v = g->cfg.vocab_size, d = g->cfg.width, answer = gr->first, j = 0;
    for (size_t row = 0; row < gr->n_rows; row += LOGITS_AT_ONCE) {
        size_t m = gr->n_rows - row < LOGITS_AT_ONCE ? gr->n_rows - row : LOGITS_AT_ONCE;
        STATUS_TRY(exec_check_cancel(&s->e));
        STATUS_TRY(gemma_logits(&s->e, g, logits, x + row * d, m, false));
        for (size_t i = 0; i < m; i++) {
            while (j + 1 >= gr->answers[answer].n) { /* the next answer that has rows */
                answer++;
                j = 0;
            }
            int32_t token = gr->answers[answer].ids[++j];
            const float *l = logits + i * v;
            STATUS_TRY(sequence_push(&gr->r->sequences[answer], token, log_softmax_at(log_softmax_of(l, v), l[token])));
        }
    }
    return PALI_OK;
}

static pali_status group_run(session *s, const group *gr, const kv_cache *prefix, float *logits) {
    const gemma *g = &s->m->text;
    kv_cache caches[SEGMENTS_MAX] = {{0}};
    gemma_segment segments[SEGMENTS_MAX];
    size_t row = 0, n_segments = 0, d = g->cfg.width;
    float *x = mem_alloc(gr->n_rows * d, sizeof *x);
    pali_status status = x ? PALI_OK : status_no_memory(gr->n_rows * d * sizeof *x);
    for (size_t i = 0; i < gr->n && status == PALI_OK; i++) {
        const score_answer *a = &gr->answers[gr->first + i];
        if (a->n == 1) continue; /* eos alone: the prefix predicts it */
        status = kv_init(&caches[n_segments], &g->cfg, prefix);
        if (status == PALI_OK) status = gemma_embed(&s->e, g, x + row * d, a->ids, a->n - 1);
        segments[n_segments] = (gemma_segment){.kv = &caches[n_segments], .n_rows = a->n - 1};
        n_segments++;
        row += a->n - 1;
    }
    if (status == PALI_OK) status = gemma_forward(&s->e, g, x, segments, n_segments);
    if (status == PALI_OK) status = gemma_final_norm(&s->e, g, x, x, gr->n_rows);
    if (status == PALI_OK) status = rows_score(s, gr, x, logits);
    for (size_t i = 0; i < n_segments; i++) kv_free(&caches[i]);
    mem_free(x);
    return status;
}

static pali_status answers_run(session *s, const request *q, const score_answer *answers, size_t n, float *hidden, float *logits, result *r) {
    size_t v = s->m->cfg.text.vocab_size;
    kv_cache prefix;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < answers[i].n; j++)
            if (answers[i].ids[j] < 0 || (size_t)answers[i].ids[j] >= v) return status_fail(PALI_ERR_ARGUMENT, "answer %zu: id %d: the model has %zu", i, (int)answers[i].ids[j], v);
    STATUS_TRY(session_prefill(s, &prefix, hidden, NULL, q, r));
    double start = clock_ms();
    pali_status status = gemma_logits(&s->e, &s->m->text, logits, hidden, 1, true);
    log_softmax first = {0};
    if (status == PALI_OK) first = log_softmax_of(logits, v);
    for (size_t i = 0; i < n && status == PALI_OK; i++)
        status = sequence_push(&r->sequences[i], answers[i].ids[0], log_softmax_at(first, logits[answers[i].ids[0]]));
    for (size_t i = 0; i < n && status == PALI_OK;) {
        group gr = {.answers = answers, .r = r, .first = i};
        while (i < n && gr.n < SEGMENTS_MAX && (gr.n == 0 || gr.n_rows + answers[i].n - 1 <= ROWS_AT_ONCE)) {
            gr.n_rows += answers[i++].n - 1;
            gr.n++;
        }
        if (gr.n_rows) status = group_run(s, &gr, &prefix, logits);
    }
    for (size_t i = 0; i < n && status == PALI_OK; i++) {
        status = sequence_decode(&r->sequences[i], s->t);
        r->generated_tokens += r->sequences[i].n;
    }
    r->decode_ms = clock_ms() - start;
    kv_free(&prefix);
    return status;
}

pali_status score(session *s, const request *q, const score_answer *answers, size_t n_answers, result **out) {
    size_t v = s->m->cfg.text.vocab_size, longest = 0;
    float *hidden = NULL, *logits = NULL;
    result *r = NULL;
    *out = NULL;
    for (size_t i = 0; i < n_answers; i++) longest = answers[i].n > longest ? answers[i].n : longest;
    pali_status status = session_check(s, q, longest);
    if (status == PALI_OK) status = result_new(&r, n_answers);
    if (status == PALI_OK) {
        hidden = mem_alloc(s->m->cfg.text.width, sizeof *hidden);
        logits = mem_alloc(LOGITS_AT_ONCE * v, sizeof *logits);
        status = hidden && logits ? answers_run(s, q, answers, n_answers, hidden, logits, r) : status_no_memory(LOGITS_AT_ONCE * v * sizeof *logits);
    }
    mem_free(hidden);
    mem_free(logits);
    session_done(s);
    if (status != PALI_OK) {
        result_free(r);
        return status;
    }
    *out = r;
    return PALI_OK;
}
