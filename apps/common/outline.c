/* outline.c: marching squares, then Douglas-Peucker.
 *
 * A cell is a square between four samples. A curve is followed from cell to cell with the inside on the right; each curve
 * goes up somewhere between an outer sample and an inner one beside it, so the search starts at such pairs and marks those
 * it has passed. */
#include "common/outline.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define LEVEL 127.5

/* The part of the mask that is not empty, or its averages over step x step blocks. Samples outside it are 0. */
typedef struct field {
    uint8_t *values; /* [height, width] */
    int32_t width, height, x0, y0, step;
} field;

typedef struct tracing {
    const field *f;
    uint8_t *passed; /* [height + 1, width + 1]: the pair (x - 1, y), (x, y) */
    outline *out;
    size_t point_capacity, curve_capacity;
} tracing;

typedef enum trace_state { TRACE_OK, TRACE_TOO_MANY, TRACE_NO_MEMORY } trace_state;

static int sample(const field *f, int32_t x, int32_t y) {
    return x < 0 || y < 0 || x >= f->width || y >= f->height ? 0 : f->values[(size_t)y * (size_t)f->width + (size_t)x];
}

/* The box of values of at least 128, one pixel wider for the soft values around them. */
static bool find_bounds(field *f, const uint8_t *mask, int32_t width, int32_t height) {
    int32_t left = width, right = -1, top = height, bottom = -1;
    for (int32_t y = 0; y < height; y++) {
        const uint8_t *row = mask + (size_t)y * (size_t)width;
        int32_t a = 0, b = width - 1;
        while (a < width && row[a] < 128) a++;
        if (a == width) continue;
        while (row[b] < 128) b--;
        if (a < left) left = a;
        if (b > right) right = b;
        if (y < top) top = y;
        bottom = y;
    }
    if (right < 0) return false;
    f->x0 = left > 0 ? left - 1 : 0;
    f->y0 = top > 0 ? top - 1 : 0;
    f->width = (right + 1 < width ? right + 2 : width) - f->x0;
    f->height = (bottom + 1 < height ? bottom + 2 : height) - f->y0;
    return true;
}

static uint8_t block_mean(const uint8_t *mask, int32_t width, int32_t x0, int32_t y0, int32_t x1, int32_t y1) {
    uint64_t sum = 0;
    for (int32_t y = y0; y < y1; y++) {
        for (int32_t x = x0; x < x1; x++) sum += mask[(size_t)y * (size_t)width + (size_t)x];
    }
    return (uint8_t)(sum / ((uint64_t)(x1 - x0) * (uint64_t)(y1 - y0)));
}

/* `bounds` at one step in `step` pixels. */
static bool field_make(field *f, const field *bounds, int32_t step, const uint8_t *mask, int32_t mask_width) {
    *f = (field){.width = (bounds->width - 1) / step + 1,
                 .height = (bounds->height - 1) / step + 1,
                 .x0 = bounds->x0,
                 .y0 = bounds->y0,
                 .step = step};
    f->values = malloc((size_t)f->width * (size_t)f->height);
    if (!f->values) return false;
    int32_t end_x = bounds->x0 + bounds->width, end_y = bounds->y0 + bounds->height;
    for (int32_t y = 0; y < f->height; y++) {
        for (int32_t x = 0; x < f->width; x++) {
            int32_t left = f->x0 + x * step, top = f->y0 + y * step;
            int32_t right = end_x - left < step ? end_x : left + step, bottom = end_y - top < step ? end_y : top + step;
            f->values[(size_t)y * (size_t)f->width + (size_t)x] = block_mean(mask, mask_width, left, top, right, bottom);
        }
    }
    return true;
}

static bool grow(void **array, size_t *capacity, size_t n, size_t size) {
    if (n < *capacity) return true;
    size_t grown = *capacity ? *capacity * 2 : 256;
    void *fresh = realloc(*array, grown * size);
    if (!fresh) return false;
    *array = fresh;
    *capacity = grown;
    return true;
}

