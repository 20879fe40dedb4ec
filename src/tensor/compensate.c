#include "tensor/compensate.h"

#include <math.h>
#include <string.h>

#include "kernels/blocks_plain.h"

/* ---- Factors ---- */

#define LANES 8u /* partial sums, so that a compiler may use vectors */

static double dot(const double *x, const double *y, size_t n) {
    double sum[LANES] = {0}, total = 0;
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (size_t l = 0; l < LANES; l++) sum[l] += x[i + l] * y[i + l];
    for (; i < n; i++) total += x[i] * y[i];
    for (size_t l = 0; l < LANES; l++) total += sum[l];
    return total;
}

/* v [n, n]: H above and on the diagonal becomes V with H = V V^T; from the last column on, because V is upper triangular. */
static bool cholesky_upper(double *v, size_t n) {
    for (size_t j = n; j-- > 0;) {
        const double *row = v + j * n;
        double square = row[j] - dot(row + j + 1, row + j + 1, n - j - 1);
        if (!(square > 0 && square < (double)INFINITY)) return false;
        double diagonal = sqrt(square);
        v[j * n + j] = diagonal;
        for (size_t i = 0; i < j; i++) v[i * n + j] = (v[i * n + j] - dot(v + i * n + j + 1, row + j + 1, n - j - 1)) / diagonal;
    }
    return true;
}

/* Rows of V, from the last on, become rows of U = V^-1, and those of `out` -U_ij / U_ii. */
static void invert_upper(float *out, double *v, size_t n) {
    for (size_t i = n; i-- > 0;) {
        double row[COMPENSATE_SPAN] = {0}; /* sum over k > i of V_ik U_k, which is -U_i V_ii */
        for (size_t k = i + 1; k < n; k++) {
            const double *u = v + k * n, f = v[i * n + k];
            for (size_t j = k; j < n; j++) row[j] += f * u[j];
        }
        double diagonal = v[i * n + i];
        memset(out + i * n, 0, n * sizeof *out);
        for (size_t j = i + 1; j < n; j++) {
            out[i * n + j] = (float)row[j];
            v[i * n + j] = -row[j] / diagonal;
        }
        v[i * n + i] = 1 / diagonal;
    }
}

bool compensate_factor(float *h, size_t n, double *scratch) {
    double damping = 0;
    for (size_t i = 0; i < n; i++) damping += (double)h[i * n + i] * COMPENSATE_DAMPING / (double)n;
    if (damping == 0) {
        memset(h, 0, n * n * sizeof *h);
        return true;
    }
    for (size_t i = 0; i < n * n; i++) scratch[i] = (double)h[i];
    for (size_t i = 0; i < n; i++) scratch[i * n + i] += damping;
    if (!cholesky_upper(scratch, n)) return false;
    invert_upper(h, scratch, n);
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
