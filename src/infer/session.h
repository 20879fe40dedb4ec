/* session.h: a model at work: threads and scratch, features of recent pictures, the prefix of a prompt. */
#ifndef PALI_INFER_SESSION_H
#define PALI_INFER_SESSION_H

#include <stdatomic.h>

#include "infer/result.h"
#include "input/image.h"
#include "model/model.h"

#define SESSION_FEATURES 4u           /* pictures whose projector output is kept */
#define SESSION_MAX_POSITIONS 131072u /* images, prompt and answer together */

typedef struct session_feature {
    uint64_t hash[2];  /* of the picture's size and pixels */
    float *rows;       /* [P, D] projector output; NULL: free */
    uint64_t last_use;
} session_feature;

typedef struct session {
    const model *m;
    const tokenizer *t; /* NULL: none */
    exec e;
    atomic_int cancel;
    session_feature features[SESSION_FEATURES];
    uint64_t clock;
    float *pixels, *vision; /* [3, R, R], [P, W] */
} session;

/* The pictures and ids of one request; ids include the image ids. */
typedef struct request {
    const image *const *images;
    size_t n_images;
    const int32_t *ids;
    size_t n_ids;
    pali_progress_fn progress; /* may be NULL */
    void *user;
} request;

pali_status session_init(session *s, const model *m, const tokenizer *t, int n_threads);
void session_free(session *s);

/* pixels [3, R, R] of a picture into s->pixels. */
pali_status session_pixels(session *s, const image *img);
/* s->pixels through the tower into s->vision [P, W]. */
pali_status session_vision(session *s);
/* Input rows x [n_ids, D] of a request: projector rows at image ids, scaled embeddings elsewhere. */
pali_status session_rows(session *s, float *x, const request *q, result *stats);
/* Runs a request's prefix: *prefix (kv_free it) gets its keys and values, hidden [D] the last position after the final norm.
 * all [n_ids, D], if given, receives every position. Times and counts go into *stats. */
pali_status session_prefill(session *s, kv_cache *prefix, float *hidden, float *all, const request *q, result *stats);

#endif
