/* hash.h: what tells contents apart: two independent 64-bit hashes, so that a false match needs 2^-128 of luck. Not against
 * somebody who looks for one. */
#ifndef PALI_BASE_HASH_H
#define PALI_BASE_HASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct hash_key {
    uint64_t hash[2];
} hash_key;

static inline bool hash_same(hash_key a, hash_key b) {
    return a.hash[0] == b.hash[0] && a.hash[1] == b.hash[1];
}

/* Of n bytes after what is in `start`: {{0}}, other numbers, or the hash of what came before. */
hash_key hash_bytes(hash_key start, const void *data, size_t n);

#endif
