/* check_backward.c: the kernels of the backward pass against their formulas in double. Where a kernel repeats a forward, it is
 * held to the forward's bits. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/check.h"

static double *doubles(size_t n) {
    double *x = calloc(n + 1, sizeof *x);
    if (!x) exit(2);
    return x;
}

static void check_transpose(size_t rows, size_t cols) {
    size_t ldx = cols + 3, ldy = rows + 2, n = rows ? (rows - 1) * ldx + cols : 0;
    float *x = inputs(n, 1), *y = floats(cols * ldy, 1);
    memset(y, 0, cols * ldy * sizeof *y);
    g_k->transpose(y, ldy, x, ldx, rows, cols);
    int good = 1;
    for (size_t c = 0; c < cols; c++)
        for (size_t r = 0; r < ldy; r++) good &= y[c * ldy + r] == (r < rows ? x[r * ldx + c] : 0);
    verdict(good && intact(y, cols * ldy), "transpose", rows, cols, 0);
    inputs_done(x, n);
    done(y);
}

static double slope(double x) {
    double t = tanh(0.7978845608028654 * (x + 0.044715 * x * x * x));
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * 0.7978845608028654 * (1 + 3 * 0.044715 * x * x);
}

/* A few roundings: 16 ulp of the slope, and where 1 + tanh or 1 - tanh cancels, 8 ulp of the 1 times what multiplies it:
 * |x inner'| <= 2 |x|^3 + 1 while tanh is not yet 1, which is below |x| = 6. */
static double slope_bound(double x) {
    double a = fabs(x) < 6 ? fabs(x) : 0;
    return 16 * 0x1p-24 * fabs(slope(x)) + 8 * 0x1p-24 * (1 + 0.2 * a * a * a);
}

static void check_gelu_backward(size_t n) {
    float *x = inputs(n, 1), *dy = inputs(n, 1), *up = inputs(n, 1), *a = floats(n, 1), *b = floats(n, 1), *c = floats(n, 1), *y = floats(n, 1);
    int good = 1, same = 1;
    for (size_t i = 0; i < n; i++) x[i] *= powf(10, (float)(i % 8) - 5);
    memcpy(a, x, n * sizeof *a);
    memcpy(b, dy, n * sizeof *b);
    memcpy(y, x, n * sizeof *y);
    g_k->gelu_backward(a, b, n);
    g_k->gelu(y, n);
    for (size_t i = 0; i < n; i++) {
        good &= fabs((double)a[i] - (double)dy[i] * slope((double)x[i])) <= fabs((double)dy[i]) * slope_bound((double)x[i]);
        same &= b[i] == y[i];
    }
    verdict(good && intact(a, n) && intact(b, n), "gelu_backward", n, 0, 0);
    verdict(same, "gelu_backward gives the forward's bits", n, 0, 0);
    memcpy(a, x, n * sizeof *a);
    memcpy(b, up, n * sizeof *b);
    memcpy(c, dy, n * sizeof *c);
    g_k->geglu_backward(a, b, c, n);
    good = same = 1;
    for (size_t i = 0; i < n; i++) {
        double d = (double)dy[i], u = (double)up[i];
        good &= fabs((double)a[i] - d * u * slope((double)x[i])) <= fabs(d * u) * 1.01 * slope_bound((double)x[i]);
        good &= fabs((double)b[i] - d * (double)y[i]) <= 0x1p-23 * fabs(d * (double)y[i]);
    }
    g_k->geglu(memcpy(y, x, n * sizeof *y), up, n);
    for (size_t i = 0; i < n; i++) same &= c[i] == y[i];
    verdict(good && intact(a, n) && intact(b, n) && intact(c, n), "geglu_backward", n, 0, 0);
    verdict(same, "geglu_backward gives the forward's bits", n, 0, 0);
    inputs_done(x, n);
    inputs_done(dy, n);
    inputs_done(up, n);
    done(a);
    done(b);
    done(c);
    done(y);
}

