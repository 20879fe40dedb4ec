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

static pali_status plan(pali_memory_plan *given, const char *name, bool random, const pali_memory_request *asked) {
    pali_memory_request r;
    pali_model_options o;
    pali_memory_plan full;
    plan_request q;
    weights_memory sizes;
    memory_free left;
    model *m;
    pali_memory_request_init(&r);
    STATUS_TRY(options_read(&r, sizeof r, asked, "pali_memory_request"));
    STATUS_TRY(model_options_read(&o, r.model));
    q = (plan_request){.n_threads = r.n_threads, .tokenizer = !random || o.tokenizer_path};
    STATUS_TRY(number_read(&q.n_images, r.n_images, 1, SESSION_MAX_POSITIONS, "n_images"));
    STATUS_TRY(number_read(&q.n_text_tokens, r.prompt_tokens, 32, SESSION_MAX_POSITIONS, "prompt_tokens"));
    STATUS_TRY(number_read(&q.max_tokens, r.max_tokens, 256, SESSION_MAX_POSITIONS, "max_tokens"));
    STATUS_TRY(number_read(&q.n_beams, r.num_beams, 1, BEAM_MAX, "num_beams"));
    STATUS_TRY(number_read(&q.n_sequences, r.max_sequences, 1, DECODE_MAX, "max_sequences"));
    q.picture_bytes = r.picture_bytes ? r.picture_bytes : (uint64_t)PICTURE_BYTES_DEFAULT * q.n_images * q.n_sequences;
    model_options inner = model_options_inner(&o);
    STATUS_TRY(model_outline(&m, &sizes, name, random, &inner));
    pali_status status = plan_make(&full, m, &sizes, &q);
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
