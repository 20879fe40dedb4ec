/* cocomask.h: what encloses an object of a COCO file, as a mask. */
#ifndef PALI_CLI_COCOMASK_H
#define PALI_CLI_COCOMASK_H

#include "common/coco.h"

/* mask [height, width] of the object's picture, 0 and 255, from polygons [[x, y, ...], ...] or run lengths {"size": [height, width],
 * "counts": [...] or the compressed string}. */
bool cocomask_make(uint8_t *mask, const coco_object *o, const coco_picture *p, fault *f);

#endif
