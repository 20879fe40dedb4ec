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
    if (s->pixels && s->vision) return PALI_OK;
    session_free(s);
    return status_no_memory(v->n_patches * v->width * sizeof *s->vision);
}

void session_free(session *s) {
    for (size_t i = 0; i < SESSION_FEATURES; i++) mem_free(s->features[i].rows);
    mem_free(s->pixels);
    mem_free(s->vision);
    exec_free(&s->e);
}

void session_done(session *s) {
    atomic_store(&s->cancel, 0);
}

/* Two independent 64-bit hashes of the size and the pixels, eight bytes a step: a false match needs 2^-128 of luck. */
static void image_hash(uint64_t hash[2], const image *img) {
    size_t n = img->width * img->height * 3;
    uint64_t a = 0x9e3779b97f4a7c15u ^ img->width, b = 0xc2b2ae3d27d4eb4fu ^ img->height, word = 0;
    for (size_t i = 0; i < n; i += 8) {
        word = 0;
        memcpy(&word, img->rgb + i, n - i < 8 ? n - i : 8);
        a = (a ^ word) * 0xff51afd7ed558ccdu;
        a ^= a >> 32;
        b = (b + word) * 0x9fb21c651e98df25u;
        b ^= b >> 29;
    }
    hash[0] = a;
    hash[1] = b;
}

pali_status session_pixels(session *s, const image *img) {
    return resize_to_pixels(s->pixels, s->m->cfg.vit.image_size, img, (resize_filter)s->m->cfg.resample);
}

pali_status session_vision(session *s) {
    return vit_forward(&s->e, &s->m->vit, s->vision, s->pixels);
}

/* Projector rows of a picture, computed or remembered. They depend on the picture alone; the keys and values of its tokens
 * do not, so no more than this can be kept (spec 2.10). */
static pali_status features_get(session *s, const float **out, const image *img, result *stats) {
    size_t n = s->m->cfg.vit.n_patches * s->m->cfg.text.width;
    session_feature *slot = &s->features[0];
    uint64_t hash[2];
    image_hash(hash, img);
    for (size_t i = 0; i < SESSION_FEATURES; i++) {
        session_feature *f = &s->features[i];
        if (f->rows && f->hash[0] == hash[0] && f->hash[1] == hash[1]) {
            f->last_use = ++s->clock;
            *out = f->rows;
            return PALI_OK;
        }
        if (f->last_use < slot->last_use) slot = f;
    }
    double start = clock_ms(), ready;
    float *rows = slot->rows ? slot->rows : mem_alloc(n, sizeof *rows);
    if (!rows) return status_no_memory(n * sizeof *rows);
    *slot = (session_feature){0}; /* not valid until filled */
    pali_status status = session_pixels(s, img);
    ready = clock_ms();
    if (status == PALI_OK) status = session_vision(s);
    if (status == PALI_OK) status = vit_project(&s->e, &s->m->vit, rows, s->vision, s->m->cfg.vit.n_patches);
    if (status != PALI_OK) {
        mem_free(rows);
        return status;
    }
    stats->preprocess_ms += ready - start;
    stats->vision_ms += clock_ms() - ready;
    *slot = (session_feature){{hash[0], hash[1]}, rows, ++s->clock};
    *out = rows;
    return PALI_OK;
}

static pali_status report(const request *q, const char *what, uint64_t done, uint64_t total) {
    if (q->progress && q->progress(q->user, what, done, total)) return status_fail(PALI_ERR_CANCELLED, "%s: cancelled", what);
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
        const float *features = NULL;
        STATUS_TRY(report(q, "vision", i, q->n_images));
        STATUS_TRY(features_get(s, &features, q->images[i], stats));
        for (size_t p = 0; p < n_patches; row++) {
            if (q->ids[row] != image_token) continue;
            memcpy(x + row * d, features + p++ * d, d * sizeof *x);
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
    gemma_segment segment = {prefix, q->n_ids, true};
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
