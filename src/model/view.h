/* view.h: a model with adapters in it, made of the base model and the adapters without copying or changing either: structs of its
 * own whose matrices point to the base's data, with lists of updates, or to an adapter's where that brings weights of its own.
 * Wherever a model computes, a view does; saving one merges (mat_rows_f32). Base and adapters must outlive it. */
#ifndef PALI_MODEL_VIEW_H
#define PALI_MODEL_VIEW_H

#include "model/adapter.h"

typedef struct adapter_use {
    const adapter *adapter;
    float scale; /* times the adapter's own */
} adapter_use;

/* The base's structs again, and the spec with the head in any case: a view's is the spec's last tensor, absent if tied. */
pali_status view_new(model **out, const model *base);
/* base with the updates of all uses added up. Weights of its own can be brought by one of them only. */
pali_status view_adapt(model **out, const model *base, const adapter_use *uses, size_t n);

#endif
