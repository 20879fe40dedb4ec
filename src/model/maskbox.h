/* maskbox.h: a mask of 64 x 64 and the box of the picture it fills, both ways (spec inference 6.6, 6.7). */
#ifndef PALI_MODEL_MASKBOX_H
#define PALI_MODEL_MASKBOX_H

#include "input/resize.h"

/* [height, width] 8-bit in a fresh block (mem_free): mask [64, 64] stretched over the box of location indices y0 x0 y1 x1
 * (0..1023), zero around it. A box without a pixel gives NULL.
 *
 *   demo       index / 1024, nearest pixel; clipped to 8 bits, bicubic: soft, 0 to 255
 *   evaluator  index / 1023, pixel to the left and above; bilinear in floats: 255 where > 0 */
pali_status maskbox_paste(uint8_t **out, const float *mask, const int32_t *loc, size_t width, size_t height, pali_mask_rule rule);

/* out [64, 64] in -1..1 from the box y0 x0 y1 x1 (fractions of the sides) of a mask [height, width] of 0..255. */
pali_status maskbox_crop(float *out, const uint8_t *mask, size_t width, size_t height, size_t stride, const double *box_frac);

#endif
