/* box.h: from location indices to pixels: the one rule for boxes and for the masks in them (spec inference 6.2). */
#ifndef PALI_MODEL_BOX_H
#define PALI_MODEL_BOX_H

#include <stdbool.h>
#include <stdint.h>

#include "paligemma.h"

/* Box x0, y0, x1, y1 in pixels of a picture, and in whole pixels as the convention's own program makes them; loc is
 * y0, x0, y1, x1 in 0..1023. */
void box_pixels(double box[4], int32_t whole[4], const int32_t loc[4], int32_t width, int32_t height, pali_box_convention convention);
/* Whether the box has an area, in the sense of the convention. */
bool box_valid(const int32_t loc[4], const int32_t whole[4], pali_box_convention convention);

#endif
