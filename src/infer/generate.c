#include "infer/generate.h"

#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "infer/beam.h"
#include "infer/decode.h"

static pali_status sequence_generate(session *s, const request *q, const pali_generate_options *o, const decode_buffers *b, result *r) {
    decoding d, *const list[] = {&d};
    pali_status status = decoding_start(&d, s, q, o, r, b);
    if (status == PALI_OK) status = decoding_accept(&d, s);
    while (status == PALI_OK && !d.done) {
        status = decoding_step(s, b, list, 1);
        if (status == PALI_OK) status = decoding_accept(&d, s);
    }
    decoding_free(&d);
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
        segments[i] = (gemma_segment){.kv = &caches[i], .n_rows = 1};
    }
    for (;;) {
        STATUS_TRY(beam_step(beams, rows, parents, tokens, &done));
        if (done) return PALI_OK;
        STATUS_TRY(caches_reorder(caches, parents, n));
        STATUS_TRY(decode_rows(s, b, segments, tokens, n));
        for (size_t i = 0; i < n; i++) rows[i] = b->logits + i * s->m->cfg.text.vocab_size;
    }
}

static pali_status beams_run(session *s, const request *q, const pali_generate_options *o, const kv_cache *prefix, const decode_buffers *b,
                             result *r) {
    size_t n = (size_t)o->num_beams;
    beam_options bo = {.n_beams = n, .n_return = (size_t)o->num_return, .max_tokens = (size_t)o->max_tokens, .length_penalty = o->length_penalty,
                       .early_stopping = o->early_stopping, .eos = o->ignore_eos ? -1 : s->m->cfg.eos_token,
                       .repetition_penalty = o->repetition_penalty, .prompt = q->ids, .n_prompt = q->n_ids, .constrain = o->constrain};
    kv_cache caches[BEAM_MAX] = {{0}};
    beam_search *beams = NULL;
    result *found = NULL;
    if (o->constrain) STATUS_TRY(session_grammar(s, &bo.grammar));
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

static pali_status beams_generate(session *s, const request *q, const pali_generate_options *o, const decode_buffers *b, result *r) {
    kv_cache prefix;
    STATUS_TRY(decode_prefix(s, &prefix, b, q, r));
    double start = clock_ms();
    pali_status status = beams_run(s, q, o, &prefix, b, r);
    kv_free(&prefix);
    for (size_t i = 0; i < r->n_sequences && status == PALI_OK; i++) status = sequence_decode(&r->sequences[i], s->t);
    r->generated_tokens = r->sequences[0].n;
    r->decode_ms = clock_ms() - start;
    return status;
}

pali_status generate_into(session *s, const request *q, const pali_generate_options *o, result *r) {
    decode_buffers b;
    pali_status status = decode_buffers_get(&b, &s->m->cfg.text, (size_t)o->num_beams);
    if (status == PALI_OK) status = o->num_beams > 1 ? beams_generate(s, q, o, &b, r) : sequence_generate(s, q, o, &b, r);
    decode_buffers_free(&b);
    return status;
}

pali_status generate(session *s, const request *q, const pali_generate_options *o, result **out) {
    result *r = NULL;
    *out = NULL;
    pali_status status = session_check(s, q, (size_t)o->max_tokens);
    if (status == PALI_OK) status = result_new(&r, 1);
    if (status == PALI_OK) status = generate_into(s, q, o, r);
    session_done(s);
    if (status != PALI_OK) {
        result_free(r);
        return status;
    }
    *out = r;
    return PALI_OK;
}
