/* check_codes.c: kernels of coded weights (kernels/codes.h). What they decode is held against the formula, element by element,
 * and then every product must have the bits that the f32 kernels give for the decoded weights: no tolerance anywhere. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/halffloat.h"
#include "kernels/check.h"
#include "kernels/codes.h"

typedef struct matrix {
    pali_dtype dtype;
    coded c;
    size_t rows, cols, n_data, n_scales;
    float *values; /* [rows, cols] */
} matrix;

static const struct {
    pali_dtype dtype, rounding;
    const char *name;
} k_kinds[] = {{PALI_DTYPE_NF4, PALI_DTYPE_BF16, "nf4 bf16"}, {PALI_DTYPE_NF4, PALI_DTYPE_F32, "nf4 f32"}, {PALI_DTYPE_FP4, PALI_DTYPE_F16, "fp4 f16"},
               {PALI_DTYPE_INT8, PALI_DTYPE_F32, "int8"}};
#define N_KINDS (sizeof k_kinds / sizeof k_kinds[0])

/* Scales lie at an odd address; codes and scales end at a page that cannot be read. */
static matrix matrix_new(size_t kind, size_t rows, size_t cols) {
    matrix w = {.dtype = k_kinds[kind].dtype, .rows = rows, .cols = cols};
    bool int8 = w.dtype == PALI_DTYPE_INT8;
    w.n_data = int8 ? rows * cols : (rows * cols + 1) / 2;
    w.n_scales = int8 ? rows : (rows * cols + CODES_BLOCK - 1) / CODES_BLOCK;
    uint8_t *data = guarded_new(w.n_data, 0), *scales = guarded_new(w.n_scales * sizeof(float), 1);
    for (size_t i = 0; i < w.n_data; i++) data[i] = (uint8_t)rng_next(&g_rng);
    for (size_t i = 0; i < w.n_scales; i++) {
        float s = fabsf(rng_normal(&g_rng)) * (i % 7 == 3 ? 1e-30f : i % 7 == 5 ? 0 : 0.02f); /* tiny, zero */
        memcpy(scales + i * sizeof s, &s, sizeof s);
    }
    w.c = (coded){data, scales, cols, {0}, k_kinds[kind].rounding};
    for (size_t i = 0; i < 16; i++) w.c.table[i] = i == 3 ? 0 : rng_normal(&g_rng);
    w.values = floats(rows * cols, 1);
    for (size_t i = 0; i < rows * cols; i++) w.values[i] = int8 ? codes_int8(&w.c, i) : codes_4bit(&w.c, i);
    return w;
}

static void matrix_done(matrix *w) {
    guarded_free((void *)(uintptr_t)w->c.data, w->n_data, 0);
    guarded_free((void *)(uintptr_t)w->c.scales, w->n_scales * sizeof(float), 1);
    done(w->values);
}

static bool same(const float *a, const float *b, size_t n) {
    return n == 0 || memcmp(a, b, n * sizeof *a) == 0;
}

/* k columns from col of n rows from row. */
static void check_at(const matrix *w, size_t row, size_t col, size_t n, size_t k) {
    const coded_at at = {&w->c, row, col};
    const float *values = w->values + row * w->cols + col;
    float *y = floats(k, 1), *got = floats(k * g_k->nr, 1), *want = floats(k * g_k->nr, 1);
    for (size_t j = 0; j < n; j++) {
        const coded_at one = {&w->c, row + j, col};
        g_k->to_f32[w->dtype](y, &one, k);
        verdict(same(y, values + j * w->cols, k) && intact(y, k), "to_f32 of codes", w->cols, k, w->dtype);
    }
    size_t n_panel = n < g_k->nr ? n : g_k->nr;
    g_k->panel_rows[w->dtype](got, &at, w->cols, n_panel, k);
    g_k->panel_rows[PALI_DTYPE_F32](want, values, w->cols, n_panel, k);
    verdict(same(got, want, k * g_k->nr) && intact(got, k * g_k->nr), "panel_rows of codes", w->cols, k, w->dtype);
    done(y);
    done(got);
    done(want);
    for (size_t m = 1; m <= KERNELS_DOT_ROWS; m++) {
        float *x = inputs(m * k, 1), *sums = floats(m * n, 1), *wanted = floats(m * n, 1);
        memcpy(wanted, sums, m * n * sizeof *sums);
        g_k->dot_rows[w->dtype](sums, n, x, k, &at, w->cols, m, n, k, m % 2);
        g_k->dot_rows[PALI_DTYPE_F32](wanted, n, x, k, values, w->cols, m, n, k, m % 2);
        verdict(same(sums, wanted, m * n) && intact(sums, m * n), "dot_rows of codes", w->cols, k, w->dtype);
        inputs_done(x, m * k);
        done(sums);
        done(wanted);
    }
}

