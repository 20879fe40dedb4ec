#include "tensor/encode.h"

#include <math.h>
#include <string.h>

/* Quantized types have half floats as scales, or must not divide by what is not a number; f16 is to have an infinity only where
 * there was one. */
bool encode_fits(const float *x, size_t n, pali_dtype dtype) {
    bool unfit = false;
    if (dtype_is_blocks(dtype) || dtype_is_codes(dtype))
        for (size_t i = 0; i < n; i++) unfit |= !(fabsf(x[i]) <= 65504.0f);
    if (dtype == PALI_DTYPE_F16)
        for (size_t i = 0; i < n; i++) unfit |= fabsf(x[i]) >= 65520.0f && fabsf(x[i]) < INFINITY;
    return !unfit;
}

encoder encode_begin(const kernels *k, const mat *to, size_t row) {
    return (encoder){.k = k, .to = to, .row = row};
}

static void scale_put(const encoder *e, size_t i, float scale) {
    memcpy((uint8_t *)(uintptr_t)e->to->codes->scales + i * sizeof scale, &scale, sizeof scale);
}

/* The block that ends before element `end` of the flattened matrix. */
static void block_put(encoder *e, size_t end) {
    size_t first = end - e->n;
    float scale;
    codes_quantize_4bit((uint8_t *)(uintptr_t)e->to->codes->data + first / 2, &scale, e->block, e->n, e->to->dtype);
    scale_put(e, first / CODES_BLOCK, scale);
    e->n = 0;
}

static void blocks_put(encoder *e, const float *row) {
    size_t cols = e->to->cols, at = e->row * cols;
    for (size_t i = 0, n; i < cols; i += n) {
        n = CODES_BLOCK - e->n < cols - i ? CODES_BLOCK - e->n : cols - i;
        memcpy(e->block + e->n, row + i, n * sizeof *row);
        e->n += n;
        if (e->n == CODES_BLOCK) block_put(e, at + i + n);
    }
}

bool encode_row(encoder *e, const float *row) {
    const mat *to = e->to;
    if (!encode_fits(row, to->cols, to->dtype)) return false;
    if (to->dtype == PALI_DTYPE_INT8) {
        float scale;
        codes_quantize_int8((uint8_t *)(uintptr_t)to->codes->data + e->row * to->cols, &scale, row, to->cols);
        scale_put(e, e->row, scale);
    } else if (dtype_is_codes(to->dtype)) {
        blocks_put(e, row);
    } else {
        e->k->from_f32[to->dtype]((char *)(uintptr_t)to->data + e->row * mat_row_bytes(to), row, to->cols);
    }
    e->row++;
    return true;
}

bool encode_rows(encoder *e, const mat *from, size_t first, size_t n, float *scratch) {
    size_t together = from->order ? MAT_ROWS_TOGETHER : 1;
    bool fits = true;
    for (size_t r = 0; r < n && fits; r += together) {
        size_t many = n - r < together ? n - r : together;
        mat_rows_f32(e->k, scratch, from, first + r, many);
        for (size_t i = 0; i < many && fits; i++) fits = encode_row(e, scratch + i * from->cols);
    }
    return fits;
}

void encode_end(encoder *e) {
    if (e->n) block_put(e, e->row * e->to->cols);
}
