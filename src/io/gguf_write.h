/* gguf_write.h: writes a .gguf file (version 3) front to back, so that only its header is held in memory: first the values,
 * then what every tensor will be, then the tensors' data in that order, in pieces of any size. Nothing appears under the
 * file's name until all of it is there.
 *
 * Putting values and tensors cannot fail where it stands: lack of memory is reported by gguf_writer_begin. */
#ifndef PALI_IO_GGUF_WRITE_H
#define PALI_IO_GGUF_WRITE_H

#include "base/file.h"
#include "io/gguf.h"

#define GGUF_WRITE_ALIGNMENT 64u /* a cache line: rows of mapped weights begin on one */

typedef struct gguf_buffer {
    uint8_t *data;
    size_t n, cap;
} gguf_buffer;

typedef struct gguf_writer {
    file_out file;
    gguf_buffer values, tensors;
    uint64_t *sizes;           /* [n_tensors] bytes of each tensor's data */
    size_t sizes_cap;
    uint64_t n_values, n_tensors, n_data; /* n_data: bytes of all tensors, each with its padding */
    uint64_t n_header;         /* bytes before them */
    uint64_t current, written; /* the tensor whose data comes next, and how much of it is there */
    pali_status status;
} gguf_writer;

pali_status gguf_writer_open(gguf_writer *w, const char *path);

void gguf_put_u32(gguf_writer *w, const char *key, uint32_t x);
void gguf_put_f32(gguf_writer *w, const char *key, float x);
void gguf_put_bool(gguf_writer *w, const char *key, bool x);
void gguf_put_string(gguf_writer *w, const char *key, const char *text);
/* An array of n elements, whose values follow by gguf_item_* in order. */
void gguf_put_array(gguf_writer *w, const char *key, gguf_kind kind, size_t n);
void gguf_item_i32(gguf_writer *w, int32_t x);
void gguf_item_f32(gguf_writer *w, float x);
void gguf_item_bool(gguf_writer *w, bool x);
void gguf_item_string(gguf_writer *w, const char *text, size_t n);

/* dims row-major, the last as stored: whole blocks. */
void gguf_put_tensor(gguf_writer *w, const char *name, pali_dtype dtype, size_t n_dims, const size_t *dims);
/* Ends the header. */
pali_status gguf_writer_begin(gguf_writer *w);
/* The next bytes of data. */
pali_status gguf_writer_data(gguf_writer *w, const void *data, size_t n_bytes);
/* Bytes of n_data that are there. */
uint64_t gguf_writer_done(const gguf_writer *w);
/* All data must be there. */
pali_status gguf_writer_commit(gguf_writer *w);
/* Without a commit nothing is left of the file. */
void gguf_writer_free(gguf_writer *w);

#endif
