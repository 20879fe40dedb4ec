/* resize_bv.h: big_vision's resize of training pictures (spec training 8.4), which is TensorFlow's: bilinear at half-pixel centres in
 * f32, with or without antialiasing, cut to 8 bits rather than rounded. Called through resize_u8 by the filters RESIZE_BV and
 * RESIZE_BV_AA.
 *
 * Without antialiasing a pixel is made of the four next to its centre, whatever lies between those: what some of the published
 * recipes trained with. */
#ifndef PALI_INPUT_RESIZE_BV_H
#define PALI_INPUT_RESIZE_BV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* As resize_u8; sides are checked. */
pali_status resize_bv(uint8_t *dst, size_t out_w, size_t out_h, const uint8_t *src, size_t in_w, size_t in_h, size_t channels, bool antialias);

#endif
