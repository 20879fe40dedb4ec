/* atlas.h: the shapes of things before they are placed: emoji as bitmaps with mipmaps, letters as outlines. Made once, then
 * only read, by any number of threads. */
#ifndef SCENES_ATLAS_H
#define SCENES_ATLAS_H

#include <cairo.h>

#include "common/fault.h"
#include "names.h"

#define ATLAS_LEVELS 3u /* each half as large as the one before */
#define ATLAS_FONTS 6u
#define ATLAS_LETTER_PX 256.0 /* the size at which outlines are kept: cairo's paths are in fixed point */

/* What is inked of an emoji, premultiplied ARGB as cairo has it. */
typedef struct atlas_picture {
    int width, height, stride;
    uint8_t *data;
} atlas_picture;

typedef struct atlas_font {
    double cap_height;           /* in units of the size, as the rest */
    cairo_path_t *letter[26];    /* at ATLAS_LETTER_PX */
    double advance[26];
} atlas_font;

typedef struct atlas {
    atlas_picture emoji[NAMES_KINDS + NAMES_NOVEL_KINDS][ATLAS_LEVELS];
    atlas_font font[ATLAS_FONTS];
} atlas;

/* Fails where the colour emoji font (Debian: fonts-noto-color-emoji) is missing. atlas_free it, also after a failure. */
bool atlas_make(atlas *a, fault *f);
void atlas_free(atlas *a);

#endif
