/* check.c: every kernel of every level this machine runs, against the same formula in double.
 *
 * Plain C with a summary of its own, because it is also built for aarch64 and run under an emulator, where no test library
 * is at hand. With --bench it prints rates instead; the name of a level leaves the others out.
 *
 * Bounds: a sum of k products in float32, in any order, is off by at most k * 2^-24 * sum |a b| (Higham, 3.1). Conversions,
 * panels and copies are exact. Every output lies between canaries; every input ends at a page that cannot be read, because
 * masked loads past an end are invisible to canaries and mostly to sanitizers. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/halffloat.h"
#include "kernels/check.h"

#define CANARY 12345.678f
#define PAD 70u

const kernels *g_k;
rng g_rng;
static size_t g_passed, g_failed;

void verdict(int good, const char *what, size_t a, size_t b, size_t c) {
    if (good) {
        g_passed++;
        return;
    }
    g_failed++;
    if (g_failed < 30) printf("FAILED %s: %s (%zu, %zu, %zu)\n", cpu_level_name(g_k->level), what, a, b, c);
}

float *floats(size_t n, float scale) {
    float *x = malloc((n + 2 * PAD) * sizeof *x);
    if (!x) exit(2);
    for (size_t i = 0; i < PAD; i++) x[i] = x[PAD + n + i] = CANARY;
    for (size_t i = 0; i < n; i++) x[PAD + i] = scale * rng_normal(&g_rng);
    return x + PAD;
}

int intact(const float *x, size_t n) {
    for (size_t i = 1; i <= PAD; i++)
        if (x[-(ptrdiff_t)i] != CANARY || x[n + i - 1] != CANARY) return 0;
    return 1;
}

void done(float *x) {
    free(x - PAD);
}

static size_t guarded_span(size_t n_bytes, size_t page) {
    return (n_bytes + page - 1) / page * page;
}

void *guarded_new(size_t n_bytes, size_t slack) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE), span = guarded_span(n_bytes + slack, page);
    char *base = mmap(NULL, span + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED || mprotect(base + span, page, PROT_NONE) != 0) exit(2);
    return base + span - slack - n_bytes;
}

void guarded_free(void *p, size_t n_bytes, size_t slack) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE), span = guarded_span(n_bytes + slack, page);
    munmap((char *)p + n_bytes + slack - span, span + page);
}

/* Elements that a kernel may read of `rows` rows, ld apart: nothing after the last one. */
static size_t extent(size_t rows, size_t ld, size_t columns) {
    return rows ? (rows - 1) * ld + columns : 0;
}

float *inputs(size_t n, float scale) {
    float *x = guarded_new(n * sizeof *x, 0);
    for (size_t i = 0; i < n; i++) x[i] = scale * rng_normal(&g_rng);
    return x;
}

void inputs_done(float *x, size_t n) {
    guarded_free(x, n * sizeof *x, 0);
}

void weights_set(typed_weights *w, size_t i, int dtype, float value) {
    size_t size = dtype == PALI_DTYPE_F32 ? 4 : 2;
    uint16_t h = dtype == PALI_DTYPE_BF16 ? half_to_bf16(value) : half_to_f16(value);
    w->values[i] = dtype == PALI_DTYPE_BF16 ? half_from_bf16(h) : dtype == PALI_DTYPE_F16 ? half_from_f16(h) : value;
    memcpy(w->data + i * size, dtype == PALI_DTYPE_F32 ? (const void *)&value : (const void *)&h, size);
}

typed_weights weights_new(size_t n, int dtype) {
    size_t size = dtype == PALI_DTYPE_F32 ? 4 : 2;
    typed_weights w = {.data = guarded_new(n * size, 1), .values = floats(n, 1), .n_bytes = n * size};
    for (size_t i = 0; i < n; i++) weights_set(&w, i, dtype, w.values[i]);
    return w;
}

void weights_done(typed_weights *w) {
    guarded_free(w->data, w->n_bytes, 1);
    done(w->values);
}

