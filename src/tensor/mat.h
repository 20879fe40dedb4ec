/* mat.h: a weight matrix as it lies in memory.
 *
 * Rows are outputs: [rows = out, cols = in], row-major, y = x W^T. The bytes are those of the checkpoint file, mapped
 * and never copied or repacked: GEMV streams rows, GEMM expands a panel of rows at a time into cache (tensor/linear.c). */
#ifndef PALI_TENSOR_MAT_H
#define PALI_TENSOR_MAT_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/blocks.h"
#include "kernels/kernels.h"

typedef struct mat {
    pali_dtype dtype;
    size_t rows, cols;
    const void *data;  /* [rows, cols]; not necessarily aligned, not even to the element */
} mat;

static inline size_t mat_row_bytes(const mat *w) {
    return dtype_bytes(w->dtype, w->cols);
}

static inline const char *mat_row(const mat *w, size_t row) {
    return (const char *)w->data + row * mat_row_bytes(w);
}

/* Rows first..first+n as f32 [n, cols], whatever way they are stored. */
void mat_rows_f32(const kernels *k, float *out, const mat *w, size_t first, size_t n);
/* The same rows in another dtype, by way of f32; `row` has room for one. false: that is quantized, with half floats as scales,
 * and a weight is beyond their range or not a number. */
bool mat_rows_convert(const kernels *k, void *out, pali_dtype dtype, const mat *w, size_t first, size_t n, float *row);

#endif
