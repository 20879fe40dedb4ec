/* adapter.c: adapter handles, and sessions that use them. */
#include "api/handles.h"

#include <math.h>

#include "base/mem.h"

#define SCALE_MAX 1e6f

pali_status pali_adapter_load(pali_adapter **out, pali_model *parent, const char *path) {
    adapter *a;
    API_NEED(out);
    *out = NULL;
    API_NEED_AS(parent, "model");
    API_NEED(path);
    STATUS_TRY(adapter_open(&a, path, parent->m, false));
    pali_adapter *handle = mem_calloc(1, sizeof *handle);
    if (!handle) {
        adapter_free(a);
        return status_no_memory(sizeof *handle);
    }
    handle->a = a;
    handle->model = parent;
    atomic_fetch_add(&parent->references, 1);
    atomic_store(&handle->references, 1);
    *out = handle;
    return PALI_OK;
}

void pali_adapter_free(pali_adapter *handle) {
    if (!handle || atomic_fetch_sub(&handle->references, 1) != 1) return;
    adapter_free(handle->a);
    model_release(handle->model);
    mem_free(handle);
}

pali_status pali_adapter_get_info(const pali_adapter *handle, pali_adapter_info *info) {
    API_NEED_AS(handle, "adapter");
    const adapter *a = handle->a;
    pali_adapter_info full = {
        .rank_min = (int32_t)a->rank_min,
        .rank_max = (int32_t)a->rank_max,
        .alpha = a->cfg.alpha,
        .rslora = a->cfg.rslora,
        .touches_vision = a->touches_vision,
        .touches_text = a->touches_text,
        .n_updated = a->n_updated,
        .n_replaced = a->n_replaced,
        .n_parameters = a->n_parameters,
        .memory_bytes = a->block_bytes,
        .targets = a->targets,
        .base_model = a->cfg.base,
    };
    return info_write(info, &full, sizeof full, "pali_adapter_info");
}

/* ---- In use ---- */

pali_status adapters_view(model **out, const pali_model *parent, const pali_adapter_use *uses, size_t n) {
    adapter_use list[ADAPTERS_MAX];
    *out = NULL;
    if (n == 0) return PALI_OK;
    API_NEED(uses);
    if (n > ADAPTERS_MAX) return status_fail(PALI_ERR_LIMIT, "adapters: %zu, more than %u at once", n, ADAPTERS_MAX);
    for (size_t i = 0; i < n; i++) {
        if (!uses[i].adapter) return status_fail(PALI_ERR_ARGUMENT, "adapters: adapter %zu of %zu is NULL", i, n);
        if (!(fabsf(uses[i].scale) <= SCALE_MAX)) return status_fail(PALI_ERR_ARGUMENT, "adapters: scale %g: expected a number of at most %g", (double)uses[i].scale, (double)SCALE_MAX);
        if (uses[i].adapter->model != parent) return status_fail(PALI_ERR_ARGUMENT, "%s: the adapter was loaded for another model", uses[i].adapter->a->path);
        list[i] = (adapter_use){uses[i].adapter->a, uses[i].scale};
    }
    return view_adapt(out, parent->m, list, n);
}

static bool touches_vision(pali_adapter *const *adapters, size_t n) {
    bool touches = false;
    for (size_t i = 0; i < n; i++) touches |= adapters[i]->a->touches_vision;
    return touches;
}

void session_adapters_drop(pali_session *s) {
    for (size_t i = 0; i < s->n_adapters; i++) pali_adapter_free(s->adapters[i]);
    mem_free(s->adapters);
    model_free(s->view);
    s->adapters = NULL;
    s->n_adapters = 0;
    s->view = NULL;
    s->s.m = s->model->m;
}

pali_status pali_session_set_adapters(pali_session *s, const pali_adapter_use *uses, size_t n) {
    model *view;
    API_NEED_AS(s, "session");
    for (const pali_batch *b = s->batches; b; b = b->next)
        if (b->b.n_pending) return status_fail(PALI_ERR_ARGUMENT, "adapters: a batch of this session has pending requests, whose answers would change half way");
    if (s->calibration) return status_fail(PALI_ERR_ARGUMENT, "adapters: a calibration of this session has begun, which would be of two models");
    STATUS_TRY(adapters_view(&view, s->model, uses, n));
    pali_adapter **adapters = mem_calloc(n, sizeof(pali_adapter *));
    if (!adapters) {
        model_free(view);
        return status_no_memory(n * sizeof *adapters);
    }
    for (size_t i = 0; i < n; i++) {
        adapters[i] = (pali_adapter *)(uintptr_t)uses[i].adapter; /* counted, otherwise not changed */
        atomic_fetch_add(&adapters[i]->references, 1);
    }
    if (touches_vision(s->adapters, s->n_adapters) || touches_vision(adapters, n)) features_clear(&s->s.features);
    session_adapters_drop(s);
    s->adapters = adapters;
    s->n_adapters = n;
    s->view = view;
    if (view) s->s.m = view;
    return PALI_OK;
}
