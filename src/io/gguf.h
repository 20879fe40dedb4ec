/* gguf.h: a mapped .gguf file, version 2 or 3, as keyed values and named tensors (spec inference 8.4).
 *
 *   "GGUF" | u32 version | u64 n_tensors | u64 n_values
 *   n_values  x { string key, u32 kind, value }       string: u64 length, bytes
 *   n_tensors x { string name, u32 n_dims, u64 dims[n_dims], u32 type, u64 offset into the data }
 *   zeros up to the alignment | data
 *
 * Everything is checked against the file before anybody may use it: counts, lengths, products of dims, ranges, overlaps,
 * names given twice. Values are used where they lie; sizes in the file are fastest first, here they are row-major. */
#ifndef PALI_IO_GGUF_H
#define PALI_IO_GGUF_H

#include "base/file.h"

#define GGUF_MAX_VALUES 65536u
#define GGUF_MAX_TENSORS 65536u
#define GGUF_MAX_KEY 1024u  /* bytes */
#define GGUF_MAX_NAME 127u  /* bytes; the format's own writers stop at 63 */
#define GGUF_MAX_DIMS 4u
#define GGUF_MAX_ALIGNMENT 1048576u
#define GGUF_ALIGNMENT 32u  /* where a file does not say */

typedef enum gguf_kind {
    GGUF_U8, GGUF_I8, GGUF_U16, GGUF_I16, GGUF_U32, GGUF_I32, GGUF_F32, GGUF_BOOL, GGUF_STRING, GGUF_ARRAY, GGUF_U64, GGUF_I64, GGUF_F64
} gguf_kind;

typedef struct gguf_value {
    const char *key;     /* [n_key] printable ASCII, in the map, no NUL at its end */
    size_t n_key;
    gguf_kind kind;      /* of the value, or of an array's elements */
    bool is_array;
    size_t n;            /* elements; 1 if no array */
    const uint8_t *data; /* any alignment; strings with their lengths before them */
    size_t n_bytes;
} gguf_value;

typedef struct gguf_tensor {
    char name[GGUF_MAX_NAME + 1]; /* printable ASCII */
    uint32_t type;                /* of the format, known to gguf_type_name */
    size_t n_dims, dims[GGUF_MAX_DIMS];
    const uint8_t *data;          /* in the map */
    size_t n_bytes;
} gguf_tensor;

typedef struct gguf {
    file_map map;
    char *path;           /* for messages */
    gguf_value *values;   /* [n_values] sorted by key */
    gguf_tensor *tensors; /* [n_tensors] in order of their data */
    size_t n_values, n_tensors, alignment;
} gguf;

pali_status gguf_open(gguf *out, const char *path);
/* The same over memory that stays valid; `name` is for messages. */
pali_status gguf_parse(gguf *out, const uint8_t *bytes, size_t n_bytes, const char *name);
void gguf_close(gguf *g);
/* Whether a file begins as this format does. */
bool gguf_is(const uint8_t *bytes, size_t n_bytes);

/* "Q8_0"; NULL: unknown. */
const char *gguf_type_name(uint32_t type);
/* The library's dtype of a type, AUTO: none; and back. */
pali_dtype gguf_type_dtype(uint32_t type);
uint32_t gguf_dtype_type(pali_dtype dtype);
/* Elements of a block: quantized rows are whole blocks; and bytes of a row of them. The type must be a known one. */
size_t gguf_type_block(uint32_t type);
size_t gguf_row_bytes(uint32_t type, size_t n_elements);
/* Elements that a row of n takes in a file: whole blocks of its type. */
size_t gguf_row_width(pali_dtype dtype, size_t n);

/* NULL: there is none. */
const gguf_value *gguf_find(const gguf *g, const char *key);
const gguf_tensor *gguf_find_tensor(const gguf *g, const char *name);
/* Value of `key` into *out, which keeps its content (the default) if the key is absent. The wrong kind or a value outside
 * [min, max] is an error. Any kind of integer serves as a size, both kinds of floats as a float. */
pali_status gguf_get_size(const gguf *g, const char *key, size_t *out, size_t min, size_t max);
pali_status gguf_get_float(const gguf *g, const char *key, float *out, double min, double max);
pali_status gguf_get_bool(const gguf *g, const char *key, bool *out);
/* *out points into the file and has no NUL at its end. */
pali_status gguf_get_string(const gguf *g, const char *key, const char **out, size_t *out_n);
/* An array of this kind, or of its unsigned or signed brother; *out is NULL if the key is absent. */
pali_status gguf_get_array(const gguf *g, const char *key, gguf_kind kind, const gguf_value **out);
/* Element i of an array of 4-byte numbers. */
int32_t gguf_array_i32(const gguf_value *array, size_t i);
float gguf_array_f32(const gguf_value *array, size_t i);
/* Walks an array of strings: *at begins at array->data; the string is at the result, *out_n long. */
const char *gguf_string_next(const uint8_t **at, size_t *out_n);

#endif