/* The crossing between two neighbours, one of them inside. */
static trace_state add_point(tracing *t, int32_t xa, int32_t ya, int32_t xb, int32_t yb) {
    outline *o = t->out;
    if (o->n_points >= OUTLINE_MAX_POINTS) return TRACE_TOO_MANY;
    if (!grow((void **)&o->xy, &t->point_capacity, o->n_points, 2 * sizeof *o->xy)) return TRACE_NO_MEMORY;
    double a = sample(t->f, xa, ya), b = sample(t->f, xb, yb), u = (LEVEL - a) / (b - a), step = t->f->step;
    o->xy[2 * o->n_points] = (float)(t->f->x0 + step * (xa + u * (xb - xa) + 0.5));
    o->xy[2 * o->n_points + 1] = (float)(t->f->y0 + step * (ya + u * (yb - ya) + 0.5));
    o->n_points++;
    return TRACE_OK;
}

/* Follows the curve that goes up between (x - 1, y) and (x, y). A cell is named by its upper left sample. Seen in the
 * direction of travel, the samples behind are back_left (outside) and back_right (inside). */
static trace_state trace_curve(tracing *t, int32_t start_x, int32_t start_y) {
    static const int8_t dx[4] = {0, 1, 0, -1}, dy[4] = {-1, 0, 1, 0}; /* up, right, down, left */
    static const int8_t corner_x[4] = {0, 1, 1, 0}, corner_y[4] = {0, 0, 1, 1}; /* clockwise from the upper left */
    int32_t x = start_x - 1, y = start_y - 1;
    int heading = 0;
    trace_state state = add_point(t, start_x - 1, start_y, start_x, start_y);
    while (state == TRACE_OK) {
        if (heading == 0) {
            uint8_t *mark = &t->passed[(size_t)(y + 1) * ((size_t)t->f->width + 1) + (size_t)(x + 1)];
            if (*mark) { /* back at the start, whose point is there already */
                t->out->n_points--;
                break;
            }
            *mark = 1;
        }
        int32_t px[4], py[4]; /* front left, front right, back right, back left */
        int v[4];
        for (int i = 0; i < 4; i++) {
            px[i] = x + corner_x[(heading + i) & 3];
            py[i] = y + corner_y[(heading + i) & 3];
            v[i] = sample(t->f, px[i], py[i]);
        }
        bool left_inside = v[0] > LEVEL, right_inside = v[1] > LEVEL;
        /* inside ahead on the left and outside ahead on the right: the mean says whether the inner corners are joined */
        if (left_inside && !right_inside) right_inside = left_inside = v[0] + v[1] + v[2] + v[3] > 4 * LEVEL;
        int a = left_inside ? 3 : right_inside ? 0 : 1, b = left_inside ? 0 : right_inside ? 1 : 2;
        heading = (heading + (left_inside ? 3 : right_inside ? 0 : 1)) & 3;
        x += dx[heading];
        y += dy[heading];
        state = add_point(t, px[a], py[a], px[b], py[b]);
    }
    return state;
}

static trace_state trace_field(outline *out, const field *f) {
    tracing t = {.f = f, .out = out, .passed = calloc(((size_t)f->width + 1) * ((size_t)f->height + 1), 1)};
    trace_state state = t.passed ? TRACE_OK : TRACE_NO_MEMORY;
    for (int32_t y = 0; y < f->height && state == TRACE_OK; y++) {
        for (int32_t x = 0; x < f->width && state == TRACE_OK; x++) {
            bool starts = sample(f, x, y) > LEVEL && !(sample(f, x - 1, y) > LEVEL);
            if (!starts || t.passed[(size_t)y * ((size_t)f->width + 1) + (size_t)x]) continue;
            state = trace_curve(&t, x, y);
            if (state == TRACE_OK && !grow((void **)&out->ends, &t.curve_capacity, out->n_curves, sizeof *out->ends)) state = TRACE_NO_MEMORY;
            if (state == TRACE_OK) out->ends[out->n_curves++] = out->n_points;
        }
    }
    free(t.passed);
    return state;
}

