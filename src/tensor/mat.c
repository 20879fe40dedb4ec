#include "tensor/mat.h"

#include "tensor/encode.h"

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

void mat_part_f32(const kernels *k, float *out, const mat *w, size_t row, size_t n_rows, size_t first, size_t n_cols) {
    coded_at at;
    for (size_t r = 0; r < n_rows; r++) k->to_f32[w->dtype](out + r * n_cols, mat_at(w, row + r, first, &at), n_cols);
}

void mat_rows_f32(const kernels *k, float *out, const mat *w, size_t first, size_t n) {
    mat_part_f32(k, out, w, first, n, 0, w->cols);
    for (size_t r = 0; r < n; r++)
        for (const lora *l = w->lora; l; l = l->next) row_add_lora(k, out + r * w->cols, l, w->lora_row + first + r);
}

bool mat_rows_convert(const kernels *k, void *out, pali_dtype dtype, const mat *w, size_t first, size_t n, float *row) {
    const mat to = {.dtype = dtype, .rows = n, .cols = w->cols, .data = out};
    encoder e = encode_begin(k, &to, 0);
    bool fits = true;
    for (size_t r = 0; r < n && fits; r++) {
        mat_rows_f32(k, row, w, first + r, 1);
        fits = encode_row(&e, row);
    }
    return fits;
}
