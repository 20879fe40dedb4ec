/* shards.h: model.safetensors.index.json -> the files that hold the tensors (spec inference 3.1).
 *
 *   {"metadata": {...}, "weight_map": {tensor name: shard file name}}
 *
 * Only the file names matter: which tensor lies where is read from the shards themselves. */
#ifndef PALI_IO_SHARDS_H
#define PALI_IO_SHARDS_H

#include <stddef.h>

#include "base/status.h"

#define SHARDS_MAX_FILES 1024u
#define SHARDS_MAX_TENSORS 65536u

typedef struct shards {
    char **names; /* [n] plain file names, each once, in order of first mention */
    size_t n;
} shards;

/* A name that could reach outside the index's directory is an error. `name` is for messages. */
pali_status shards_parse(shards *out, const char *json, size_t n_bytes, const char *name);
pali_status shards_load(shards *out, const char *path);
void shards_free(shards *s);

#endif
