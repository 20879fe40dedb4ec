/* check_pairs.c: products in 16-bit floats. Those in bf16 add in f32 and are bounded as such; those in f16 are defined to the bit
 * by plain code here, whose error is itself held against that of activations rounded to bf16. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/halffloat.h"
#include "kernels/check.h"

/* The nearest f16, ties to even, of what does not overflow. Adding 1.5 2^52 ulp leaves no place for less than an ulp. */
static double round_f16(double x) {
    int e;
    (void)frexp(x, &e);
    double magic = ldexp(1.5, (e < -13 ? -13 : e) - 11 + 52);
    return x + magic - magic;
}

/* The shift by which the largest of x comes to lie just below 2^top. */
static int shift_below(int top, const float *x, size_t k) {
    float largest = 0;
    for (size_t i = 0; i < k; i++) largest = fmaxf(largest, fabsf(x[i]));
    int e = largest > 0 ? ilogbf(largest) : -100;
    return top - 1 - (e < -100 ? -100 : e);
}

/* x86/avx512fp16.c in plain C: the same bits. f16: weights in bf16 lose their last places where f16 has no normal numbers. */
static float plain_f16(const float *x, const float *w, size_t k, bool f16) {
    enum { run = 16 };
    int x_shift = shift_below(3, x, k), w_shift = shift_below(8, w, k);
    float sums[2] = {0};
    for (size_t i = 0; i < k; i += 2 * run) {
        double acc[2] = {0};
        for (size_t j = i; j < k && j < i + 2 * run; j++) {
            double a = round_f16(ldexp((double)x[j], x_shift)), b = ldexp((double)w[j], w_shift), size = fabs(b);
            if (f16)
                b = round_f16(b);
            else if (size < 0x1p-14)
                b = copysign(size < 0x1p-15 ? 0 : 2 * (size - 0x1p-15), b);
            acc[j % 2] = round_f16(acc[j % 2] + a * b);
        }
        for (int h = 0; h < 2; h++) sums[h] += (float)acc[h];
    }
    return ldexpf(sums[0] + sums[1], -x_shift - w_shift);
}

/* Activations as Gemma has them: few channels far larger than the rest. */
static float activation(size_t column) {
    return rng_normal(&g_rng) * (column % 199 == 7 ? 300 : 1);
}

/* Error, rms, of sums of k products in that arithmetic (f16) and with x rounded to bf16 (bf16), relative to the rms of the sums.
 * one_sign: no products cancel. */
static void pairs_error(size_t k, bool one_sign, double *f16, double *bf16) {
    float *x = floats(k, 0), *w = floats(k, 0);
    double square = 0, square_f16 = 0, square_bf16 = 0;
    for (int run = 0; run < 40; run++) {
        double sum = 0, sum_bf16 = 0;
        for (size_t i = 0; i < k; i++) {
            x[i] = one_sign ? fabsf(rng_normal(&g_rng)) : activation(i);
            w[i] = half_from_bf16(half_to_bf16(one_sign ? fabsf(rng_normal(&g_rng)) : rng_normal(&g_rng)));
            sum += (double)x[i] * (double)w[i];
            sum_bf16 += (double)half_from_bf16(half_to_bf16(x[i])) * (double)w[i];
        }
        double error_f16 = (double)plain_f16(x, w, k, false) - sum;
        square += sum * sum;
        square_f16 += error_f16 * error_f16;
        square_bf16 += (sum_bf16 - sum) * (sum_bf16 - sum);
    }
    *f16 = sqrt(square_f16 / square);
    *bf16 = sqrt(square_bf16 / square);
    done(x);
    done(w);
}

/* What lets f16 sums stand in for bf16 ones (no kernel is called: a property of the arithmetic). Sums of one sign, where an f16
 * sum grows fastest, are no worse either. */
void check_pairs_error(bool print) {
    static const size_t k_k[] = {1152, 2048, 4304, 16384};
    g_k = kernels_get(CPU_REF);
    rng_seed(&g_rng, 42);
    for (size_t i = 0; i < 8; i++) {
        double f16, bf16;
        pairs_error(k_k[i / 2], i % 2, &f16, &bf16);
        if (print) printf("error of f16 sums of k %zu%s: %.2g, with x in bf16 %.2g\n", k_k[i / 2], i % 2 ? ", one sign" : "", f16, bf16);
        verdict(f16 <= bf16, "error of f16 sums", k_k[i / 2], i % 2, 0);
    }
}

/* f32: by way of a panel of floats, which are then rounded as f16 weights are, or to bf16. */
static void panel_make(uint32_t *panel, const typed_weights *w, int dtype, size_t n, size_t k) {
    if (dtype != PALI_DTYPE_F32) {
        g_k->panel_rows_pairs[dtype](panel, w->data, k, n, k);
        return;
    }
    size_t bytes = k * g_k->nr * sizeof(float);
    float *plain = guarded_new(bytes, 0);
    g_k->panel_rows[dtype](plain, w->data, k, n, k);
    g_k->panel_pairs(panel, plain, k);
    guarded_free(plain, bytes, 0);
}

