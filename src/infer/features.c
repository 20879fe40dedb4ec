#include "infer/features.h"

#include <string.h>

#include "base/mem.h"

#define BYTES_MAX ((size_t)64 << 20)
#define SLOTS_MIN 4u
#define SLOTS_MAX 64u

picture_key picture_key_of(const image *img) {
    return hash_bytes((hash_key){{img->width, img->height}}, img->rgb, img->width * img->height * 3);
}

size_t features_slots(size_t n_floats) {
    size_t n = BYTES_MAX / (n_floats * sizeof(float));
    return n < SLOTS_MIN ? SLOTS_MIN : n > SLOTS_MAX ? SLOTS_MAX : n;
}

pali_status features_init(features *f, size_t n_floats) {
    *f = (features){.n_slots = features_slots(n_floats), .n_floats = n_floats};
    f->slots = mem_calloc(f->n_slots, sizeof *f->slots);
    return f->slots ? PALI_OK : status_no_memory(f->n_slots * sizeof *f->slots);
}

void features_free(features *f) {
    for (size_t i = 0; f->slots && i < f->n_slots; i++) mem_free(f->slots[i].rows);
    mem_free(f->slots);
    *f = (features){0};
}

void features_clear(features *f) {
    for (size_t i = 0; i < f->n_slots; i++) f->slots[i].filled = false;
}

static feature *find(const features *f, const picture_key *key) {
    for (size_t i = 0; i < f->n_slots; i++)
        if (f->slots[i].filled && memcmp(&f->slots[i].key, key, sizeof *key) == 0) return &f->slots[i];
    return NULL;
}

const float *features_find(features *f, const picture_key *key) {
    feature *slot = find(f, key);
    if (!slot) return NULL;
    slot->last_use = ++f->clock;
    return slot->rows;
}

bool features_has(const features *f, const picture_key *key) {
    return find(f, key) != NULL;
}

pali_status features_slot(features *f, feature **out) {
    feature *slot = &f->slots[0];
    for (size_t i = 1; i < f->n_slots; i++)
        if (f->slots[i].last_use < slot->last_use) slot = &f->slots[i];
    if (!slot->rows && !(slot->rows = mem_alloc(f->n_floats, sizeof *slot->rows))) return status_no_memory(f->n_floats * sizeof *slot->rows);
    slot->filled = false;
    slot->last_use = ++f->clock;
    *out = slot;
    return PALI_OK;
}
