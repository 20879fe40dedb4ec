/* plates.h: where label plates go, so that each is inside the picture and none covers another. Geometry only. */
#ifndef PALI_COMMON_PLATES_H
#define PALI_COMMON_PLATES_H

#include <stdbool.h>
#include <stddef.h>

typedef struct plate {
    double w, h;     /* given; 0: the object has no plate */
    double x, y;     /* chosen */
    bool placed;     /* false: there was no room */
    bool moved_away; /* not at its box: a line should join them */
} plate;

typedef struct plate_box {
    double x0, y0, x1, y1; /* inside the canvas */
} plate_box;

/* Plate i belongs to box i; plates that come first choose first. Returns how many with a size were placed. */
size_t plates_place(plate *plates, const plate_box *boxes, size_t n, double canvas_w, double canvas_h);

#endif