/* Sums of n terms err by n / 2 ulp at worst, relative to the sizes of their terms. */
static void check_norms_backward(size_t n, bool layer, bool accumulate) {
    float *x = inputs(n, 3), *w = inputs(n, 1), *dy = inputs(n, 1), *dx = floats(n, 1), *before = floats(n, 1), *dw = floats(n, 1), *dw_before = floats(n, 1);
    float stats[2];
    double mean = 0, var = 0, eps = (double)1e-6f, plus = layer ? 0 : 1, sum_g = 0, sum_gh = 0, size_g = 0, size_gh = 0;
    memcpy(before, dx, n * sizeof *dx);
    memcpy(dw_before, dw, n * sizeof *dw);
    (layer ? g_k->layer_norm_backward : g_k->rms_norm_backward)(dx, stats, dy, x, w, n, 1e-6f, accumulate);
    g_k->norm_weight_backward(dw, dy, x, stats[0], stats[1], n);
    for (size_t i = 0; i < n && layer; i++) mean += (double)x[i] / (double)n;
    for (size_t i = 0; i < n; i++) var += ((double)x[i] - mean) * ((double)x[i] - mean) / (double)n;
    double inv = 1 / sqrt(var + eps), tolerance = ((double)n / 2 + 12) * 0x1p-24;
    for (size_t i = 0; i < n; i++) {
        double g = (double)dy[i] * ((double)w[i] + plus), gh = g * ((double)x[i] - mean) * inv;
        sum_g += layer ? g : 0;
        sum_gh += gh;
        size_g += layer ? fabs(g) : 0;
        size_gh += fabs(gh);
    }
    int good = 1, good_w = 1;
    for (size_t i = 0; i < n; i++) {
        double g = (double)dy[i] * ((double)w[i] + plus), h = ((double)x[i] - mean) * inv;
        double start = accumulate ? (double)before[i] : 0, want = start + inv * (g - sum_g / (double)n - h * sum_gh / (double)n);
        /* the mean of x errs too, by the same share of the largest x, about 12 */
        double size = inv * (fabs(g) + size_g / (double)n + (fabs(h) + (layer ? 12 * inv : 0)) * size_gh / (double)n) + fabs(start);
        good &= fabs((double)dx[i] - want) <= 3 * tolerance * size;
        double want_w = (double)dw_before[i] + (double)dy[i] * h;
        good_w &= fabs((double)dw[i] - want_w) <= 2 * tolerance * (fabs((double)dw_before[i]) + fabs((double)dy[i]) * (fabs(h) + (layer ? 12 * inv : 0)));
    }
    verdict(good && intact(dx, n), layer ? "layer_norm_backward" : "rms_norm_backward", n, accumulate, 0);
    verdict(good_w && intact(dw, n), "norm_weight_backward", n, layer, 0);
    inputs_done(x, n);
    inputs_done(w, n);
    inputs_done(dy, n);
    done(dx);
    done(before);
    done(dw);
    done(dw_before);
}

/* Exponents up to 100 in size are rounded to 2^-24 of themselves, more than once with a cap. */
static void check_softmax_backward(size_t n, float scale, float cap) {
    float *x = inputs(n, 10), *g = inputs(n, 1), *p = floats(n, 1), *y = floats(n, 1), *dx = floats(n, 1), stats[3], two[3];
    double *z = doubles(n), max = -1e300, sum = 0, dot = 0, size = 0, tolerance = (4 * 100 + (double)n) * 0x1p-24;
    memcpy(y, x, n * sizeof *x);
    g_k->softmax(y, n, scale, cap);
    g_k->softmax_stats(two, x, NULL, n, scale, cap);
    g_k->softmax_stats(stats, x, g, n, scale, cap);
    verdict(two[0] == stats[0] && two[1] == stats[1] && two[2] == 0, "softmax_stats without gradient", n, cap > 0, 0);
    for (size_t i = 0; i < n; i++) {
        z[i] = (double)x[i] * (double)scale;
        if (cap > 0) z[i] = (double)cap * tanh(z[i] / (double)cap);
        max = z[i] > max ? z[i] : max;
    }
    for (size_t i = 0; i < n; i++) {
        sum += exp(z[i] - max);
        dot += exp(z[i] - max) * (double)g[i];
        size += exp(z[i] - max) * fabs((double)g[i]);
    }
    verdict(fabs((double)stats[0] - max) <= 8 * 0x1p-24 * fabs(max) && fabs((double)stats[1] - sum) <= tolerance * sum &&
                fabs((double)stats[2] - dot) <= tolerance * size, "softmax_stats", n, cap > 0, 0);
    float *max_each = inputs(n, 0), *inv_each = inputs(n, 0), *dot_each = inputs(n, 0), inv = 1.0f / stats[1], mean = stats[2] * inv;
    for (size_t step = 0; step < 2; step++) {
        int good = 1, same = 1;
        for (size_t i = 0; i < n && step; i++) {
            max_each[i] = stats[0];
            inv_each[i] = inv;
            dot_each[i] = mean;
        }
        memcpy(p, x, n * sizeof *p);
        memcpy(dx, g, n * sizeof *dx);
        if (step)
            g_k->softmax_backward(p, dx, max_each, inv_each, dot_each, 1, n, scale, cap);
        else
            g_k->softmax_backward(p, dx, &stats[0], &inv, &mean, 0, n, scale, cap);
        for (size_t i = 0; i < n; i++) {
            double prob = exp(z[i] - max) / sum, t = cap > 0 ? z[i] / (double)cap : 0, s = (double)scale * (1 - t * t);
            double want = prob * ((double)g[i] - dot / sum) * s, magnitude = prob * (fabs((double)g[i]) + size / sum) * (double)scale;
            good &= fabs((double)dx[i] - want) <= 3 * tolerance * magnitude + 1e-37;
            same &= p[i] == y[i];
        }
        verdict(good && intact(dx, n), "softmax_backward", n, cap > 0, step);
        verdict(same && intact(p, n), "softmax_backward gives the forward's bits", n, cap > 0, step);
    }
    inputs_done(max_each, n);
    inputs_done(inv_each, n);
    inputs_done(dot_each, n);
    inputs_done(x, n);
    inputs_done(g, n);
    done(p);
    done(y);
    done(dx);
    free(z);
}

