/* batch.h: requests answered together: while one reads the weights, all do.
 *
 *   batch_add -> waiting -> [ slot | slot | slot ... ] -> done -> batch_take
 *
 * A step is one of two things: while a slot is free and a request waits, that request's pictures and prompt (prefill, alone:
 * its rows fill the machine by themselves); otherwise one token for each slot. So slots are refilled as answers end, and
 * memory is bounded by the number of slots. A request fails by itself; the bits of its answer do not depend on the others. */
#ifndef PALI_INFER_BATCH_H
#define PALI_INFER_BATCH_H

#include "infer/decode.h"

typedef struct batch_entry {
    struct batch_entry *next;
    size_t index;
    request q;                /* its arrays are the entry's own, the pictures the caller's */
    pali_generate_options o;
    picture_key *keys;        /* [n_images] */
    unsigned n_overtaken;
    result *r;
    decoding d;               /* in a slot */
} batch_entry;

typedef struct batch_queue {
    batch_entry *first, *last;
} batch_queue;

typedef struct batch {
    session *s;
    decode_buffers b;         /* n_slots rows */
    size_t n_slots, n_running, n_pending, n_added;
    batch_entry *running[DECODE_MAX];
    batch_queue waiting, done;
} batch;

/* n_slots: 1 to DECODE_MAX. The session must outlive the batch. */
pali_status batch_init(batch *b, session *s, size_t n_slots);
void batch_free(batch *b);
/* Queues a request (copied; its pictures are used until its first token or its end). Options are complete and checked.
 * *index counts from 0. */
pali_status batch_add(batch *b, const request *q, const pali_generate_options *o, size_t *index);
/* One step. Fails only if the session was cancelled: then all that was pending is done, as failures. */
pali_status batch_step(batch *b);
/* A request that is done, in the order they end, or false. result_free *out. */
bool batch_take(batch *b, size_t *index, result **out);

#endif
