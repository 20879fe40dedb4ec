/* resize.c: Pillow's resampling (spec inference 5.2): filter taps per output pixel in double, rounded to 22-bit fixed point
 * for 8-bit pictures, two passes with an 8-bit intermediate picture in between. The rounding in between is why the order of
 * the passes matters, and why it is part of the contract. */
#include "input/resize.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"

#define PRECISION 22 /* 32 bits less 8 of the pixel less 2 of head room */

/* ---- Filters ---- */

static double sinc(double x) {
    x *= 3.14159265358979323846;
    return x == 0 ? 1 : sin(x) / x;
}

static double filter_value(resize_filter f, double x) {
    x = fabs(x);
    switch (f) {
    case RESIZE_BILINEAR: return x < 1 ? 1 - x : 0;
    case RESIZE_BICUBIC: /* Keys, a = -0.5 */
        if (x < 1) return ((-0.5 + 2) * x - (-0.5 + 3)) * x * x + 1;
        return x < 2 ? (((x - 5) * x + 8) * x - 4) * -0.5 : 0;
    case RESIZE_LANCZOS: return x < 3 ? sinc(x) * sinc(x / 3) : 0;
    case RESIZE_HAMMING:
        if (x == 0) return 1;
        if (x >= 1) return 0;
        x *= 3.14159265358979323846;
        return sin(x) / x * (0.54 + 0.46 * cos(x));
    default: return 0;
    }
}

static double filter_support(resize_filter f) {
    return f == RESIZE_LANCZOS ? 3 : f == RESIZE_BICUBIC ? 2 : f == RESIZE_BOX ? 0.5 : 1;
}

/* The taps of every output position along one axis. */
typedef struct taps {
    size_t n_out, max;  /* max: taps of one output at most */
    size_t *first, *n;  /* [n_out] */
    double *weights;    /* [n_out, max] */
    int32_t *fixed;     /* [n_out, max] */
} taps;

static void taps_free(taps *t) {
    mem_free(t->first);
    mem_free(t->n);
    mem_free(t->weights);
    mem_free(t->fixed);
    *t = (taps){0};
}

/* Box counts a half-open interval; its edges are where other filters are zero anyway. */
static double tap_weight(resize_filter f, double x) {
    if (f == RESIZE_BOX) return x > -0.5 && x <= 0.5;
    return filter_value(f, x);
}

static pali_status taps_new(taps *t, size_t in, size_t out, resize_filter f) {
    double scale = (double)in / (double)out, widen = scale > 1 ? scale : 1, support = filter_support(f) * widen, inverse = 1.0 / widen;
    size_t max = (size_t)ceil(support) * 2 + 1, count;
    *t = (taps){.n_out = out, .max = max};
    if (!mem_mul(&count, out, max)) return status_fail(PALI_ERR_LIMIT, "resize: %zu to %zu overflows", in, out);
    t->first = mem_alloc(out, sizeof *t->first);
    t->n = mem_alloc(out, sizeof *t->n);
    t->weights = mem_calloc(count, sizeof *t->weights);
    t->fixed = mem_calloc(count, sizeof *t->fixed);
    if (!t->first || !t->n || !t->weights || !t->fixed) {
        taps_free(t);
        return status_no_memory(count * sizeof *t->weights);
    }
    for (size_t o = 0; o < out; o++) {
        double center = ((double)o + 0.5) * scale, sum = 0, *w = t->weights + o * max;
        double low = center - support + 0.5, high = center + support + 0.5;
        size_t lo = low < 0 ? 0 : (size_t)low, hi = (size_t)high > in ? in : (size_t)high;
        t->first[o] = lo;
        t->n[o] = hi - lo;
        for (size_t i = 0; i < hi - lo; i++) sum += w[i] = tap_weight(f, ((double)i + (double)lo - center + 0.5) * inverse);
        for (size_t i = 0; i < hi - lo; i++) {
            if (sum != 0) w[i] *= 1.0 / sum;
            t->fixed[o * max + i] = (int32_t)(w[i] < 0 ? w[i] * (1 << PRECISION) - 0.5 : w[i] * (1 << PRECISION) + 0.5);
        }
    }
    return PALI_OK;
}

