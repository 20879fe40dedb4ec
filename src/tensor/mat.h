/* mat.h: a weight matrix as it lies in memory, and what adapters add to it.
 *
 * Rows are outputs: [rows = out, cols = in], row-major, y = x W^T. The bytes are those of the checkpoint file, mapped
 * and never copied or repacked: GEMV streams rows, GEMM expands a panel of rows at a time into cache (tensor/linear.c).
 * With adapters the matrix stands for W + sum of s B A, but is never made into that: products add s B (A x). */
#ifndef PALI_TENSOR_MAT_H
#define PALI_TENSOR_MAT_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/blocks.h"
#include "kernels/codes.h"
#include "kernels/kernels.h"
#include "tensor/strided.h"

#define MAT_ROWS_TOGETHER 32u /* rows of a matrix in another order that are read at once: a cache line of 16-bit elements */

typedef struct mat {
    pali_dtype dtype;
    size_t rows, cols;
    const void *data;  /* [rows, cols]; not necessarily aligned, not even to the element */
    const coded *codes; /* of the types of kernels/codes.h, whose codes `data` are; else NULL */
    const struct lora *lora; /* list of adapters; NULL: none */
    size_t lora_row;   /* the row of theirs, and of codes, that is row 0 here: not 0 in a slice */
    const strided *order; /* where its floats lie from data on, for mat_rows_f32 and mat_rows_convert alone; NULL: row after row */
} mat;

/* A low-rank update of a matrix (spec inference 9). Its own matrices are f32, without adapters. */
typedef struct lora {
    const struct lora *next;
    mat a, b;          /* [R, in], [out, R] */
    const float *bias; /* [out] added to y, scale included; NULL: none */
    float scale;
    const struct dropout *dropout; /* of x, while training; NULL: none */
    size_t site;       /* for its mask */
} lora;

/* An f32 matrix in memory of our own. */
static inline mat mat_f32(size_t rows, size_t cols, const float *data) {
    return (mat){.dtype = PALI_DTYPE_F32, .rows = rows, .cols = cols, .data = data};
}

static inline size_t mat_row_bytes(const mat *w) {
    return dtype_bytes(w->dtype, w->cols);
}

/* Bytes before a row; of codes, where a row may begin within a byte, those that hold nothing else. The scales of codes are apart. */
static inline size_t mat_row_offset(const mat *w, size_t row) {
    return w->codes ? codes_bytes(w->dtype, row, w->cols) : row * mat_row_bytes(w);
}

static inline const char *mat_row(const mat *w, size_t row) {
    return (const char *)w->data + mat_row_offset(w, row);
}

static inline size_t mat_bytes(const mat *w) {
    return mat_row_offset(w, w->rows);
}
static inline size_t mat_scale_bytes(const mat *w) {
    return w->codes ? codes_n_scales(w->dtype, w->rows, w->cols) * sizeof(float) : 0;
}

/* Weights from a row and column on, as kernels take them; *at is where those of codes are described. */
static inline const void *mat_at(const mat *w, size_t row, size_t col, coded_at *at) {
    if (!w->codes) return mat_row(w, row) + dtype_bytes(w->dtype, col);
    *at = (coded_at){w->codes, w->lora_row + row, col};
    return at;
}

/* Rows first..first+n as a matrix of its own. */
static inline mat mat_slice(const mat *w, size_t first, size_t n) {
    mat slice = *w;
    slice.rows = n;
    if (!w->codes) slice.data = mat_row(w, first);
    slice.lora_row += first;
    return slice;
}

/* Floats that mat_rows_convert wants. */
static inline size_t mat_scratch_floats(const mat *w) {
    return w->cols * (w->order ? MAT_ROWS_TOGETHER : 1);
}

/* Rows first..first+n as f32 [n, cols], whatever way they are stored, adapters added. */
void mat_rows_f32(const kernels *k, float *out, const mat *w, size_t first, size_t n);
/* Columns first..first+n_cols of rows row..row+n_rows, as f32 [n_rows, n_cols], without adapters. first is a multiple of MAT_PART, so
 * that a part begins with a block whatever the type. */
#define MAT_PART SUPER_BLOCK
void mat_part_f32(const kernels *k, float *out, const mat *w, size_t row, size_t n_rows, size_t first, size_t n_cols);
/* Whole rows in another dtype, none of codes, by way of f32; `scratch` has mat_scratch_floats. false: a weight is beyond what half
 * floats can be, which the dtype is made of, or is to be quantized and not a number. */
bool mat_rows_convert(const kernels *k, void *out, pali_dtype dtype, const mat *w, size_t first, size_t n, float *scratch);

#endif
