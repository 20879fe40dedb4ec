/* session.h: a model at work: threads and scratch, features of recent pictures, the prefix of a prompt. */
#ifndef PALI_INFER_SESSION_H
#define PALI_INFER_SESSION_H

#include <stdatomic.h>

#include "infer/features.h"
#include "infer/grammar.h"
#include "infer/result.h"
#include "model/model.h"

/* Images, prompt and answer together. Four times what the text model was made for leaves room for many pictures; a
 * megabyte of text is refused instead of running for hours. */
#define SESSION_MAX_POSITIONS 32768u

typedef struct session {
    const model *m;
    const tokenizer *t; /* NULL: none */
    exec e;
    atomic_int cancel;
    features features;
    float *pixels, *vision; /* [3, R, R], [P, W] */
    grammar grammar;        /* made by the first request that is constrained; until then marks is NULL */
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
/* Ends a call: a request to stop concerns one call, the running one or, if there is none, the next. */
void session_done(session *s);

/* pixels [3, R, R] of a picture into s->pixels. */
pali_status session_pixels(session *s, const image *img);
/* s->pixels through the tower into s->vision [P, W]. */
pali_status session_vision(session *s);
/* The grammar of this model's vocabulary. */
pali_status session_grammar(session *s, const grammar **out);
/* Refuses, before any work, a request that cannot be run: as many image ids as its pictures have rows, and at most
 * SESSION_MAX_POSITIONS with n_more to come. */
pali_status session_check(const session *s, const request *q, size_t n_more);
/* Runs a checked request's prefix: *prefix (kv_free it) gets its keys and values, hidden [D] the last position after the final norm.
 * all [n_ids, D], if given, receives every position. Times and counts go into *stats. */
pali_status session_prefill(session *s, kv_cache *prefix, float *hidden, float *all, const request *q, result *stats);

#endif
