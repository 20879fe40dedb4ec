/* draw_plan.h: between draw.c, which decides what goes where, and the two painters. Lengths are pixels of the canvas. */
#ifndef PALI_COMMON_DRAW_PLAN_H
#define PALI_COMMON_DRAW_PLAN_H

#include "common/draw.h"
#include "common/label.h"
#include "common/outline.h"
#include "common/plates.h"

typedef enum item_shape { SHAPE_BOX, SHAPE_LINE, SHAPE_POINT } item_shape;

typedef struct draw_style {
    uint8_t rgb[3];
    bool dark_text;        /* on a plate of this colour */
    double on, off;        /* dashes in line widths; 0: a solid line */
} draw_style;

typedef struct draw_item {
    item_shape shape;
    plate_box box;         /* inside the canvas, its line too */
    outline mask;
    char *label;           /* clean; "": none */
    char score[16];        /* "0.93", "": none */
    const draw_style *style;
    label_text text;
} draw_item;

struct draw {
    const uint8_t *rgb;    /* [source_h, source_w, 3] */
    uint8_t *reduced;      /* owned rgb, if the picture was too large */
    int32_t width, height; /* of the picture, whose pixels objects come in */
    int32_t source_w, source_h, enlarge;
    int32_t canvas_w, canvas_h;
    double font_px, line_px, casing_px;
    draw_item *items;      /* [n] */
    plate *plates;         /* [n] */
    size_t n, capacity;
    size_t n_left_out;
};

/* The mask's fill, and the dark rim that keeps a line visible on any background. */
#define DRAW_MASK_ALPHA 0.42
#define DRAW_CASING_ALPHA 0.65

bool draw_paint_raster(const draw *d, draw_format format, encoded *out, fault *f);
bool draw_paint_svg(const draw *d, encoded *out, fault *f);

/* From the middle of the plate's nearest edge to the box. */
typedef struct leader {
    double x0, y0, x1, y1;
} leader;
leader draw_leader(const plate *p, const plate_box *b);

#endif
