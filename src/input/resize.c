/* resize.c: Pillow 13's Image.resize, byte for byte (spec inference 5.2).
 *
 * Two passes of weighted sums, each rounded and clipped to 8 bits, so the order of the passes shows in the result: the
 * horizontal one comes first unless the picture shrinks much more in height than in width. Weights are integers of 22
 * fraction bits and sums are 32-bit, so every instruction set gives the same bytes. A horizontal sum runs over a window of
 * neighbouring bytes of the row whose weights repeat per channel; its lanes are added up per channel at the end. */
#include "input/resize.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "base/cpu.h"
#include "base/mem.h"
#include "input/resize_bv.h"

#define PRECISION_BITS 22     /* 32 - 8 bits of a sample - 2 bits of headroom for overshoot */
#define LANES 8               /* int32 sums held in one vector */
#define MAX_CHANNELS 4u
#define MAX_VECTORS 3u        /* 24 lanes: the least that holds whole vectors and whole RGB pixels */
#define ROWS 4u               /* rows that one pass over the weights serves */
#define COLUMNS 64u           /* bytes of a row that one vertical sum spans */
#define MAX_SIDE ((size_t)1 << 30) /* of any picture here: positions are computed as int in the reference */

typedef int32_t vec_i32 __attribute__((vector_size(LANES * 4)));

/* For one axis: output i is the sum of weight[i * n_taps + k] * input[start[i] + k] for k < count[i]. */
typedef struct resize_axis {
    size_t n_out, n_taps;
    size_t *start, *count;
    double *weight;
} resize_axis;

static double filter_box(double x) {
    return x > -0.5 && x <= 0.5 ? 1.0 : 0.0;
}

static double filter_bilinear(double x) {
    x = fabs(x);
    return x < 1.0 ? 1.0 - x : 0.0;
}

/* The two constants are single precision in the reference. */
static double filter_hamming(double x) {
    x = fabs(x);
    if (x == 0.0) return 1.0;
    if (x >= 1.0) return 0.0;
    x *= M_PI;
    return sin(x) / x * ((double)0.54f + (double)0.46f * cos(x));
}

static double filter_bicubic(double x) {
    const double a = -0.5;
    x = fabs(x);
    if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0;
    if (x < 2.0) return (((x - 5.0) * x + 8.0) * x - 4.0) * a;
    return 0.0;
}

static double sinc(double x) {
    if (x == 0.0) return 1.0;
    x *= M_PI;
    return sin(x) / x;
}

static double filter_lanczos(double x) {
    return x >= -3.0 && x < 3.0 ? sinc(x) * sinc(x / 3.0) : 0.0;
}

typedef struct filter_kind {
    double (*value)(double x);
    double support;
} filter_kind;

static const filter_kind filters[] = {
    [RESIZE_LANCZOS] = {filter_lanczos, 3.0}, [RESIZE_BILINEAR] = {filter_bilinear, 1.0}, [RESIZE_BICUBIC] = {filter_bicubic, 2.0},
    [RESIZE_BOX] = {filter_box, 0.5},         [RESIZE_HAMMING] = {filter_hamming, 1.0},
};

static void axis_free(resize_axis *axis) {
    mem_free(axis->start);
    mem_free(axis->count);
    mem_free(axis->weight);
    *axis = (resize_axis){0};
}

static pali_status axis_init(resize_axis *axis, size_t n_out, size_t n_in, filter_kind filter) {
    const double scale = (double)n_in / (double)n_out, stretch = scale < 1.0 ? 1.0 : scale;
    const double support = filter.support * stretch, step = 1.0 / stretch;
    size_t n_weights;
    *axis = (resize_axis){.n_out = n_out, .n_taps = (size_t)ceil(support) * 2 + 1};
    if (!mem_mul(&n_weights, n_out, axis->n_taps)) return status_no_memory(SIZE_MAX);
    axis->start = mem_alloc(n_out, sizeof *axis->start);
    axis->count = mem_alloc(n_out, sizeof *axis->count);
    axis->weight = mem_calloc(n_weights, sizeof *axis->weight);
    if (!axis->start || !axis->count || !axis->weight) {
        axis_free(axis);
        return status_no_memory(n_weights * sizeof *axis->weight);
    }
    for (size_t i = 0; i < n_out; i++) {
        const double center = ((double)i + 0.5) * scale, low = center - support + 0.5, high = center + support + 0.5;
        const size_t first = low < 0.0 ? 0 : (size_t)low, end = high > (double)n_in ? n_in : (size_t)high;
        double *weight = axis->weight + i * axis->n_taps, sum = 0.0;
        axis->start[i] = first;
        axis->count[i] = end - first;
        for (size_t k = 0; k < axis->count[i]; k++) {
            weight[k] = filter.value(((double)(k + first) - center + 0.5) * step);
            sum += weight[k];
        }
        for (size_t k = 0; k < axis->count[i] && sum != 0.0; k++) weight[k] /= sum;
    }
    return PALI_OK;
}

