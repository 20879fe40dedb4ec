/* contents.c: what files hold. */
#include "api/handles.h"

#include "base/mem.h"
#include "model/contents.h"

struct pali_contents {
    contents *c;
    tokenizer *t; /* NULL: none */
};

/* Takes over both. */
static pali_status handle_new(pali_contents **out, contents *c, tokenizer *t) {
    pali_contents *handle = mem_calloc(1, sizeof *handle);
    if (!handle) {
        contents_free(c);
        tokenizer_free(t);
        return status_no_memory(sizeof *handle);
    }
    model_adopt_ids(&c->m, t);
    *handle = (pali_contents){c, t};
    *out = handle;
    return PALI_OK;
}

pali_status pali_contents_load(pali_contents **out, const char *path, const pali_model_options *options) {
    pali_model_options o;
    model_options inner;
    contents *c;
    tokenizer *t = NULL;
    API_NEED(out);
    *out = NULL;
    API_NEED(path);
    STATUS_TRY(model_options_read(&o, &inner, options));
    STATUS_TRY(contents_load(&c, path, &inner));
    pali_status s = c->has_config ? model_tokenizer_load(&t, &c->m, &o) : PALI_OK;
    if (s != PALI_OK && s != PALI_ERR_MEMORY) s = contents_add_problem(c);
    if (s != PALI_OK) {
        contents_free(c);
        return s;
    }
    return handle_new(out, c, t);
}

pali_status pali_contents_random(pali_contents **out, const char *shape, const pali_model_options *options) {
    pali_model_options o;
    model_options inner;
    contents *c;
    API_NEED(out);
    *out = NULL;
    API_NEED(shape);
    STATUS_TRY(model_options_read(&o, &inner, options));
    STATUS_TRY(contents_random(&c, shape, &inner));
    return handle_new(out, c, NULL);
}

void pali_contents_free(pali_contents *handle) {
    if (!handle) return;
    contents_free(handle->c);
    tokenizer_free(handle->t);
    mem_free(handle);
}

const char *pali_contents_problem(const pali_contents *handle) {
    return handle && handle->c->problem ? handle->c->problem : "";
}

int pali_contents_is_adapter(const pali_contents *handle) {
    return handle && handle->c->is_adapter;
}

pali_status pali_contents_get_adapter(const pali_contents *handle, pali_adapter_info *info) {
    API_NEED_AS(handle, "contents");
    if (!handle->c->is_adapter) return status_fail(PALI_ERR_ARGUMENT, "contents: a model's, not those of an adapter");
    const adapter_summary *a = &handle->c->adapter;
    pali_adapter_info full = {.rank_min = (int32_t)a->rank_min, .rank_max = (int32_t)a->rank_max, .alpha = a->cfg.alpha, .rslora = a->cfg.rslora,
                              .touches_vision = a->touches_vision, .touches_text = a->touches_text, .n_updated = a->n_updated,
                              .n_replaced = a->n_replaced, .n_parameters = a->n_parameters, .targets = a->targets ? a->targets : "", .base_model = a->cfg.base};
    return info_write(info, &full, sizeof full, "pali_adapter_info");
}

pali_status pali_contents_get_info(const pali_contents *handle, pali_model_info *info) {
    API_NEED_AS(handle, "contents");
    if (handle->c->is_adapter) return status_fail(PALI_ERR_ARGUMENT, "contents: an adapter's, not those of a model");
    if (!handle->c->has_config) return status_fail(PALI_ERR_FORMAT, "%s", handle->c->problem);
    pali_model_info full = model_info(&handle->c->m, handle->t);
    return info_write(info, &full, sizeof full, "pali_model_info");
}

size_t pali_contents_tensor_count(const pali_contents *handle) {
    return handle ? handle->c->n : 0;
}

pali_status pali_contents_get_tensor(const pali_contents *handle, size_t index, pali_tensor_info *info) {
    API_NEED_AS(handle, "contents");
    if (index >= handle->c->n) return status_fail(PALI_ERR_ARGUMENT, "tensor %zu: there are %zu", index, handle->c->n);
    const contents_tensor *t = &handle->c->tensors[index];
    const weights_entry *e = t->entry;
    pali_tensor_info full = {.name = t->name, .file = e ? e->file : "", .dtype = t->dtype, .n_dims = (int32_t)(t->n_dims < 4 ? t->n_dims : 4),
                             .stored = e ? e->dtype_name : "", .state = t->state, .n_bytes = t->n_bytes, .problem = t->problem ? t->problem : ""};
    for (size_t i = 0; i < t->n_dims && i < 4; i++) full.dims[i] = t->dims[i];
    return info_write(info, &full, sizeof full, "pali_tensor_info");
}
