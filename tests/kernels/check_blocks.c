/* check_blocks.c: kernels of block-quantized weights. Their results are defined to the bit (kernels/blocks_plain.h), so every
 * level and both ways through a product must give exactly what the plain code gives. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/blocks_plain.h"
#include "kernels/check.h"

static const pali_dtype k_types[] = {PALI_DTYPE_Q8_0, PALI_DTYPE_Q4_0, PALI_DTYPE_Q4_1, PALI_DTYPE_Q4_K};
static const char *const k_names[] = {"q8_0", "q4_0", "q4_1", "q4_k"};
#define N_TYPES (sizeof k_types / sizeof k_types[0])

static void f16_set(uint8_t *p, float x) {
    uint16_t h = half_to_f16(x);
    memcpy(p, &h, 2);
}

/* Any bits at all for the integers, scales of ordinary size. */
static void row_fill(uint8_t *row, pali_dtype dtype, size_t k) {
    size_t n = dtype_bytes(dtype, k), step = dtype == PALI_DTYPE_Q4_K ? Q4_K_BYTES : dtype_bytes(dtype, BLOCK);
    for (size_t i = 0; i < n; i++) row[i] = (uint8_t)rng_next(&g_rng);
    for (size_t b = 0; b < n; b += step) {
        f16_set(row + b, 0.01f * rng_normal(&g_rng));
        if (dtype == PALI_DTYPE_Q4_1 || dtype == PALI_DTYPE_Q4_K) f16_set(row + b + 2, 0.05f * rng_normal(&g_rng));
    }
}

/* Codes at the ends of their range, in runs of either: where sums that saturate would. */
static void row_extreme(uint8_t *row, pali_dtype dtype, size_t k, size_t j) {
    static const uint8_t k_ends[] = {0x80, 0x7f, 0x81, 0xff, 0x00};
    size_t n = dtype_bytes(dtype, k), step = dtype == PALI_DTYPE_Q4_K ? Q4_K_BYTES : dtype_bytes(dtype, BLOCK);
    for (size_t i = 0; i < n; i++) row[i] = k_ends[(j + (j % 3 ? i / (j % 7 + 1) : 0)) % sizeof k_ends];
    for (size_t b = 0; b < n; b += step) {
        f16_set(row + b, 0.01f);
        if (dtype == PALI_DTYPE_Q4_1 || dtype == PALI_DTYPE_Q4_K) f16_set(row + b + 2, -0.05f);
    }
}

/* extreme: all of one size. */
static void *x_rows_new(size_t m, size_t k, bool extreme) {
    float *x = floats(k, 1);
    char *rows = guarded_new(m * x_row_bytes(k), 0);
    for (size_t r = 0; r < m; r++) {
        for (size_t i = 0; i < k; i++) {
            x[i] = rng_normal(&g_rng) * (i % 97 == 5 ? 100 : 1); /* outliers, as Gemma has them */
            if (extreme) x[i] = r % 3 == 0 ? 1 : r % 3 == 1 ? -1 : copysignf(1, x[i]);
        }
        x_quantize(rows + r * x_row_bytes(k), x, k);
    }
    done(x);
    return rows;
}

static int same_bits(const float *a, const float *b, size_t n) {
    return memcmp(a, b, n * sizeof *a) == 0;
}

static void check_products(pali_dtype dtype, size_t m, size_t n, size_t k, size_t chunk, bool extreme) {
    size_t row_bytes = dtype_bytes(dtype, k), ldx = x_row_bytes(k), n_blocks = (k + BLOCK - 1) / BLOCK, ldc = n + 3;
    uint8_t *w = guarded_new(n * row_bytes, 0);
    char *x = x_rows_new(m, k, extreme);
    float *want = floats(m * ldc, 1), *got = floats(m * ldc, 0);
    for (size_t j = 0; j < n; j++) {
        if (extreme)
            row_extreme(w + j * row_bytes, dtype, k, j);
        else
            row_fill(w + j * row_bytes, dtype, k);
    }
    memcpy(got, want, m * ldc * sizeof *got);
    bool accumulate = (m + n + k) % 2;
    for (size_t r = 0; r < m; r++)
        for (size_t j = 0; j < n; j++) {
            if (!accumulate) want[r * ldc + j] = 0;
            want[r * ldc + j] = block_dot(dtype, want[r * ldc + j], x + r * ldx, w + j * row_bytes, k);
        }
    size_t few = m < KERNELS_DOT_ROWS ? m : KERNELS_DOT_ROWS;
    float *start = floats(m * ldc, 0);
    memcpy(start, got, m * ldc * sizeof *got);
    g_k->dot_blocks[dtype](got, ldc, x, ldx, w, row_bytes, few, n, k, accumulate);
    int good = same_bits(got, want, (few - 1) * ldc + n) && intact(got, m * ldc);
    verdict(good, "dot_blocks", n, k, (size_t)dtype);

    memcpy(got, start, m * ldc * sizeof *got);
    for (size_t r = 0; r < m && !accumulate; r++) memset(got + r * ldc, 0, n * sizeof *got);
    void *panel = guarded_new((chunk * g_k->panel_block_bytes[dtype_has_minima(dtype)] + 63) & ~(size_t)63, 0);
    for (size_t b = 0; b < n_blocks; b += chunk) {
        size_t nb = n_blocks - b < chunk ? n_blocks - b : chunk;
        for (size_t j = 0; j < n; j += g_k->blocks_nr) {
            size_t nj = n - j < g_k->blocks_nr ? n - j : g_k->blocks_nr;
            g_k->panel_blocks[dtype](panel, w + j * row_bytes, row_bytes, nj, b, nb);
            g_k->gemm_blocks(got + j, ldc, x, ldx, panel, m, nj, k, b, nb, dtype_has_minima(dtype));
        }
    }
    good = same_bits(got, want, (m - 1) * ldc + n) && intact(got, m * ldc);
    verdict(good, "gemm_blocks", m * 1000 + n, k, (size_t)dtype);
    guarded_free(panel, (chunk * g_k->panel_block_bytes[dtype_has_minima(dtype)] + 63) & ~(size_t)63, 0);
    guarded_free(w, n * row_bytes, 0);
    guarded_free(x, m * ldx, 0);
    done(want);
    done(got);
    done(start);
}

