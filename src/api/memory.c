/* memory.c: memory plans. */
#include "api/handles.h"

#include "base/memory.h"
#include "infer/beam.h"
#include "infer/plan.h"

#define PICTURE_BYTES_DEFAULT 36000000u /* 12 megapixels */

void pali_memory_request_init(pali_memory_request *asked) {
    *asked = (pali_memory_request){.struct_size = sizeof *asked};
}

/* Zero is the default. */
static pali_status number_read(size_t *out, int32_t given, size_t normal, size_t max, const char *field) {
    if (given < 0 || (size_t)given > max) return status_fail(PALI_ERR_ARGUMENT, "%s: %d: expected 1 to %zu", field, (int)given, max);
    *out = given ? (size_t)given : normal;
    return PALI_OK;
}

/* Plans with adapters: the view that a session would have, all in outlines. */
static pali_status adapted_plan(pali_memory_plan *out, const model *m, weights_memory *sizes, const plan_request *q, const pali_memory_request *r) {
    adapter *adapters[ADAPTERS_MAX] = {0};
    adapter_use uses[ADAPTERS_MAX];
    model *view = NULL;
    pali_status s = PALI_OK;
    if (r->n_adapters == 0) return plan_make(out, m, sizes, q);
    API_NEED_AS(r->adapters, "adapters");
    if (r->n_adapters > ADAPTERS_MAX) return status_fail(PALI_ERR_LIMIT, "adapters: %zu, more than %u at once", r->n_adapters, ADAPTERS_MAX);
    for (size_t i = 0; i < r->n_adapters && s == PALI_OK; i++) {
        s = r->adapters[i] ? adapter_open(&adapters[i], r->adapters[i], m, true) : status_fail(PALI_ERR_ARGUMENT, "adapters: path %zu is NULL", i);
        if (s != PALI_OK) break;
        uses[i] = (adapter_use){adapters[i], 1};
        sizes->block += adapters[i]->block_bytes;
        sizes->mapped += adapters[i]->mapped_bytes;
    }
    if (s == PALI_OK) s = view_adapt(&view, m, uses, r->n_adapters);
    if (s == PALI_OK) s = plan_make(out, view, sizes, q);
    model_free(view);
    for (size_t i = 0; i < r->n_adapters; i++) adapter_free(adapters[i]);
    return s;
}

static pali_status plan(pali_memory_plan *given, const char *name, bool random, const pali_memory_request *asked) {
    pali_memory_request r;
    pali_model_options o;
    model_options inner;
    pali_memory_plan full;
    plan_request q;
    weights_memory sizes;
    memory_free left;
    model *m;
    pali_memory_request_init(&r);
    STATUS_TRY(options_read(&r, sizeof r, asked, "pali_memory_request"));
    STATUS_TRY(model_options_read(&o, &inner, r.model));
    q = (plan_request){.n_threads = r.n_threads, .tokenizer = !random || o.tokenizer_path};
    STATUS_TRY(number_read(&q.n_images, r.n_images, 1, SESSION_MAX_POSITIONS, "n_images"));
    STATUS_TRY(number_read(&q.n_text_tokens, r.prompt_tokens, 32, SESSION_MAX_POSITIONS, "prompt_tokens"));
    STATUS_TRY(number_read(&q.max_tokens, r.max_tokens, 256, SESSION_MAX_POSITIONS, "max_tokens"));
    STATUS_TRY(number_read(&q.n_beams, r.num_beams, 1, BEAM_MAX, "num_beams"));
    STATUS_TRY(number_read(&q.n_sequences, r.max_sequences, 1, DECODE_MAX, "max_sequences"));
    q.picture_bytes = r.picture_bytes ? r.picture_bytes : (uint64_t)PICTURE_BYTES_DEFAULT * q.n_images * q.n_sequences;
    STATUS_TRY(model_outline(&m, &sizes, name, random, &inner));
    pali_status status = adapted_plan(&full, m, &sizes, &q, &r);
    model_free(m);
    STATUS_TRY(status);
    memory_free_get(&left, "");
    full.available = left.available < left.address ? left.available : left.address;
    full.installed = left.total < left.address ? left.total : left.address;
    full.fits = full.total - full.weights_mapped <= full.available && full.total <= full.installed;
    return info_write(given, &full, sizeof full, "pali_memory_plan");
}

pali_status pali_memory_plan_load(pali_memory_plan *given, const char *path, const pali_memory_request *asked) {
    API_NEED_AS(given, "plan");
    API_NEED(path);
    return plan(given, path, false, asked);
}

pali_status pali_memory_plan_random(pali_memory_plan *given, const char *shape, const pali_memory_request *asked) {
    API_NEED_AS(given, "plan");
    API_NEED(shape);
    return plan(given, shape, true, asked);
}
