/* session.c: session and result handles: requests checked and passed on. */
#include "api/handles.h"

#include <math.h>

#include "base/mem.h"
#include "infer/beam.h"
#include "infer/embed.h"
#include "infer/generate.h"
#include "input/prompt.h"

#define ANSWERS_MAX 1000000u

/* ---- Session ---- */

void pali_session_options_init(pali_session_options *options) {
    *options = (pali_session_options){.struct_size = sizeof *options};
}

pali_status pali_session_new(pali_session **out, pali_model *parent, const pali_session_options *options) {
    pali_session_options o;
    API_NEED(out);
    *out = NULL;
    API_NEED_AS(parent, "model");
    pali_session_options_init(&o);
    STATUS_TRY(options_read(&o, sizeof o, options, "pali_session_options"));
    STATUS_TRY(model_check_runs(parent->m));
    pali_session *s = mem_calloc(1, sizeof *s);
    if (!s) return status_no_memory(sizeof *s);
    pali_status status = session_init(&s->s, parent->m, parent->t, o.n_threads);
    if (status != PALI_OK) {
        mem_free(s);
        return status;
    }
    s->model = parent;
    atomic_fetch_add(&parent->references, 1);
    *out = s;
    return PALI_OK;
}

void pali_session_free(pali_session *s) {
    if (!s) return;
    session_calibration_drop(s);
    session_adapters_drop(s);
    session_free(&s->s);
    model_release(s->model);
    mem_free(s);
}

void pali_session_cancel(pali_session *s) {
    if (s) atomic_store(&s->s.cancel, 1);
}

/* ---- Requests ---- */

void pali_generate_options_init(pali_generate_options *o) {
    *o = (pali_generate_options){.struct_size = sizeof *o, .max_tokens = 256, .top_p = 1, .repetition_penalty = 1, .num_beams = 1, .num_return = 1,
                                 .length_penalty = 1};
}

static pali_status wrong(const char *field, double value, const char *expected) {
    return status_fail(PALI_ERR_ARGUMENT, "%s: %g: expected %s", field, value, expected);
}

pali_status generate_options_read(pali_generate_options *o, const pali_generate_options *given) {
    pali_generate_options_init(o);
    STATUS_TRY(options_read(o, sizeof *o, given, "pali_generate_options"));
    /* Zero means the default; only a length penalty of zero is a value. */
    if (!o->max_tokens) o->max_tokens = 256;
    if (o->top_p == 0) o->top_p = 1;
    if (o->repetition_penalty == 0) o->repetition_penalty = 1;
    if (!o->num_beams) o->num_beams = 1;
    if (!o->num_return) o->num_return = 1;
    if (o->max_tokens < 1) return wrong("max_tokens", o->max_tokens, "at least 1");
    if (!(o->temperature >= 0) || !isfinite(o->temperature)) return wrong("temperature", (double)o->temperature, "0 or more");
    if (o->top_k < 0) return wrong("top_k", o->top_k, "0 or more");
    if (!(o->top_p > 0 && o->top_p <= 1)) return wrong("top_p", (double)o->top_p, "more than 0, at most 1");
    if (!(o->min_p >= 0 && o->min_p <= 1)) return wrong("min_p", (double)o->min_p, "0 to 1");
    if (!(o->repetition_penalty > 0) || !isfinite(o->repetition_penalty)) return wrong("repetition_penalty", (double)o->repetition_penalty, "more than 0");
    if (o->num_beams < 1 || o->num_beams > (int32_t)BEAM_MAX) return wrong("num_beams", o->num_beams, "1 to 64");
    if (o->num_return < 1 || o->num_return > o->num_beams) return wrong("num_return", o->num_return, "1 to num_beams");
    if (!isfinite(o->length_penalty)) return wrong("length_penalty", (double)o->length_penalty, "a number");
    if ((int)o->early_stopping < 0 || o->early_stopping > PALI_EARLY_STOPPING_NEVER) return wrong("early_stopping", o->early_stopping, "0 to 2");
    if ((int)o->constrain < 0 || o->constrain > PALI_CONSTRAIN_SEGMENT) return wrong("constrain", o->constrain, "0 to 2");
    if (o->constrain && o->max_tokens < (int32_t)grammar_object_tokens(o->constrain))
        return wrong("max_tokens", o->max_tokens, o->constrain == PALI_CONSTRAIN_SEGMENT ? "at least 20, an object to segment" : "at least 5, an object to detect");
    if (o->constrain && o->ignore_eos) return status_fail(PALI_ERR_UNSUPPORTED, "constrain: ends at eos; leave ignore_eos 0");
    if (o->num_beams > 1 && o->temperature > 0) return status_fail(PALI_ERR_UNSUPPORTED, "num_beams: beam search does not sample; leave temperature 0");
    return PALI_OK;
}

