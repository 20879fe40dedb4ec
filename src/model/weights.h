/* weights.h: the tensors of a checkpoint's files as one set under the names of one layout, and the memory of whatever had to
 * be converted. A file format is a source of entries: it fills the list with weights_add (weights_hf.c, weights_gguf.c,
 * weights_npz.c); what is done with entries knows no formats (weights_bind.c, weights_gather.c). */
#ifndef PALI_MODEL_WEIGHTS_H
#define PALI_MODEL_WEIGHTS_H

#include "io/gguf.h"
#include "io/gguf_decode.h"
#include "io/safetensors.h"
#include "kernels/codes.h"
#include "model/spec.h"
#include "tensor/exec.h"

#define WEIGHTS_MAX_DIMS 8u

/* What bitsandbytes has beside the codes of a matrix. Scales that are quantized themselves are made into f32 when the matrix is bound. */
typedef struct weights_codes {
    coded codes;                  /* its scales: NULL until then */
    size_t n_scales;
    const uint8_t *nested;        /* [n_scales] codes of scales, or NULL: */
    const uint8_t *nested_scales; /*   scale i = nested_map[nested[i]] * nested_scales[i / 256] + nested_offset */
    const uint8_t *nested_map;    /* f32 [256]; this and nested_scales at any alignment */
    float nested_offset;
} weights_codes;

typedef struct weights_entry {
    char *name;             /* as in the spec, owned */
    const char *file;       /* path, owned by weights */
    const char *file_name;  /* the tensor's name in the file, owned by the file's handle */
    pali_dtype dtype;       /* AUTO: none that weights can have */
    gguf_decoder decode;    /* reads rows of a type that is AUTO, so that they can be converted; NULL: none does */
    const char *dtype_name; /* as the format calls it; static */
    size_t block;           /* rows are padded to a multiple of so many elements; 0: they are not */
    size_t n_dims, dims[WEIGHTS_MAX_DIMS];
    bool fortran_order;     /* the first dim runs fastest, not the last */
    const uint8_t *data;    /* any alignment; stays valid while the file's handle is open */
    weights_codes *codes;   /* of the types of kernels/codes.h, owned; else NULL */
    size_t n_bytes;
    bool used;              /* the spec asked for it */
    bool borrowed;          /* data is memory of the caller's, not pages of a file */
    /* Compressed data is there (`data` not NULL) between unpack and release only; NULL for others. `handle` is the file's. */
    pali_status (*unpack)(struct weights_entry *e);
    void (*release)(struct weights_entry *e);
    void *handle;
} weights_entry;

/* An open file. */
typedef struct weights_file {
    char *path;
    void *handle;           /* what close gets and frees */
    void (*close)(void *handle);
} weights_file;

typedef struct weights {
    spec_layout layout;     /* which of the spec's names the entries have */
    weights_file *files;    /* [n_files] */
    size_t n_files, files_cap;
    weights_entry *entries; /* [n_entries] sorted by name once opened */
    size_t n_entries, entries_cap;
    bool keeps_order;       /* matrices that would be copied for their order alone stay in the files: to be saved, not to be run */
    strided *orders;        /* [n of the spec] of those */
    float *vectors;         /* all vectors of the model */
    coded *made;            /* [n_made] descriptions of codes that are in block */
    size_t n_made;
    void *block;            /* matrices that had to be converted or put in order, or a random model's; scales that were quantized */
    size_t block_bytes;
} weights;

/* Opens model.safetensors, or the shards that model.safetensors.index.json names, inside `dir`. */
pali_status weights_open(weights **out, const char *dir);
/* Opens one .safetensors file in it. */
pali_status weights_open_file(weights **out, const char *dir, const char *name);
/* Opens a .npz file of big_vision. Entries are its arrays, without SPEC_NPZ_PREFIX; several tensors have one in common. */
pali_status weights_open_npz(weights **out, const char *path);
/* What a model's values are read from. */
typedef struct weights_values {
    const gguf *text, *vision; /* the same where one file has both; vision NULL: there is none. Owned by the weights */
} weights_values;

/* Opens a .gguf file, or all parts of one that was split, of which `path` may be any; and where it is a text model alone, the
 * file of its vision tower: `mmproj` or, if that is NULL, the only *mmproj*.gguf beside it. */
pali_status weights_open_gguf(weights **out, const char *path, const char *mmproj, weights_values *values);
/* The same of a whole file in memory that stays valid; `name` is for messages. Its vision tower is in it, or the file `mmproj`. */
pali_status weights_parse_gguf(weights **out, const uint8_t *bytes, size_t n_bytes, const char *name, const char *mmproj, weights_values *values);
void weights_free(weights *w);

