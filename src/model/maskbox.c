#include "model/maskbox.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "base/mem.h"
#include "model/box.h"
#include "model/maskcodec.h"

#define SIDE MASKCODEC_SIDE

/* Whole pixels of the picture: columns x0 to x1 and rows y0 to y1, the ends not included. */
typedef struct span {
    size_t x0, y0, x1, y1;
} span;

static bool span_is_empty(const span *b) {
    return b->y1 <= b->y0 || b->x1 <= b->x0;
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
    double exact[4];
    int32_t px[4];
    box_pixels(exact, px, loc, (int32_t)width, (int32_t)height, rule == PALI_MASK_DEMO ? PALI_BOX_1024 : PALI_BOX_1023);
    const span b = {(size_t)px[0], (size_t)px[1], (size_t)px[2], (size_t)px[3]};
    *out = NULL;
    if (span_is_empty(&b)) return PALI_OK;
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
    const double w_all = (double)width, h_all = (double)height;
    const span b = {(size_t)rint(box_frac[1] * w_all), (size_t)rint(box_frac[0] * h_all), (size_t)rint(box_frac[3] * w_all), (size_t)rint(box_frac[2] * h_all)};
    if (span_is_empty(&b)) return status_fail(PALI_ERR_ARGUMENT, "box: holds no pixel of the mask of %zu x %zu", width, height);
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
