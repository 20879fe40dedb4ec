/* batch.c: batch handles: requests checked and passed on. */
#include "api/handles.h"

#include "base/mem.h"

#define SEQUENCES_DEFAULT 8

void pali_batch_options_init(pali_batch_options *options) {
    *options = (pali_batch_options){.struct_size = sizeof *options, .max_sequences = SEQUENCES_DEFAULT};
}

void pali_request_init(pali_request *given) {
    *given = (pali_request){.struct_size = sizeof *given};
}

pali_status pali_batch_new(pali_batch **out, pali_session *handle, const pali_batch_options *options) {
    pali_batch_options o;
    API_NEED(out);
    *out = NULL;
    API_NEED_AS(handle, "session");
    pali_batch_options_init(&o);
    STATUS_TRY(options_read(&o, sizeof o, options, "pali_batch_options"));
    if (!o.max_sequences) o.max_sequences = SEQUENCES_DEFAULT;
    if (o.max_sequences < 1 || o.max_sequences > (int32_t)DECODE_MAX)
        return status_fail(PALI_ERR_ARGUMENT, "max_sequences: %d: expected 1 to %u", (int)o.max_sequences, DECODE_MAX);
    pali_batch *b = mem_calloc(1, sizeof *b);
    if (!b) return status_no_memory(sizeof *b);
    pali_status status = batch_init(&b->b, &handle->s, (size_t)o.max_sequences);
    if (status != PALI_OK) {
        mem_free(b);
        return status;
    }
    b->session = handle;
    b->next = handle->batches;
    handle->batches = b;
    *out = b;
    return PALI_OK;
}

void pali_batch_free(pali_batch *handle) {
    if (!handle) return;
    pali_batch **link = &handle->session->batches;
    while (*link != handle) link = &(*link)->next;
    *link = handle->next;
    batch_free(&handle->b);
    mem_free(handle);
}

pali_status pali_batch_add(pali_batch *handle, const pali_request *given, size_t *index) {
    pali_request full;
    pali_generate_options o;
    request q;
    int32_t *ids = NULL;
    API_NEED_AS(handle, "batch");
    API_NEED_AS(given, "request");
    API_NEED(index);
    pali_request_init(&full);
    STATUS_TRY(options_read(&full, sizeof full, given, "pali_request"));
    STATUS_TRY(generate_options_read(&o, full.options));
    if (full.user) o.user = full.user;
    STATUS_TRY(request_read(&q, full.images, full.n_images));
    q.progress = o.progress;
    q.user = o.user;
    q.ids = full.ids;
    q.n_ids = full.n_ids;
    if (full.prompt)
        STATUS_TRY(prompt_read(&q, &ids, handle->session, full.prompt));
    else
        API_NEED_AS(full.ids, "request: prompt and ids");
    pali_status status = batch_add(&handle->b, &q, &o, index);
    mem_free(ids);
    return status;
}

size_t pali_batch_pending(const pali_batch *handle) {
    return handle ? handle->b.n_pending : 0;
}

pali_status pali_batch_step(pali_batch *handle) {
    API_NEED_AS(handle, "batch");
    return batch_step(&handle->b);
}

pali_status pali_batch_take(pali_batch *handle, size_t *index, pali_result **out) {
    API_NEED_AS(out, "result");
    *out = NULL;
    API_NEED_AS(handle, "batch");
    API_NEED(index);
    (void)batch_take(&handle->b, index, out);
    return PALI_OK;
}

/* Adds every request that can be; of the others, results[i] says why not. where[k]: the request that was added as number k. */
static pali_status requests_add(pali_batch *b, const pali_request *requests, size_t n, size_t *where, pali_result **results) {
    size_t step = requests->struct_size;
    for (size_t i = 0; i < n; i++) {
        size_t index;
        pali_status status = pali_batch_add(b, (const pali_request *)(const void *)((const char *)requests + i * step), &index);
        if (status == PALI_OK) {
            where[index] = i;
            continue;
        }
        STATUS_TRY(result_new(&results[i], 1));
        result_fail(results[i], status);
    }
    return PALI_OK;
}

pali_status pali_generate_batch(pali_session *handle, const pali_request *requests, size_t n, const pali_batch_options *options,
                                pali_result **results) {
    pali_batch *b;
    API_NEED_AS(handle, "session");
    if (n == 0) return PALI_OK;
    API_NEED(results);
    for (size_t i = 0; i < n; i++) results[i] = NULL;
    API_NEED(requests);
    size_t step = requests->struct_size;
    if (step < sizeof step || step > OPTIONS_MAX_SIZE || step % _Alignof(pali_request))
        return status_fail(PALI_ERR_ARGUMENT, "pali_request: struct_size: %zu (was the init function called?)", step);
    STATUS_TRY(pali_batch_new(&b, handle, options));
    size_t index, *where = mem_alloc(n, sizeof *where);
    pali_status status = where ? requests_add(b, requests, n, where, results) : status_no_memory(n * sizeof *where);
    if (status == PALI_OK) {
        while (status == PALI_OK && pali_batch_pending(b)) status = batch_step(&b->b);
        for (pali_result *r; batch_take(&b->b, &index, &r);) results[where[index]] = r;
    } else {
        for (size_t i = 0; i < n; i++) {
            result_free(results[i]);
            results[i] = NULL;
        }
    }
    session_done(&handle->s);
    pali_batch_free(b);
    mem_free(where);
    return status;
}
