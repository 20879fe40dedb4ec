/* micro.h: from the rows of a micro-batch as the loader has them to what backprop takes: pictures become pixels where the tower is
 * trained, and features where it is frozen, which come from the cache or are computed and go there. Rows that show the same picture
 * get the same pixels or features, in one place. */
#ifndef PALI_TRAIN_MICRO_H
#define PALI_TRAIN_MICRO_H

#include "train/backprop.h"
#include "train/loader.h"

typedef struct micro {
    backprop_item *items;       /* [n] */
    size_t n, n_pictures, n_tokens, n_targets;
    backprop_picture *pictures; /* [n_pictures] */
    hash_key *keys;             /* [n_pictures] */
    float *room;                /* [n_pictures, floats of one]: of those that none before shows */
} micro;

/* cache NULL: pixels. The batch must stay as long. Free with micro_free, also after a failure. */
pali_status micro_make(micro *out, exec *e, const model *m, feature_cache *cache, const loader_batch *b, sample_mean mean);
void micro_free(micro *m);

#endif
