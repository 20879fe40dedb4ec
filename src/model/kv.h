/* kv.h: keys and values of one sequence, optionally on top of a shared, read-only base.
 *
 *   base (prefix: image + prompt)        own (generated or scored suffix)
 *   [0 ............... base->len)        [base->len ......... base->len + len)
 *
 * Beams and candidate answers share one prefix: each has an own cache whose `base` is the prefix's cache. A base has no
 * base itself and must outlive the caches on top of it. Values are float32: the reference's f32 run keeps them so. */
#ifndef PALI_MODEL_KV_H
#define PALI_MODEL_KV_H

#include "model/config.h"

typedef struct kv_cache {
    const struct kv_cache *base; /* NULL: none */
    size_t n_layers, row;        /* row = K * H floats per position */
    size_t len, cap;             /* own positions */
    float *k, *v;                /* [n_layers, cap, row] */
} kv_cache;

pali_status kv_init(kv_cache *kv, const gemma_config *cfg, const kv_cache *base);
/* Bytes of the keys and values of `cap` positions, and the capacity that a cache has once it must hold `need`. */
size_t kv_bytes(const gemma_config *cfg, size_t cap);
size_t kv_capacity(size_t cap, size_t need);
/* Makes room for n more positions; contents stay. */
pali_status kv_reserve(kv_cache *kv, size_t n_more);
/* Own rows of dst become those of src (same base): a beam takes over its parent. */
pali_status kv_copy(kv_cache *dst, const kv_cache *src);
void kv_free(kv_cache *kv);
static inline size_t kv_total(const kv_cache *kv) {
    return (kv->base ? kv->base->len : 0) + kv->len;
}

#endif
