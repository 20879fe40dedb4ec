#include "tensor/mat.h"

#include <math.h>

#include "kernels/blocks.h"

void mat_rows_f32(const kernels *k, float *out, const mat *w, size_t first, size_t n) {
    for (size_t r = 0; r < n; r++) k->to_f32[w->dtype](out + r * w->cols, mat_row(w, first + r), w->cols);
}

static bool row_fits(const float *row, size_t n) {
    bool unfit = false;
    for (size_t i = 0; i < n; i++) unfit |= !(fabsf(row[i]) <= 65504.0f);
    return !unfit;
}

bool mat_rows_convert(const kernels *k, void *out, pali_dtype dtype, const mat *w, size_t first, size_t n, float *row) {
    size_t out_bytes = dtype_bytes(dtype, w->cols);
    for (size_t r = 0; r < n; r++) {
        mat_rows_f32(k, row, w, first + r, 1);
        if (dtype_is_blocks(dtype) && !row_fits(row, w->cols)) return false;
        k->from_f32[dtype]((char *)out + r * out_bytes, row, w->cols);
    }
    return true;
}
