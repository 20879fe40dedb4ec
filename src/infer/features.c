#include "infer/features.h"

#include <string.h>

#include "base/mem.h"

#define BYTES_MAX ((size_t)64 << 20)
#define SLOTS_MIN 4u
#define SLOTS_MAX 64u

/* Eight bytes a step. */
picture_key picture_key_of(const image *img) {
    size_t n = img->width * img->height * 3;
    uint64_t a = 0x9e3779b97f4a7c15u ^ img->width, b = 0xc2b2ae3d27d4eb4fu ^ img->height, word;
    for (size_t i = 0; i < n; i += 8) {
        word = 0;
        memcpy(&word, img->rgb + i, n - i < 8 ? n - i : 8);
        a = (a ^ word) * 0xff51afd7ed558ccdu;
        a ^= a >> 32;
        b = (b + word) * 0x9fb21c651e98df25u;
        b ^= b >> 29;
    }
    return (picture_key){{a, b}};
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
