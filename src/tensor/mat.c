#include "tensor/mat.h"

#include <string.h>

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

/* Rows in another order. 16-bit elements wait in the second half of `out` for their turn: what is written never catches up. */
static void rows_in_order(const kernels *k, float *out, const mat *w, size_t first, size_t n) {
    uint16_t some[256];
    const size_t bytes = dtype_bytes(w->dtype, 1), total = n * w->cols, step = sizeof some / sizeof *some;
    char *stored = (char *)out + total * (sizeof *out - bytes);
    strided_rows(stored, w->data, bytes, w->order, first, n);
    for (size_t i = 0; bytes == sizeof *some && i < total; i += step) {
        size_t many = total - i < step ? total - i : step;
        memcpy(some, stored + i * bytes, many * bytes);
        k->to_f32[w->dtype](out + i, some, many);
    }
}

void mat_rows_f32(const kernels *k, float *out, const mat *w, size_t first, size_t n) {
    if (w->order)
        rows_in_order(k, out, w, first, n);
    else
        mat_part_f32(k, out, w, first, n, 0, w->cols);
    for (size_t r = 0; r < n; r++)
        for (const lora *l = w->lora; l; l = l->next) row_add_lora(k, out + r * w->cols, l, w->lora_row + first + r);
}

bool mat_rows_convert(const kernels *k, void *out, pali_dtype dtype, const mat *w, size_t first, size_t n, float *scratch) {
    const mat to = {.dtype = dtype, .rows = n, .cols = w->cols, .data = out};
    encoder e = encode_begin(k, &to, 0);
    if (!w->order || w->dtype != dtype || w->lora) return encode_rows(&e, w, first, n, scratch);
    strided_rows(out, w->data, dtype_bytes(dtype, 1), w->order, first, n); /* the bits, whatever they mean */
    return true;
}
