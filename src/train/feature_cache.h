/* feature_cache.h: what a frozen tower made of each picture, so that it works once for all epochs.
 *
 * In memory up to a limit, what came first stays: every epoch asks for everything once, so nothing is gained by putting one
 * picture out for another. And, if there is a directory, in a file for each picture, which later runs find again. A file's name is
 * the fingerprint of all that makes the features and the hash of the picture's file; one that is not whole is written anew. A
 * cache may be used by several threads. */
#ifndef PALI_TRAIN_FEATURE_CACHE_H
#define PALI_TRAIN_FEATURE_CACHE_H

#include "base/hash.h"
#include "model/vit.h"

typedef struct feature_cache feature_cache;

typedef struct feature_cache_options {
    size_t n_floats;       /* of a picture */
    size_t memory_bytes;   /* at most, of features in memory */
    const char *dir;       /* NULL: memory only; it is made if it is not there */
    hash_key fingerprint;
    void (*warn)(void *user, const char *message); /* may be NULL */
    void *user;
} feature_cache_options;

pali_status feature_cache_new(feature_cache **out, const feature_cache_options *o);
void feature_cache_free(feature_cache *c);
size_t feature_cache_n_floats(const feature_cache *c);

/* The features [n_floats], or NULL. They are the cache's own, or were read into `room` [n_floats]. */
const float *feature_cache_find(feature_cache *c, hash_key key, float *room);
/* Remembers them. If a file cannot be written, the disk being full for one, it warns and goes on without writing. */
void feature_cache_put(feature_cache *c, hash_key key, const float *features);

/* Of the tower's weights as they are stored and computed with, its sizes and the picture's resize (PIL's code). */
pali_status feature_fingerprint(hash_key *out, const kernels *k, const vit *v, int resample);

#endif