static int32_t fixed_weight(double w) {
    return (int32_t)(w < 0.0 ? -0.5 + w * (1 << PRECISION_BITS) : 0.5 + w * (1 << PRECISION_BITS));
}

static inline __attribute__((always_inline)) uint8_t clip(int32_t sum) {
    const int32_t v = sum >> PRECISION_BITS;
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

/* Integer weights [n_out, n_lanes], zero from the last tap on, each standing `repeat` times. */
static int32_t *fixed_weights(const resize_axis *axis, size_t repeat, size_t n_lanes) {
    size_t n;
    int32_t *fixed = mem_mul(&n, axis->n_out, n_lanes) ? mem_calloc(n, sizeof *fixed) : NULL;
    for (size_t i = 0; fixed && i < axis->n_out; i++) {
        for (size_t k = 0; k < axis->count[i] * repeat; k++) {
            fixed[i * n_lanes + k] = fixed_weight(axis->weight[i * axis->n_taps + k / repeat]);
        }
    }
    return fixed;
}

/* ROWS rows of dst [ROWS, n_out, channels] from rows [ROWS, stride], widened to 32 bits; n_vectors is the least number of
 * vectors in which whole pixels fit, and every window may be read up to a multiple of it. */
static inline __attribute__((always_inline)) void horizontal_rows(uint8_t *dst, const int32_t *rows, size_t stride,
                                                                  const resize_axis *axis, const int32_t *weights,
                                                                  size_t n_lanes, size_t channels, const size_t n_vectors) {
    const size_t n_step = n_vectors * LANES;
    for (size_t i = 0; i < axis->n_out; i++) {
        const int32_t *window = rows + axis->start[i] * channels, *weight = weights + i * n_lanes;
        vec_i32 sum[ROWS][MAX_VECTORS] = {0};
        for (size_t at = 0; at < axis->count[i] * channels; at += n_step) {
            for (size_t v = 0; v < n_vectors; v++) {
                vec_i32 w, u;
                memcpy(&w, weight + at + v * LANES, sizeof w);
                for (size_t r = 0; r < ROWS; r++) {
                    memcpy(&u, window + r * stride + at + v * LANES, sizeof u);
                    sum[r][v] += w * u;
                }
            }
        }
        for (size_t r = 0; r < ROWS; r++) {
            int32_t total[MAX_CHANNELS], lane[MAX_VECTORS * LANES];
            memcpy(lane, sum[r], sizeof lane);
            for (size_t c = 0; c < channels; c++) total[c] = 1 << (PRECISION_BITS - 1);
            for (size_t k = 0; k < n_step; k += channels) {
                for (size_t c = 0; c < channels; c++) total[c] += lane[k + c];
            }
            for (size_t c = 0; c < channels; c++) dst[(r * axis->n_out + i) * channels + c] = clip(total[c]);
        }
    }
}

/* n columns of one output row from the same columns of `count` rows; a constant n makes vectors of them. */
static inline __attribute__((always_inline)) void vertical_columns(uint8_t *dst, const uint8_t *src, size_t n_row_bytes,
                                                                   const int32_t *weight, size_t count, const size_t n) {
    int32_t sum[COLUMNS];
    for (size_t i = 0; i < n; i++) sum[i] = 1 << (PRECISION_BITS - 1);
    for (size_t k = 0; k < count; k++) {
        const uint8_t *row = src + k * n_row_bytes;
        const int32_t w = weight[k];
        for (size_t i = 0; i < n; i++) sum[i] += w * row[i];
    }
    for (size_t i = 0; i < n; i++) dst[i] = clip(sum[i]);
}

static inline __attribute__((always_inline)) void vertical_row(uint8_t *dst, const uint8_t *src, size_t n_row_bytes,
                                                               const int32_t *weight, size_t count) {
    size_t x = 0;
    for (; x + COLUMNS <= n_row_bytes; x += COLUMNS) vertical_columns(dst + x, src + x, n_row_bytes, weight, count, COLUMNS);
    if (x < n_row_bytes) vertical_columns(dst + x, src + x, n_row_bytes, weight, count, n_row_bytes - x);
}

/* The two loops above for one instruction set. */
typedef struct resize_kernels {
    void (*rows)(uint8_t *dst, const int32_t *rows, size_t stride, const resize_axis *axis, const int32_t *weights,
                 size_t n_lanes, size_t channels);
    void (*row)(uint8_t *dst, const uint8_t *src, size_t n_row_bytes, const int32_t *weight, size_t count);
} resize_kernels;

#define DEFINE_KERNELS(name, attribute)                                                                                     \
    attribute static void name##_rows(uint8_t *dst, const int32_t *rows, size_t stride, const resize_axis *axis,           \
                                      const int32_t *weights, size_t n_lanes, size_t channels) {                           \
        if (channels == 3) {                                                                                               \
            horizontal_rows(dst, rows, stride, axis, weights, n_lanes, 3, 3);                                              \
        } else {                                                                                                           \
            horizontal_rows(dst, rows, stride, axis, weights, n_lanes, channels, 1);                                       \
        }                                                                                                                  \
    }                                                                                                                      \
    attribute static void name##_row(uint8_t *dst, const uint8_t *src, size_t n_row_bytes, const int32_t *weight,          \
                                     size_t count) {                                                                       \
        vertical_row(dst, src, n_row_bytes, weight, count);                                                                \
    }

