/* safetensors.h: a mapped .safetensors file as a list of named arrays (spec inference 3.1).
 *
 *   u64 n | n bytes of JSON {name: {dtype, shape, data_offsets}} | data
 *
 * Everything the header says is checked against the file before anybody may use it: sizes, ranges, overlaps. */
#ifndef PALI_IO_SAFETENSORS_H
#define PALI_IO_SAFETENSORS_H

#include "base/file.h"

#define SAFETENSORS_MAX_HEADER 33554432u /* the format allows 100 MB; real ones stay below 1 MiB, and parsing costs ~10 times the size in memory */
#define SAFETENSORS_MAX_DIMS 8u

/* Element types of the format; only some can be weights. */
typedef enum st_dtype { ST_F32, ST_BF16, ST_F16, ST_F64, ST_I8, ST_U8, ST_I16, ST_U16, ST_I32, ST_U32, ST_I64, ST_U64, ST_BOOL, ST_F8_E4M3, ST_F8_E5M2 } st_dtype;

typedef struct st_tensor {
    const char *name; /* owned by the file */
    st_dtype dtype;
    size_t n_dims, dims[SAFETENSORS_MAX_DIMS];
    const uint8_t *data; /* in the map, any alignment */
    size_t n_bytes;
} st_tensor;

typedef struct safetensors {
    file_map map;
    void *header; /* the parsed JSON; keeps the names */
    st_tensor *tensors; /* in order of their data */
    size_t n_tensors;
} safetensors;

pali_status safetensors_open(safetensors *out, const char *path);
/* The same over memory that stays valid; `name` is for messages. */
pali_status safetensors_parse(safetensors *out, const uint8_t *bytes, size_t n_bytes, const char *name);
void safetensors_close(safetensors *st);
const char *safetensors_dtype_name(st_dtype dtype);
size_t safetensors_dtype_bytes(st_dtype dtype); /* of an element */

#endif