pali_status request_read(request *q, const pali_image *const *images, size_t n_images) {
    for (size_t i = 0; i < n_images; i++)
        if (!images || !images[i]) return status_fail(PALI_ERR_ARGUMENT, "images: picture %zu of %zu is NULL", i, n_images);
    *q = (request){.images = images, .n_images = n_images};
    return PALI_OK;
}

pali_status pali_prompt_tokens(const pali_model *parent, size_t n_images, const char *prompt, int32_t **out_ids, size_t *out_n) {
    size_t n_image_ids;
    API_NEED(out_ids);
    *out_ids = NULL;
    API_NEED_AS(parent, "model");
    API_NEED(prompt);
    API_NEED(out_n);
    const config *c = &parent->m->cfg;
    if (!parent->t) return status_fail(PALI_ERR_UNSUPPORTED, "prompt: the model has no tokenizer");
    if (!mem_mul(&n_image_ids, n_images, c->vit.n_patches) || n_image_ids > SESSION_MAX_POSITIONS)
        return status_fail(PALI_ERR_LIMIT, "%zu pictures: more than %u positions", n_images, SESSION_MAX_POSITIONS);
    return prompt_compose(out_ids, out_n, parent->t, c->image_token, c->bos_token, n_image_ids, prompt, strlen(prompt));
}

pali_status prompt_read(request *q, int32_t **ids, const pali_session *s, const char *prompt) {
    STATUS_TRY(pali_prompt_tokens(s->model, q->n_images, prompt, ids, &q->n_ids));
    q->ids = *ids;
    return PALI_OK;
}

pali_status pali_generate_tokens(pali_session *handle, const pali_image *const *images, size_t n_images, const int32_t *ids, size_t n_ids,
                                 const pali_generate_options *options, pali_result **out) {
    pali_generate_options o;
    request q;
    API_NEED(out);
    *out = NULL;
    API_NEED_AS(handle, "session");
    API_NEED(ids);
    STATUS_TRY(generate_options_read(&o, options));
    STATUS_TRY(request_read(&q, images, n_images));
    q.ids = ids;
    q.n_ids = n_ids;
    q.progress = o.progress;
    q.user = o.user;
    return generate(&handle->s, &q, &o, out);
}

pali_status pali_generate(pali_session *handle, const pali_image *const *images, size_t n_images, const char *prompt,
                          const pali_generate_options *options, pali_result **out) {
    request q;
    int32_t *ids;
    API_NEED(out);
    *out = NULL;
    API_NEED_AS(handle, "session");
    STATUS_TRY(request_read(&q, images, n_images));
    STATUS_TRY(prompt_read(&q, &ids, handle, prompt));
    pali_status s = pali_generate_tokens(handle, images, n_images, ids, q.n_ids, options, out);
    mem_free(ids);
    return s;
}

/* Ids of each answer, eos at the end. */
static pali_status answers_read(score_answer *to, const pali_session *s, const char *const *answers, size_t n) {
    for (size_t i = 0; i < n; i++) {
        int32_t *ids, *with_eos;
        size_t n_ids;
        if (!answers[i]) return status_fail(PALI_ERR_ARGUMENT, "answers: answer %zu of %zu is NULL", i, n);
        pali_status status = tokenizer_encode(s->model->t, answers[i], strlen(answers[i]), 0, &ids, &n_ids);
        if (status != PALI_OK) return status_prefix(status, "answer %zu", i);
        with_eos = mem_grow(ids, n_ids, n_ids + 1, sizeof *ids);
        if (!with_eos) {
            mem_free(ids);
            return status_no_memory(n_ids * sizeof *ids);
        }
        with_eos[n_ids] = s->s.m->cfg.eos_token;
        to[i] = (score_answer){with_eos, n_ids + 1};
        if (n_ids + 1 > SESSION_MAX_POSITIONS) return status_fail(PALI_ERR_LIMIT, "answer %zu: %zu ids, more than %u", i, n_ids + 1, SESSION_MAX_POSITIONS);
    }
    return PALI_OK;
}

