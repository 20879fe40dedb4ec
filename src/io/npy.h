/* npy.h: one numpy array as .npy stores it (spec inference 3.4).
 *
 *   0x93 "NUMPY" | u8 major, u8 minor | header length: u16 (version 1) or u32 (2, 3) | header | data
 *
 * The header is the text of a Python dict: {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }. What it says is
 * checked against the bytes before anybody may use it. bfloat16 has no name in numpy: it is stored as two-byte void, so
 * any two-byte void is taken for it. */
#ifndef PALI_IO_NPY_H
#define PALI_IO_NPY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

#define NPY_MAX_DIMS 8u
#define NPY_MAX_HEADER 65536u /* bytes of the dict; numpy itself writes 128 in all unless there are very many dims */
#define NPY_PREAMBLE 12u      /* bytes that say how long the rest of the header is, at most */

/* NPY_OTHER: little-endian numbers of no use here, text, objects: such arrays can be listed, not used. */
typedef enum npy_dtype { NPY_F32, NPY_BF16, NPY_F16, NPY_F64, NPY_I8, NPY_U8, NPY_I16, NPY_U16, NPY_I32, NPY_U32, NPY_I64, NPY_U64, NPY_BOOL, NPY_OTHER } npy_dtype;

typedef struct npy_array {
    npy_dtype dtype;
    bool fortran_order; /* the first axis runs fastest in memory, not the last */
    size_t n_dims, dims[NPY_MAX_DIMS];
    size_t n_header_bytes; /* before the data */
    size_t n_bytes;        /* of data */
} npy_array;

/* How long the header is, of which the first `n` bytes are there (NPY_PREAMBLE of them suffice). */
pali_status npy_header_bytes(size_t *out, const uint8_t *bytes, size_t n, const char *file, const char *name);
/* Reads a header at the start of a .npy of n_bytes in all, of which at least the header lies at `bytes`; file and name are
 * for messages. */
pali_status npy_parse(npy_array *out, const uint8_t *bytes, size_t n_bytes, const char *file, const char *name);
/* "f32", ..., "other" */
const char *npy_dtype_name(npy_dtype dtype);

#endif
