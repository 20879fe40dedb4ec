/* npz_model.h: a checkpoint of tests/golden/models put into big_vision's .npz form by formulas, which test_weights_npz.c holds to numpy's
 * (tools/make_npz_model_goldens.py) by checksums, and stored in any of the ways that such files are. Functions fail the running
 * cmocka test. */
#ifndef PALI_TESTS_NPZ_MODEL_H
#define PALI_TESTS_NPZ_MODEL_H

#include "model/config.h"
#include "model/weights.h"
#include "zip.h"

#define NPZ_MODEL_MAX_ARRAYS 128u

/* The tower's blocks, and their attention. */
#define NPZ_VIT "img/Transformer/encoderblock/"
#define NPZ_HEADS NPZ_VIT "MultiHeadDotProductAttention_0/"

typedef struct array {
    char name[128]; /* without params/ */
    char descr[8];
    size_t element_bytes, n_dims, dims[6];
    uint8_t *data; /* row-major */
    size_t n_bytes;
} array;

typedef struct arrays {
    array list[NPZ_MODEL_MAX_ARRAYS];
    size_t n;
} arrays;

array *arrays_find(arrays *a, const char *name);
array *arrays_add(arrays *a, const char *name, const char *descr, size_t element_bytes, size_t n_dims, const size_t *dims);
/* Those of a checkpoint in Hugging Face layout, in place of what there is. */
void arrays_make(arrays *a, const weights *hf, const config *c);
void arrays_free(arrays *a);

/* How it is stored: names begin with params/; an array for each of the tower's blocks; deflated; the first axis runs fastest; with
 * arrays of an optimizer beside it. */
enum { PARAMS = 1, UNSTACKED = 2, DEFLATED = 4, FORTRAN = 8, EXTRAS = 16 };

void arrays_zip_one(zip *z, const array *a, unsigned how);
/* The file; free its data. */
bytes arrays_zip(const arrays *a, unsigned how);

typedef struct npz_model {
    char golden[640];       /* directory of the checkpoint */
    config cfg;
    arrays arrays;          /* to be changed, if that is wanted, before the file is written */
    char dir[64], path[96]; /* a new directory with the checkpoint's tokenizer and config.json, and in it the file, model.npz */
} npz_model;

void npz_model_open(npz_model *m, const char *name);
/* The arrays of the checkpoint again, after they were changed. */
void npz_model_restore(npz_model *m);
void npz_model_close(npz_model *m);
/* Writes the file. */
void npz_model_write(const npz_model *m, unsigned how);
/* Writes a file of the directory, with these bytes or the checkpoint's. */
void npz_model_put(const npz_model *m, const char *name, const void *data, size_t n);
void npz_model_copy(const npz_model *m, const char *name);

#endif
