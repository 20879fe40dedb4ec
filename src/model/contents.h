/* contents.h: a model (or an adapter) as far as its files say of themselves, whole or not: what is there, what is missing, what does not fit, what
 * nobody asked for. No weights are read. For `inspect`, which is what one turns to when a model does not open. */
#ifndef PALI_MODEL_CONTENTS_H
#define PALI_MODEL_CONTENTS_H

#include "model/adapter_summary.h"
#include "model/model.h"

typedef struct contents_tensor {
    const char *name;          /* canonical; of what the model has no place for, the file's */
    const weights_entry *entry; /* NULL: in no file */
    pali_tensor_state state;
    pali_dtype dtype;          /* as in model_tensor */
    size_t n_dims, dims[WEIGHTS_MAX_DIMS]; /* those of the model, or of what is extra */
    size_t n_bytes;            /* in the file; of random models, in memory */
    char *problem;             /* of one that does not fit; owned */
} contents_tensor;

typedef struct contents {
    model m;          /* config and names, and the open files */
    bool has_config;  /* else m has files at most, and all their tensors are extra */
    bool is_adapter;  /* m has its file, whose tensors are found, and nothing else */
    adapter_summary adapter;
    char *problem;    /* what loading would fail with, as far as this shows; NULL: nothing. Owned */
    contents_tensor *tensors; /* [n] those of the model, then those that are extra */
    size_t n;
} contents;

/* Fails where there is nothing to show: no tensor in any file that could be read. */
pali_status contents_load(contents **out, const char *path, const model_options *options);
/* Of a named real shape. */
pali_status contents_random(contents **out, const char *shape, const model_options *options);
/* Something that loading needs besides weights is not there: the message of the last failure, unless there is a problem. */
pali_status contents_add_problem(contents *c);
void contents_free(contents *c);

#endif
