/* backward.c: the kernels of the backward pass in plain C (spec training 2). */
#include <math.h>

#include "kernels/kernels.h"

static void transpose(float *y, size_t ldy, const float *x, size_t ldx, size_t rows, size_t cols) {
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c++) y[c * ldy + r] = x[r * ldx + c];
}

/* gelu_tanh(x), with the operations of the forward, and its derivative. */
static float gelu_both(float x, float *slope) {
    float t = tanhf(0.7978845608028654f * (x + 0.044715f * x * x * x));
    *slope = 0.5f * (1.0f + t) + 0.5f * x * ((1.0f - t) * (1.0f + t)) * (0.7978845608028654f * (1.0f + 3 * 0.044715f * x * x));
    return 0.5f * x * (1.0f + t);
}

static void gelu_backward(float *x, float *dy, size_t n) {
    for (size_t i = 0; i < n; i++) {
        float slope, y = gelu_both(x[i], &slope);
        x[i] = dy[i] * slope;
        dy[i] = y;
    }
}

static void geglu_backward(float *gate, float *up, float *dy, size_t n) {
    for (size_t i = 0; i < n; i++) {
        float slope, y = gelu_both(gate[i], &slope), u = up[i];
        gate[i] = dy[i] * u * slope;
        up[i] = dy[i] * y;
        dy[i] = y * u;
    }
}

/* Both norms: y = h (w + plus) + .., h = (x - mean) inv; g = dy (w + plus); dx = inv (g - mean_g - h mean(g h)). */
static void norm_backward(float *dx, const float *dy, const float *x, const float *w, float plus, float mean, float inv, float mean_g,
                          size_t n, bool accumulate) {
    float dot = 0;
    for (size_t i = 0; i < n; i++) dot += dy[i] * (w[i] + plus) * ((x[i] - mean) * inv);
    for (size_t i = 0; i < n; i++) {
        float h = (x[i] - mean) * inv, d = inv * (dy[i] * (w[i] + plus) - mean_g - h * (dot / (float)n));
        dx[i] = accumulate ? dx[i] + d : d;
    }
}

static void rms_norm_backward(float *dx, float stats[2], const float *dy, const float *x, const float *w, size_t n, float eps,
                              bool accumulate) {
    float square = 0;
    for (size_t i = 0; i < n; i++) square += x[i] * x[i];
    stats[0] = 0;
    stats[1] = 1.0f / sqrtf(square / (float)n + eps);
    norm_backward(dx, dy, x, w, 1, stats[0], stats[1], 0, n, accumulate);
}

static void layer_norm_backward(float *dx, float stats[2], const float *dy, const float *x, const float *w, size_t n, float eps,
                                bool accumulate) {
    float sum = 0, square = 0, sum_g = 0;
    for (size_t i = 0; i < n; i++) sum += x[i];
    stats[0] = sum / (float)n;
    for (size_t i = 0; i < n; i++) square += (x[i] - stats[0]) * (x[i] - stats[0]);
    stats[1] = 1.0f / sqrtf(square / (float)n + eps);
    for (size_t i = 0; i < n; i++) sum_g += dy[i] * w[i];
    norm_backward(dx, dy, x, w, 0, stats[0], stats[1], sum_g / (float)n, n, accumulate);
}

static void norm_weight_backward(float *dw, const float *dy, const float *x, float mean, float inv, size_t n) {
    for (size_t i = 0; i < n; i++) dw[i] += dy[i] * ((x[i] - mean) * inv);
}

static void softmax_stats(float stats[3], const float *x, const float *g, size_t n, float scale, float cap) {
    stats[1] = stats[2] = 0;
    for (size_t pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < n; i++) {
            float z = x[i] * scale;
            if (cap > 0) z = cap * tanhf(z / cap);
            if (pass == 0) {
                stats[0] = i == 0 || z > stats[0] ? z : stats[0];
                continue;
            }
            float e = expf(z - stats[0]);
            stats[1] += e;
            if (g) stats[2] += e * g[i];
        }
    }
}

static void softmax_backward(float *x, float *g, const float *max, const float *inv, const float *dot, size_t step, size_t n, float scale,
                             float cap) {
    for (size_t i = 0; i < n; i++, max += step, inv += step, dot += step) {
        float z = x[i] * scale, slope = scale;
        if (cap > 0) {
            float t = tanhf(z / cap);
            z = cap * t;
            slope *= (1.0f - t) * (1.0f + t);
        }
        x[i] = expf(z - *max) * *inv;
        g[i] = x[i] * (g[i] - *dot) * slope;
    }
}

static void xent_backward(float *z, size_t n, float max, float inv, float other, float weight, float cap) {
    for (size_t i = 0; i < n; i++) {
        float t = cap > 0 ? z[i] / cap : 0;
        z[i] = weight * (expf(z[i] - max) * inv - other) * ((1.0f - t) * (1.0f + t));
    }
}

void kernels_fill_ref_backward(kernels *k) {
    k->transpose = transpose;
    k->gelu_backward = gelu_backward;
    k->geglu_backward = geglu_backward;
    k->rms_norm_backward = rms_norm_backward;
    k->layer_norm_backward = layer_norm_backward;
    k->norm_weight_backward = norm_weight_backward;
    k->softmax_stats = softmax_stats;
    k->softmax_backward = softmax_backward;
    k->xent_backward = xent_backward;
}