static void check_panel(size_t n, size_t k, int dtype) {
    typed_weights w = weights_new(extent(n, k + 3, k), dtype);
    float *panel = floats(k * g_k->nr, 1);
    int good = 1;
    g_k->panel_rows[dtype](panel, w.data, k + 3, n, k);
    for (size_t i = 0; i < k; i++)
        for (size_t j = 0; j < g_k->nr; j++) good &= panel[i * g_k->nr + j] == (j < n ? w.values[j * (k + 3) + i] : 0);
    verdict(good && intact(panel, k * g_k->nr), "panel_rows", n, k, (size_t)dtype);
    float *b = inputs(extent(k, n + 1, n), 1);
    g_k->panel_cols(panel, b, n + 1, n, k);
    for (size_t i = 0; i < k; i++)
        for (size_t j = 0; j < g_k->nr; j++) good &= panel[i * g_k->nr + j] == (j < n ? b[i * (n + 1) + j] : 0);
    verdict(good && intact(panel, k * g_k->nr), "panel_cols", n, k, 0);
    inputs_done(b, extent(k, n + 1, n));
    done(panel);
    weights_done(&w);
}

static void check_gemm(size_t m, size_t n, size_t k, bool accumulate) {
    size_t nr = g_k->nr, lda = k + 2, ldc = n + 5;
    float *a = inputs(extent(m, lda, k), 1), *panel = inputs(k * nr, 1), *c = floats(m * ldc, 1), *before = floats(m * ldc, 0);
    int good = 1;
    memcpy(before, c, m * ldc * sizeof *c);
    g_k->gemm_panel(c, ldc, a, lda, panel, m, n, k, accumulate);
    for (size_t r = 0; r < m; r++) {
        for (size_t j = 0; j < ldc; j++) {
            double sum = accumulate ? (double)before[r * ldc + j] : 0, size = fabs(sum);
            for (size_t i = 0; i < k && j < n; i++) {
                double term = (double)a[r * lda + i] * (double)panel[i * nr + j];
                sum += term;
                size += fabs(term);
            }
            if (j >= n)
                good &= c[r * ldc + j] == before[r * ldc + j]; /* columns beyond n are somebody else's */
            else
                good &= fabs((double)c[r * ldc + j] - sum) <= ((double)k + 2) * 0x1p-24 * size;
        }
    }
    verdict(good && intact(c, m * ldc), "gemm_panel", m, n, k);
    int same = 1;
    for (size_t r = 0; r < m; r++) { /* a row alone must give the same bits as among others */
        float *row = before + r * ldc;
        g_k->gemm_panel(row, ldc, a + r * lda, lda, panel, 1, n, k, accumulate);
        same &= n == 0 || memcmp(row, c + r * ldc, n * sizeof *c) == 0;
    }
    verdict(same, "gemm_panel gives the same bits alone", m, n, k);
    inputs_done(a, extent(m, lda, k));
    inputs_done(panel, k * nr);
    done(c);
    done(before);
}

/* Also: the sum of one (row, output) must be the same bits whatever m and n are. */
static void check_dot(size_t n, size_t k, int dtype) {
    size_t ldx = k + 1, ld = k + 2;
    typed_weights w = weights_new(extent(n, ld, k), dtype);
    float *x = inputs(extent(4, ldx, k), 1), *y = floats(4 * n, 1), *one = floats(1, 1);
    for (size_t m = 4; m >= 1; m--) {
        int good = 1, same = 1;
        float *before = floats(4 * n, 0);
        memcpy(before, y, 4 * n * sizeof *y);
        bool accumulate = m % 2;
        g_k->dot_rows[dtype](y, n, x, ldx, w.data, ld, m, n, k, accumulate);
        for (size_t r = 0; r < m; r++) {
            for (size_t j = 0; j < n; j++) {
                double sum = 0, size = 0;
                for (size_t i = 0; i < k; i++) {
                    double term = (double)x[r * ldx + i] * (double)w.values[j * ld + i];
                    sum += term;
                    size += fabs(term);
                }
                double start = accumulate ? (double)before[r * n + j] : 0;
                good &= fabs((double)y[r * n + j] - sum - start) <= ((double)k + 2) * 0x1p-24 * (size + fabs(start));
                *one = before[r * n + j];
                g_k->dot_rows[dtype](one, 1, x + r * ldx, ldx, w.data + j * ld * (dtype == PALI_DTYPE_F32 ? 4 : 2), ld, 1, 1, k, accumulate);
                same &= *one == y[r * n + j];
            }
        }
        verdict(good && intact(y, 4 * n), "dot_rows", m, n, k);
        verdict(same, "dot_rows gives the same bits alone", m, n, k);
        done(before);
    }
    inputs_done(x, extent(4, ldx, k));
    done(y);
    done(one);
    weights_done(&w);
}

