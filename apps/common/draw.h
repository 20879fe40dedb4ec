/* draw.h: a picture with what was found in it: boxes, translucent masks with an outline, labels and scores on plates, as
 * PNG, JPEG or SVG (the picture embedded as JPEG; boxes, masks and text stay vectors, each object a group with a title).
 *
 * Lines and text follow the picture's size. A picture whose shorter side is below DRAW_MIN_SIDE is enlarged by a whole
 * number; one whose longer side is above DRAW_MAX_SIDE, which cairo cannot hold, is reduced. A colour belongs to a label: the
 * same in every picture unless two labels of one picture would share it. Plates stay inside the picture and never cover
 * each other. */
#ifndef PALI_COMMON_DRAW_H
#define PALI_COMMON_DRAW_H

#include <stddef.h>
#include <stdint.h>

#include "common/encode.h"
#include "common/fault.h"

#define DRAW_MIN_SIDE 256
#define DRAW_MAX_SIDE 32000
#define DRAW_MAX_OBJECTS 100000 /* more are ignored */
#define DRAW_MAX_LABELS 400     /* objects beyond it are drawn without a plate */
#define DRAW_JPEG_QUALITY 92

typedef enum draw_format { DRAW_NONE, DRAW_PNG, DRAW_JPEG, DRAW_SVG } draw_format;

/* By the ending of the name, in any case: .png, .jpg, .jpeg, .svg. */
draw_format draw_format_of(const char *path);

typedef struct draw_object {
    const char *label;     /* NULL: none; any bytes */
    size_t n_label_bytes;
    double box[4];         /* x0, y0, x1, y1 in pixels of the picture. No width or height: a line or a point is drawn; ends before
                              it begins, or no number: the object is left out */
    double score;          /* below 0, or no number: none */
    const uint8_t *mask;   /* [height, width] of the picture, painted where at least 128; NULL: none */
} draw_object;

typedef struct draw draw;

/* What could not be shown. */
typedef struct draw_notes {
    size_t n_objects_left_out; /* boxes that are none */
    size_t n_labels_left_out;  /* no room, or no font */
    size_t n_labels_unknown;   /* with characters that no installed font has */
    bool no_font;
} draw_notes;

/* rgb [height, width, 3] is not copied and must live until draw_free. NULL: no memory. */
draw *draw_new(const uint8_t *rgb, int32_t width, int32_t height);
void draw_free(draw *d);
/* Takes what it needs of the object, its mask included. */
bool draw_add(draw *d, const draw_object *object, fault *f);
/* The file in memory. notes may be NULL. */
bool draw_encode(draw *d, draw_format format, encoded *out, draw_notes *notes, fault *f);
/* The file on disk, whole or not at all; the name says which format. */
bool draw_write(draw *d, const char *path, draw_notes *notes, fault *f);

#endif
