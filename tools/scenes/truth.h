/* truth.h: what is in a picture, as a line of JSON:
 *
 *   {"image": "images/000/000000.jpg", "side": 128, "objects": [{"class": "emoji"|"shape"|"word", "name": "cat",
 *    "colour": "red"|null, "word": "HAT"|null, "box": [x0, y0, x1, y1 in pixels], "loc": [y0, x0, y1, x1 snapped], "mask": "RLE"}]}
 *
 * Objects go from left to right. Masks are COCO's compressed run lengths. */
#ifndef SCENES_TRUTH_H
#define SCENES_TRUTH_H

#include <stdio.h>

#include "scene.h"

bool truth_write(FILE *out, const char *image, const scene *s);

#endif
