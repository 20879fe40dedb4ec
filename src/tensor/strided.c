#include "tensor/strided.h"

#include <string.h>

#define TILE STRIDED_TILE

static void axis_append(strided_axis *list, size_t *n, strided_axis a) {
    strided_axis *last = *n ? &list[*n - 1] : NULL;
    if (a.n == 1) return;
    if (last && last->step == a.n * a.step)
        *last = (strided_axis){last->n * a.n, a.step};
    else
        list[(*n)++] = a;
}

void strided_init(strided *s, const strided_axis *axes, size_t n_axes, size_t rows) {
    size_t n = 1;
    *s = (strided){0};
    for (size_t i = 0; i < n_axes; i++) {
        if (n < rows)
            axis_append(s->rows, &s->n_row_axes, axes[i]);
        else
            axis_append(s->cols, &s->n_col_axes, axes[i]);
        n *= axes[i].n;
    }
    if (s->n_row_axes == 0) s->rows[s->n_row_axes++] = (strided_axis){1, 0};
    if (s->n_col_axes == 0) s->cols[s->n_col_axes++] = (strided_axis){1, 0};
}

bool strided_is_dense(const strided *s) {
    size_t n = 1, span = 1;
    for (size_t i = 0; i < s->n_row_axes; i++) {
        n *= s->rows[i].n;
        span += (s->rows[i].n - 1) * s->rows[i].step;
    }
    for (size_t i = 0; i < s->n_col_axes; i++) {
        n *= s->cols[i].n;
        span += (s->cols[i].n - 1) * s->cols[i].step;
    }
    return span == n;
}

/* Where index i along the axes lies; the last axis is left out: i counts its runs. */
static size_t run_offset(const strided_axis *axes, size_t n_axes, size_t i) {
    size_t offset = 0;
    for (size_t a = n_axes - 1; a-- > 0; i /= axes[a].n) offset += i % axes[a].n * axes[a].step;
    return offset;
}

/* A block [rows, cols] to rows that lie out_step apart; element (r, c) of it comes from r * row_step + c * col_step. By way of a
 * small tile, so that whole cache lines are read and whole ones written: steps are often powers of two, and lines that far apart
 * push each other out of the cache. */
static inline __attribute__((always_inline)) void block_turn(char *out, size_t out_step, const char *data, size_t row_step, size_t col_step, size_t rows, size_t cols, size_t bytes) {
    char tile[TILE * TILE * 4];
    for (size_t c0 = 0; c0 < cols; c0 += TILE) {
        const size_t n_cols = cols - c0 < TILE ? cols - c0 : TILE;
        for (size_t r0 = 0; r0 < rows; r0 += TILE) {
            const size_t n_rows = rows - r0 < TILE ? rows - r0 : TILE;
            for (size_t c = 0; c < n_cols; c++) {
                const char *from = data + ((c0 + c) * col_step + r0 * row_step) * bytes;
                for (size_t r = 0; r < n_rows; r++) memcpy(tile + (r * TILE + c) * bytes, from + r * row_step * bytes, bytes);
            }
            for (size_t r = 0; r < n_rows; r++) memcpy(out + ((r0 + r) * out_step + c0) * bytes, tile + r * TILE * bytes, n_cols * bytes);
        }
    }
}

/* The element's size, and the step of the usual case, are constants to the loops. */
static void block_copy(char *out, size_t out_step, const char *data, strided_axis row, strided_axis col, size_t bytes) {
    if (col.step == 1)
        for (size_t r = 0; r < row.n; r++) memcpy(out + r * out_step * bytes, data + r * row.step * bytes, col.n * bytes);
    else if (bytes == 2 && row.step == 1)
        block_turn(out, out_step, data, 1, col.step, row.n, col.n, 2);
    else if (bytes == 4 && row.step == 1)
        block_turn(out, out_step, data, 1, col.step, row.n, col.n, 4);
    else if (bytes == 2)
        block_turn(out, out_step, data, row.step, col.step, row.n, col.n, 2);
    else
        block_turn(out, out_step, data, row.step, col.step, row.n, col.n, 4);
}

void strided_rows(void *out, const void *data, size_t element_bytes, const strided *s, size_t first, size_t n) {
    const strided_axis row = s->rows[s->n_row_axes - 1], col = s->cols[s->n_col_axes - 1];
    size_t n_runs = 1;
    for (size_t i = 0; i + 1 < s->n_col_axes; i++) n_runs *= s->cols[i].n;
    for (size_t done = 0, many; done < n; done += many) {
        const size_t at = (first + done) % row.n; /* rows from here to the end of the fastest axis, or of what is asked for */
        many = row.n - at < n - done ? row.n - at : n - done;
        const size_t begin = run_offset(s->rows, s->n_row_axes, (first + done) / row.n) + at * row.step;
        for (size_t j = 0; j < n_runs; j++)
            block_copy((char *)out + (done * n_runs + j) * col.n * element_bytes, n_runs * col.n,
                       (const char *)data + (begin + run_offset(s->cols, s->n_col_axes, j)) * element_bytes, (strided_axis){many, row.step}, col, element_bytes);
    }
}
