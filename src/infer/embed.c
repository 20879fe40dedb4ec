#include "infer/embed.h"

#include <string.h>

#include "base/mem.h"

static pali_status embedding_new(embedding *e, size_t n_dims, size_t a, size_t b, size_t c) {
    *e = (embedding){.n_dims = n_dims, .dims = {a, b, c}, .data = mem_alloc(a * b * (n_dims == 3 ? c : 1), sizeof(float))};
    return e->data ? PALI_OK : status_no_memory(a * b * sizeof(float));
}

/* The mean over image tokens, summed in double. */
static void mean_rows(float *out, const float *rows, size_t n, size_t width) {
    for (size_t j = 0; j < width; j++) {
        double sum = 0;
        for (size_t i = 0; i < n; i++) sum += (double)rows[i * width + j];
        out[j] = (float)(sum / (double)n);
    }
}

static pali_status embed_run(session *s, embedding *out, const image *img, pali_embedding what) {
    const vit_config *v = &s->m->cfg.vit;
    size_t r = v->image_size, n = v->n_patches, w = v->width;
    STATUS_TRY(session_pixels(s, img));
    if (what == PALI_EMBED_PIXELS) {
        STATUS_TRY(embedding_new(out, 3, 3, r, r));
        memcpy(out->data, s->pixels, 3 * r * r * sizeof *out->data);
        return PALI_OK;
    }
    STATUS_TRY(session_vision(s));
    if (what == PALI_EMBED_PROJECTOR) {
        STATUS_TRY(embedding_new(out, 2, n, s->m->cfg.text.width, 0));
        return vit_project(&s->e, &s->m->vit, out->data, s->vision, n);
    }
    STATUS_TRY(embedding_new(out, 2, what == PALI_EMBED_MEAN ? 1 : n, w, 0));
    if (what == PALI_EMBED_MEAN)
        mean_rows(out->data, s->vision, n, w);
    else
        memcpy(out->data, s->vision, n * w * sizeof *out->data);
    return PALI_OK;
}

static pali_status finish(session *s, embedding *out, pali_status status) {
    session_done(s);
    if (status != PALI_OK) {
        mem_free(out->data);
        *out = (embedding){0};
    }
    return status;
}

pali_status embed_image(session *s, embedding *out, const image *img, pali_embedding what) {
    *out = (embedding){0};
    return finish(s, out, embed_run(s, out, img, what));
}

pali_status embed_request(session *s, embedding *out, const request *q) {
    size_t d = s->m->cfg.text.width;
    kv_cache prefix = {0};
    result stats = {0};
    *out = (embedding){0};
    float *last = mem_alloc(d, sizeof *last);
    pali_status status = last ? session_check(s, q, 0) : status_no_memory(d * sizeof *last);
    if (status == PALI_OK) status = embedding_new(out, 2, q->n_ids, d, 0);
    if (status == PALI_OK) status = session_prefill(s, &prefix, last, out->data, q, &stats);
    kv_free(&prefix);
    mem_free(last);
    return finish(s, out, status);
}