static void check_sum_rows(size_t rows, size_t n) {
    float *p = inputs(rows, 1), *v = inputs(extent(rows, n + 3, n), 1), *y = floats(n, 1), *before = floats(n, 0);
    int good = 1;
    for (int accumulate = 0; accumulate < 2; accumulate++) {
        memcpy(before, y, n * sizeof *y);
        g_k->sum_rows(y, p, v, n + 3, rows, n, accumulate);
        for (size_t j = 0; j < n; j++) {
            double sum = accumulate ? (double)before[j] : 0, size = fabs(sum);
            for (size_t i = 0; i < rows; i++) {
                sum += (double)p[i] * (double)v[i * (n + 3) + j];
                size += fabs((double)p[i] * (double)v[i * (n + 3) + j]);
            }
            good &= fabs((double)y[j] - sum) <= ((double)rows + 2) * 0x1p-24 * size;
        }
    }
    verdict(good && intact(y, n), "sum_rows", rows, n, 0);
    inputs_done(p, rows);
    inputs_done(v, extent(rows, n + 3, n));
    done(y);
    done(before);
}

static double gelu(double x) {
    return 0.5 * x * (1 + tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
}

/* Elementwise functions over a range of sizes from tiny to saturating. A few float roundings each: 8 ulp, and an absolute
 * floor of 2^-24 where 1 + tanh cancels (x below -3). */
static void check_maps(size_t n) {
    float *x = inputs(n, 1), *y = floats(n, 1), *up = inputs(n, 2);
    int good = 1;
    for (size_t i = 0; i < n; i++) x[i] *= powf(10, (float)(i % 9) - 6);
    memcpy(y, x, n * sizeof *x);
    g_k->gelu(y, n);
    for (size_t i = 0; i < n; i++) good &= fabs((double)y[i] - gelu((double)x[i])) <= 8 * 0x1p-24 * fabs(gelu((double)x[i])) + 0x1p-23 * fabs((double)x[i]);
    verdict(good && intact(y, n), "gelu", n, 0, 0);
    memcpy(y, x, n * sizeof *x);
    g_k->geglu(y, up, n);
    for (size_t i = 0; i < n; i++)
        good &= fabs((double)y[i] - gelu((double)x[i]) * (double)up[i]) <= (8 * 0x1p-24 * fabs(gelu((double)x[i])) + 0x1p-23 * fabs((double)x[i])) * fabs((double)up[i]);
    verdict(good && intact(y, n), "geglu", n, 0, 0);
    memcpy(y, x, n * sizeof *x);
    g_k->softcap(y, n, 30);
    for (size_t i = 0; i < n; i++) good &= fabs((double)y[i] - 30 * tanh((double)x[i] / 30)) <= 8 * 0x1p-24 * fabs((double)y[i]);
    verdict(good && intact(y, n), "softcap", n, 0, 0);
    memcpy(y, x, n * sizeof *x);
    g_k->add(y, up, n);
    for (size_t i = 0; i < n; i++) good &= y[i] == x[i] + up[i];
    g_k->scale(y, x, n, 3.25f);
    for (size_t i = 0; i < n; i++) good &= y[i] == x[i] * 3.25f;
    verdict(good && intact(y, n), "add, scale", n, 0, 0);
    inputs_done(x, n);
    done(y);
    inputs_done(up, n);
}

static void check_softmax(size_t n, float scale, float cap) {
    float *x = floats(n, 10), *y = floats(n, 1);
    double *p = malloc(n * sizeof *p), max = -1e300, sum = 0;
    int good = 1;
    if (!p) exit(2);
    memcpy(y, x, n * sizeof *x);
    g_k->softmax(y, n, scale, cap);
    for (size_t i = 0; i < n; i++) {
        p[i] = (double)x[i] * (double)scale;
        if (cap > 0) p[i] = (double)cap * tanh(p[i] / (double)cap);
        max = p[i] > max ? p[i] : max;
    }
    for (size_t i = 0; i < n; i++) sum += p[i] = exp(p[i] - max);
    /* The exponent, up to 100 in size, is rounded to 2^-24 of itself, more than once with a cap; the sum of n terms errs by n/2 ulp at worst. */
    for (size_t i = 0; i < n; i++) good &= fabs((double)y[i] - p[i] / sum) <= (4 * 100 + (double)n) * 0x1p-24 * p[i] / sum + 1e-37;
    verdict(good && intact(y, n), "softmax", n, cap > 0, 0);
    free(p);
    done(x);
    done(y);
}

static void check_norms(size_t n) {
    float *x = inputs(n, 3), *w = inputs(n, 1), *b = inputs(n, 1), *y = floats(n, 1);
    double square = 0, mean = 0, var = 0;
    int good = 1;
    for (size_t i = 0; i < n; i++) {
        square += (double)x[i] * (double)x[i] / (double)n;
        mean += (double)x[i] / (double)n;
    }
    for (size_t i = 0; i < n; i++) var += ((double)x[i] - mean) * ((double)x[i] - mean) / (double)n;
    double tolerance = ((double)n / 2 + 8) * 0x1p-24; /* of the sums, before the root halves it */
    g_k->rms_norm(y, x, w, n, 1e-6f);
    for (size_t i = 0; i < n; i++) {
        double want = (double)x[i] / sqrt(square + 1e-6) * (1 + (double)w[i]);
        good &= fabs((double)y[i] - want) <= tolerance * fabs((double)x[i]) / sqrt(square + 1e-6) * (1 + fabs((double)w[i]));
    }
    verdict(good && intact(y, n), "rms_norm", n, 0, 0);
    if (n > 1) {
        g_k->layer_norm(y, x, w, b, n, 1e-6f);
        for (size_t i = 0; i < n; i++) {
            double z = 1 / sqrt(var + 1e-6), want = ((double)x[i] - mean) * z * (double)w[i] + (double)b[i];
            good &= fabs((double)y[i] - want) <= tolerance * ((fabs((double)x[i]) + 10) * z * fabs((double)w[i]) + fabs((double)b[i]));
        }
        verdict(good && intact(y, n), "layer_norm", n, 0, 0);
    }
    inputs_done(x, n);
    inputs_done(w, n);
    inputs_done(b, n);
    done(y);
}

static void check_rope(size_t half) {
    float *x = floats(2 * half, 1), *c = inputs(half, 1), *s = inputs(half, 1), *y = floats(2 * half, 1);
    int good = 1;
    memcpy(y, x, 2 * half * sizeof *x);
    g_k->rope(y, c, s, half);
    for (size_t i = 0; i < half; i++) {
        double a = (double)x[i], b = (double)x[i + half], cs = (double)c[i], sn = (double)s[i];
        double size = (fabs(a) + fabs(b)) * (fabs(cs) + fabs(sn));
        good &= fabs((double)y[i] - (a * cs - b * sn)) <= 2 * 0x1p-24 * size && fabs((double)y[i + half] - (b * cs + a * sn)) <= 2 * 0x1p-24 * size;
    }
    verdict(good && intact(y, 2 * half), "rope", half, 0, 0);
    done(x);
    inputs_done(c, half);
    inputs_done(s, half);
    done(y);
}

static int same_float(float a, float b) {
    return memcmp(&a, &b, sizeof a) == 0 || (isnan(a) && isnan(b));
}

/* All 65536 halves one way, ties and special values the other. */
static void check_conversions(void) {
    static uint16_t halves[65536 + 1], back[65536];
    static float wide[65536];
    int good = 1;
    for (size_t i = 0; i < 65536; i++) memcpy((char *)halves + 1 + 2 * i, &(uint16_t){(uint16_t)i}, 2);
    for (int dtype = PALI_DTYPE_BF16; dtype <= PALI_DTYPE_F16; dtype++) {
        g_k->to_f32[dtype](wide, (char *)halves + 1, 65535);
        for (size_t i = 0; i < 65535; i++) good &= same_float(wide[i], dtype == PALI_DTYPE_BF16 ? half_from_bf16((uint16_t)i) : half_from_f16((uint16_t)i));
    }
    verdict(good, "to_f32", 0, 0, 0);
    for (uint32_t low = 0; low < 0x20000; low += 0x3fff) { /* ties, just below, just above */
        for (size_t i = 0; i < 65535; i++) wide[i] = half_bits_to_f32(((uint32_t)i << 16) + (low & 0xffff) + (low > 0xffff));
        g_k->from_f32[PALI_DTYPE_BF16](back, wide, 65535);
        for (size_t i = 0; i < 65535; i++) good &= back[i] == half_to_bf16(wide[i]);
    }
    for (size_t i = 0; i < 65535; i++) wide[i] = half_bits_to_f32((uint32_t)i << 16 | 0x8000);
    g_k->from_f32[PALI_DTYPE_BF16](back, wide, 65535);
    for (size_t i = 0; i < 65535; i++) good &= back[i] == half_to_bf16(wide[i]);
    verdict(good, "from_f32 bf16", 0, 0, 0);
}

static void check_nan(void) {
    float x[40];
    for (size_t i = 0; i < 40; i++) x[i] = 1;
    x[7] = x[39] = NAN;
    g_k->gelu(x, 40);
    verdict(isnan(x[7]) && isnan(x[39]) && x[8] > 0.84f, "gelu passes NaN on", 0, 0, 0);
    x[7] = NAN;
    g_k->softcap(x, 40, 30);
    verdict(isnan(x[7]) && x[8] < 1, "softcap passes NaN on", 0, 0, 0);
    for (int cap = 0; cap <= 50; cap += 50) {
        for (size_t at = 0; at < 40; at += 13) { /* first, inside, in the tail of a vector */
            for (size_t i = 0; i < 40; i++) x[i] = i == at ? NAN : 1;
            g_k->softmax(x, 40, 1, (float)cap);
            verdict(isnan(x[at]) && isnan(x[20]), "softmax passes NaN on", at, (size_t)cap, 0);
        }
    }
}

static void check_level(void) {
    static const size_t k_n[] = {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 48, 49, 63, 64}, k_k[] = {1, 2, 5, 16, 31, 33, 72, 130};
    static const size_t k_m[] = {1, 2, 3, 5, 6, 7, 8, 11, 12, 13}, k_lengths[] = {1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 33, 64, 65, 72, 127, 256, 1152, 2048, 4304};
    rng_seed(&g_rng, 42);
    for (size_t a = 0; a < sizeof k_n / sizeof k_n[0] && k_n[a] <= g_k->nr; a++) {
        for (size_t b = 0; b < sizeof k_k / sizeof k_k[0]; b++) {
            for (int dtype = PALI_DTYPE_F32; dtype <= PALI_DTYPE_F16; dtype++) check_panel(k_n[a], k_k[b], dtype);
            for (size_t c = 0; c < sizeof k_m / sizeof k_m[0]; c++) {
                check_gemm(k_m[c], k_n[a], k_k[b], (a + b + c) % 2);
            }
        }
    }
    static const size_t k_model[] = {256, 1152, 2048, 4304, 16384};
    for (size_t b = 0; b < sizeof k_model / sizeof k_model[0]; b++) {
        check_gemm(7, g_k->nr, k_model[b], b % 2);
    }
    for (int accumulate = 0; accumulate < 2; accumulate++) { /* nothing in, or nothing out */
        check_gemm(0, 3, 5, accumulate);
        check_gemm(3, 0, 5, accumulate);
        check_gemm(3, 5, 0, accumulate);
    }
    check_sum_rows(0, 40);
    for (int dtype = PALI_DTYPE_F32; dtype <= PALI_DTYPE_F16; dtype++) {
        check_panel(0, 40, dtype);
        check_panel(3, 0, dtype);
        check_dot(3, 0, dtype);
        check_dot(0, 3, dtype);
        for (size_t b = 0; b < sizeof k_lengths / sizeof k_lengths[0]; b++) check_dot(b % 5 + 1, k_lengths[b], dtype);
        check_dot(9, 5000, dtype); /* beyond what fits in L1: several rows at once */
        check_dot(4, 16384, dtype);
    }
    for (size_t b = 0; b < sizeof k_lengths / sizeof k_lengths[0]; b++) {
        size_t n = k_lengths[b];
        check_sum_rows(b % 4 + 1, n);
        check_maps(n);
        check_softmax(n, 0.3f, 0);
        check_softmax(n, 1, 50);
        check_norms(n);
        check_rope(n);
    }
    check_conversions();
    check_nan();
    check_pairs();
    check_blocks();
    check_codes();
    check_backward();
}

/* ---- Rates ---- */

double seconds_of(void (*work)(void *), void *context) {
    double best = 1e9;
    for (int run = 0; run < 5; run++) {
        double start = clock_ms();
        work(context);
        double took = (clock_ms() - start) / 1e3;
        best = took < best ? took : best;
    }
    return best;
}

typedef struct rate {
    float *a, *c, *panel;
    uint32_t *x_pairs, *panel_pairs;
    char *weights;
    size_t m, n, k;
    int dtype;
} rate;

static void rate_gemm(void *context) {
    rate *r = context;
    for (int i = 0; i < 20; i++) g_k->gemm_panel(r->c, g_k->nr, r->a, r->k, r->panel, r->m, g_k->nr, r->k, false);
}
static size_t x_pairs_ld(size_t k) {
    return KERNELS_PAIRS_HEADER + (k + 15) / 16 * 8;
}
static void rate_pairs(void *context) {
    rate *r = context;
    for (int i = 0; i < 20; i++) g_k->gemm_panel_pairs(r->c, g_k->nr, r->x_pairs, x_pairs_ld(r->k), r->panel_pairs, r->m, g_k->nr, r->k / 2, false);
}
static void rate_panel(void *context) {
    rate *r = context;
    for (int i = 0; i < 20; i++) g_k->panel_rows[r->dtype](r->panel, r->weights, r->k, g_k->nr, r->k);
}
static void rate_panel_pairs(void *context) {
    rate *r = context;
    for (int i = 0; i < 20; i++) g_k->panel_rows_pairs[r->dtype](r->panel_pairs, r->weights, r->k, g_k->nr, r->k);
}
static void rate_dot(void *context) {
    rate *r = context;
    g_k->dot_rows[r->dtype](r->c, r->n, r->a, r->k, r->weights, r->k, 1, r->n, r->k, false);
}

static void bench_level(void) {
    rate r = {.m = 264, .n = 16384, .k = 1152};
    r.a = calloc(r.m * 4096, sizeof *r.a);
    r.c = calloc(r.m * 64 + r.n, sizeof *r.c);
    r.panel = calloc(1152 * 64, sizeof *r.panel);
    r.x_pairs = calloc(r.m * x_pairs_ld(1152), sizeof *r.x_pairs);
    r.panel_pairs = calloc((1 + 1152 / 2) * 64, sizeof *r.panel_pairs);
    r.weights = calloc(r.n * 2048, 4);
    if (!r.a || !r.c || !r.panel || !r.x_pairs || !r.panel_pairs || !r.weights) exit(2);
    /* Every page is written: pages never touched share one page of zeros, and all would seem to be in L1. */
    for (size_t i = 0; i < r.n * 2048; i++) ((float *)(void *)r.weights)[i] = 1;
    for (size_t i = 0; i < r.m * 4096; i++) r.a[i] = 1;
    for (size_t i = 0; i < 1152 * 64; i++) r.panel[i] = 1;
    for (size_t i = 0; i < r.m * 64 + r.n; i++) r.c[i] = 1;
    static const size_t k_depths[] = {384, 1152}; /* panels of 96 KiB, as tensor/linear.c cuts them, and of a whole row of SigLIP */
    for (size_t d = 0; d < sizeof k_depths / sizeof k_depths[0]; d++) {
        r.k = k_depths[d];
        double flop = 20 * 2.0 * (double)r.m * (double)g_k->nr * (double)r.k;
        printf("%-11s gemm_panel, k %-4zu       %7.1f GFLOP/s\n", cpu_level_name(g_k->level), r.k, flop / seconds_of(rate_gemm, &r) * 1e-9);
        if (!g_k->gemm_panel_pairs) continue;
        for (size_t i = 0; i < r.m; i++) g_k->pairs_x(r.x_pairs + i * x_pairs_ld(r.k), r.a + i * r.k, r.k);
        g_k->panel_rows_pairs[PALI_DTYPE_BF16](r.panel_pairs, r.weights, r.k, g_k->nr, r.k);
        printf("%-11s gemm_panel_pairs, k %-4zu %7.1f GFLOP/s\n", cpu_level_name(g_k->level), r.k, flop / seconds_of(rate_pairs, &r) * 1e-9);
    }
    for (r.dtype = PALI_DTYPE_F32; r.dtype <= PALI_DTYPE_F16; r.dtype++) {
        static const char *const k_names[] = {"", "f32", "bf16", "f16"};
        r.k = 1152;
        printf("%-11s panel_rows %-5s %7.2f Gweights/s\n", cpu_level_name(g_k->level), k_names[r.dtype], 20.0 * (double)g_k->nr * 1152 / seconds_of(rate_panel, &r) * 1e-9);
        if (g_k->panel_rows_pairs[r.dtype])
            printf("%-11s panel_rows_pairs %-5s %7.2f Gweights/s\n", cpu_level_name(g_k->level), k_names[r.dtype], 20.0 * (double)g_k->nr * 1152 / seconds_of(rate_panel_pairs, &r) * 1e-9);
        r.k = 2048;
        double bytes = (double)(r.n * r.k) * (r.dtype == PALI_DTYPE_F32 ? 4 : 2);
        printf("%-11s dot_rows %-7s %7.1f GB/s\n", cpu_level_name(g_k->level), k_names[r.dtype], bytes / seconds_of(rate_dot, &r) * 1e-9);
    }
    free(r.a);
    free(r.c);
    free(r.panel);
    free(r.x_pairs);
    free(r.panel_pairs);
    free(r.weights);
    bench_blocks();
    bench_codes();
}

/* check [--bench] [LEVEL]: all levels, or one */
int main(int argc, char **argv) {
    bool bench = argc > 1 && strcmp(argv[1], "--bench") == 0;
    const char *only = argc > 1 + bench ? argv[1 + bench] : NULL;
    for (int level = CPU_REF; level < CPU_N_LEVELS; level++) {
        if (only && strcmp(only, cpu_level_name((cpu_level)level)) != 0) continue;
        g_k = kernels_get((cpu_level)level);
        if (!g_k) {
            printf("%s: this machine has not got it\n", cpu_level_name((cpu_level)level));
            continue;
        }
        if (bench)
            bench_level();
        else
            check_level();
    }
    if (!only) check_pairs_error(bench);
    if (!bench) printf("%zu passed, %zu failed\n", g_passed, g_failed);
    return g_failed != 0 || (!bench && g_passed == 0);
}
