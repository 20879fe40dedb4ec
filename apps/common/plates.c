/* plates.c. A plate takes the cheapest of the usual places at its box; where all of them are taken, the nearest free
 * place on a grid. */
#include "common/plates.h"

#include <float.h>
#include <math.h>

/* What it costs to hide the whole of another box, in steps down the list of usual places. Small boxes are so worth more
 * a pixel than large ones. */
#define HIDING_COST 6.0
#define N_PLACES 10

static double overlap_length(double a0, double a1, double b0, double b1) {
    double length = fmin(a1, b1) - fmax(a0, b0);
    return length > 0 ? length : 0;
}

static bool is_free(const plate *plates, size_t n, double x, double y, double w, double h) {
    for (size_t i = 0; i < n; i++) {
        const plate *p = &plates[i];
        if (p->placed && overlap_length(x, x + w, p->x, p->x + p->w) > 0 && overlap_length(y, y + h, p->y, p->y + p->h) > 0) return false;
    }
    return true;
}

/* The share of other boxes that a plate there would hide, each counted from 0 to 1. */
static double hidden_share(const plate_box *boxes, size_t n, size_t own, double x, double y, double w, double h) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        const plate_box *b = &boxes[i];
        double area = fmax(1, b->x1 - b->x0) * fmax(1, b->y1 - b->y0);
        if (i == own) continue;
        sum += overlap_length(x, x + w, b->x0, fmax(b->x1, b->x0 + 1)) * overlap_length(y, y + h, b->y0, fmax(b->y1, b->y0 + 1)) / area;
    }
    return sum;
}

/* Above and inside the upper edge, below, inside the lower edge, each at the left, at the right and, where the box reaches
 * over the canvas' edge, pushed back into it; then beside. */
static bool place_at_box(plate *plates, const plate_box *boxes, size_t n, size_t own, double canvas_w, double canvas_h) {
    const plate_box *b = &boxes[own];
    plate *p = &plates[own];
    const double places[N_PLACES][2] = {
        {b->x0, b->y0 - p->h},        {b->x0, b->y0},        {b->x1 - p->w, b->y0 - p->h}, {b->x0, b->y1},   {b->x1 - p->w, b->y0},
        {b->x1 - p->w, b->y1},        {b->x0, b->y1 - p->h}, {b->x1 - p->w, b->y1 - p->h}, {b->x1, b->y0},   {b->x0 - p->w, b->y0},
    };
    double best = DBL_MAX;
    for (size_t k = 0; k < N_PLACES; k++) {
        double x = fmax(0, fmin(places[k][0], canvas_w - p->w)), y = places[k][1];
        bool beside = k >= N_PLACES - 2;
        if (y < 0 || y + p->h > canvas_h || (beside && x < places[k][0]) || (beside && x > places[k][0])) continue;
        double cost = (double)k + HIDING_COST * hidden_share(boxes, n, own, x, y, p->w, p->h);
        if (cost >= best || !is_free(plates, n, x, y, p->w, p->h)) continue;
        best = cost;
        p->x = x;
        p->y = y;
    }
    return best < DBL_MAX;
}

/* The free place of a grid of half plates that is nearest to the box's upper left corner. */
static bool place_anywhere(plate *plates, const plate_box *boxes, size_t n, size_t own, double canvas_w, double canvas_h) {
    plate *p = &plates[own];
    double best = DBL_MAX, want_x = boxes[own].x0, want_y = boxes[own].y0 - p->h;
    size_t n_x = 1 + (size_t)((canvas_w - p->w) / (p->w / 2)), n_y = 1 + (size_t)((canvas_h - p->h) / (p->h / 2));
    for (size_t j = 0; j < n_y; j++) {
        for (size_t i = 0; i < n_x; i++) {
            /* the spare width is spread, so that the grid reaches both edges */
            double x = n_x > 1 ? (canvas_w - p->w) * (double)i / (double)(n_x - 1) : 0;
            double y = n_y > 1 ? (canvas_h - p->h) * (double)j / (double)(n_y - 1) : 0;
            double distance = hypot(x - want_x, y - want_y);
            if (distance >= best || !is_free(plates, n, x, y, p->w, p->h)) continue;
            best = distance;
            p->x = x;
            p->y = y;
        }
    }
    return best < DBL_MAX;
}

size_t plates_place(plate *plates, const plate_box *boxes, size_t n, double canvas_w, double canvas_h) {
    size_t n_placed = 0;
    for (size_t i = 0; i < n; i++) plates[i].placed = plates[i].moved_away = false;
    for (size_t i = 0; i < n; i++) {
        plate *p = &plates[i];
        if (p->w <= 0 || p->h <= 0 || p->w > canvas_w || p->h > canvas_h) continue;
        if (place_at_box(plates, boxes, n, i, canvas_w, canvas_h)) {
            p->placed = true;
        } else if (place_anywhere(plates, boxes, n, i, canvas_w, canvas_h)) {
            p->placed = p->moved_away = true;
        }
        n_placed += p->placed;
    }
    return n_placed;
}
