/* objects.c: the objects of an answer as handles. */
#include "api/handles.h"

#include "infer/locate.h"
#include "model/box.h"

void pali_locate_options_init(pali_locate_options *options) {
    *options = (pali_locate_options){.struct_size = sizeof *options};
}

static pali_status locate_options_read(pali_locate_options *o, const pali_locate_options *given) {
    pali_locate_options_init(o);
    STATUS_TRY(options_read(o, sizeof *o, given, "pali_locate_options"));
    if ((int)o->convention < 0 || o->convention > PALI_BOX_1023) return status_fail(PALI_ERR_ARGUMENT, "convention: %d: expected 0 or 1", (int)o->convention);
    if (!(o->nms_iou >= 0 && o->nms_iou <= 1)) return status_fail(PALI_ERR_ARGUMENT, "nms_iou: %g: expected 0 to 1", o->nms_iou);
    if (!(o->min_score >= 0 && o->min_score <= 1)) return status_fail(PALI_ERR_ARGUMENT, "min_score: %g: expected 0 to 1", o->min_score);
    return PALI_OK;
}

pali_status pali_objects_find(pali_objects **out, const pali_tokenizer *handle, const int32_t *tokens, const float *logprobs, size_t n_tokens,
                              int32_t width, int32_t height, const pali_locate_options *options) {
    pali_locate_options o;
    objects *found;
    API_NEED(out);
    *out = NULL;
    API_NEED_AS(handle, "tokenizer");
    if (n_tokens) API_NEED(tokens);
    STATUS_TRY(locate_options_read(&o, options));
    if (n_tokens > SESSION_MAX_POSITIONS) return status_fail(PALI_ERR_LIMIT, "tokens: %zu, more than %u", n_tokens, SESSION_MAX_POSITIONS);
    if (width < 1 || height < 1) return status_fail(PALI_ERR_ARGUMENT, "picture of %d x %d pixels: sides must be positive", (int)width, (int)height);
    if (!logprobs && (o.nms_iou > 0 || o.min_score > 0)) return status_fail(PALI_ERR_ARGUMENT, "nms_iou, min_score: there are no scores without logprobs");
    STATUS_TRY(locate(&found, handle, tokens, logprobs, n_tokens));
    pali_status status = objects_drop(found, o.min_score, o.nms_iou);
    if (status != PALI_OK) {
        objects_free(found);
        return status;
    }
    found->width = width;
    found->height = height;
    found->convention = o.convention;
    *out = found;
    return PALI_OK;
}

size_t pali_objects_count(const pali_objects *handle) {
    return handle ? handle->n : 0;
}

size_t pali_objects_stray_count(const pali_objects *handle) {
    return handle ? handle->n_stray : 0;
}

pali_status pali_objects_get(const pali_objects *handle, size_t index, pali_object *to) {
    API_NEED_AS(handle, "objects");
    if (index >= handle->n) return status_fail(PALI_ERR_ARGUMENT, "object %zu: there are %zu", index, handle->n);
    const object *o = &handle->items[index];
    pali_object full = {.label = o->label, .n_label_bytes = o->n_label, .score = o->score, .has_seg = o->has_seg, .first_token = o->first, .n_tokens = o->n};
    memcpy(full.loc, o->loc, sizeof full.loc);
    memcpy(full.seg, o->seg, sizeof full.seg);
    box_pixels(full.box, full.box_px, o->loc, handle->width, handle->height, handle->convention);
    full.valid = box_valid(o->loc, full.box_px, handle->convention);
    return info_write(to, &full, sizeof full, "pali_object");
}

void pali_objects_free(pali_objects *handle) {
    objects_free(handle);
}
