/* save.h: a model into a .gguf file, a .npz file or a directory in Hugging Face layout, as the name's ending tells. */
#ifndef PALI_MODEL_SAVE_H
#define PALI_MODEL_SAVE_H

#include "input/tokenizer.h"
#include "model/calibration.h"
#include "model/model.h"

#define SAVE_SHARD_BYTES ((uint64_t)5000000000) /* of a .safetensors file; what Transformers takes by default */

/* Sums of squares: what is stored less what merging was to make, that, and the update. */
typedef struct merge_norms {
    double error, merged, update;
} merge_norms;

/* What rounding makes of merged adapters. All zeros at first. */
typedef struct merge_report {
    size_t n_matrices;          /* with an update */
    merge_norms all, matrix;    /* of all of them, of the current one */
    const spec_tensor *current;
    double worst;               /* the largest share of the update that a single matrix loses, */
    char worst_name[SPEC_NAME_MAX]; /* and which */
} merge_report;

typedef struct model_save_options {
    spec_dtypes dtypes;         /* AUTO: as stored; in directories and .npz files quantized weights become bf16 */
    uint64_t shard_bytes;       /* 0: the default */
    const char *tokenizer_path; /* the file that the tokenizer came from; NULL: the model's own */
    merge_report *merge;        /* NULL: not wanted */
    const calibration *calibration; /* solved: what 4-bit rounding minds; NULL: nothing */
    int n_threads;
    pali_progress_fn progress;
    void *user;
} model_save_options;

/* Writes config, tokenizer (NULL: without) and weights, those converted a few megabytes at a time. It appears whole or not at
 * all. A file of the model itself is refused as `path`, and so is a directory that is not empty. */
pali_status model_save(const model *m, const tokenizer *t, const char *path, const model_save_options *options);

#endif
