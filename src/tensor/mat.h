/* mat.h: a weight matrix as it lies in memory.
 *
 * Rows are outputs: [rows = out, cols = in], row-major, y = x W^T. The bytes are those of the checkpoint file, mapped
 * and never copied or repacked: GEMV streams rows, GEMM expands a panel of rows at a time into cache (tensor/linear.c). */
#ifndef PALI_TENSOR_MAT_H
#define PALI_TENSOR_MAT_H

#include <stddef.h>
#include <stdint.h>

#include "paligemma.h"

typedef struct mat {
    pali_dtype dtype;  /* F32, BF16 or F16 */
    size_t rows, cols;
    const void *data;  /* [rows, cols]; not necessarily aligned, not even to the element */
} mat;

static inline size_t dtype_bytes(pali_dtype dtype) {
    return dtype == PALI_DTYPE_F32 ? 4u : 2u;
}

#endif