static void check_quantize_x(size_t k) {
    float *x = inputs(k, 3);
    char *want = guarded_new(x_row_bytes(k), 0), *got = guarded_new(x_row_bytes(k), 0);
    for (int kind = 0; kind < 4; kind++) { /* as it is, all zero, tiny, damaged */
        if (kind == 1) memset(x, 0, k * sizeof *x);
        for (size_t i = 0; i < k && kind == 2; i++) x[i] = i % 2 ? 1e-38f : -1e-40f;
        if (kind == 3) x[k / 2] = k % 2 ? NAN : -INFINITY;
        memset(want, 0, x_row_bytes(k));
        memset(got, 0, x_row_bytes(k));
        x_quantize(want, x, k);
        g_k->quantize_x(got, x, k);
        if (kind == 3)
            verdict(isnan(x_scales(got, k)[k / 2 / BLOCK]), "quantize_x passes damage on", k, 0, 0);
        else
            verdict(memcmp(want, got, x_row_bytes(k)) == 0, "quantize_x", k, (size_t)kind, 0);
    }
    guarded_free(want, x_row_bytes(k), 0);
    guarded_free(got, x_row_bytes(k), 0);
    inputs_done(x, k);
}

/* The same bytes from every level, and an error that a type of its size may have (kernels/tmpl/quantize.h quotes figures). */
static void check_weights(pali_dtype dtype, size_t k) {
    static const double k_worst[] = {0.01, 0.12, 0.10, 0.10}; /* of the standard deviation, normal weights; Q4_1 has 5 bits a weight */
    float *x = inputs(k, 0.02f), *back = floats(k, 1);
    size_t n_bytes = dtype_bytes(dtype, k);
    uint8_t *want = guarded_new(n_bytes, 0), *got = guarded_new(n_bytes, 0);
    kernels_get(CPU_REF)->from_f32[dtype](want, x, k);
    g_k->from_f32[dtype](got, x, k);
    verdict(memcmp(want, got, n_bytes) == 0, "from_f32 blocks", k, (size_t)dtype, 0);
    g_k->to_f32[dtype](back, got, k);
    double square = 0, error = 0;
    for (size_t i = 0; i < k; i++) {
        square += (double)x[i] * (double)x[i];
        error += (double)(x[i] - back[i]) * (double)(x[i] - back[i]);
    }
    /* Short rows say little about a mean. */
    verdict((k < 1000 || sqrt(error / square) < k_worst[dtype - PALI_DTYPE_Q8_0]) && intact(back, k), "to_f32 blocks", k, (size_t)dtype, 0);
    for (int kind = 0; kind < 3; kind++) { /* zero, tiny, damaged */
        for (size_t i = 0; i < k; i++) x[i] = kind == 0 ? 0 : i % 2 ? 1e-38f : -1e-42f;
        if (kind == 2) x[k / 2] = k % 2 ? NAN : INFINITY;
        kernels_get(CPU_REF)->from_f32[dtype](want, x, k);
        g_k->from_f32[dtype](got, x, k);
        g_k->to_f32[dtype](back, got, k);
        verdict(kind == 2 ? !isfinite(back[k / 2]) : memcmp(want, got, n_bytes) == 0, "from_f32 blocks, special", k, (size_t)dtype, (size_t)kind);
        verdict(kind == 2 || (fabsf(back[0]) < 1e-30f && fabsf(back[k - 1]) < 1e-30f), "from_f32 blocks, small", k, (size_t)dtype, (size_t)kind);
    }
    guarded_free(want, n_bytes, 0);
    guarded_free(got, n_bytes, 0);
    inputs_done(x, k);
    done(back);
}

