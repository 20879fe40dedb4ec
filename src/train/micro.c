/* micro.c: see micro.h. */
#include "train/micro.h"

#include "base/mem.h"
#include "input/resize.h"

static size_t pixel_floats(const model *m) {
    return 3 * m->cfg.vit.image_size * m->cfg.vit.image_size;
}

static size_t feature_floats(const model *m) {
    return m->cfg.vit.n_patches * m->cfg.vit.width;
}

static pali_status memory_get(micro *out, const model *m, bool features, const loader_batch *b) {
    size_t n_floats;
    for (size_t i = 0; i < b->n; i++) out->n_pictures += b->items[i].n_pictures;
    out->items = mem_calloc(b->n, sizeof *out->items);
    out->pictures = mem_calloc(out->n_pictures, sizeof *out->pictures);
    out->keys = mem_alloc(out->n_pictures, sizeof *out->keys);
    if (mem_mul(&n_floats, out->n_pictures, features ? feature_floats(m) : pixel_floats(m))) out->room = mem_alloc(n_floats, sizeof(float));
    return out->items && out->pictures && out->keys && out->room ? PALI_OK : status_no_memory(out->n_pictures * pixel_floats(m) * sizeof(float));
}

static pali_status features_make(float *out, exec *e, const model *m, feature_cache *cache, const loader_picture *p) {
    float *pixels = mem_alloc(pixel_floats(m), sizeof *pixels);
    if (!pixels) return status_no_memory(pixel_floats(m) * sizeof *pixels);
    pali_status s = resize_to_pixels(pixels, m->cfg.vit.image_size, &p->rgb, (resize_filter)m->cfg.resample);
    if (s == PALI_OK) s = vit_forward(e, &m->vit, out, pixels);
    mem_free(pixels);
    if (s == PALI_OK) feature_cache_put(cache, p->key, out);
    return s;
}

/* What a row before has made of the same picture; NULL: none has it. Such rows are neighbours as a rule. */
static const backprop_picture *picture_known(const micro *m, size_t at) {
    for (size_t i = at; i-- > 0;)
        if (hash_same(m->keys[i], m->keys[at])) return &m->pictures[i];
    return NULL;
}

static pali_status picture_make(backprop_picture *out, float *room, exec *e, const model *m, feature_cache *cache, const loader_picture *p) {
    if (!cache) {
        out->pixels = room;
        return resize_to_pixels(room, m->cfg.vit.image_size, &p->rgb, (resize_filter)m->cfg.resample);
    }
    out->features = p->features ? p->features : room;
    return p->features ? PALI_OK : features_make(room, e, m, cache, p);
}

pali_status micro_make(micro *out, exec *e, const model *m, feature_cache *cache, const loader_batch *b, sample_mean mean) {
    const size_t n_floats = cache ? feature_floats(m) : pixel_floats(m);
    *out = (micro){.n = b->n};
    STATUS_TRY(memory_get(out, m, cache, b));
    for (size_t i = 0; i < b->n; i++) {
        out->n_tokens += b->items[i].text.n;
        out->n_targets += sample_n_targets(&b->items[i].text);
    }
    for (size_t i = 0, at = 0; i < b->n; i++) {
        const loader_item *item = &b->items[i];
        out->items[i] = (backprop_item){.text = &item->text, .pictures = out->pictures + at, .n_pictures = item->n_pictures};
        out->items[i].weight = sample_weight(mean, sample_n_targets(&item->text), out->n_targets);
        for (size_t j = 0; j < item->n_pictures; j++, at++) {
            out->keys[at] = item->pictures[j].key;
            const backprop_picture *known = picture_known(out, at);
            if (known) out->pictures[at] = *known;
            else STATUS_TRY(picture_make(&out->pictures[at], out->room + at * n_floats, e, m, cache, &item->pictures[j]));
        }
    }
    return PALI_OK;
}

void micro_free(micro *m) {
    mem_free(m->items);
    mem_free(m->pictures);
    mem_free(m->keys);
    mem_free(m->room);
    *m = (micro){0};
}