DEFINE_KERNELS(plain, )
#if defined(__x86_64__)
DEFINE_KERNELS(avx2, __attribute__((target("avx2"))))
#endif

static pali_status choose_kernels(resize_kernels *out) {
    cpu_level level;
    STATUS_TRY(cpu_level_chosen(&level));
    *out = (resize_kernels){plain_rows, plain_row};
#if defined(__x86_64__)
    if (level >= CPU_AVX2) *out = (resize_kernels){avx2_rows, avx2_row};
#endif
    return PALI_OK;
}

typedef struct resize_source {
    const void *data; /* [height, width, channels] */
    size_t width, height, channels;
} resize_source;

/* A pass over one axis: dst [height, n_out, channels] or [n_out, width, channels]. */
typedef pali_status resize_pass(void *dst, size_t n_out, const resize_source *src, filter_kind filter);

static pali_status horizontal_u8(void *dst, size_t n_out, const resize_source *src, filter_kind filter) {
    const size_t channels = src->channels, n_step = channels == 3 ? MAX_VECTORS * LANES : LANES;
    const size_t n_row_bytes = src->width * channels, stride = n_row_bytes + n_step;
    resize_axis axis;
    resize_kernels kernels;
    STATUS_TRY(choose_kernels(&kernels));
    STATUS_TRY(axis_init(&axis, n_out, src->width, filter));
    const size_t n_lanes = (axis.n_taps * channels + n_step - 1) / n_step * n_step, n_out_bytes = n_out * channels;
    int32_t *weights = fixed_weights(&axis, channels, n_lanes);
    int32_t *rows = mem_calloc(ROWS * stride, sizeof *rows); /* readable past their ends */
    uint8_t *done = mem_alloc(ROWS, n_out_bytes);
    pali_status s = weights && rows && done ? PALI_OK : status_no_memory(n_out * n_lanes * sizeof *weights);
    for (size_t y = 0; s == PALI_OK && y < src->height; y += ROWS) {
        const size_t n_rows = src->height - y < ROWS ? src->height - y : ROWS;
        for (size_t r = 0; r < n_rows; r++) {
            const uint8_t *row = (const uint8_t *)src->data + (y + r) * n_row_bytes;
            for (size_t x = 0; x < n_row_bytes; x++) rows[r * stride + x] = row[x];
        }
        kernels.rows(done, rows, stride, &axis, weights, n_lanes, channels);
        memcpy((uint8_t *)dst + y * n_out_bytes, done, n_rows * n_out_bytes);
    }
    mem_free(done);
    mem_free(rows);
    mem_free(weights);
    axis_free(&axis);
    return s;
}