static double distance_to_segment(const float *p, const float *a, const float *b) {
    double dx = (double)b[0] - (double)a[0], dy = (double)b[1] - (double)a[1], px = (double)p[0] - (double)a[0],
           py = (double)p[1] - (double)a[1];
    double length = dx * dx + dy * dy, u = length > 0 ? (px * dx + py * dy) / length : 0;
    u = u < 0 ? 0 : u > 1 ? 1 : u;
    return hypot(px - u * dx, py - u * dy);
}

/* Marks the points of first..last to keep; the two ends are kept already. The stack holds pairs and never more than one
 * for each point. */
static void simplify_range(const float *xy, uint8_t *keep, size_t (*stack)[2], size_t first, size_t last, double tolerance) {
    size_t n = 0;
    stack[n][0] = first;
    stack[n++][1] = last;
    while (n) {
        size_t a = stack[--n][0], b = stack[n][1], far = a;
        double farthest = tolerance;
        for (size_t i = a + 1; i < b; i++) {
            double d = distance_to_segment(xy + 2 * i, xy + 2 * a, xy + 2 * b);
            if (d <= farthest) continue;
            farthest = d;
            far = i;
        }
        if (far == a) continue;
        keep[far] = 1;
        stack[n][0] = a;
        stack[n++][1] = far;
        stack[n][0] = far;
        stack[n++][1] = b;
    }
}

/* A closed curve is cut at its first point and the one farthest from it. */
static void simplify_curve(const float *xy, uint8_t *keep, size_t (*stack)[2], size_t first, size_t end, double tolerance) {
    size_t far = first;
    double farthest = -1;
    for (size_t i = first; i < end; i++) {
        double d = hypot((double)xy[2 * i] - (double)xy[2 * first], (double)xy[2 * i + 1] - (double)xy[2 * first + 1]);
        if (d <= farthest) continue;
        farthest = d;
        far = i;
    }
    keep[first] = keep[far] = keep[end - 1] = 1;
    simplify_range(xy, keep, stack, first, far, tolerance);
    simplify_range(xy, keep, stack, far, end - 1, tolerance);
}

static bool simplify(outline *o, double tolerance) {
    uint8_t *keep = calloc(o->n_points + 1, 1);
    size_t(*stack)[2] = malloc((o->n_points + 1) * sizeof *stack);
    bool ok = keep && stack;
    for (size_t i = 0, first = 0; ok && i < o->n_curves; first = o->ends[i++])
        simplify_curve(o->xy, keep, stack, first, o->ends[i], tolerance);
    size_t n = 0;
    for (size_t i = 0, at = 0; ok && i < o->n_curves; i++) {
        for (; at < o->ends[i]; at++) {
            if (!keep[at]) continue;
            o->xy[2 * n] = o->xy[2 * at];
            o->xy[2 * n + 1] = o->xy[2 * at + 1];
            n++;
        }
        o->ends[i] = n;
    }
    if (ok) o->n_points = n;
    free(stack);
    free(keep);
    return ok;
}

bool outline_trace(outline *out, const uint8_t *mask, int32_t width, int32_t height, double tolerance) {
    *out = (outline){0};
    field bounds = {0};
    if (!find_bounds(&bounds, mask, width, height)) return true;
    trace_state state = TRACE_TOO_MANY;
    for (int32_t step = 1; state == TRACE_TOO_MANY; step *= 2) {
        field f;
        outline_free(out);
        if (!field_make(&f, &bounds, step, mask, width)) return false;
        state = trace_field(out, &f);
        free(f.values);
    }
    if (state == TRACE_OK && simplify(out, tolerance)) return true;
    outline_free(out);
    return false;
}

void outline_free(outline *o) {
    free(o->xy);
    free(o->ends);
    *o = (outline){0};
}
