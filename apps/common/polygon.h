/* polygon.h: polygons of annotations as pixels, to the pixel as pycocotools fills them. */
#ifndef PALI_COMMON_POLYGON_H
#define PALI_COMMON_POLYGON_H

#include <stddef.h>
#include <stdint.h>

#include "common/fault.h"

#define POLYGON_MAX_COORDINATE 4e6        /* of a point, either way */
#define POLYGON_MAX_STEPS ((size_t)1 << 26) /* a boundary's length in fifths of a pixel: what filling it costs */

/* Adds the polygon xy [n_points, 2] (x, y in pixels) to mask [height, width]: 255 inside, the rest stays. */
bool polygon_fill(uint8_t *mask, size_t width, size_t height, const double *xy, size_t n_points, fault *f);

/* Sets the pixels from..to - 1 to 255, counted from the upper left one down the columns, one after the other: COCO's order. */
void polygon_fill_columns(uint8_t *mask, size_t width, size_t height, uint64_t from, uint64_t to);

#endif
