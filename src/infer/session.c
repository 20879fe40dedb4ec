#include "infer/session.h"

#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "input/resize.h"

pali_status session_init(session *s, const model *m, const tokenizer *t, int n_threads) {
    const vit_config *v = &m->cfg.vit;
    *s = (session){.m = m, .t = t};
    STATUS_TRY(exec_init(&s->e, n_threads));
    s->e.cancel = &s->cancel;
    s->pixels = mem_alloc(3 * v->image_size * v->image_size, sizeof *s->pixels);
    s->vision = mem_alloc(v->n_patches * v->width, sizeof *s->vision);
    pali_status status = s->pixels && s->vision ? PALI_OK : status_no_memory(v->n_patches * v->width * sizeof *s->vision);
    if (status == PALI_OK) status = features_init(&s->features, v->n_patches * m->cfg.text.width);
    if (status != PALI_OK) session_free(s);
    return status;
}

void session_free(session *s) {
    features_free(&s->features);
    grammar_free(&s->grammar);
    mem_free(s->pixels);
    mem_free(s->vision);
    exec_free(&s->e);
}

void session_done(session *s) {
    atomic_store(&s->cancel, 0);
}

pali_status session_pixels(session *s, const image *img) {
    return resize_to_pixels(s->pixels, s->m->cfg.vit.image_size, img, (resize_filter)s->m->cfg.resample);
}

pali_status session_vision(session *s) {
    return vit_forward(&s->e, &s->m->vit, s->vision, s->pixels);
}

/* Projector rows of a picture, computed or remembered. */
static pali_status features_get(session *s, const float **out, const image *img, result *stats) {
    picture_key key = picture_key_of(img);
    *out = features_find(&s->features, &key);
    if (*out) return PALI_OK;
    feature *slot;
    double start = clock_ms(), ready;
    STATUS_TRY(features_slot(&s->features, &slot));
    STATUS_TRY(session_pixels(s, img));
    ready = clock_ms();
    STATUS_TRY(session_vision(s));
    STATUS_TRY(vit_project(&s->e, &s->m->vit, slot->rows, s->vision, s->m->cfg.vit.n_patches));
    stats->preprocess_ms += ready - start;
    stats->vision_ms += clock_ms() - ready;
    slot->key = key;
    slot->filled = true;
    *out = slot->rows;
    return PALI_OK;
}

static pali_status report(const request *q, const char *what, uint64_t done, uint64_t total) {
    if (q->progress && q->progress(q->user, what, done, total)) return status_fail(PALI_ERR_CANCELLED, "%s: cancelled", what);
    return PALI_OK;
}

pali_status session_grammar(session *s, const grammar **out) {
    if (!s->t) return status_fail(PALI_ERR_UNSUPPORTED, "constrain: the model has no tokenizer");
    if (!s->grammar.marks) STATUS_TRY(grammar_init(&s->grammar, s->t, s->m->cfg.text.vocab_size));
    *out = &s->grammar;
    return PALI_OK;
}

pali_status session_check(const session *s, const request *q, size_t n_more) {
    size_t n, n_image_ids = 0, n_rows = q->n_images * s->m->cfg.vit.n_patches;
    if (q->n_ids == 0) return status_fail(PALI_ERR_ARGUMENT, "prompt: no ids");
    if (!mem_add(&n, q->n_ids, n_more) || n > SESSION_MAX_POSITIONS || q->n_images > SESSION_MAX_POSITIONS)
        return status_fail(PALI_ERR_LIMIT, "prompt: %zu ids and %zu more are over the limit of %u positions", q->n_ids, n_more, SESSION_MAX_POSITIONS);
    for (size_t i = 0; i < q->n_ids; i++) n_image_ids += q->ids[i] == s->m->cfg.image_token;
    if (n_image_ids == n_rows) return PALI_OK;
    return status_fail(PALI_ERR_ARGUMENT, "prompt: %zu image ids, but %zu pictures give %zu rows", n_image_ids, q->n_images, n_rows);
}

/* Input rows x [n_ids, D]. Text comes first, so that a wrong id costs nothing; then the k-th image id takes the k-th row of
 * all pictures in order, wherever it stands. */
static pali_status rows_fill(session *s, float *x, const request *q, result *stats) {
    const int32_t image_token = s->m->cfg.image_token;
    size_t d = s->m->cfg.text.width, n_patches = s->m->cfg.vit.n_patches, row = 0;
    for (size_t i = 0; i < q->n_ids; i++)
        if (q->ids[i] != image_token) STATUS_TRY(gemma_embed(&s->e, &s->m->text, x + i * d, &q->ids[i], 1));
    for (size_t i = 0; i < q->n_images; i++) {
        const float *rows = NULL;
        STATUS_TRY(report(q, "vision", i, q->n_images));
        STATUS_TRY(features_get(s, &rows, q->images[i], stats));
        for (size_t p = 0; p < n_patches; row++) {
            if (q->ids[row] != image_token) continue;
            memcpy(x + row * d, rows + p++ * d, d * sizeof *x);
        }
    }
    stats->image_tokens = q->n_images * n_patches;
    stats->prompt_tokens = q->n_ids - stats->image_tokens;
    return PALI_OK;
}

static pali_status prefix_run(session *s, kv_cache *prefix, float *hidden, float *all, float *x, const request *q, result *stats) {
    const gemma *g = &s->m->text;
    STATUS_TRY(rows_fill(s, x, q, stats));
    STATUS_TRY(report(q, "prefill", 0, q->n_ids));
    double start = clock_ms();
    gemma_segment segment = {prefix, q->n_ids, true, stats->image_tokens};
    STATUS_TRY(gemma_forward(&s->e, g, x, &segment, 1));
    STATUS_TRY(gemma_final_norm(&s->e, g, hidden, x + (q->n_ids - 1) * g->cfg.width, 1));
    if (all) STATUS_TRY(gemma_final_norm(&s->e, g, all, x, q->n_ids));
    stats->prefill_ms += clock_ms() - start;
    return PALI_OK;
}

pali_status session_prefill(session *s, kv_cache *prefix, float *hidden, float *all, const request *q, result *stats) {
    size_t d = s->m->cfg.text.width;
    *prefix = (kv_cache){0};
    float *x = mem_alloc(q->n_ids * d, sizeof *x);
    if (!x) return status_no_memory(q->n_ids * d * sizeof *x);
    pali_status status = kv_init(prefix, &s->m->cfg.text, NULL);
    if (status == PALI_OK) status = prefix_run(s, prefix, hidden, all, x, q, stats);
    if (status != PALI_OK) kv_free(prefix);
    mem_free(x);
    return status;
}