pali_status pali_score(pali_session *handle, const pali_image *const *images, size_t n_images, const char *prompt, const char *const *answers,
                       size_t n_answers, pali_result **out) {
    request q;
    int32_t *ids;
    API_NEED(out);
    *out = NULL;
    API_NEED_AS(handle, "session");
    API_NEED(answers);
    if (n_answers == 0 || n_answers > ANSWERS_MAX) return status_fail(PALI_ERR_ARGUMENT, "answers: %zu: expected 1 to %u", n_answers, ANSWERS_MAX);
    STATUS_TRY(request_read(&q, images, n_images));
    STATUS_TRY(prompt_read(&q, &ids, handle, prompt));
    score_answer *list = mem_calloc(n_answers, sizeof *list);
    pali_status s = list ? answers_read(list, handle, answers, n_answers) : status_no_memory(n_answers * sizeof *list);
    if (s == PALI_OK) s = score(&handle->s, &q, list, n_answers, out);
    for (size_t i = 0; list && i < n_answers; i++) mem_free((void *)(uintptr_t)list[i].ids);
    mem_free(list);
    mem_free(ids);
    return s;
}

/* ---- Results ---- */

size_t pali_result_count(const pali_result *handle) {
    return handle ? handle->n_sequences : 0;
}

pali_status pali_result_get(const pali_result *handle, size_t index, pali_sequence *to) {
    API_NEED_AS(handle, "result");
    if (index >= handle->n_sequences) return status_fail(PALI_ERR_ARGUMENT, "sequence %zu: the result has %zu", index, handle->n_sequences);
    const sequence *s = &handle->sequences[index];
    double logprob = 0;
    for (size_t i = 0; i < s->n; i++) logprob += (double)s->logprobs[i];
    pali_sequence full = {.text = s->text, .n_text_bytes = s->n_text, .tokens = s->tokens, .logprobs = s->logprobs, .n_tokens = s->n,
                          .score = s->score, .finish = s->finish, .probability = exp(logprob)};
    return info_write(to, &full, sizeof full, "pali_sequence");
}

pali_status pali_result_get_stats(const pali_result *handle, pali_stats *to) {
    API_NEED_AS(handle, "result");
    pali_stats full = {.image_tokens = handle->image_tokens, .prompt_tokens = handle->prompt_tokens, .generated_tokens = handle->generated_tokens,
                       .preprocess_ms = handle->preprocess_ms, .vision_ms = handle->vision_ms, .prefill_ms = handle->prefill_ms, .decode_ms = handle->decode_ms};
    return info_write(to, &full, sizeof full, "pali_stats");
}

void pali_result_free(pali_result *handle) {
    result_free(handle);
}

pali_status pali_result_status(const pali_result *handle) {
    return handle ? handle->status : PALI_OK;
}

const char *pali_result_error(const pali_result *handle) {
    if (!handle || handle->status == PALI_OK) return "";
    return handle->error ? handle->error : pali_status_name(handle->status);
}

/* ---- Embeddings ---- */

static pali_status embedding_give(pali_status s, const embedding *e, float **out, uint64_t dims[3], int32_t *n_dims) {
    if (s != PALI_OK) return s;
    *out = e->data;
    *n_dims = (int32_t)e->n_dims;
    for (size_t i = 0; i < e->n_dims; i++) dims[i] = e->dims[i];
    return PALI_OK;
}

pali_status pali_embed(pali_session *handle, const pali_image *picture, pali_embedding what, float **out, uint64_t dims[3], int32_t *n_dims) {
    embedding e;
    API_NEED(out);
    *out = NULL;
    API_NEED_AS(handle, "session");
    API_NEED_AS(picture, "image");
    API_NEED(dims);
    API_NEED(n_dims);
    if ((int)what < PALI_EMBED_PIXELS || what > PALI_EMBED_MEAN) return status_fail(PALI_ERR_ARGUMENT, "embedding %d is unknown", (int)what);
    return embedding_give(embed_image(&handle->s, &e, picture, what), &e, out, dims, n_dims);
}

pali_status pali_embed_prompt(pali_session *handle, const pali_image *const *images, size_t n_images, const char *prompt, float **out,
                              uint64_t dims[3], int32_t *n_dims) {
    request q;
    int32_t *ids;
    embedding e;
    API_NEED(out);
    *out = NULL;
    API_NEED_AS(handle, "session");
    API_NEED(dims);
    API_NEED(n_dims);
    STATUS_TRY(request_read(&q, images, n_images));
    STATUS_TRY(prompt_read(&q, &ids, handle, prompt));
    pali_status s = embed_request(&handle->s, &e, &q);
    mem_free(ids);
    return embedding_give(s, &e, out, dims, n_dims);
}
