/* model.h: a whole model: config, weights, and what keeps their memory alive. Immutable once loaded.
 *
 * Matrices stay where the checkpoint's pages are: mapped, not copied (a copy costs the first touch of as much fresh
 * memory, which is slower than reading the page cache). Vectors are small and kept in f32. */
#ifndef PALI_MODEL_MODEL_H
#define PALI_MODEL_MODEL_H

#include "model/weights.h"

/* Where a tensor came from, for inspect. */
typedef struct model_tensor {
    char *name;        /* canonical */
    const char *file;  /* owned by the model's list of files */
    pali_dtype dtype;
    const char *stored; /* its type there, as the format calls it; "": nowhere (random models) */
    size_t n_dims, dims[4];
    size_t n_bytes;     /* in the file, 0: in none */
} model_tensor;

typedef struct model {
    const struct model *base; /* a view (view.h): what owns path and weights; NULL: this one does */
    lora *loras;        /* of a view: what its matrices' lists are made of */
    config cfg;
    vit vit;
    gemma text;
    spec spec;          /* its tensors: those of the table that are there */
    char *path;         /* where it came from: a directory, or the file (of several the first) with the tokenizer; NULL: nowhere (random models) */
    char name[64];
    uint64_t weight_bytes;
    model_tensor *tensors;
    size_t n_tensors;
    const char **extras; /* [n_extras] names in the files that no part of the model asked for; weights own them */
    size_t n_extras;
    weights *weights;    /* what owns the memory */
} model;

typedef struct model_options {
    pali_dtype dtype, vision_dtype, embed_dtype; /* as in spec_dtypes */
    int n_threads;
    bool no_sliding_window, no_final_softcap;
    bool no_prefault; /* weights are not brought into memory ahead of their use, nor in order: to be looked at or saved */
    const char *mmproj_path; /* the file of the vision tower of a text model's .gguf file; NULL: the only one beside it */
    const uint8_t *gguf; /* [n_gguf_bytes] a whole .gguf file in the caller's memory, which outlives the model; NULL: `path` is opened */
    size_t n_gguf_bytes;
    pali_progress_fn progress;
    void *user;
} model_options;

/* `path`: a directory in Hugging Face layout, a .gguf file (weights.h says which others go with it) or a big_vision .npz file; or
 * only the name of options->gguf. */
pali_status model_load(model **out, const char *path, const model_options *options);
pali_status model_random(model **out, const char *shape, uint64_t seed, const model_options *options);
pali_status model_random_of(model **out, const config *cfg, uint64_t seed, const model_options *options);
/* Either of them as far as config and names: no weights, but the dtypes and sizes they would have. For plans. */
pali_status model_outline(model **out, weights_memory *memory, const char *name, bool random, const model_options *options);
void model_free(model *m);
/* An error if its weights were not put in order (no_prefault), so that it can be looked at and saved only. */
pali_status model_check_runs(const model *m);
/* `path` is a file that model_load would take for an .npz. */
bool model_is_npz(const char *path);

/* ---- Its beginnings, which contents.c takes further where a model cannot be opened ---- */

/* Config and files of `path` into *m, zeros before. What there is when it fails stays in *m. */
pali_status model_open_files(model *m, const char *path, const model_options *options);
/* When the config is known: structs, name, and which tensors there are to be. */
pali_status model_list(model *m, const model_options *options);
spec_dtypes model_dtypes(const model_options *options, bool random);
/* Frees what *m holds. */
void model_clear(model *m);
/* Nothing has used the entry, and it is none that older writers saved needlessly. */
bool model_is_extra(const weights_entry *entry);

#endif
