#include "infer/generate.h"

#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "infer/beam.h"
#include "infer/sampler.h"

/* Buffers of a decode over up to n rows at once. */
typedef struct decode_buffers {
    float *x;      /* [n, D] */
    float *logits; /* [n, V] */
} decode_buffers;

static pali_status buffers_get(decode_buffers *b, const gemma_config *c, size_t n) {
    *b = (decode_buffers){mem_alloc(n * c->width, sizeof *b->x), mem_alloc(n * c->vocab_size, sizeof *b->logits)};
    return b->x && b->logits ? PALI_OK : status_no_memory(n * c->vocab_size * sizeof *b->logits);
}

static void buffers_free(decode_buffers *b) {
    mem_free(b->x);
    mem_free(b->logits);
}

/* Pushes one token of each of n sequences; logits [n, V] for what follows them. */
static pali_status decode_step(session *s, const decode_buffers *b, const gemma_segment *segments, const int32_t *tokens, size_t n) {
    const gemma *g = &s->m->text;
    STATUS_TRY(gemma_embed(&s->e, g, b->x, tokens, n));
    STATUS_TRY(gemma_forward(&s->e, g, b->x, segments, n));
    STATUS_TRY(gemma_final_norm(&s->e, g, b->x, b->x, n));
    return gemma_logits(&s->e, g, b->logits, b->x, n);
}

/* Hands a token and the text it completed to the caller; with the last one goes what was held back. */
static pali_status token_report(const pali_generate_options *o, token_stream *stream, int32_t token, float logprob, bool last) {
    const char *text = "";
    size_t n = 0;
    if (!o->on_token) return PALI_OK;
    if (stream->t) STATUS_TRY(token_stream_push(stream, token, &text, &n));
    if (stream->t && last && n == 0) STATUS_TRY(token_stream_finish(stream, &text, &n)); /* after text nothing is held back */
    return o->on_token(o->user, token, logprob, text, n) ? status_fail(PALI_ERR_CANCELLED, "cancelled") : PALI_OK;
}

/* ---- One sequence: greedy or sampled ---- */

static pali_status sequence_loop(session *s, kv_cache *own, const decode_buffers *b, sampler *pick, token_stream *stream,
                                 const pali_generate_options *o, sequence *answer) {
    size_t max = (size_t)o->max_tokens;
    gemma_segment segment = {own, 1, false};
    answer->finish = PALI_FINISH_LENGTH;
    for (;;) {
        float logprob;
        int32_t token = sampler_pick(pick, b->logits, &logprob);
        STATUS_TRY(sequence_push(answer, token, logprob));
        if (token == s->m->cfg.eos_token && !o->ignore_eos) answer->finish = PALI_FINISH_STOP;
        bool last = answer->finish == PALI_FINISH_STOP || answer->n == max;
        STATUS_TRY(token_report(o, stream, token, logprob, last));
        if (last) return PALI_OK;
        STATUS_TRY(decode_step(s, b, &segment, &token, 1));
    }
}

static pali_status sequence_generate(session *s, const request *q, const pali_generate_options *o, const kv_cache *prefix,
                                     const decode_buffers *b, result *r) {
    sampler_options so = {.temperature = o->temperature, .top_k = (size_t)o->top_k, .top_p = o->top_p, .min_p = o->min_p,
                          .repetition_penalty = o->repetition_penalty, .seed = o->seed, .n_drawable = s->t ? tokenizer_n_ids(s->t) : 0,
                          .never = s->m->cfg.image_token};
    sampler pick = {0};
    token_stream stream;
    kv_cache own = {0};
    token_stream_init(&stream, s->t);
    pali_status status = sampler_init(&pick, &so, s->m->cfg.text.vocab_size);
    if (status == PALI_OK) status = kv_init(&own, &s->m->cfg.text, prefix);
    if (status == PALI_OK) {
        sampler_see(&pick, q->ids, q->n_ids);
        status = sequence_loop(s, &own, b, &pick, &stream, o, &r->sequences[0]);
    }
    kv_free(&own);
    token_stream_free(&stream);
    sampler_free(&pick);
    return status;
}

/* ---- Beams ---- */

