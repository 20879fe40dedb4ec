/* loader.h: rows made ready for the model on a thread of their own: read, tokenized, their pictures decoded and resized.
 *
 *   dataset, order --thread: row -> item--> queue of loader_ahead items --loader_next: micro-batch--> trainer
 *
 * Batches come in the order's order whatever the thread's luck. A row that fails is reported, counted and left out when its turn
 * comes; its batch is smaller by it. The thread goes on from epoch to epoch until the loader is closed. Rows of one picture that follow
 * one another have it decoded once. */
#ifndef PALI_TRAIN_LOADER_H
#define PALI_TRAIN_LOADER_H

#include <stdatomic.h>

#include "train/augment.h"
#include "train/dataset.h"
#include "train/feature_cache.h"
#include "train/order.h"
#include "train/sample.h"

/* Rows that wait: a micro-batch, so that the next is there when one has been trained with, within limits. A picture at R x R takes
 * 150 KB at 224 and 2.4 MB at 896; features read from a file 1.2 MB and 19 MB. */
#define LOADER_AHEAD_MIN 8u
#define LOADER_AHEAD_MAX 64u

static inline size_t loader_ahead(size_t batch_size) {
    return batch_size < LOADER_AHEAD_MIN ? LOADER_AHEAD_MIN : batch_size > LOADER_AHEAD_MAX ? LOADER_AHEAD_MAX : batch_size;
}

typedef struct loader_picture {
    const float *features; /* found in the cache; NULL: not there, then rgb is */
    float *room;           /* what features may point to */
    image rgb;             /* [R, R]: resize_to_pixels changes nothing but the form */
    hash_key key;          /* of what it shows: of its file, and if that is cropped or flipped of the place in the epoch as well */
} loader_picture;

typedef struct loader_item {
    size_t row;            /* of the dataset */
    sample text;
    loader_picture *pictures; /* [n_pictures] */
    size_t n_pictures;
    pali_status status;    /* not PALI_OK: `message` says why; such items are in no batch */
    char *message;
} loader_item;

typedef struct loader_batch {
    uint64_t epoch;
    size_t micro;       /* of the epoch */
    loader_item *items; /* [n] of at most the batch size; none if all its rows are bad */
    size_t n;
} loader_batch;

typedef struct loader_options {
    dataset *data;
    order *order;             /* the thread's while it runs, apart from its numbers of rows and batches */
    const sample_rules *rules;
    size_t image_size;        /* R */
    resize_filter filter;
    uint64_t seed;            /* of which suffix a row has */
    augment_options augment;  /* zeros: none */
    feature_cache *cache;     /* NULL: none; not together with augmentation */
    uint64_t epoch;           /* where to begin */
    size_t micro;
} loader_options;

/* Row `row` of the data as it is in an epoch; if that fails item->status says so. Any thread; loader_item_free it. */
void loader_item_load(loader_item *item, const loader_options *o, uint64_t epoch, size_t row);
void loader_item_free(loader_item *item);

typedef struct loader loader;

/* What the options point to must stay. */
pali_status loader_open(loader **out, const loader_options *options);
/* Ends the thread, after the picture it has in hand. */
void loader_close(loader *l);

/* The next micro-batch; waits for it. Non-zero *cancel (may be NULL) ends the wait with PALI_ERR_CANCELLED. Reports bad rows, and
 * fails when they are too many. loader_batch_free it. */
pali_status loader_next(loader *l, loader_batch *out, const atomic_int *cancel);
void loader_batch_free(loader_batch *b);

#endif
