/* strided.h: a matrix whose elements lie in another order than its rows: a part of an array of numpy with its axes exchanged.
 *
 *   element (r, c) lies sum of (digit of r * step) + sum of (digit of c * step) elements after the first,
 *
 * where the digits of r are its place along each of the row axes, the last running fastest, and those of c likewise. A matrix
 * [heads * H, D] that is stored as [heads, D, H] has the row axes {heads, D * H}, {H, 1} and the column axis {D, H}. */
#ifndef PALI_TENSOR_STRIDED_H
#define PALI_TENSOR_STRIDED_H

#include <stdbool.h>
#include <stddef.h>

#define STRIDED_MAX_AXES 4u
#define STRIDED_TILE 64u /* rows and columns that are turned at once: multiples of so many rows are best asked for */

typedef struct strided_axis {
    size_t n, step; /* step: in elements */
} strided_axis;

typedef struct strided {
    size_t n_row_axes, n_col_axes;
    strided_axis rows[STRIDED_MAX_AXES], cols[STRIDED_MAX_AXES];
} strided;

/* Of n_axes <= STRIDED_MAX_AXES axes in the matrix's order, of which the first make up `rows` rows. Axes that lie one in the
 * other as if they were one become one. */
void strided_init(strided *s, const strided_axis *axes, size_t n_axes, size_t rows);
/* The elements lie together, in whatever order; their number is that of the matrix. */
bool strided_is_dense(const strided *s);
/* Rows first..first+n, row-major, into `out`; elements of 2 or 4 bytes, any alignment. */
void strided_rows(void *out, const void *data, size_t element_bytes, const strided *s, size_t first, size_t n);

#endif