void check_blocks(void) {
    static const size_t k_k[] = {1, 31, 32, 33, 64, 96, 128, 160, 224, 256, 384, 4304}, k_n[] = {1, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 40};
    for (size_t t = 0; t < N_TYPES; t++) {
        pali_dtype dtype = k_types[t];
        for (size_t a = 0; a < sizeof k_k / sizeof k_k[0]; a++) {
            size_t k = k_k[a];
            if (dtype == PALI_DTYPE_Q4_K && k % SUPER_BLOCK) k = (k + SUPER_BLOCK - 1) / SUPER_BLOCK * SUPER_BLOCK;
            for (size_t b = 0; b < sizeof k_n / sizeof k_n[0]; b++) check_products(dtype, (a + b) % 8 + 1, k_n[b], k, a % 2 ? 4 : 16, false);
            check_weights(dtype, k);
        }
        check_products(dtype, 7, 33, 16384, 16, false);
        check_products(dtype, 1, 64, 2048, 16, false);
        check_products(dtype, 8, 40, 512, 16, true);
    }
    for (size_t a = 0; a < sizeof k_k / sizeof k_k[0]; a++) check_quantize_x(k_k[a]);
}

/* ---- Rates ---- */

typedef struct rate {
    pali_dtype dtype;
    size_t m, n, k;
    char *w, *x, *panel;
    float *y;
} rate;

static void rate_dot(void *context) {
    rate *r = context;
    g_k->dot_blocks[r->dtype](r->y, r->n, r->x, x_row_bytes(r->k), r->w, dtype_bytes(r->dtype, r->k), 1, r->n, r->k, false);
}
static void rate_panel(void *context) {
    rate *r = context;
    for (int i = 0; i < 20; i++) g_k->panel_blocks[r->dtype](r->panel, r->w, dtype_bytes(r->dtype, r->k), g_k->blocks_nr, 0, 16);
}
static void rate_gemm(void *context) {
    rate *r = context;
    for (int i = 0; i < 20; i++)
        g_k->gemm_blocks(r->y, g_k->blocks_nr, r->x, x_row_bytes(r->k), r->panel, r->m, g_k->blocks_nr, r->k, 0, 16, dtype_has_minima(r->dtype));
}
static void rate_quantize_x(void *context) {
    rate *r = context;
    g_k->quantize_x(r->x, r->y, r->k);
}
static void rate_from_f32(void *context) {
    rate *r = context;
    g_k->from_f32[r->dtype](r->w, r->y, r->k);
}

void bench_blocks(void) {
    const char *level = cpu_level_name(g_k->level);
    if (g_k->level == CPU_REF) return; /* seconds a line */
    for (size_t t = 0; t < N_TYPES; t++) {
        rate r = {.dtype = k_types[t], .m = 264, .n = 16384, .k = 2048};
        size_t row_bytes = dtype_bytes(r.dtype, r.k), n_y = r.m * 64 + r.n;
        r.w = aligned_alloc(64, r.n * row_bytes);
        r.x = aligned_alloc(64, r.m * x_row_bytes(r.k));
        r.panel = aligned_alloc(64, 16 * g_k->panel_block_bytes[dtype_has_minima(r.dtype)]);
        r.y = malloc(n_y * sizeof *r.y);
        if (!r.w || !r.x || !r.panel || !r.y) exit(2);
        for (size_t j = 0; j < r.n; j++) row_fill((uint8_t *)r.w + j * row_bytes, r.dtype, r.k);
        for (size_t i = 0; i < n_y; i++) r.y[i] = (float)(i % 7) - 3;
        for (size_t i = 0; i < r.m; i++) x_quantize(r.x + i * x_row_bytes(r.k), r.y, r.k);
        double weights = (double)(r.n * r.k), s = seconds_of(rate_dot, &r);
        printf("%-11s dot_blocks %-5s     %7.1f GB/s %7.2f Gweights/s\n", level, k_names[t], (double)(r.n * row_bytes) / s * 1e-9, weights / s * 1e-9);
        r.k = 16384;
        r.n = 2048;
        double s_long = seconds_of(rate_dot, &r);
        printf("%-11s dot_blocks %-5s, long %6.1f GB/s %7.2f Gweights/s\n", level, k_names[t], (double)(r.n * dtype_bytes(r.dtype, r.k)) / s_long * 1e-9, weights / s_long * 1e-9);
        r.k = 2048;
        printf("%-11s panel_blocks %-5s   %7.2f Gweights/s\n", level, k_names[t], 20.0 * 512 * (double)g_k->blocks_nr / seconds_of(rate_panel, &r) * 1e-9);
        printf("%-11s gemm_blocks %-5s    %7.1f GOP/s\n", level, k_names[t], 20 * 2.0 * 512 * (double)(r.m * g_k->blocks_nr) / seconds_of(rate_gemm, &r) * 1e-9);
        printf("%-11s from_f32 %-5s       %7.1f Mweights/s\n", level, k_names[t], 2048.0 / seconds_of(rate_from_f32, &r) * 1e-6);
        if (t == 0) printf("%-11s quantize_x           %7.2f Gvalues/s\n", level, 2048.0 / seconds_of(rate_quantize_x, &r) * 1e-9);
        free(r.w);
        free(r.x);
        free(r.panel);
        free(r.y);
    }
}