/* For sources. Takes over path and handle, also when it fails. */
pali_status weights_add_file(weights *w, char *path, void *handle, void (*close)(void *handle));
/* Appends a copy of *entry under `name` (copied). */
pali_status weights_add(weights *w, const char *name, const weights_entry *entry);
/* Sorts the entries; the same name twice is an error. */
pali_status weights_seal(weights *w);

/* After that: matrices of bitsandbytes, which are several tensors each, become one entry (weights_bnb.c). */
pali_status weights_bnb(weights *w);
/* All scales of an entry that has codes, into `scales` where they are quantized (NULL where not), checked to give finite weights. */
pali_status weights_bnb_scales(const weights_entry *entry, float *scales);
/* A type of a safetensors file; AUTO: none that weights can have. */
pali_dtype weights_st_dtype(st_dtype dtype);

/* NULL: there is none. */
weights_entry *weights_find(const weights *w, const char *name);
weights_entry *weights_of(const weights *w, const spec_tensor *t);
/* The copy that a norm of a GGUF file may have from before 1 was added; NULL: there is none. */
weights_entry *weights_exact(const weights *w, const spec_tensor *t);
size_t weights_n_elements(const weights_entry *entry);
/* Bytes of the entry that are this tensor's. */
size_t weights_bytes(const weights_entry *entry, const spec_tensor *t);
/* Both are there with the same dtype, shape and bytes. */
bool weights_same(const weights *w, const spec_tensor *a, const spec_tensor *b);
/* Lets go of pages of the entry's data, which the file still has. */
void weights_drop(const weights_entry *entry, const void *begin, size_t n_bytes);
/* The data of a bound matrix lies in a file's map, not in memory of our own. */
bool weights_is_mapped(const weights *w, const void *data);
/* What to say of an entry, or of a tensor in memory, whose rows mat_rows_convert refused. */
pali_status weights_unfit(const char *file, const char *name, pali_dtype dtype);

/* Bytes that the weights of a model take. */
typedef struct weights_memory {
    size_t vectors, block; /* memory of its own: vectors, and matrices that are gathered, converted or random */
    size_t mapped;         /* pages of files */
    size_t unpacked;       /* the largest compressed entry: for a while during weights_bind */
} weights_memory;

/* Checks presence, dtype and shape of a tensor. `path` is for messages. */
pali_status weights_check(const weights *w, const spec_tensor *t, const char *path);
/* Sets what a matrix of this entry (NULL: a random one) will be held as. */
void weights_plan_matrix(const spec_tensor *t, const weights_entry *entry, spec_dtypes dtypes);
/* Checks every tensor, sets the dtype that every matrix will have, and adds up; w NULL: a random
 * model's. */
pali_status weights_plan(weights_memory *out, const weights *w, const spec *s, spec_dtypes dtypes, const char *path);
/* Points every matrix of the spec at its data and copies every vector, as weights_plan found them. Matrices of
 * another dtype than spec_dtype() says are converted into w->block, those in another order (or compressed) put in order there. */
pali_status weights_bind(weights *w, const spec *s, spec_dtypes dtypes, const char *path, exec *e, pali_progress_fn progress, void *user);
/* Allocates and fills everything with random values of a plausible size. */
pali_status weights_random(weights **out, const spec *s, spec_dtypes dtypes, uint64_t seed, exec *e, pali_progress_fn progress, void *user);
/* Brings the mapped pages of every bound matrix into memory, in parallel, so that the first token does not wait for them. */
pali_status weights_prefault(weights *w, const spec *s, exec *e, pali_progress_fn progress, void *user);

/* ---- Between weights_bind.c and weights_gather.c ---- */

/* The tensor is a part of the entry, has its axes in another order, or is compressed: it has to be copied element by element. */
bool weights_is_gathered(const weights *w, const weights_entry *entry, const spec_tensor *t);
/* Such a matrix that stays where it is (keeps_order), and where that is. */
bool weights_is_kept(const weights *w, const weights_entry *entry, const spec_tensor *t);
void weights_keep(const weights_entry *entry, const spec_tensor *t, strided *order);
/* Copies every other such tensor, converted if need be, to where weights_bind has pointed its matrix or vector. Compressed entries
 * are unpacked one at a time. */
pali_status weights_gather(weights *w, const spec *s, exec *e, pali_progress_fn progress, void *user);

#endif
