/* save.h: a model into one file. */
#ifndef PALI_MODEL_SAVE_H
#define PALI_MODEL_SAVE_H

#include "input/tokenizer.h"
#include "model/model.h"

typedef struct model_save_options {
    spec_dtypes dtypes; /* AUTO: as held */
    int n_threads;
    pali_progress_fn progress;
    void *user;
} model_save_options;

/* Writes a .gguf file with config, tokenizer (NULL: without) and weights, those converted a few megabytes at a time. A file of
 * the model itself is refused as `path`. */
pali_status model_save_gguf(const model *m, const tokenizer *t, const char *path, const model_save_options *options);

#endif
