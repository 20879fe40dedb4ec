/* polygon.c: see polygon.h.
 *
 * The reference walks along the boundary on a grid of fifths of a pixel. Wherever the walk passes from one column of pixels to
 * the next it notes the row: down the columns, one after the other, inside and outside change at these places. What it does
 * with halves, negative numbers and points that come twice is its own, and is kept. */
#include "common/polygon.h"

#include <math.h>
#include <stdlib.h>

#define GRID 5.0

typedef struct walk {
    int64_t x, y;       /* the last point, in fifths */
    bool begun;
    double width, height;
    uint64_t *changes;  /* [n] x * height + y */
    size_t n, capacity;
    bool failed;        /* no memory */
} walk;

static void note(walk *w, uint64_t change) {
    if (w->n == w->capacity) {
        const size_t capacity = w->capacity ? 2 * w->capacity : 256;
        uint64_t *grown = realloc(w->changes, capacity * sizeof *grown);
        w->failed = w->failed || !grown;
        if (!grown) return;
        w->changes = grown;
        w->capacity = capacity;
    }
    w->changes[w->n++] = change;
}

static void step(walk *w, int64_t x, int64_t y) {
    if (w->begun && x != w->x) {
        const double column = ((double)(x < w->x ? x : x - 1) + 0.5) / GRID - 0.5;
        const double row = ceil(fmin(fmax(((double)(y < w->y ? y : w->y) + 0.5) / GRID - 0.5, 0), w->height));
        if (floor(column) == column && column >= 0 && column <= w->width - 1) note(w, (uint64_t)column * (uint64_t)w->height + (uint64_t)row);
    }
    w->x = x;
    w->y = y;
    w->begun = true;
}

/* From one corner to the next, both included. The line is computed from its upper or left end, whichever way it is walked; rounding
 * is towards zero. An edge of no length takes no step. */
static void edge(walk *w, int64_t x0, int64_t y0, int64_t x1, int64_t y1) {
    const int64_t dx = llabs(x1 - x0), dy = llabs(y1 - y0), n = dx >= dy ? dx : dy;
    const bool back = dx >= dy ? x0 > x1 : y0 > y1;
    const int64_t xs = back ? x1 : x0, ys = back ? y1 : y0, xe = back ? x0 : x1, ye = back ? y0 : y1;
    if (n == 0) return;
    const double slope = dx >= dy ? (double)(ye - ys) / (double)dx : (double)(xe - xs) / (double)dy;
    for (int64_t i = 0; i <= n; i++) {
        const int64_t t = back ? n - i : i;
        if (dx >= dy)
            step(w, xs + t, (int64_t)((double)ys + slope * (double)t + 0.5));
        else
            step(w, (int64_t)((double)xs + slope * (double)t + 0.5), ys + t);
    }
}

static int64_t on_grid(double pixels) {
    return (int64_t)(GRID * pixels + 0.5);
}

static bool walkable(const double *xy, size_t n_points, fault *f) {
    size_t n_steps = 0;
    if (n_points < 3) return fault_set(f, "polygon of %zu points: at least 3 expected", n_points);
    for (size_t i = 0; i < 2 * n_points; i++)
        if (!(fabs(xy[i]) <= POLYGON_MAX_COORDINATE)) return fault_set(f, "polygon: coordinate %g: at most %g expected", xy[i], POLYGON_MAX_COORDINATE);
    for (size_t i = 0; i < n_points; i++) {
        const double *a = xy + 2 * i, *b = xy + 2 * ((i + 1) % n_points);
        n_steps += (size_t)(GRID * fmax(fabs(a[0] - b[0]), fabs(a[1] - b[1]))) + 2;
        if (n_steps > POLYGON_MAX_STEPS) return fault_set(f, "polygon: a boundary of more than %zu pixels", POLYGON_MAX_STEPS / (size_t)GRID);
    }
    return true;
}

static int by_place(const void *a, const void *b) {
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

void polygon_fill_columns(uint8_t *mask, size_t width, size_t height, uint64_t from, uint64_t to) {
    size_t x = from / height, y = from % height;
    for (uint64_t at = from; at < to; at++) {
        mask[y * width + x] = 255;
        if (++y < height) continue;
        y = 0;
        x++;
    }
}

/* Between the 1st and the 2nd change it is inside, between the 3rd and the 4th ...; after an odd last one to the end. */
static void fill(uint8_t *mask, size_t width, size_t height, const uint64_t *changes, size_t n) {
    for (size_t i = 0; i < n; i += 2) polygon_fill_columns(mask, width, height, changes[i], i + 1 < n ? changes[i + 1] : (uint64_t)width * height);
}

bool polygon_fill(uint8_t *mask, size_t width, size_t height, const double *xy, size_t n_points, fault *f) {
    walk w = {.width = (double)width, .height = (double)height};
    if (!walkable(xy, n_points, f)) return false;
    for (size_t i = 0; i < n_points && !w.failed; i++) {
        const double *a = xy + 2 * i, *b = xy + 2 * ((i + 1) % n_points);
        edge(&w, on_grid(a[0]), on_grid(a[1]), on_grid(b[0]), on_grid(b[1]));
    }
    if (!w.failed && w.n) {
        qsort(w.changes, w.n, sizeof *w.changes, by_place);
        fill(mask, width, height, w.changes, w.n);
    }
    free(w.changes);
    return w.failed ? fault_set(f, "polygon: out of memory") : true;
}
