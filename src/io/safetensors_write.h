/* safetensors_write.h: writes a .safetensors file front to back: what every tensor will be, then the tensors' data in that
 * order, in pieces of any size. Readers want numbers aligned to their size, which holds where tensors of larger elements
 * come first. */
#ifndef PALI_IO_SAFETENSORS_WRITE_H
#define PALI_IO_SAFETENSORS_WRITE_H

#include "base/file.h"
#include "io/safetensors.h"

#define SAFETENSORS_WRITE_ALIGNMENT 64u /* of the data: the header's end is padded by spaces */

typedef struct safetensors_writer {
    file_out file;
    void *header;    /* JSON */
    uint64_t n_data; /* bytes that the tensors will take */
    uint64_t n_header;
} safetensors_writer;

/* *file is open and empty; it is taken over, also when this fails. */
pali_status safetensors_writer_open(safetensors_writer *w, const file_out *file);
pali_status safetensors_writer_put(safetensors_writer *w, const char *name, st_dtype dtype, size_t n_dims, const size_t *dims);
/* Ends the header. */
pali_status safetensors_writer_begin(safetensors_writer *w);
pali_status safetensors_writer_data(safetensors_writer *w, const void *data, size_t n_bytes);
/* All data must be there. */
pali_status safetensors_writer_commit(safetensors_writer *w);
/* Without a commit nothing is left of the file. */
void safetensors_writer_free(safetensors_writer *w);

#endif
