/* checkpoint.h: tiny checkpoints for tests: written in every layout, dtype and sharding, at odd byte offsets, changed and broken.
 * Functions fail the running cmocka test. */
#ifndef PALI_TESTS_CHECKPOINT_H
#define PALI_TESTS_CHECKPOINT_H

#include "base/rng.h"
#include "model/model.h"

#define MAX_TENSORS 128
#define MAX_FILE (256u << 10)
#define N_LAYOUTS 7

typedef struct tensor {
    char name[SPEC_NAME_MAX]; /* canonical, or as in the file if `raw` */
    const char *dtype;        /* of the file */
    size_t n_dims, dims[WEIGHTS_MAX_DIMS], n;
    float *values; /* what a reader must see: rounded to the dtype */
    int shard;
    bool raw;
} tensor;

typedef struct checkpoint {
    char dir[64];
    tensor tensors[MAX_TENSORS];
    size_t n;
    char config[1024];
    rng r;
} checkpoint;

typedef void (*layout_fn)(char *out, size_t n, const char *canonical);
/* Key layouts of spec 3.2 and 3.3, and wrappers seen in the wild. */
extern const layout_fn k_layouts[N_LAYOUTS];
void layout_a(char *out, size_t n, const char *name);
void layout_b(char *out, size_t n, const char *name);
void layout_c(char *out, size_t n, const char *name);

/* Just its config.json, into c->config. */
void checkpoint_config(checkpoint *c, int generation);
/* All tensors of the tiny model. dtype "mixed" takes turns. */
void checkpoint_new(checkpoint *c, int generation, const char *dtype);
void checkpoint_free(checkpoint *c);
tensor *checkpoint_find(checkpoint *c, const char *name);
tensor *checkpoint_add(checkpoint *c, const char *name, const char *dtype, size_t n_dims, const size_t *dims);
void checkpoint_drop(checkpoint *c, const char *name);
void checkpoint_reshape(checkpoint *c, const char *name, size_t n_dims, size_t d0, size_t d1);

/* Files in its directory: one of those that checkpoint_free removes. */
void checkpoint_path(char *out, size_t n, const checkpoint *c, const char *name);
void checkpoint_write(const checkpoint *c, const char *name, const void *data, size_t n);
void checkpoint_write_text(const checkpoint *c, const char *name, const char *text);
void checkpoint_write_config(const checkpoint *c);
/* Writes the tensors of one shard; the header's length is odd, so that nothing is aligned. */
void checkpoint_write_shard(const checkpoint *c, const char *file, int shard, layout_fn layout);
void checkpoint_write_index(const checkpoint *c, layout_fn layout);
void checkpoint_remove_files(const checkpoint *c);

pali_status checkpoint_load(model **m, const checkpoint *c, pali_dtype dtype);
model *checkpoint_loaded(const checkpoint *c, pali_dtype dtype);

#endif
