#include "infer/decode.h"

#include <math.h>

#include "base/clock.h"
#include "base/mem.h"

pali_status decode_buffers_get(decode_buffers *b, const gemma_config *c, size_t n) {
    *b = (decode_buffers){mem_alloc(n * c->width, sizeof *b->x), mem_alloc(n * c->vocab_size, sizeof *b->logits)};
    return b->x && b->logits ? PALI_OK : status_no_memory(n * c->vocab_size * sizeof *b->logits);
}

void decode_buffers_free(decode_buffers *b) {
    mem_free(b->x);
    mem_free(b->logits);
}

pali_status decode_prefix(session *s, kv_cache *prefix, const decode_buffers *b, const request *q, result *stats) {
    STATUS_TRY(session_prefill(s, prefix, b->x, NULL, q, stats));
    double start = clock_ms();
    pali_status status = gemma_logits(&s->e, &s->m->text, b->logits, b->x, 1, true);
    stats->prefill_ms += clock_ms() - start;
    if (status != PALI_OK) kv_free(prefix);
    return status;
}

/* Pushes one token of each of n sequences: x [n, D] after the final norm. */
static pali_status hidden_rows(session *s, const decode_buffers *b, const gemma_segment *segments, const int32_t *tokens, size_t n) {
    const gemma *g = &s->m->text;
    STATUS_TRY(gemma_embed(&s->e, g, b->x, tokens, n));
    STATUS_TRY(gemma_forward(&s->e, g, b->x, segments, n));
    return gemma_final_norm(&s->e, g, b->x, b->x, n);
}

pali_status decode_rows(session *s, const decode_buffers *b, const gemma_segment *segments, const int32_t *tokens, size_t n) {
    STATUS_TRY(hidden_rows(s, b, segments, tokens, n));
    return gemma_logits(&s->e, &s->m->text, b->logits, b->x, n, true);
}

/* ---- One answer ---- */

/* What may follow the answer so far. */
static void token_limit(decoding *d) {
    if (d->g) d->pick.only = grammar_filter(d->g, d->o->constrain, &d->place, (size_t)d->o->max_tokens - d->r->sequences[0].n);
}

static void token_pick(decoding *d, const float *logits) {
    d->token = sampler_pick(&d->pick, logits, &d->logprob);
    if (d->o->no_logprobs && isfinite(d->logprob)) d->logprob = 0; /* damaged weights stay visible */
    if (d->g) (void)grammar_take(d->g, d->o->constrain, &d->place, d->token);
}

pali_status decoding_start(decoding *d, session *s, const request *q, const pali_generate_options *o, result *r, const decode_buffers *b) {
    sampler_options so = {.temperature = o->temperature, .top_k = (size_t)o->top_k, .top_p = o->top_p, .min_p = o->min_p,
                          .repetition_penalty = o->repetition_penalty, .seed = o->seed, .n_drawable = s->t ? tokenizer_n_ids(s->t) : 0,
                          .never = s->m->cfg.image_token};
    *d = (decoding){.q = q, .o = o, .r = r};
    token_stream_init(&d->stream, s->t);
    if (o->constrain) STATUS_TRY(session_grammar(s, &d->g));
    STATUS_TRY(sampler_init(&d->pick, &so, s->m->cfg.text.vocab_size));
    sampler_see(&d->pick, q->ids, q->n_ids);
    STATUS_TRY(decode_prefix(s, &d->prefix, b, q, r));
    STATUS_TRY(kv_init(&d->own, &s->m->cfg.text, &d->prefix));
    token_limit(d);
    token_pick(d, b->logits);
    return PALI_OK;
}

void decoding_free(decoding *d) {
    kv_free(&d->own);
    kv_free(&d->prefix);
    token_stream_free(&d->stream);
    sampler_free(&d->pick);
}

/* Hands the token and the text it completed to the caller; with the last one goes what was held back. */
static pali_status token_report(decoding *d) {
    const char *text = "";
    size_t n = 0;
    if (!d->o->on_token) return PALI_OK;
    if (d->stream.t) STATUS_TRY(token_stream_push(&d->stream, d->token, &text, &n));
    if (d->stream.t && d->done && n == 0) STATUS_TRY(token_stream_finish(&d->stream, &text, &n)); /* after text nothing is held back */
    return d->o->on_token(d->o->user, d->token, d->logprob, text, n) ? status_fail(PALI_ERR_CANCELLED, "cancelled") : PALI_OK;
}

pali_status decoding_accept(decoding *d, const session *s) {
    sequence *answer = &d->r->sequences[0];
    STATUS_TRY(sequence_push(answer, d->token, d->logprob));
    answer->finish = d->token == s->m->cfg.eos_token && !d->o->ignore_eos ? PALI_FINISH_STOP : PALI_FINISH_LENGTH;
    d->done = answer->finish == PALI_FINISH_STOP || answer->n == (size_t)d->o->max_tokens;
    STATUS_TRY(token_report(d));
    if (!d->done) return PALI_OK;
    d->r->generated_tokens = answer->n;
    return sequence_decode(answer, s->t);
}

/* ---- A step of many ---- */

typedef struct pick_job {
    decoding *const *list;
    const float *logits; /* [n, V] */
    size_t vocab;
} pick_job;

/* Choosing reads all logits of a row: worth a thread for each sequence. */
static void pick_task(void *context, size_t task, size_t worker) {
    const pick_job *job = context;
    (void)worker;
    token_pick(job->list[task], job->logits + task * job->vocab);
}

/* Logits of locations and codes alone: 1152 rows of the head instead of 257216. The others count as minus infinity. */
static pali_status codes_logits(session *s, const decode_buffers *b, const grammar *g, size_t n) {
    const gemma *text = &s->m->text;
    for (size_t i = 0; i < n; i++) {
        float *row = b->logits + i * g->vocab;
        for (size_t id = 0; id < g->vocab; id++) row[id] = -INFINITY;
        STATUS_TRY(gemma_logits_some(&s->e, text, row, b->x + i * text->cfg.width, g->first, g->n));
    }
    return PALI_OK;
}

pali_status decoding_step(session *s, const decode_buffers *b, decoding *const *list, size_t n) {
    gemma_segment segments[DECODE_MAX];
    int32_t tokens[DECODE_MAX];
    double start = clock_ms();
    bool codes = true;
    for (size_t i = 0; i < n; i++) {
        segments[i] = (gemma_segment){.kv = &list[i]->own, .n_rows = 1};
        tokens[i] = list[i]->token;
        token_limit(list[i]);
        codes = codes && list[i]->o->no_logprobs && grammar_is_codes(&list[i]->pick.only);
    }
    STATUS_TRY(hidden_rows(s, b, segments, tokens, n));
    STATUS_TRY(codes ? codes_logits(s, b, &s->grammar, n) : gemma_logits(&s->e, &s->m->text, b->logits, b->x, n, true));
    pick_job job = {list, b->logits, s->m->cfg.text.vocab_size};
    pool_run(s->e.pool, n, pick_task, &job);
    double ms = clock_ms() - start;
    for (size_t i = 0; i < n; i++) list[i]->r->decode_ms += ms;
    return PALI_OK;
}
