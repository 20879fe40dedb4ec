#include "ground.h"

#include <math.h>
#include <string.h>

#define PI 3.14159265358979323846
#define GRID_MAX 9u

typedef struct tint {
    double c[3];
} tint;

/* Mostly light or muted ones, as walls, tables and skies are; any colour at times. */
static tint tint_any(rng *r) {
    tint t;
    const double light = rng_between(r, 30, 250), spread = rng_chance(r, 0.3) ? 120 : 35;
    for (unsigned i = 0; i < 3; i++) t.c[i] = fmin(fmax(light + rng_between(r, -spread, spread), 0), 255);
    return t;
}

static tint tint_near(const tint *t, double spread, rng *r) {
    tint out;
    for (unsigned i = 0; i < 3; i++) out.c[i] = fmin(fmax(t->c[i] + rng_between(r, -spread, spread), 0), 255);
    return out;
}

static void put(uint8_t *pixel, const tint *a, const tint *b, double share_b) {
    for (unsigned i = 0; i < 3; i++) pixel[i] = (uint8_t)(a->c[i] + share_b * (b->c[i] - a->c[i]) + 0.5);
}

static double clip01(double x) {
    return x < 0 ? 0 : x > 1 ? 1 : x;
}

/* From tint a to tint b along a direction, away from a point, or to and fro in stripes. */
static void ramp_draw(uint8_t *rgb, unsigned side, ground_kind kind, rng *r) {
    const tint a = tint_any(r), b = rng_chance(r, 0.5) ? tint_any(r) : tint_near(&a, 60, r);
    const double angle = rng_between(r, 0, 2 * PI), c = cos(angle), s = sin(angle), period = rng_between(r, 0.08, 0.35), soft = rng_between(r, 1.5, 12) * period;
    const double x_mid = rng_between(r, 0, 1), y_mid = rng_between(r, 0, 1), phase = rng_between(r, 0, 1);
    for (unsigned y = 0; y < side; y++)
        for (unsigned x = 0; x < side; x++) {
            const double u = (x + 0.5) / side, v = (y + 0.5) / side, along = c * (u - 0.5) + s * (v - 0.5);
            double t;
            if (kind == GROUND_LINEAR)
                t = along / 1.2 + 0.5;
            else if (kind == GROUND_RADIAL)
                t = hypot(u - x_mid, v - y_mid) / 1.1;
            else
                t = 0.5 + (fabs(fmod(along / period + phase + 64, 1) - 0.5) - 0.25) * (1 + soft * 4);
            put(rgb + 3 * ((size_t)y * side + x), &a, &b, clip01(t));
        }
}

/* A coarse grid of random tints, joined smoothly: clouds of one hue, or patches of many. */
static void grid_draw(uint8_t *rgb, unsigned side, double spread, rng *r) {
    tint grid[GRID_MAX + 1][GRID_MAX + 1];
    const unsigned cells = 2 + rng_below(r, GRID_MAX - 2);
    const tint base = tint_any(r);
    for (unsigned y = 0; y <= cells; y++)
        for (unsigned x = 0; x <= cells; x++) grid[y][x] = tint_near(&base, spread, r);
    for (unsigned y = 0; y < side; y++)
        for (unsigned x = 0; x < side; x++) {
            const double u = (x + 0.5) / side * cells, v = (y + 0.5) / side * cells;
            const unsigned i = (unsigned)u, j = (unsigned)v;
            const double fu = u - i, fv = v - j, su = fu * fu * (3 - 2 * fu), sv = fv * fv * (3 - 2 * fv);
            uint8_t *pixel = rgb + 3 * ((size_t)y * side + x);
            for (unsigned k = 0; k < 3; k++) {
                const double top = grid[j][i].c[k] + su * (grid[j][i + 1].c[k] - grid[j][i].c[k]);
                const double low = grid[j + 1][i].c[k] + su * (grid[j + 1][i + 1].c[k] - grid[j + 1][i].c[k]);
                pixel[k] = (uint8_t)(top + sv * (low - top) + 0.5);
            }
        }
}

void ground_draw(uint8_t *rgb, unsigned side, ground_kind kind, rng *r) {
    if (kind == GROUND_PLAIN) {
        const tint t = tint_any(r);
        for (size_t i = 0; i < (size_t)side * side; i++) put(rgb + 3 * i, &t, &t, 0);
    } else if (kind == GROUND_CLOUDS || kind == GROUND_PATCHES) {
        grid_draw(rgb, side, kind == GROUND_CLOUDS ? 40 : 130, r);
    } else {
        ramp_draw(rgb, side, kind, r);
    }
}
