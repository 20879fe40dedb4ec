/* features.h: projector rows of the pictures a session saw last. They depend on the picture alone; the keys and values of
 * its tokens do not, so no more than this can be kept (spec 2.10). */
#ifndef PALI_INFER_FEATURES_H
#define PALI_INFER_FEATURES_H

#include <stdbool.h>

#include "base/hash.h"
#include "input/image.h"

/* Of the size and the pixels. */
typedef hash_key picture_key;

picture_key picture_key_of(const image *img);

typedef struct feature {
    picture_key key;
    float *rows;       /* [P, D]; NULL: no memory yet */
    bool filled;
    uint64_t last_use;
} feature;

typedef struct features {
    feature *slots;    /* [n_slots] */
    size_t n_slots, n_floats;
    uint64_t clock;
} features;

/* How many pictures of n_floats are remembered. */
size_t features_slots(size_t n_floats);
/* Remembers as many pictures of n_floats = P * D as 64 MiB hold, but between 4 and 64; memory comes as it is needed. */
pali_status features_init(features *f, size_t n_floats);
void features_free(features *f);
/* Forgets all pictures; keeps the memory. */
void features_clear(features *f);
/* The rows of a picture, or NULL. They stay until the next features_slot. */
const float *features_find(features *f, const picture_key *key);
bool features_has(const features *f, const picture_key *key);
/* A slot to fill, the one unused for longest; set its key and `filled` when its rows are there. */
pali_status features_slot(features *f, feature **out);

#endif
