#include "model/maskbox.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "base/mem.h"
#include "model/maskcodec.h"

#define SIDE MASKCODEC_SIDE

typedef struct box {
    size_t y0, x0, y1, x1;
} box;

static bool box_is_empty(const box *b) {
    return b->y1 <= b->y0 || b->x1 <= b->x0;
}

/* The pixels of a box given in fractions of the sides, y0 x0 y1 x1: the nearest ones (halves to even), or those cut off to. */
static box box_of(const double *frac, size_t width, size_t height, double (*whole)(double)) {
    const double w = (double)width, h = (double)height;
    return (box){(size_t)whole(frac[0] * h), (size_t)whole(frac[1] * w), (size_t)whole(frac[2] * h), (size_t)whole(frac[3] * w)};
}

/* dst [h, w] 8-bit by the demo's rule. */
static pali_status stretch_soft(uint8_t *dst, size_t w, size_t h, const float *mask) {
    uint8_t levels[SIDE * SIDE];
    for (size_t i = 0; i < SIDE * SIDE; i++) {
        const float p = mask[i] * 0.5f + 0.5f;
        levels[i] = (uint8_t)(!(p > 0) ? 0.0f : p > 1 ? 255.0f : p * 255.0f); /* NaN becomes 0 */
    }
    return resize_u8(dst, w, h, levels, SIDE, SIDE, 1, RESIZE_BICUBIC);
}

/* The same by the evaluator's. */
static pali_status stretch_hard(uint8_t *dst, size_t w, size_t h, const float *mask) {
    float *values = mem_alloc(w * h, sizeof *values);
    if (!values) return status_no_memory(w * h * sizeof *values);
    pali_status s = resize_f32(values, w, h, mask, SIDE, SIDE, RESIZE_BILINEAR);
    for (size_t i = 0; s == PALI_OK && i < w * h; i++) dst[i] = values[i] > 0 ? 255 : 0;
    mem_free(values);
    return s;
}

pali_status maskbox_paste(uint8_t **out, const float *mask, const int32_t *loc, size_t width, size_t height, pali_mask_rule rule) {
    double frac[4];
    for (size_t i = 0; i < 4; i++) frac[i] = (double)loc[i] / (rule == PALI_MASK_DEMO ? 1024 : 1023);
    const box b = box_of(frac, width, height, rule == PALI_MASK_DEMO ? rint : trunc);
    *out = NULL;
    if (box_is_empty(&b)) return PALI_OK;
    const size_t w = b.x1 - b.x0, h = b.y1 - b.y0;
    uint8_t *part = mem_alloc(w, h), *whole = mem_calloc(width, height);
    pali_status s = !part || !whole ? status_no_memory(width * height) : rule == PALI_MASK_DEMO ? stretch_soft(part, w, h, mask) : stretch_hard(part, w, h, mask);
    for (size_t y = 0; s == PALI_OK && y < h; y++) memcpy(whole + (b.y0 + y) * width + b.x0, part + y * w, w);
    mem_free(part);
    if (s != PALI_OK)
        mem_free(whole);
    else
        *out = whole;
    return s;
}

pali_status maskbox_crop(float *out, const uint8_t *mask, size_t width, size_t height, size_t stride, const double *box_frac) {
    const box b = box_of(box_frac, width, height, rint);
    if (box_is_empty(&b)) return status_fail(PALI_ERR_ARGUMENT, "box: holds no pixel of the mask of %zu x %zu", width, height);
    const size_t w = b.x1 - b.x0, h = b.y1 - b.y0;
    float *values = mem_alloc(w * h, sizeof *values);
    if (!values) return status_no_memory(w * h * sizeof *values);
    for (size_t y = 0; y < h; y++)
        for (size_t x = 0; x < w; x++) values[y * w + x] = mask[(b.y0 + y) * stride + b.x0 + x];
    pali_status s = resize_f32(out, SIDE, SIDE, values, w, h, RESIZE_BILINEAR);
    for (size_t i = 0; s == PALI_OK && i < SIDE * SIDE; i++) out[i] = 2.0f * (out[i] / 255.0f - 0.5f);
    mem_free(values);
    return s;
}