static void check_gemm_pairs(size_t m, size_t n, size_t k, int dtype, bool accumulate) {
    size_t nr = g_k->nr, pairs = (k + 1) / 2, ldx = KERNELS_PAIRS_HEADER + (k + 15) / 16 * 8, ldc = n + 5;
    size_t x_bytes = m * ldx * sizeof(uint32_t), panel_bytes = (1 + pairs) * nr * sizeof(uint32_t);
    typed_weights w = weights_new(n * k, dtype);
    float *a = inputs(m * k, 1), *c = floats(m * ldc, 1), *before = floats(m * ldc, 0);
    uint32_t *x = guarded_new(x_bytes, 0), *panel = guarded_new(panel_bytes, 0);
    int good = 1, same = 1;
    for (size_t i = 0; i < m * k; i++) a[i] = activation(i % k) * (i / k % 5 == 4 ? 0 : ldexpf(1, (int)(i / k) * 6 - 30));
    for (size_t i = 0; i < n * k; i++) { /* rows, and columns in a row, of very different size */
        int row = (int)(i / k % 4) * (dtype == PALI_DTYPE_F16 ? 2 : 20), column = i % k % 5 == 4 ? (int)(i % k % 17) : 0;
        weights_set(&w, i, dtype, ldexpf(w.values[i], row - column - 8));
    }
    memcpy(before, c, m * ldc * sizeof *c);
    memset(panel, 0xff, panel_bytes); /* NaN, were it not written */
    for (size_t r = 0; r < m; r++) g_k->pairs_x(x + r * ldx, a + r * k, k);
    panel_make(panel, &w, dtype, n, k);
    g_k->gemm_panel_pairs(c, ldc, x, ldx, panel, m, n, pairs, accumulate);
    for (size_t r = 0; r < m; r++) {
        for (size_t j = 0; j < ldc; j++) {
            float start = before[r * ldc + j];
            double sum = accumulate ? (double)start : 0, size = fabs(sum);
            if (j >= n) {
                good &= c[r * ldc + j] == start;
            } else if (g_k->level == CPU_AVX512_FP16) {
                float plain = plain_f16(a + r * k, w.values + j * k, k, dtype != PALI_DTYPE_BF16);
                good &= c[r * ldc + j] == (accumulate ? start + plain : plain);
            } else {
                for (size_t i = 0; i < k; i++) {
                    double term = (double)half_from_bf16(half_to_bf16(a[r * k + i])) * (double)half_from_bf16(half_to_bf16(w.values[j * k + i]));
                    sum += term;
                    size += fabs(term);
                }
                good &= fabs((double)c[r * ldc + j] - sum) <= ((double)k + 2) * 0x1p-24 * size;
            }
        }
    }
    verdict(good && intact(c, m * ldc), "gemm_panel_pairs", m, n, k);
    for (size_t r = 0; r < m; r++) {
        float *row = before + r * ldc;
        g_k->gemm_panel_pairs(row, ldc, x + r * ldx, ldx, panel, 1, n, pairs, accumulate);
        same &= memcmp(row, c + r * ldc, n * sizeof *c) == 0;
    }
    verdict(same, "gemm_panel_pairs gives the same bits alone", m, n, k);
    guarded_free(x, x_bytes, 0);
    guarded_free(panel, panel_bytes, 0);
    inputs_done(a, m * k);
    done(c);
    done(before);
    weights_done(&w);
}

/* NaN and infinity on either side arrive in the sums they belong to and in no other. */
static void check_pairs_nan(int dtype) {
    enum { k = 40, n = 3, m = 3, ldx = KERNELS_PAIRS_HEADER + 24 };
    typed_weights w = weights_new(n * k, dtype);
    float *a = inputs(m * k, 1), c[m * n];
    uint32_t *x = guarded_new(m * ldx * sizeof *x, 0), *panel = guarded_new((1 + k / 2) * g_k->nr * sizeof *panel, 0);
    for (int kind = 0; kind < 2; kind++) {
        a[k + 7] = kind ? NAN : INFINITY;
        weights_set(&w, k + 9, dtype, a[k + 7]);
        for (size_t r = 0; r < m; r++) g_k->pairs_x(x + r * ldx, a + r * k, k);
        panel_make(panel, &w, dtype, n, k);
        g_k->gemm_panel_pairs(c, n, x, ldx, panel, m, n, k / 2, false);
        for (size_t i = 0; i < m * n; i++)
            verdict((i / n == 1 || i % n == 1) != (isfinite(c[i]) != 0), "gemm_panel_pairs passes NaN on", i, (size_t)kind, (size_t)dtype);
    }
    guarded_free(x, m * ldx * sizeof *x, 0);
    guarded_free(panel, (1 + k / 2) * g_k->nr * sizeof *panel, 0);
    inputs_done(a, m * k);
    weights_done(&w);
}

void check_pairs(void) {
    static const size_t k_n[] = {1, 15, 16, 17, 33, 49, 64}, k_k[] = {1, 2, 5, 31, 33, 64, 130}, k_m[] = {1, 2, 5, 6, 7, 13};
    static const size_t k_model[] = {576, 752, 1152, 4304};
    static const int k_types[] = {PALI_DTYPE_F32, PALI_DTYPE_BF16, PALI_DTYPE_F16};
    for (size_t t = 0; t < sizeof k_types / sizeof k_types[0]; t++) {
        const int dtype = k_types[t];
        if (dtype == PALI_DTYPE_F32 ? !g_k->panel_pairs : !g_k->panel_rows_pairs[dtype]) continue;
        for (size_t a = 0; a < sizeof k_n / sizeof k_n[0] && k_n[a] <= g_k->nr; a++)
            for (size_t b = 0; b < sizeof k_k / sizeof k_k[0]; b++)
                for (size_t c = 0; c < sizeof k_m / sizeof k_m[0]; c++) check_gemm_pairs(k_m[c], k_n[a], k_k[b], dtype, (a + b + c) % 2);
        for (size_t b = 0; b < sizeof k_model / sizeof k_model[0]; b++) check_gemm_pairs(7, g_k->nr, k_model[b], dtype, b % 2);
        check_pairs_nan(dtype);
    }
}
