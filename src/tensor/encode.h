/* encode.h: rows of f32 into a matrix of any storage. Rows are given one after the other, because the blocks of NF4 and FP4 run on
 * over the ends of rows; a matrix may be encoded in several runs at once, each from a row where a block begins. */
#ifndef PALI_TENSOR_ENCODE_H
#define PALI_TENSOR_ENCODE_H

#include "tensor/mat.h"

#define ENCODE_ROWS 64u /* multiples of so many rows begin a block, whatever the columns */

typedef struct encoder {
    const kernels *k;
    const mat *to; /* its data, and the scales of its codes, are memory to write to */
    size_t row;    /* the next one */
    size_t n;      /* weights waiting in block */
    float block[CODES_BLOCK];
} encoder;

/* Whether the type can hold them: false where a weight is beyond what half floats can be, which it is made of, or is to be quantized
 * and not a number. */
bool encode_fits(const float *x, size_t n, pali_dtype dtype);
/* Does nothing but say where to begin: a multiple of ENCODE_ROWS. */
encoder encode_begin(const kernels *k, const mat *to, size_t row);
/* false: it does not fit. */
bool encode_row(encoder *e, const float *row);
/* The same of rows of a matrix; `scratch` has its mat_scratch_floats. */
bool encode_rows(encoder *e, const mat *from, size_t first, size_t n, float *scratch);
/* After the last row: a block that is not full is the last of the matrix. */
void encode_end(encoder *e);

#endif