/* Each entry of the statistics belongs to its element. */
static void check_softmax_each(void) {
    float x[40], g[40], max[40], inv[40], dot[40];
    int good = 1;
    for (size_t i = 0; i < 40; i++) {
        x[i] = (float)i;
        max[i] = (float)i + 1;
        inv[i] = 2 + (float)i;
        g[i] = 5;
        dot[i] = (float)i / 8;
    }
    g_k->softmax_backward(x, g, max, inv, dot, 1, 40, 1, 0);
    for (size_t i = 0; i < 40; i++) {
        double p = exp(-1) * (2 + (double)i);
        good &= fabs((double)x[i] - p) <= 1e-6 * p && fabs((double)g[i] - p * (5 - (double)i / 8)) <= 3e-6 * p * 5;
    }
    verdict(good, "softmax_backward with a softmax for each element", 40, 0, 0);
}

static void check_xent_backward(size_t n, float cap) {
    float *in = inputs(n, 8), *z = floats(n, 1), stats[3];
    int good = 1;
    if (cap > 0) g_k->softcap(in, n, cap);
    memcpy(z, in, n * sizeof *z);
    g_k->softmax_stats(stats, z, NULL, n, 1, 0);
    g_k->xent_backward(z, n, stats[0], 1.0f / stats[1], 0.01f, 0.3f, cap);
    for (size_t i = 0; i < n; i++) {
        double p = exp((double)in[i] - (double)stats[0]) / (double)stats[1], t = cap > 0 ? (double)in[i] / (double)cap : 0;
        double want = (double)0.3f * (p - (double)0.01f) * (1 - t * t);
        /* the exponent, below 64 in size, is rounded once */
        good &= fabs((double)z[i] - want) <= (64 + 8) * 0x1p-24 * (p + 0.01);
    }
    verdict(good && intact(z, n), "xent_backward", n, cap > 0, 0);
    inputs_done(in, n);
    done(z);
}

void check_backward(void) {
    static const size_t k_edges[] = {1, 3, 4, 7, 8, 9, 15, 16, 17, 33, 70}, k_lengths[] = {1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 33, 72, 127, 256, 1152, 2048, 4304};
    for (size_t a = 0; a < sizeof k_edges / sizeof k_edges[0]; a++)
        for (size_t b = 0; b < sizeof k_edges / sizeof k_edges[0]; b++) check_transpose(k_edges[a], k_edges[b]);
    check_transpose(0, 5);
    check_transpose(5, 0);
    for (size_t i = 0; i < sizeof k_lengths / sizeof k_lengths[0]; i++) {
        size_t n = k_lengths[i];
        check_gelu_backward(n);
        check_norms_backward(n, false, i % 2);
        if (n > 1) check_norms_backward(n, true, i % 2);
        check_softmax_backward(n, 0.3f, 0);
        check_softmax_backward(n, 1, 50);
        check_xent_backward(n, 0);
        check_xent_backward(n, 30);
    }
    check_softmax_each();
}
