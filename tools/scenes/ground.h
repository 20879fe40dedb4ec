/* ground.h: what lies behind the objects. */
#ifndef SCENES_GROUND_H
#define SCENES_GROUND_H

#include "rng.h"

typedef enum ground_kind { GROUND_PLAIN, GROUND_LINEAR, GROUND_RADIAL, GROUND_STRIPES, GROUND_CLOUDS, GROUND_PATCHES, GROUND_KINDS } ground_kind;

/* rgb [side, side, 3]. Nothing of it has an edge as sharp as an object's, but for stripes, which run from side to side. */
void ground_draw(uint8_t *rgb, unsigned side, ground_kind kind, rng *r);

#endif
