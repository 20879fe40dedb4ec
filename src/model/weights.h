/* weights.h: the files of a checkpoint directory as one set of tensors under canonical names, and the memory of whatever
 * had to be converted. */
#ifndef PALI_MODEL_WEIGHTS_H
#define PALI_MODEL_WEIGHTS_H

#include "io/safetensors.h"
#include "model/spec.h"
#include "tensor/exec.h"

typedef struct weights_entry {
    char *name;             /* canonical */
    const char *file;       /* path, owned by weights */
    const st_tensor *tensor;
    bool used;              /* the spec asked for it */
} weights_entry;

typedef struct weights {
    safetensors *files;     /* [n_files] */
    char **paths;           /* [n_files] */
    size_t n_files;
    weights_entry *entries; /* [n_entries] sorted by name */
    size_t n_entries;
    float *vectors;         /* all vectors of the model */
    void *block;            /* matrices that had to be converted, or a random model's */
    size_t block_bytes;
} weights;

/* Opens model.safetensors, or the shards that model.safetensors.index.json names, inside `dir`. */
pali_status weights_open(weights **out, const char *dir);
void weights_free(weights *w);
/* Type of a tensor that was bound (F32, BF16 or F16). */
pali_dtype weights_dtype(const st_tensor *t);
const weights_entry *weights_find(const weights *w, const char *canonical_name);
/* Both are there with the same dtype, shape and bytes. */
bool weights_same(const weights *w, const char *a, const char *b);

/* Points every matrix of the spec at its data and copies every vector; checks presence, dtype and shape. Matrices of
 * another dtype than asked for are converted into w->block (AUTO: none are). */
pali_status weights_bind(weights *w, const spec *s, pali_dtype dtype, const char *dir, exec *e, pali_progress_fn progress, void *user);
/* Allocates and fills everything with random values of a plausible size. */
pali_status weights_random(weights **out, const spec *s, pali_dtype dtype, uint64_t seed, exec *e, pali_progress_fn progress, void *user);
/* Brings the mapped pages of every bound matrix into memory, in parallel, so that the first token does not wait for them. */
pali_status weights_prefault(weights *w, const spec *s, exec *e, pali_progress_fn progress, void *user);

#endif