static pali_status vertical_u8(void *dst, size_t n_out, const resize_source *src, filter_kind filter) {
    const size_t n_row_bytes = src->width * src->channels;
    resize_axis axis;
    resize_kernels kernels;
    STATUS_TRY(choose_kernels(&kernels));
    STATUS_TRY(axis_init(&axis, n_out, src->height, filter));
    int32_t *weights = fixed_weights(&axis, 1, axis.n_taps);
    for (size_t i = 0; weights && i < n_out; i++) {
        const uint8_t *first = (const uint8_t *)src->data + axis.start[i] * n_row_bytes;
        kernels.row((uint8_t *)dst + i * n_row_bytes, first, n_row_bytes, weights + i * axis.n_taps, axis.count[i]);
    }
    pali_status s = weights ? PALI_OK : status_no_memory(n_out * axis.n_taps * sizeof *weights);
    mem_free(weights);
    axis_free(&axis);
    return s;
}

static pali_status horizontal_f32(void *dst, size_t n_out, const resize_source *src, filter_kind filter) {
    resize_axis axis; /* a float picture has one channel */
    STATUS_TRY(axis_init(&axis, n_out, src->width, filter));
    for (size_t y = 0; y < src->height; y++) {
        const float *row = (const float *)src->data + y * src->width;
        for (size_t i = 0; i < n_out; i++) {
            double sum = 0.0;
            for (size_t k = 0; k < axis.count[i]; k++) sum += (double)row[axis.start[i] + k] * axis.weight[i * axis.n_taps + k];
            ((float *)dst)[y * n_out + i] = (float)sum;
        }
    }
    axis_free(&axis);
    return PALI_OK;
}

static pali_status vertical_f32(void *dst, size_t n_out, const resize_source *src, filter_kind filter) {
    resize_axis axis;
    STATUS_TRY(axis_init(&axis, n_out, src->height, filter));
    for (size_t i = 0; i < n_out; i++) {
        const float *first = (const float *)src->data + axis.start[i] * src->width;
        for (size_t x = 0; x < src->width; x++) {
            double sum = 0.0;
            for (size_t k = 0; k < axis.count[i]; k++) sum += (double)first[k * src->width + x] * axis.weight[i * axis.n_taps + k];
            ((float *)dst)[i * src->width + x] = (float)sum;
        }
    }
    axis_free(&axis);
    return PALI_OK;
}

/* Positions are summed up step by step, as in the reference: for large pictures that is not the same as multiplying. */
static pali_status nearest(uint8_t *dst, size_t out_w, size_t out_h, const resize_source *src, size_t n_pixel_bytes) {
    const size_t in_w = src->width, in_h = src->height;
    const double step_x = (double)in_w / (double)out_w, step_y = (double)in_h / (double)out_h;
    size_t *from_x = mem_alloc(out_w, sizeof *from_x);
    if (!from_x) return status_no_memory(out_w * sizeof *from_x);
    double at = step_x * 0.5;
    for (size_t x = 0; x < out_w; x++, at += step_x) from_x[x] = (size_t)at < in_w ? (size_t)at : in_w - 1;
    at = step_y * 0.5;
    for (size_t y = 0; y < out_h; y++, at += step_y) {
        const uint8_t *row = (const uint8_t *)src->data + ((size_t)at < in_h ? (size_t)at : in_h - 1) * in_w * n_pixel_bytes;
        uint8_t *to = dst + y * out_w * n_pixel_bytes;
        for (size_t x = 0; x < out_w; x++) memcpy(to + x * n_pixel_bytes, row + from_x[x] * n_pixel_bytes, n_pixel_bytes);
    }
    mem_free(from_x);
    return PALI_OK;
}

/* The reference's order of the passes: vertical first where the height shrinks by more than twice what the width does. */
static bool is_vertical_first(size_t out_w, size_t out_h, size_t in_w, size_t in_h) {
    const int64_t less_w = (int64_t)in_w - (int64_t)out_w, less_h = (int64_t)in_h - (int64_t)out_h;
    return less_h > 0 && less_h > 2 * less_w;
}

