#include "tensor/compensate.h"

#include <math.h>
#include <string.h>

#include "kernels/blocks_plain.h"

/* ---- Factors ---- */

#define PANEL COMPENSATE_PANEL
#define TILE_ROWS 64u  /* of b at a time, so that it stays in cache while all rows of c take it */
#define TILE_COLS 256u

/* c [m, n] += a [m, k] b [k, n] */
static void product_add(double *c, size_t ldc, const double *a, size_t lda, const double *b, size_t ldb, size_t m, size_t k, size_t n) {
    for (size_t j0 = 0; j0 < n; j0 += TILE_COLS) {
        const size_t width = n - j0 < TILE_COLS ? n - j0 : TILE_COLS;
        for (size_t i0 = 0; i0 < k; i0 += TILE_ROWS) {
            const size_t end = k - i0 < TILE_ROWS ? k : i0 + TILE_ROWS;
            for (size_t r = 0; r < m; r++) {
                double *restrict row = c + r * ldc + j0;
                const double *f = a + r * lda;
                size_t i = i0;
                for (; i + 4 <= end; i += 4) {
                    const double *b0 = b + i * ldb + j0, *b1 = b0 + ldb, *b2 = b1 + ldb, *b3 = b2 + ldb;
                    for (size_t j = 0; j < width; j++) row[j] += f[i] * b0[j] + f[i + 1] * b1[j] + (f[i + 2] * b2[j] + f[i + 3] * b3[j]);
                }
                for (; i < end; i++)
                    for (size_t j = 0; j < width; j++) row[j] += f[i] * b[i * ldb + j0 + j];
            }
        }
    }
}

/* v [n, n]: H above and on the diagonal becomes V with H = V V^T; from the last column on, because V is upper triangular. Columns go
 * PANEL at a time: first what those behind them say, by way of `behind` [n, PANEL], then each other. */
static bool cholesky_upper(double *v, double *behind, size_t n) {
    for (size_t j1 = n; j1 > 0;) {
        const size_t j0 = (j1 - 1) / PANEL * PANEL, width = j1 - j0;
        for (size_t c = j1; c < n; c++)
            for (size_t j = 0; j < width; j++) behind[(c - j1) * width + j] = -v[(j0 + j) * n + c];
        product_add(v + j0, n, v + j1, n, behind, width, j1, n - j1, width);
        for (size_t j = j1; j-- > j0;) {
            const double *row = v + j * n;
            double square = row[j];
            for (size_t c = j + 1; c < j1; c++) square -= row[c] * row[c];
            if (!(square > 0 && square < (double)INFINITY)) return false;
            const double diagonal = sqrt(square);
            v[j * n + j] = diagonal;
            for (size_t i = 0; i < j; i++) {
                double sum = v[i * n + j];
                for (size_t c = j + 1; c < j1; c++) sum -= v[i * n + c] * row[c];
                v[i * n + j] = sum / diagonal;
            }
        }
        j1 = j0;
    }
    return true;
}

/* Rows of V, from the last on, become rows of U = V^-1, and those of `out` -U_ij / U_ii. Of PANEL rows at a time `sums` [PANEL, n] is
 * the sum over k > i of V_ik U_k, which is -U_i V_ii: first of k beyond the panel. */
static void invert_upper(float *out, double *v, double *sums, size_t n) {
    for (size_t i = 1; i < n; i++) memset(v + i * n, 0, i * sizeof *v);
    for (size_t i1 = n; i1 > 0;) {
        const size_t i0 = (i1 - 1) / PANEL * PANEL;
        memset(sums, 0, (i1 - i0) * n * sizeof *sums);
        for (size_t j = i1; j < n; j += TILE_COLS) { /* U_kj is 0 for k > j */
            const size_t end = n - j < TILE_COLS ? n : j + TILE_COLS;
            product_add(sums + j, n, v + i0 * n + i1, n, v + i1 * n + j, n, i1 - i0, end - i1, end - j);
        }
        for (size_t i = i1; i-- > i0;) {
            double *restrict row = sums + (i - i0) * n;
            const double diagonal = v[i * n + i];
            for (size_t k = i + 1; k < i1; k++) {
                const double f = v[i * n + k], *u = v + k * n;
                for (size_t j = k; j < n; j++) row[j] += f * u[j];
            }
            memset(out + i * n, 0, n * sizeof *out);
            for (size_t j = i + 1; j < n; j++) {
                out[i * n + j] = (float)row[j];
                v[i * n + j] = -row[j] / diagonal;
            }
            v[i * n + i] = 1 / diagonal;
        }
        i1 = i0;
    }
}

bool compensate_factor(float *h, size_t n, double *scratch) {
    double damping = 0, *panel = scratch + n * n;
    for (size_t i = 0; i < n; i++) damping += (double)h[i * n + i] * COMPENSATE_DAMPING / (double)n;
    if (damping == 0) {
        memset(h, 0, n * n * sizeof *h);
        return true;
    }
    for (size_t i = 0; i < n * n; i++) scratch[i] = (double)h[i];
    for (size_t i = 0; i < n; i++) scratch[i * n + i] += damping;
    if (!cholesky_upper(scratch, panel, n)) return false;
    invert_upper(h, scratch, panel, n);
    return true;
}

/* ---- Rows ---- */

/* Rounds a block, whose scale and minimum are in `out` already, and keeps the errors; those within the block are answered at once. */
static void block_round(void *out, pali_dtype dtype, size_t b, float error[BLOCK], float *w, const float *factors, size_t ld, size_t n) {
    int8_t q[BLOCK];
    float s, m;
    block_get(dtype, out, b, q, &s, &m);
    for (size_t i = 0; i < n; i++) {
        float r = s != 0 ? (w[i] - m) / s + 0.5f : 0;
        q[i] = r >= 15 ? 15 : r > 0 ? (int8_t)r : 0;
        error[i] = w[i] - (s * (float)q[i] + m);
        for (size_t j = i + 1; j < n; j++) w[j] += error[i] * factors[i * ld + j];
    }
    block_put(dtype, out, b, q);
}

void compensate_rows(const kernels *k, void *out, pali_dtype dtype, const float *factors, float *rows, size_t n, size_t cols) {
    const size_t unit = dtype == PALI_DTYPE_Q4_K ? SUPER_BLOCK : BLOCK, row_bytes = dtype_bytes(dtype, cols);
    for (size_t c = 0; c < cols; c += BLOCK) {
        const size_t span = c / COMPENSATE_SPAN, ld = compensate_span_cols(cols, span), at = c - span * COMPENSATE_SPAN;
        const size_t width = ld - at < BLOCK ? ld - at : BLOCK, rest = ld - at - width;
        const float *f = factors + compensate_offset(span) + at * ld + at;
        for (size_t r = 0; r < n; r++) {
            char *to = (char *)out + r * row_bytes;
            float *w = rows + r * cols + c, error[BLOCK];
            if (c % unit == 0) k->from_f32[dtype](to + dtype_bytes(dtype, c), w, cols - c < unit ? cols - c : unit);
            block_round(to, dtype, c / BLOCK, error, w, f, ld, width);
            if (rest) k->sum_rows(w + width, error, f + width, ld, width, rest, true);
        }
    }
}
