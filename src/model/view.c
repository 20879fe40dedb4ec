#include "model/view.h"

#include <string.h>

#include "base/mem.h"

pali_status view_new(model **out, const model *base) {
    size_t n_vit = base->cfg.vit.n_layers, n_text = base->cfg.text.n_layers;
    *out = NULL;
    model *m = mem_calloc(1, sizeof *m);
    if (!m) return status_no_memory(sizeof *m);
    *m = (model){.base = base, .cfg = base->cfg, .vit = base->vit, .text = base->text, .path = base->path, .weights = base->weights};
    memcpy(m->name, base->name, sizeof m->name);
    m->vit.layers = mem_alloc(n_vit, sizeof *m->vit.layers);
    m->text.layers = mem_alloc(n_text, sizeof *m->text.layers);
    pali_status s = m->vit.layers && m->text.layers ? PALI_OK : status_no_memory(n_text * sizeof *m->text.layers);
    if (s == PALI_OK) {
        memcpy(m->vit.layers, base->vit.layers, n_vit * sizeof *m->vit.layers);
        memcpy(m->text.layers, base->text.layers, n_text * sizeof *m->text.layers);
        s = spec_build(&m->spec, &m->vit, &m->text);
    }
    if (s != PALI_OK) {
        model_free(m);
        return s;
    }
    *out = m;
    return PALI_OK;
}

/* Puts in the weights that adapters bring, of those that are (not) a copy beside the base's own. */
static pali_status values_put(model *m, const adapter_use *uses, size_t n, bool separate, bool *taken) {
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < uses[i].adapter->n_parts; j++) {
            const adapter_part *part = &uses[i].adapter->parts[j];
            const spec_tensor *t = &m->spec.tensors[j];
            if (!part->replaces || part->separate != separate) continue;
            if (taken[j]) return status_fail(PALI_ERR_ARGUMENT, "%s: %s: another adapter has weights of its own for it too", uses[i].adapter->path, t->name);
            taken[j] = true;
            if (t->matrix)
                *t->matrix = part->value;
            else
                *t->vector = part->vector;
        }
    }
    return PALI_OK;
}

/* The head is the table of the base until one of the two is changed without the other. */
static bool head_must_part(const model *m, const adapter_use *uses, size_t n) {
    size_t head = m->spec.n - 1, embed = (size_t)(spec_of(&m->spec, &m->text.embed) - m->spec.tensors);
    for (size_t i = 0; i < n; i++) {
        const adapter_part *h = &uses[i].adapter->parts[head], *e = &uses[i].adapter->parts[embed];
        if (h->rank || h->replaces || e->rank || (e->replaces && e->separate)) return true;
    }
    return false;
}

/* Every update becomes a link of its matrix's list, the first use's first. */
static pali_status loras_put(model *m, const adapter_use *uses, size_t n) {
    size_t count = 0, n_floats = 0;
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < m->spec.n; j++) {
            const adapter_part *part = &uses[i].adapter->parts[j];
            count += part->rank > 0;
            if (part->has_bias) n_floats += part->b.rows;
        }
    }
    m->loras = mem_alloc(1, count * sizeof *m->loras + n_floats * sizeof(float) + 1);
    if (!m->loras) return status_no_memory(count * sizeof *m->loras);
    lora *l = m->loras;
    float *bias = (float *)(void *)(m->loras + count);
    for (size_t i = n; i-- > 0;) {
        for (size_t j = 0; j < m->spec.n; j++) {
            const adapter_part *part = &uses[i].adapter->parts[j];
            mat *w = m->spec.tensors[j].matrix;
            if (!part->rank) continue;
            *l = (lora){.next = w->lora, .a = part->a, .b = part->b, .scale = part->scale * uses[i].scale, .bias = part->has_bias ? bias : NULL};
            for (size_t k = 0; l->bias && part->bias && k < part->b.rows; k++) bias[k] = l->scale * part->bias[k];
            if (l->bias) bias += part->b.rows;
            w->lora = l++;
        }
    }
    return PALI_OK;
}

/* linear_geglu takes both or neither in blocks. */
static pali_status gates_check(const model *m) {
    for (size_t i = 0; i < m->cfg.text.n_layers; i++) {
        const gemma_layer *l = &m->text.layers[i];
        if (dtype_is_blocks(l->gate.dtype) != dtype_is_blocks(l->up.dtype))
            return status_fail(PALI_ERR_UNSUPPORTED, "%s: an adapter has a gate_proj or up_proj of its own beside a quantized one: expected both", m->name);
    }
    return PALI_OK;
}

static pali_status fill(model *m, const adapter_use *uses, size_t n) {
    bool *taken = mem_calloc(m->spec.n, sizeof *taken);
    if (!taken) return status_no_memory(m->spec.n);
    pali_status s = values_put(m, uses, n, false, taken);
    if (m->text.head.dtype == PALI_DTYPE_AUTO && head_must_part(m, uses, n)) m->text.head = m->text.embed;
    if (s == PALI_OK) s = values_put(m, uses, n, true, taken);
    mem_free(taken);
    if (s == PALI_OK) s = gates_check(m);
    if (s == PALI_OK) s = loras_put(m, uses, n);
    m->cfg.tied = m->text.head.dtype == PALI_DTYPE_AUTO;
    if (m->cfg.tied) m->spec.n--;
    return s;
}

pali_status view_adapt(model **out, const model *base, const adapter_use *uses, size_t n) {
    model *m;
    *out = NULL;
    STATUS_TRY(view_new(&m, base));
    pali_status s = fill(m, uses, n);
    if (s != PALI_OK) {
        model_free(m);
        return s;
    }
    *out = m;
    return PALI_OK;
}
