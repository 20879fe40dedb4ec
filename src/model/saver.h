/* saver.h: what the writers of models share: the dtype that a tensor will have, and its data in that dtype, front to back in
 * pieces of some megabytes. A writer (save_gguf.c, save_hf.c, save_npz.c) decides names and order, and puts the bytes. */
#ifndef PALI_MODEL_SAVER_H
#define PALI_MODEL_SAVER_H

#include "model/save.h"

#define SAVER_PIECE_BYTES ((size_t)8 << 20) /* of the source or the output, whichever is larger */

typedef struct saver {
    const model *m;
    const tokenizer *t; /* NULL: none */
    const model_save_options *o;
    const char *path;
    exec e;
    uint8_t *buffer;    /* a piece, converted */
    size_t buffer_cap;
    mem_scratch norms;  /* of a piece's rows */
    uint64_t n_done, n_total; /* bytes of weights put, and of all: for the progress; the writer sets n_total */
} saver;

/* Where the bytes go; `to` is the writer's. */
typedef pali_status (*saver_put)(void *to, const void *data, size_t n_bytes);

bool saver_is_float(pali_dtype dtype);
/* A matrix as it lies in memory; a vector or table as one of f32. */
mat saver_rows(const spec_tensor *t);
/* The float type that holds a matrix as it is, or bf16 where that is none of 16 bits. */
pali_dtype saver_matrix_dtype(const mat *w);
/* What a tensor becomes in formats that have floats only: what is asked for, else what it is stored as. Vectors from formats
 * that hold them as f32 whatever they were become what the matrices around them are, if that loses nothing. */
pali_dtype saver_float_dtype(const saver *v, const spec_tensor *t);
/* Refuses dtypes that such formats do not have; `format` is for the message. codes: it has bitsandbytes' types. */
pali_status saver_floats_check(const saver *v, const char *format, bool codes);
/* Refuses bitsandbytes' types, for a format that has blocks of its own. */
pali_status saver_no_codes(const saver *v);
/* The tensor's rows in dtype `to`. */
pali_status saver_tensor_put(saver *v, const spec_tensor *t, pali_dtype to, saver_put put, void *user);
/* Some rows into memory, converted by all threads. */
pali_status saver_rows_convert(saver *v, const spec_tensor *t, pali_dtype to, size_t first, size_t n_rows, uint8_t *out);
/* Counts in the report of o->merge what is lost by writing `out` for as many rows of a tensor with adapters; rows come in order. */
pali_status saver_merge_measure(saver *v, const spec_tensor *t, const mat *out, size_t first);
/* After the last tensor: completes that report. */
void saver_merge_end(saver *v);
/* What to say of a tensor that mat_rows_convert refused. */
pali_status saver_unfit(const saver *v, const spec_tensor *t, pali_dtype to);
/* Rows that are written: their pages are let go of, if they are a file's, so that the model need not fit into memory. */
void saver_drop(const saver *v, const spec_tensor *t, size_t first, size_t n_rows);
/* Counts n_bytes as put, and reports. */
pali_status saver_progress(saver *v, size_t n_bytes);
/* At least n_bytes in v->buffer. */
pali_status saver_buffer(saver *v, size_t n_bytes);

/* The writers. */
pali_status save_gguf(saver *v);
pali_status save_hf(saver *v);
pali_status save_npz(saver *v);

#endif
