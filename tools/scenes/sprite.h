/* sprite.h: one thing, drawn: scaled, turned, mirrored, but not yet placed. */
#ifndef SCENES_SPRITE_H
#define SCENES_SPRITE_H

#include <cairo.h>

#include "atlas.h"
#include "rng.h"

typedef struct sprite {
    cairo_surface_t *surface; /* owns data */
    const uint8_t *data;      /* [height] rows of premultiplied blue, green, red, alpha; stride bytes apart */
    int width, height, stride;
    int ink[4];               /* x0, y0, x1, y1 around what is more than half covered */
    uint64_t n_alpha;         /* the sum of all alphas */
} sprite;

typedef struct sprite_style {
    double size_px;   /* the longer side before turning; of a word: the height of its letters */
    double aspect;    /* width is multiplied by it; 1 for words */
    double angle;     /* radians */
    bool mirrored;    /* emoji only */
    uint8_t under[3]; /* the ground's mean colour, from which shapes and letters must stand out */
} sprite_style;

/* Details that are left open (shades, outlines, fonts, plates) come from r. False: out of memory. sprite_free it either way. */
bool sprite_draw(sprite *s, const atlas *a, const thing *what, const sprite_style *style, rng *r);
void sprite_free(sprite *s);

#endif