/* ---- 8 bit ---- */

static uint8_t to_u8(int32_t sum) {
    int32_t v = sum >> PRECISION; /* arithmetic: both compilers we support do */
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

/* dst [rows, n_out, channels] from src [rows, in, channels]. Each row is spread into planes of 32-bit values first, so that
 * the taps of a pixel lie side by side. */
static pali_status pass_horizontal(uint8_t *dst, const uint8_t *src, const taps *t, size_t in, size_t rows, size_t channels) {
    int32_t *planes = mem_alloc(in * channels, sizeof *planes);
    if (!planes) return status_no_memory(in * channels * sizeof *planes);
    for (size_t y = 0; y < rows; y++, src += in * channels, dst += t->n_out * channels) {
        for (size_t c = 0; c < channels; c++)
            for (size_t x = 0; x < in; x++) planes[c * in + x] = src[x * channels + c];
        for (size_t o = 0; o < t->n_out; o++) {
            const int32_t *w = t->fixed + o * t->max;
            size_t n = t->n[o];
            for (size_t c = 0; c < channels; c++) {
                const int32_t *p = planes + c * in + t->first[o];
                int32_t sum = 1 << (PRECISION - 1);
                for (size_t i = 0; i < n; i++) sum += w[i] * p[i];
                dst[o * channels + c] = to_u8(sum);
            }
        }
    }
    mem_free(planes);
    return PALI_OK;
}

/* dst [n_out, row] from src [in, row], row = width * channels. */
static pali_status pass_vertical(uint8_t *dst, const uint8_t *src, const taps *t, size_t row) {
    int32_t *sums = mem_alloc(row, sizeof *sums);
    if (!sums) return status_no_memory(row * sizeof *sums);
    for (size_t o = 0; o < t->n_out; o++, dst += row) {
        for (size_t x = 0; x < row; x++) sums[x] = 1 << (PRECISION - 1);
        for (size_t i = 0; i < t->n[o]; i++) {
            const uint8_t *p = src + (t->first[o] + i) * row;
            int32_t w = t->fixed[o * t->max + i];
            for (size_t x = 0; x < row; x++) sums[x] += w * p[x];
        }
        for (size_t x = 0; x < row; x++) dst[x] = to_u8(sums[x]);
    }
    mem_free(sums);
    return PALI_OK;
}

static void nearest(uint8_t *dst, size_t out_w, size_t out_h, const uint8_t *src, size_t in_w, size_t in_h, size_t channels) {
    for (size_t y = 0; y < out_h; y++) {
        size_t sy = (size_t)(((double)y + 0.5) * ((double)in_h / (double)out_h));
        for (size_t x = 0; x < out_w; x++) {
            size_t sx = (size_t)(((double)x + 0.5) * ((double)in_w / (double)out_w));
            memcpy(dst + (y * out_w + x) * channels, src + ((sy < in_h ? sy : in_h - 1) * in_w + (sx < in_w ? sx : in_w - 1)) * channels, channels);
        }
    }
}

pali_status resize_u8(uint8_t *dst, size_t out_w, size_t out_h, const uint8_t *src, size_t in_w, size_t in_h, size_t channels,
                      resize_filter filter) {
    if (in_w == 0 || in_h == 0 || out_w == 0 || out_h == 0) return status_fail(PALI_ERR_ARGUMENT, "resize: a side is 0");
    if (in_w == out_w && in_h == out_h) {
        memcpy(dst, src, out_w * out_h * channels);
        return PALI_OK;
    }
    if (filter == RESIZE_NEAREST) {
        nearest(dst, out_w, out_h, src, in_w, in_h, channels);
        return PALI_OK;
    }
    taps across = {0}, down = {0};
    uint8_t *between = NULL;
    bool both = in_w != out_w && in_h != out_h;
    /* Pillow 13: a picture that shrinks much more in height than in width goes down first. In 64 bits: sides are < 2^32. */
    bool down_first = both && in_h > out_h && (int64_t)(in_h - out_h) > 2 * ((int64_t)in_w - (int64_t)out_w);
    size_t between_w = down_first ? in_w : out_w, between_h = down_first ? out_h : in_h;
    pali_status s = in_w == out_w ? PALI_OK : taps_new(&across, in_w, out_w, filter);
    if (s == PALI_OK && in_h != out_h) s = taps_new(&down, in_h, out_h, filter);
    if (s == PALI_OK && both && !(between = mem_alloc(between_w * between_h, channels))) s = status_no_memory(between_w * between_h * channels);
    if (s == PALI_OK && down_first) {
        s = pass_vertical(between, src, &down, in_w * channels);
        if (s == PALI_OK) s = pass_horizontal(dst, between, &across, in_w, out_h, channels);
    } else if (s == PALI_OK) {
        if (in_w != out_w) s = pass_horizontal(both ? between : dst, src, &across, in_w, in_h, channels);
        if (s == PALI_OK && in_h != out_h) s = pass_vertical(dst, both ? between : src, &down, out_w * channels);
    }
    taps_free(&across);
    taps_free(&down);
    mem_free(between);
    return s;
}

/* ---- Float ---- */

/* One axis: out position o of line l; strides turn it into either pass. */
static void pass_float(float *dst, const float *src, const taps *t, size_t lines, size_t line_src, size_t line_dst, size_t step_src, size_t step_dst) {
    for (size_t l = 0; l < lines; l++) {
        for (size_t o = 0; o < t->n_out; o++) {
            double sum = 0;
            for (size_t i = 0; i < t->n[o]; i++) sum += (double)src[l * line_src + (t->first[o] + i) * step_src] * t->weights[o * t->max + i];
            dst[l * line_dst + o * step_dst] = (float)sum;
        }
    }
}

pali_status resize_f32(float *dst, size_t out_w, size_t out_h, const float *src, size_t in_w, size_t in_h, resize_filter filter) {
    if (in_w == 0 || in_h == 0 || out_w == 0 || out_h == 0) return status_fail(PALI_ERR_ARGUMENT, "resize: a side is 0");
    if (filter == RESIZE_NEAREST) return status_fail(PALI_ERR_UNSUPPORTED, "resize: nearest is for 8-bit pictures");
    taps across = {0}, down = {0};
    float *between = mem_alloc(out_w * in_h, sizeof *between);
    pali_status s = between ? PALI_OK : status_no_memory(out_w * in_h * sizeof *between);
    if (s == PALI_OK && in_w != out_w) s = taps_new(&across, in_w, out_w, filter);
    if (s == PALI_OK && in_h != out_h) s = taps_new(&down, in_h, out_h, filter);
    if (s == PALI_OK) {
        if (in_w != out_w)
            pass_float(between, src, &across, in_h, in_w, out_w, 1, 1);
        else
            memcpy(between, src, in_w * in_h * sizeof *src);
        if (in_h != out_h)
            pass_float(dst, between, &down, out_w, 1, 1, out_w, out_w);
        else
            memcpy(dst, between, out_w * out_h * sizeof *dst);
    }
    taps_free(&across);
    taps_free(&down);
    mem_free(between);
    return s;
}

pali_status resize_to_pixels(float *pixels, size_t image_size, const image *img, resize_filter filter) {
    size_t n = image_size * image_size;
    uint8_t *small = mem_alloc(n, 3);
    if (!small) return status_no_memory(n * 3);
    pali_status s = resize_u8(small, image_size, image_size, img->rgb, img->width, img->height, 3, filter);
    for (size_t c = 0; c < 3 && s == PALI_OK; c++) /* u / 255 scaled and centred, in one exact step (spec 5.1) */
        for (size_t i = 0; i < n; i++) pixels[c * n + i] = (float)small[i * 3 + c] / 127.5f - 1.0f;
    mem_free(small);
    return s;
}
