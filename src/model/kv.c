#include "model/kv.h"

#include <string.h>

#include "base/mem.h"

#define KV_GROW 64u /* positions added at once while decoding */

pali_status kv_init(kv_cache *kv, const gemma_config *cfg, const kv_cache *base) {
    *kv = (kv_cache){.base = base, .n_layers = cfg->n_layers};
    if (base && base->base) return status_fail(PALI_ERR_INTERNAL, "a base cache cannot have a base");
    if (!mem_mul(&kv->row, cfg->n_kv_heads, cfg->head_dim)) return status_fail(PALI_ERR_LIMIT, "kv cache: row size overflows");
    return PALI_OK;
}

/* Copies the own rows of every layer between caches of different capacity. */
static void copy_rows(float *dst, size_t dst_cap, const float *src, size_t src_cap, const kv_cache *kv) {
    for (size_t l = 0; l < kv->n_layers; l++)
        memcpy(dst + l * dst_cap * kv->row, src + l * src_cap * kv->row, kv->len * kv->row * sizeof *dst);
}

size_t kv_bytes(const gemma_config *cfg, size_t cap) {
    return 2 * cfg->n_layers * cap * cfg->n_kv_heads * cfg->head_dim * sizeof(float);
}

size_t kv_capacity(size_t cap, size_t need) {
    return need <= cap ? cap : cap ? need + KV_GROW : need; /* a prefix knows its length; what grows, grows on */
}

pali_status kv_reserve(kv_cache *kv, size_t n_more) {
    size_t need, cap, floats, bytes;
    if (!mem_add(&need, kv->len, n_more)) return status_fail(PALI_ERR_LIMIT, "kv cache: length overflows");
    if (need <= kv->cap) return PALI_OK;
    cap = kv_capacity(kv->cap, need);
    if (!mem_mul(&floats, cap, kv->row) || !mem_mul(&floats, floats, kv->n_layers) || !mem_mul(&bytes, floats, sizeof(float)))
        return status_fail(PALI_ERR_LIMIT, "kv cache: %zu positions overflow", cap);
    float *k = mem_alloc(bytes, 1), *v = mem_alloc(bytes, 1);
    if (!k || !v) {
        mem_free(k);
        mem_free(v);
        return status_no_memory(bytes);
    }
    if (kv->len) {
        copy_rows(k, cap, kv->k, kv->cap, kv);
        copy_rows(v, cap, kv->v, kv->cap, kv);
    }
    mem_free(kv->k);
    mem_free(kv->v);
    kv->k = k;
    kv->v = v;
    kv->cap = cap;
    return PALI_OK;
}

pali_status kv_copy(kv_cache *dst, const kv_cache *src) {
    dst->len = 0;
    STATUS_TRY(kv_reserve(dst, src->len));
    dst->len = src->len;
    if (src->len) {
        copy_rows(dst->k, dst->cap, src->k, src->cap, src);
        copy_rows(dst->v, dst->cap, src->v, src->cap, src);
    }
    return PALI_OK;
}

void kv_free(kv_cache *kv) {
    mem_free(kv->k);
    mem_free(kv->v);
    *kv = (kv_cache){0};
}