/* Makes cache i continue its parent: the first child takes the parent's cache over, others copy it into one that died. */
static pali_status caches_reorder(kv_cache *caches, const size_t *parents, size_t n) {
    kv_cache old[BEAM_MAX];
    bool taken[BEAM_MAX] = {false};
    size_t owner[BEAM_MAX], spare = 0;
    memcpy(old, caches, n * sizeof *caches);
    for (size_t i = 0; i < n; i++) {
        owner[i] = SIZE_MAX;
        if (!taken[parents[i]]) {
            taken[parents[i]] = true;
            owner[i] = parents[i];
        }
    }
    pali_status status = PALI_OK;
    for (size_t i = 0; i < n; i++) {
        if (owner[i] == SIZE_MAX) {
            while (taken[spare]) spare++;
            taken[spare] = true;
            if (status == PALI_OK) status = kv_copy(&old[spare], &old[parents[i]]);
            owner[i] = spare;
        }
        caches[i] = old[owner[i]];
    }
    return status;
}

static pali_status beams_loop(session *s, beam_search *beams, kv_cache *caches, const decode_buffers *b, size_t n) {
    const float *rows[BEAM_MAX];
    gemma_segment segments[BEAM_MAX];
    size_t parents[BEAM_MAX];
    int32_t tokens[BEAM_MAX];
    bool done = false;
    for (size_t i = 0; i < n; i++) {
        rows[i] = b->logits; /* the first step: all beams stand at the end of the prefix */
        segments[i] = (gemma_segment){&caches[i], 1, false};
    }
    for (;;) {
        STATUS_TRY(beam_step(beams, rows, parents, tokens, &done));
        if (done) return PALI_OK;
        STATUS_TRY(caches_reorder(caches, parents, n));
        STATUS_TRY(decode_step(s, b, segments, tokens, n));
        for (size_t i = 0; i < n; i++) rows[i] = b->logits + i * s->m->cfg.text.vocab_size;
    }
}

static pali_status beams_generate(session *s, const request *q, const pali_generate_options *o, const kv_cache *prefix,
                                  const decode_buffers *b, result *r) {
    size_t n = (size_t)o->num_beams;
    beam_options bo = {.n_beams = n, .n_return = (size_t)o->num_return, .max_tokens = (size_t)o->max_tokens, .length_penalty = o->length_penalty,
                       .early_stopping = o->early_stopping, .eos = o->ignore_eos ? -1 : s->m->cfg.eos_token,
                       .repetition_penalty = o->repetition_penalty, .prompt = q->ids, .n_prompt = q->n_ids};
    kv_cache caches[BEAM_MAX] = {{0}};
    beam_search *beams = NULL;
    result *found = NULL;
    pali_status status = beam_new(&beams, &bo, s->m->cfg.text.vocab_size);
    for (size_t i = 0; i < n && status == PALI_OK; i++) status = kv_init(&caches[i], &s->m->cfg.text, prefix);
    if (status == PALI_OK) status = beams_loop(s, beams, caches, b, n);
    if (status == PALI_OK) status = beam_finish(beams, &found);
    if (status == PALI_OK) { /* the sequences move over; r's own single one is empty still */
        mem_free(r->sequences);
        r->sequences = found->sequences;
        r->n_sequences = found->n_sequences;
        mem_free(found);
    }
    for (size_t i = 0; i < n; i++) kv_free(&caches[i]);
    beam_free(beams);
    return status;
}

static pali_status answer(session *s, const request *q, const pali_generate_options *o, const decode_buffers *b, result *r) {
    const gemma *g = &s->m->text;
    kv_cache prefix;
    STATUS_TRY(session_prefill(s, &prefix, b->x, NULL, q, r));
    double start = clock_ms();
    pali_status status = gemma_logits(&s->e, g, b->logits, b->x, 1);
    r->prefill_ms += clock_ms() - start;
    start = clock_ms();
    if (status == PALI_OK) status = o->num_beams > 1 ? beams_generate(s, q, o, &prefix, b, r) : sequence_generate(s, q, o, &prefix, b, r);
    for (size_t i = 0; i < r->n_sequences && status == PALI_OK; i++) status = sequence_decode(&r->sequences[i], s->t);
    r->generated_tokens = r->sequences[0].n;
    r->decode_ms = clock_ms() - start;
    kv_free(&prefix);
    return status;
}

pali_status generate(session *s, const request *q, const pali_generate_options *o, result **out) {
    decode_buffers b = {0};
    result *r = NULL;
    *out = NULL;
    pali_status status = session_check(s, q, (size_t)o->max_tokens);
    if (status == PALI_OK) status = result_new(&r, 1);
    if (status == PALI_OK) status = buffers_get(&b, &s->m->cfg.text, (size_t)o->num_beams);
    if (status == PALI_OK) status = answer(s, q, o, &b, r);
    buffers_free(&b);
    session_done(s);
    if (status != PALI_OK) {
        result_free(r);
        return status;
    }
    *out = r;
    return PALI_OK;
}
