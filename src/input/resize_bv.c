/* resize_bv.c: see resize_bv.h. */
#include "input/resize_bv.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"

/* A sum of weights may fall short of 1 in its last bits, and cutting would then darken what is flat. */
#define LEAST 0x1p-10f

/* For one axis: output i is the sum of weight[i * n_taps + k] * input[start[i] + k] for k < count[i]. */
typedef struct axis {
    size_t n_out, n_taps;
    size_t *start, *count;
    float *weight;
} axis;

static void axis_free(axis *a) {
    mem_free(a->start);
    mem_free(a->count);
    mem_free(a->weight);
}

static double triangle(double x) {
    x = fabs(x);
    return x < 1 ? 1 - x : 0;
}

/* All inputs under a triangle as wide as two outputs, or two inputs where those are wider. */
static void taps_all(axis *a, size_t i, double scale, size_t n_in) {
    const double width = scale < 1 ? 1 : scale, center = ((double)i + 0.5) * scale, low = center - width, high = center + width;
    const size_t first = low < 0 ? 0 : (size_t)low, end = high > (double)n_in ? n_in : (size_t)ceil(high);
    double sum = 0;
    a->start[i] = first;
    a->count[i] = end - first;
    for (size_t k = first; k < end; k++) sum += triangle(((double)k + 0.5 - center) / width);
    for (size_t k = first; k < end; k++) a->weight[i * a->n_taps + k - first] = (float)(triangle(((double)k + 0.5 - center) / width) / sum);
}

/* The inputs on either side of the centre. */
static void taps_two(axis *a, size_t i, double scale, size_t n_in) {
    const double center = ((double)i + 0.5) * scale - 0.5, low = floor(center), part = center - low;
    const bool both = low >= 0 && low + 1 < (double)n_in;
    a->start[i] = low < 0 ? 0 : (size_t)low;
    a->count[i] = both ? 2 : 1;
    a->weight[i * a->n_taps] = both ? (float)(1 - part) : 1;
    if (both) a->weight[i * a->n_taps + 1] = (float)part;
}

static pali_status axis_init(axis *a, size_t n_out, size_t n_in, bool antialias) {
    const double scale = (double)n_in / (double)n_out;
    size_t n = 0;
    *a = (axis){.n_out = n_out, .n_taps = antialias && scale > 1 ? 2 * (size_t)ceil(scale) + 2 : 4};
    a->start = mem_alloc(n_out, sizeof *a->start);
    a->count = mem_alloc(n_out, sizeof *a->count);
    a->weight = mem_mul(&n, n_out, a->n_taps) ? mem_alloc(n, sizeof *a->weight) : NULL;
    if (!a->start || !a->count || !a->weight) return status_no_memory(n * sizeof *a->weight);
    for (size_t i = 0; i < n_out; i++) {
        if (antialias) taps_all(a, i, scale, n_in);
        else taps_two(a, i, scale, n_in);
    }
    return PALI_OK;
}

/* out [n_out, channels] += weight * a row of the input, narrowed. */
static void row_add(float *out, const uint8_t *row, const axis *x, size_t channels, float weight) {
    for (size_t i = 0; i < x->n_out; i++) {
        const uint8_t *from = row + x->start[i] * channels;
        const float *w = x->weight + i * x->n_taps;
        for (size_t c = 0; c < channels; c++) {
            float sum = 0;
            for (size_t k = 0; k < x->count[i]; k++) sum += w[k] * (float)from[k * channels + c];
            out[i * channels + c] += weight * sum;
        }
    }
}

static uint8_t cut(float x) {
    return x >= 255 ? 255 : (uint8_t)(x + LEAST);
}

/* Row by row of the output, so that nothing as large as the input is needed; input rows that two of them share are narrowed twice. */
static pali_status rows_make(uint8_t *dst, const uint8_t *src, size_t in_w, size_t channels, const axis *x, const axis *y) {
    const size_t n = x->n_out * channels;
    float *row = mem_alloc(n, sizeof *row);
    if (!row) return status_no_memory(n * sizeof *row);
    for (size_t i = 0; i < y->n_out; i++) {
        memset(row, 0, n * sizeof *row);
        for (size_t k = 0; k < y->count[i]; k++) row_add(row, src + (y->start[i] + k) * in_w * channels, x, channels, y->weight[i * y->n_taps + k]);
        for (size_t k = 0; k < n; k++) dst[i * n + k] = cut(row[k]);
    }
    mem_free(row);
    return PALI_OK;
}

pali_status resize_bv(uint8_t *dst, size_t out_w, size_t out_h, const uint8_t *src, size_t in_w, size_t in_h, size_t channels, bool antialias) {
    axis x, y = {0};
    pali_status s = axis_init(&x, out_w, in_w, antialias);
    if (s == PALI_OK) s = axis_init(&y, out_h, in_h, antialias);
    if (s == PALI_OK) s = rows_make(dst, src, in_w, channels, &x, &y);
    axis_free(&x);
    axis_free(&y);
    return s;
}
