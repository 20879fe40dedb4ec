#include "infer/batch.h"

#include <string.h>

#include "base/mem.h"
#include "infer/generate.h"

#define OVERTAKEN_MAX 64u /* requests whose pictures are at hand that may go before one that waits */

static void queue_push(batch_queue *q, batch_entry *e) {
    e->next = NULL;
    *(q->last ? &q->last->next : &q->first) = e;
    q->last = e;
}

/* Takes out the entry after `before` (NULL: the first). */
static batch_entry *queue_take(batch_queue *q, batch_entry *before) {
    batch_entry **link = before ? &before->next : &q->first, *e = *link;
    *link = e->next;
    if (q->last == e) q->last = before;
    return e;
}

static void entry_free(batch_entry *e) {
    mem_free((void *)(uintptr_t)e->q.ids);
    mem_free((void *)(uintptr_t)e->q.images);
    mem_free(e->keys);
    result_free(e->r);
    mem_free(e);
}

static void queue_free(batch_queue *q) {
    while (q->first) entry_free(queue_take(q, NULL));
}

pali_status batch_init(batch *b, session *s, size_t n_slots) {
    *b = (batch){.s = s, .n_slots = n_slots};
    pali_status status = decode_buffers_get(&b->b, &s->m->cfg.text, n_slots);
    if (status != PALI_OK) batch_free(b);
    return status;
}

void batch_free(batch *b) {
    for (size_t i = 0; i < b->n_running; i++) {
        decoding_free(&b->running[i]->d);
        entry_free(b->running[i]);
    }
    queue_free(&b->waiting);
    queue_free(&b->done);
    decode_buffers_free(&b->b);
    *b = (batch){0};
}

/* Copies what the caller may free: the arrays and the options. */
static pali_status entry_fill(batch_entry *e, const request *q, const pali_generate_options *o) {
    int32_t *ids = mem_alloc(q->n_ids, sizeof *ids);
    const image **images = mem_alloc(q->n_images, sizeof *images);
    e->q = *q;
    e->o = *o;
    e->q.ids = ids;
    e->q.images = images;
    e->keys = mem_alloc(q->n_images, sizeof *e->keys);
    if (!ids || !images || !e->keys) return status_no_memory(q->n_ids * sizeof *ids);
    memcpy(ids, q->ids, q->n_ids * sizeof *ids);
    for (size_t i = 0; i < q->n_images; i++) {
        images[i] = q->images[i];
        e->keys[i] = picture_key_of(images[i]);
    }
    return result_new(&e->r, 1);
}

pali_status batch_add(batch *b, const request *q, const pali_generate_options *o, size_t *index) {
    STATUS_TRY(session_check(b->s, q, (size_t)o->max_tokens));
    batch_entry *e = mem_calloc(1, sizeof *e);
    pali_status status = e ? entry_fill(e, q, o) : status_no_memory(sizeof *e);
    if (status != PALI_OK) {
        if (e) entry_free(e);
        return status;
    }
    e->index = *index = b->n_added++;
    b->n_pending++;
    queue_push(&b->waiting, e);
    return PALI_OK;
}

bool batch_take(batch *b, size_t *index, result **out) {
    *out = NULL;
    if (!b->done.first) return false;
    batch_entry *e = queue_take(&b->done, NULL);
    *index = e->index;
    *out = e->r;
    e->r = NULL;
    entry_free(e);
    return true;
}

static void entry_done(batch *b, batch_entry *e, pali_status status) {
    if (status != PALI_OK) result_fail(e->r, status);
    b->n_pending--;
    queue_push(&b->done, e);
}

static bool pictures_at_hand(const batch *b, const batch_entry *e) {
    for (size_t i = 0; i < e->q.n_images; i++)
        if (!features_has(&b->s->features, &e->keys[i])) return false;
    return true;
}

/* The oldest whose pictures the session remembers, else the oldest: so that the tower sees a picture once for all requests
 * that wait for it, however many other pictures come between them. None is overtaken for ever. */
static batch_entry *waiting_next(batch *b) {
    batch_entry *before = NULL, *e = b->waiting.first;
    while (e && !pictures_at_hand(b, e)) {
        before = e;
        e = e->next;
    }
    if (!e || b->waiting.first->n_overtaken >= OVERTAKEN_MAX) return queue_take(&b->waiting, NULL);
    for (batch_entry *other = b->waiting.first; other != e; other = other->next) other->n_overtaken++;
    return queue_take(&b->waiting, before);
}

/* Prefill and the first token; beam search to its end, as it fills rows of its own. */
static void entry_start(batch *b, batch_entry *e) {
    if (e->o.num_beams > 1) {
        entry_done(b, e, generate_into(b->s, &e->q, &e->o, e->r));
        return;
    }
    pali_status status = decoding_start(&e->d, b->s, &e->q, &e->o, e->r, &b->b);
    if (status == PALI_OK) status = decoding_accept(&e->d, b->s);
    if (status == PALI_OK && !e->d.done) {
        b->running[b->n_running++] = e;
        return;
    }
    decoding_free(&e->d);
    entry_done(b, e, status);
}

/* Frees a slot; the last one moves into it. */
static void slot_end(batch *b, size_t slot, pali_status status) {
    batch_entry *e = b->running[slot];
    decoding_free(&e->d);
    b->running[slot] = b->running[--b->n_running];
    entry_done(b, e, status);
}

/* A token for each slot. What only one needs can fail for it alone; a failure of the step is everybody's. */
static void slots_step(batch *b) {
    decoding *list[DECODE_MAX];
    for (size_t i = b->n_running; i-- > 0;) {
        pali_status status = kv_reserve(&b->running[i]->d.own, 1);
        if (status != PALI_OK) slot_end(b, i, status);
    }
    for (size_t i = 0; i < b->n_running; i++) list[i] = &b->running[i]->d;
    pali_status step = b->n_running ? decoding_step(b->s, &b->b, list, b->n_running) : PALI_OK;
    for (size_t i = b->n_running; i-- > 0;) {
        pali_status status = step == PALI_OK ? decoding_accept(list[i], b->s) : step;
        if (status != PALI_OK || list[i]->done) slot_end(b, i, status);
    }
}

pali_status batch_step(batch *b) {
    if (b->waiting.first && b->n_running < b->n_slots)
        entry_start(b, waiting_next(b));
    else if (b->n_running)
        slots_step(b);
    if (!atomic_load(&b->s->cancel)) return PALI_OK;
    pali_status status = status_fail(PALI_ERR_CANCELLED, "batch: cancelled");
    while (b->n_running) slot_end(b, b->n_running - 1, status);
    while (b->waiting.first) entry_done(b, queue_take(&b->waiting, NULL), status);
    session_done(b->s);
    return status;
}
