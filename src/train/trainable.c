/* trainable.c: see trainable.h. */
#include "train/trainable.h"

#include <math.h>
#include <string.h>

#include "model/view.h"

static pali_status weights_new(trainable *t, const model *base, exec *e) {
    STATUS_TRY(view_adapt(&t->whole, base, NULL, 0));
    STATUS_TRY(params_of_spec(&t->weights, &t->whole->spec, t->o.groups));
    STATUS_TRY(params_alloc(&t->weights, t->o.storage, t->o.half_grads));
    if (e) STATUS_TRY(params_load(&t->weights, e));
    params_bind(&t->weights);
    t->p = &t->weights;
    t->view = t->whole;
    return PALI_OK;
}

/* What was asked for, if anything was, and what is there. */
static pali_status init_contradicts(const trainable *t, const char *what, double asked, double there) {
    if (asked == 0 || asked == there) return PALI_OK;
    return status_fail(PALI_ERR_ARGUMENT, "%s: %s: it has %g, %g was asked for", t->init->path, what, there, asked);
}

/* Training begins with what its directory says. Targets that were asked for must come to the same modules: init_copy sees. */
static pali_status init_open(trainable *t, const model *base) {
    lora_options *o = &t->o.lora;
    STATUS_TRY(adapter_open(&t->init, t->o.init, base, false));
    const adapter *a = t->init;
    if (a->n_replaced) return status_fail(PALI_ERR_UNSUPPORTED, "%s: brings whole weights (modules_to_save): only low-rank updates can be trained on", a->path);
    if (a->rank_min != a->rank_max || a->cfg.n_alphas) return status_fail(PALI_ERR_UNSUPPORTED, "%s: ranks or alphas that differ from layer to layer cannot be trained on", a->path);
    STATUS_TRY(init_contradicts(t, "rank", (double)o->rank, (double)a->rank_max));
    STATUS_TRY(init_contradicts(t, "alpha", o->alpha, a->cfg.alpha));
    if (o->rslora && !a->cfg.rslora) return status_fail(PALI_ERR_ARGUMENT, "%s: rslora: it has alpha / rank, alpha / sqrt(rank) was asked for", a->path);
    o->rank = a->rank_max;
    o->alpha = a->cfg.alpha;
    o->rslora = a->cfg.rslora;
    o->text_only |= !a->touches_vision;
    if (!o->targets) o->targets = a->targets;
    return PALI_OK;
}

static pali_status init_mismatch(const trainable *t) {
    const char *path = t->init->path, *there = t->init->targets, *asked = t->o.lora.targets;
    const bool vision = t->init->touches_vision, text_only = t->o.lora.text_only;
    if (strcmp(there, asked) == 0 && vision != text_only)
        return status_fail(PALI_ERR_UNSUPPORTED, "%s: some layers have no update that others of their names have: cannot be trained on", path);
    return status_fail(PALI_ERR_ARGUMENT, "%s: targets: it has %s%s, %s%s was asked for", path, there, vision ? "" : " (text model)", asked, text_only ? " (text model)" : "");
}

static pali_status init_copy(trainable *t) {
    param *q = t->lora.params.items;
    for (size_t i = 0; i < t->init->n_parts; i++) {
        const adapter_part *from = &t->init->parts[i];
        if (from->has_bias) return status_fail(PALI_ERR_UNSUPPORTED, "%s: has biases: cannot be trained on", t->init->path);
        if (from->rank != t->lora.adapter->parts[i].rank) return init_mismatch(t);
        if (!from->rank) continue;
        memcpy(q[0].value, from->a.data, q[0].n * sizeof(float));
        memcpy(q[1].value, from->b.data, q[1].n * sizeof(float));
        q += 2;
    }
    return PALI_OK;
}

static pali_status adapters_new(trainable *t, const model *base) {
    if (t->o.init) STATUS_TRY(init_open(t, base));
    STATUS_TRY(lora_training_new(&t->lora, base, &t->o.lora));
    if (t->o.init) STATUS_TRY(init_copy(t));
    t->p = &t->lora.params;
    t->view = t->lora.view;
    return PALI_OK;
}

pali_status trainable_new(trainable *out, const model *base, const trainable_options *o, exec *e) {
    *out = (trainable){.o = *o};
    pali_status s = o->adapters ? adapters_new(out, base) : weights_new(out, base, e);
    if (s != PALI_OK) trainable_free(out);
    return s;
}

void trainable_free(trainable *t) {
    model_free(t->whole);
    params_free(&t->weights);
    lora_training_free(&t->lora);
    adapter_free(t->init);
    *t = (trainable){0};
}

bool trainable_is_finite(const trainable *t) {
    for (size_t i = 0; i < t->p->n; i++) {
        const param *q = &t->p->items[i];
        float sum = 0; /* of zeros, unless a value is not finite */
        for (size_t j = 0; q->value && j < q->n; j++) sum += 0 * q->value[j];
        if (!isfinite(sum)) return false;
        for (size_t j = 0; q->half && j < q->n; j++)
            if ((q->half[j] & 0x7f80) == 0x7f80) return false;
    }
    return true;
}
