/* trainable.c: see trainable.h. */
#include "train/trainable.h"

#include <math.h>

#include "model/view.h"

static pali_status weights_new(trainable *t, const model *base, exec *e) {
    STATUS_TRY(view_adapt(&t->whole, base, NULL, 0));
    STATUS_TRY(params_of_spec(&t->weights, &t->whole->spec, t->o.groups));
    STATUS_TRY(params_alloc(&t->weights, t->o.storage, false));
    if (e) STATUS_TRY(params_load(&t->weights, e));
    params_bind(&t->weights);
    t->p = &t->weights;
    t->view = t->whole;
    return PALI_OK;
}

static pali_status adapters_new(trainable *t, const model *base) {
    STATUS_TRY(lora_training_new(&t->lora, base, &t->o.lora));
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