static pali_status sides_check(size_t out_w, size_t out_h, size_t in_w, size_t in_h) {
    const size_t sides[] = {out_w, out_h, in_w, in_h};
    for (size_t i = 0; i < 4; i++) {
        if (sides[i] == 0 || sides[i] > MAX_SIDE) {
            return status_fail(PALI_ERR_ARGUMENT, "resize: a side of %zu: expected 1 to %zu", sides[i], MAX_SIDE);
        }
    }
    return PALI_OK;
}

static pali_status resize_any(void *dst, size_t out_w, size_t out_h, const resize_source *src, size_t n_sample_bytes,
                              resize_filter filter, resize_pass *horizontal, resize_pass *vertical) {
    const size_t in_w = src->width, in_h = src->height;
    const size_t n_pixel_bytes = src->channels * n_sample_bytes;
    STATUS_TRY(sides_check(out_w, out_h, in_w, in_h));
    if ((unsigned)filter > RESIZE_HAMMING) return status_fail(PALI_ERR_ARGUMENT, "resize: filter %d: expected 0 to 5", (int)filter);
    if (out_w == in_w && out_h == in_h) {
        memcpy(dst, src->data, in_w * in_h * n_pixel_bytes);
        return PALI_OK;
    }
    if (filter == RESIZE_NEAREST) return nearest(dst, out_w, out_h, src, n_pixel_bytes);

    const filter_kind kind = filters[filter];
    if (out_h == in_h) return horizontal(dst, out_w, src, kind);
    if (out_w == in_w) return vertical(dst, out_h, src, kind);
    const bool vertical_first = is_vertical_first(out_w, out_h, in_w, in_h);
    const size_t mid_w = vertical_first ? in_w : out_w, mid_h = vertical_first ? out_h : in_h;
    size_t n_mid;
    void *data = mem_mul(&n_mid, mid_w, mid_h) ? mem_alloc(n_mid, n_pixel_bytes) : NULL;
    if (!data) return status_no_memory(mid_w * mid_h * n_pixel_bytes);
    const resize_source mid = {data, mid_w, mid_h, src->channels};
    pali_status s = vertical_first ? vertical(data, out_h, src, kind) : horizontal(data, out_w, src, kind);
    if (s == PALI_OK) s = vertical_first ? horizontal(dst, out_w, &mid, kind) : vertical(dst, out_h, &mid, kind);
    mem_free(data);
    return s;
}

pali_status resize_u8(uint8_t *dst, size_t out_w, size_t out_h, const uint8_t *src, size_t in_w, size_t in_h, size_t channels,
                      resize_filter filter) {
    if (channels == 0 || channels > MAX_CHANNELS) {
        return status_fail(PALI_ERR_ARGUMENT, "resize: %zu channels: expected 1 to %u", channels, MAX_CHANNELS);
    }
    if (filter == RESIZE_BV || filter == RESIZE_BV_AA) {
        STATUS_TRY(sides_check(out_w, out_h, in_w, in_h));
        return resize_bv(dst, out_w, out_h, src, in_w, in_h, channels, filter == RESIZE_BV_AA);
    }
    const resize_source source = {src, in_w, in_h, channels};
    return resize_any(dst, out_w, out_h, &source, 1, filter, horizontal_u8, vertical_u8);
}

pali_status resize_f32(float *dst, size_t out_w, size_t out_h, const float *src, size_t in_w, size_t in_h, resize_filter filter) {
    const resize_source source = {src, in_w, in_h, 1};
    return resize_any(dst, out_w, out_h, &source, sizeof *src, filter, horizontal_f32, vertical_f32);
}

pali_status resize_to_pixels(float *pixels, size_t image_size, const image *img, resize_filter filter) {
    const size_t n = image_size * image_size;
    float value[256];
    uint8_t *rgb = mem_alloc(n, 3);
    if (!rgb) return status_no_memory(n * 3);
    pali_status s = resize_u8(rgb, image_size, image_size, img->rgb, img->width, img->height, 3, filter);
    for (size_t u = 0; u < 256; u++) value[u] = (float)u / 127.5f - 1.0f;
    for (size_t i = 0; s == PALI_OK && i < n; i++) {
        for (size_t c = 0; c < 3; c++) pixels[c * n + i] = value[rgb[3 * i + c]];
    }
    mem_free(rgb);
    return s;
}