/* The same panel as from weights held in the type that codes are rounded to. */
static void check_code_pairs(const matrix *w, size_t row, size_t col, size_t n, size_t k) {
    pali_dtype half = w->c.rounding;
    if (half == PALI_DTYPE_F32 || !g_k->panel_rows_pairs[half]) return;
    const coded_at at = {&w->c, row, col};
    size_t words = (1 + (k + 1) / 2) * g_k->nr;
    uint16_t *halves = malloc((n * k + 1) * sizeof *halves);
    uint32_t *got = guarded_new(words * sizeof *got, 0), *want = guarded_new(words * sizeof *want, 0);
    if (!halves) exit(2);
    memset(got, 0, words * sizeof *got);
    memset(want, 0, words * sizeof *want);
    for (size_t j = 0; j < n; j++) g_k->from_f32[half](halves + j * k, w->values + (row + j) * w->cols + col, k);
    g_k->panel_rows_pairs[w->dtype](got, &at, w->cols, n, k);
    g_k->panel_rows_pairs[half](want, halves, k, n, k);
    verdict(memcmp(got, want, words * sizeof *got) == 0, "panel_rows_pairs of codes", n, k, w->dtype);
    guarded_free(got, words * sizeof *got, 0);
    guarded_free(want, words * sizeof *want, 0);
    free(halves);
}

void check_codes(void) {
    static const size_t k_cols[] = {1, 2, 3, 5, 16, 31, 57, 63, 64, 65, 72, 128, 130, 200, 1152, 4304};
    for (size_t kind = 0; kind < N_KINDS; kind++) {
        for (size_t a = 0; a < sizeof k_cols / sizeof k_cols[0]; a++) {
            size_t cols = k_cols[a], rows = a % 2 ? g_k->nr : 5, skip = cols > 3 ? cols / 3 : 0;
            matrix w = matrix_new(kind, rows, cols);
            check_at(&w, 0, 0, rows, cols);
            check_at(&w, 1 % rows, skip, rows - 1, cols - skip); /* to the last byte */
            check_at(&w, rows - 1, 0, 1, cols - skip);
            check_at(&w, 0, 0, 0, cols);
            check_code_pairs(&w, 0, 0, rows, cols);
            check_code_pairs(&w, rows - 3, skip, 3, cols - skip);
            matrix_done(&w);
        }
    }
}

/* ---- Rates ---- */

typedef struct rate {
    matrix w;
    float *x, *y, *panel;
    size_t m;
} rate;

static void rate_dot(void *context) {
    rate *r = context;
    const coded_at at = {&r->w.c, 0, 0};
    g_k->dot_rows[r->w.dtype](r->y, r->w.rows, r->x, r->w.cols, &at, r->w.cols, r->m, r->w.rows, r->w.cols, false);
}
static void rate_panel(void *context) {
    rate *r = context;
    for (size_t i = 0; i < 20; i++) {
        const coded_at at = {&r->w.c, i * g_k->nr, 0};
        g_k->panel_rows[r->w.dtype](r->panel, &at, r->w.cols, g_k->nr, 384);
    }
}

void bench_codes(void) {
    const char *level = cpu_level_name(g_k->level);
    if (g_k->level == CPU_REF) return;
    for (size_t kind = 0; kind < N_KINDS; kind++) {
        rate r = {.w = matrix_new(kind, 16384, 2048), .x = floats(4 * 2048, 1), .y = floats(4 * 16384, 1), .panel = floats(384 * g_k->nr, 1)};
        double weights = (double)(r.w.rows * r.w.cols), bytes = (double)(r.w.n_data + r.w.n_scales * sizeof(float));
        for (r.m = 1; r.m <= 4; r.m += 3) {
            double s = seconds_of(rate_dot, &r);
            printf("%-11s dot_rows %-9s %zu row%s %7.1f GB/s %7.2f Gweights/s\n", level, k_kinds[kind].name, r.m, r.m > 1 ? "s" : " ", bytes / s * 1e-9, weights / s * 1e-9);
        }
        printf("%-11s panel_rows %-9s     %7.2f Gweights/s\n", level, k_kinds[kind].name, 20.0 * 384 * (double)g_k->nr / seconds_of(rate_panel, &r) * 1e-9);
        done(r.x);
        done(r.y);
        done(r.panel);
        matrix_done(&r.w);
    }
}
