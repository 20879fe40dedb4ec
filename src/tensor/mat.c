#include "tensor/mat.h"

#include <math.h>

#include "kernels/blocks.h"

#define RANK_CHUNK 64u

/* out [cols] += s B A of one row. */
static void row_add_lora(const kernels *k, float *out, const lora *l, size_t row) {
    float sb[RANK_CHUNK];
    size_t cols = l->a.cols, rank = l->a.rows;
    const float *a = l->a.data, *b = (const float *)l->b.data + row * rank;
    for (size_t i = 0; i < rank; i += RANK_CHUNK) {
        size_t n = rank - i < RANK_CHUNK ? rank - i : RANK_CHUNK;
        k->scale(sb, b + i, n, l->scale);
        k->sum_rows(out, sb, a + i * cols, cols, n, cols, true);
    }
}

void mat_rows_f32(const kernels *k, float *out, const mat *w, size_t first, size_t n) {
    for (size_t r = 0; r < n; r++) {
        k->to_f32[w->dtype](out + r * w->cols, mat_row(w, first + r), w->cols);
        for (const lora *l = w->lora; l; l = l->next) row_add_lora(k, out + r * w->cols, l, w->lora_row + first + r);
    }
}

/* Blocks have half floats as scales; f16 is to have an infinity only where there was one. */
static bool row_fits(const float *row, size_t n, pali_dtype dtype) {
    bool unfit = false;
    if (dtype_is_blocks(dtype))
        for (size_t i = 0; i < n; i++) unfit |= !(fabsf(row[i]) <= 65504.0f);
    if (dtype == PALI_DTYPE_F16)
        for (size_t i = 0; i < n; i++) unfit |= fabsf(row[i]) >= 65520.0f && fabsf(row[i]) < INFINITY;
    return !unfit;
}

bool mat_row_store(const kernels *k, void *out, pali_dtype dtype, const float *row, size_t cols) {
    if (!row_fits(row, cols, dtype)) return false;
    k->from_f32[dtype](out, row, cols);
    return true;
}

bool mat_rows_convert(const kernels *k, void *out, pali_dtype dtype, const mat *w, size_t first, size_t n, float *row) {
    size_t out_bytes = dtype_bytes(dtype, w->cols);
    bool fits = true;
    for (size_t r = 0; r < n && fits; r++) {
        mat_rows_f32(k, row, w, first + r, 1);
        fits = mat_row_store(k, (char *)out + r * out_bytes, dtype, row, w->cols);
    }
    return fits;
}
