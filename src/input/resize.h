/* resize.h: Pillow 13's Image.resize for 8-bit pictures byte for byte, and for float planes (spec inference 5.2). */
#ifndef PALI_INPUT_RESIZE_H
#define PALI_INPUT_RESIZE_H

#include "input/image.h"

/* Values are PIL's resample codes, as in preprocessor_config.json. */
typedef enum resize_filter {
    RESIZE_NEAREST = 0,
    RESIZE_LANCZOS = 1,
    RESIZE_BILINEAR = 2,
    RESIZE_BICUBIC = 3,
    RESIZE_BOX = 4,
    RESIZE_HAMMING = 5,
    /* Not PIL's: big_vision's (resize_bv.h), of 8-bit pictures. */
    RESIZE_BV = 16,
    RESIZE_BV_AA = 17
} resize_filter;

/* dst [out_h, out_w, channels] from src [in_h, in_w, channels], channels 1 to 4, no premultiplication. */
pali_status resize_u8(uint8_t *dst, size_t out_w, size_t out_h, const uint8_t *src, size_t in_w, size_t in_h, size_t channels,
                      resize_filter filter);
/* dst [out_h, out_w] from src [in_h, in_w] (mode F). */
pali_status resize_f32(float *dst, size_t out_w, size_t out_h, const float *src, size_t in_w, size_t in_h, resize_filter filter);

/* The whole of spec 5.1: RGB -> resize to R x R -> x = u / 127.5 - 1 -> pixels [3, R, R]. */
pali_status resize_to_pixels(float *pixels, size_t image_size, const image *img, resize_filter filter);

#endif
