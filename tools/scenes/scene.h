/* scene.h: a picture and what is in it.
 *
 * Masks and boxes are those of what can be SEEN of an object: a pixel belongs to it where its alpha, less what later objects
 * hide of it, is at least one half; the box is the tightest around those pixels. At least SCENE_VISIBLE of each object can be
 * seen (of its alpha, what lies outside the picture counts as hidden). Objects are ordered from left to right by the middle of
 * their boxes, and no two middles are closer than SCENE_APART of the width, so that the order leaves no doubt. */
#ifndef SCENES_SCENE_H
#define SCENES_SCENE_H

#include "atlas.h"
#include "rng.h"

#define SCENE_OBJECTS 4u
#define SCENE_LEVELS 4u
#define SCENE_VISIBLE 0.7
#define SCENE_APART 0.12
#define SCENE_SIDE_MIN 64u
#define SCENE_SIDE_MAX 1024u
#define SCENE_LOC_STEP 16u /* locations are multiples of it, the far edge excepted */

typedef struct scene_object {
    thing what;
    uint8_t *mask;      /* [side, side] 0 or 255 */
    unsigned box[4];    /* x0, y0, x1, y1 in pixels, the far sides exclusive */
    unsigned loc[4];    /* y0, x0, y1, x1 as snapped indices */
} scene_object;

typedef struct scene {
    unsigned side, n;
    uint8_t *rgb;       /* [side, side, 3] */
    scene_object object[SCENE_OBJECTS];
} scene;

typedef struct scene_rules {
    const atlas *atlas;
    unsigned side, level;            /* 1 .. SCENE_LEVELS */
    unsigned first_kind, n_kinds;    /* the emoji to draw from */
    double words;                    /* the share of objects that are words, but of a picture one at most (two on level 4); negative: the level's own */
} scene_rules;

/* The multiple of SCENE_LOC_STEP nearest to at / side * 1024 (halves go up); 1023 where that is 1024. */
unsigned scene_snap(unsigned at, unsigned side);

bool scene_make(scene *s, const scene_rules *rules, rng *r); /* False: out of memory. scene_free it either way. */
void scene_free(scene *s);

/* How many objects are the same as the thing; *at (may be NULL) is the last of them. */
unsigned scene_count(const scene *s, const thing *what, unsigned *at);

#endif
