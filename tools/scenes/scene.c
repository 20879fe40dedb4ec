#include "scene.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ground.h"
#include "sprite.h"

#define PLACE_TRIES 24
#define SIZE_TRIES 5
#define WORD_VISIBLE 0.97 /* letters must not be hidden */

/* ---- Placing ---- */

/* A sprite in its place. */
typedef struct placed {
    sprite sprite;
    thing what;
    int x, y;
} placed;

/* What can be seen of it. */
typedef struct seen {
    unsigned box[4]; /* as in scene_object */
    uint64_t n_alpha;
} seen;

static unsigned alpha_at(const placed *p, int x, int y) {
    x -= p->x;
    y -= p->y;
    return x < 0 || y < 0 || x >= p->sprite.width || y >= p->sprite.height ? 0 : p->sprite.data[(ptrdiff_t)y * p->sprite.stride + 4 * x + 3];
}

/* Object i below those behind it in the list; mask may be NULL. The box is empty if nothing can be seen. */
static seen look(const placed *list, unsigned n, unsigned i, unsigned side, uint8_t *mask) {
    const placed *p = &list[i];
    const int x_end = p->x + p->sprite.width < (int)side ? p->x + p->sprite.width : (int)side, y_end = p->y + p->sprite.height < (int)side ? p->y + p->sprite.height : (int)side;
    seen out = {.box = {side, side, 0, 0}};
    for (int y = p->y > 0 ? p->y : 0; y < y_end; y++)
        for (int x = p->x > 0 ? p->x : 0; x < x_end; x++) {
            unsigned alpha = alpha_at(p, x, y);
            if (!alpha) continue;
            for (unsigned j = i + 1; j < n; j++) alpha = (alpha * (255 - alpha_at(&list[j], x, y)) + 127) / 255;
            out.n_alpha += alpha;
            if (alpha < 128) continue;
            if (mask) mask[(size_t)y * side + (size_t)x] = 255;
            if ((unsigned)x < out.box[0]) out.box[0] = (unsigned)x;
            if ((unsigned)y < out.box[1]) out.box[1] = (unsigned)y;
            if ((unsigned)x >= out.box[2]) out.box[2] = (unsigned)x + 1;
            if ((unsigned)y >= out.box[3]) out.box[3] = (unsigned)y + 1;
        }
    return out;
}

/* Whether all can be seen well enough and stand apart. */
static bool arrangement_good(const placed *list, unsigned n, unsigned side) {
    double middle[SCENE_OBJECTS];
    for (unsigned i = 0; i < n; i++) {
        const seen s = look(list, n, i, side, NULL);
        const double least = list[i].what.class == THING_WORD ? WORD_VISIBLE : SCENE_VISIBLE;
        if ((double)s.n_alpha < least * (double)list[i].sprite.n_alpha || s.box[0] >= s.box[2]) return false;
        middle[i] = (s.box[0] + s.box[2]) * 0.5;
        for (unsigned j = 0; j < i; j++)
            if (fabs(middle[i] - middle[j]) < SCENE_APART * side) return false;
    }
    return true;
}

/* Finds a place for list[n]; it is fully inside, or at times a little out. */
static bool place(placed *list, unsigned n, const scene_rules *rules, rng *r) {
    placed *p = &list[n];
    const bool out = rules->level >= 3 && p->what.class != THING_WORD && rng_chance(r, 0.15);
    const int *ink = p->sprite.ink;
    const int over_x = out ? (ink[2] - ink[0]) / 8 : 0, over_y = out ? (ink[3] - ink[1]) / 8 : 0;
    const int room_x = (int)rules->side + 2 * over_x - (ink[2] - ink[0]), room_y = (int)rules->side + 2 * over_y - (ink[3] - ink[1]);
    if (room_x < 0 || room_y < 0) return false;
    for (unsigned i = 0; i < PLACE_TRIES; i++) {
        p->x = (int)rng_below(r, (unsigned)room_x + 1) - over_x - ink[0];
        p->y = (int)rng_below(r, (unsigned)room_y + 1) - over_y - ink[1];
        if (arrangement_good(list, n + 1, rules->side)) return true;
    }
    return false;
}

/* ---- Choosing ---- */

/* On levels 1 and 2 never words from the list: guessing a common one would be easier than reading. */
static void word_choose(char out[NAMES_WORD_LETTERS + 1], const scene_rules *rules, rng *r) {
    if (rules->level > 2 && rng_chance(r, 0.5)) {
        const char *word = names_words[rng_below(r, (unsigned)names_n_words)];
        memcpy(out, word, strlen(word) + 1);
        return;
    }
    const unsigned n = rules->level == 1 ? 1 + rng_below(r, 3) : 2 + rng_below(r, NAMES_WORD_LETTERS - 1);
    for (unsigned i = 0; i < n; i++) out[i] = (char)('A' + rng_below(r, 26));
    out[n] = 0;
}

/* The next thing of a scene; words come last, so that they lie on top. */
static thing thing_choose(const thing *before, unsigned n, bool word, const scene_rules *rules, rng *r) {
    thing t = {.class = THING_WORD};
    if (word) {
        word_choose(t.word, rules, r);
        return t;
    }
    if (n > 0 && rng_chance(r, 0.15)) { /* the same again, or the same shape in another colour */
        t = before[rng_below(r, n)];
        if (t.class == THING_SHAPE && rng_chance(r, 0.5)) t.colour = rng_below(r, NAMES_COLOURS);
        return t;
    }
    t.class = rng_chance(r, rules->level == 1 ? 0.75 : 0.3) ? THING_SHAPE : THING_EMOJI; /* forms are learned later than colours */
    if (t.class == THING_SHAPE) {
        t.kind = rng_below(r, NAMES_SHAPES);
        t.colour = rng_below(r, NAMES_COLOURS);
    } else {
        t.kind = rules->first_kind + rng_below(r, rules->n_kinds);
    }
    return t;
}

static unsigned things_choose(thing out[SCENE_OBJECTS], const scene_rules *rules, rng *r) {
    static const double k_share[SCENE_LEVELS][SCENE_OBJECTS] = {{1}, {0.5, 0.5}, {0.3, 0.4, 0.3}, {0.18, 0.3, 0.3, 0.22}};
    double left = rng_between(r, 0, 1);
    unsigned n = 0;
    while (n + 1 < SCENE_OBJECTS && left >= k_share[rules->level - 1][n]) left -= k_share[rules->level - 1][n++];
    n++;
    const double words = rules->words >= 0 ? rules->words : rules->level == 1 ? 0.5 : 0.18; /* reading is learned from large words first */
    unsigned n_words = 0;
    for (unsigned i = 0; i < n; i++) n_words += rng_chance(r, words);
    if (n_words > 1) n_words = rules->level == SCENE_LEVELS && n > 2 && rng_chance(r, 0.3) ? 2 : 1;
    for (unsigned i = 0; i < n; i++) out[i] = thing_choose(out, i, i >= n - n_words, rules, r);
    return n;
}

static sprite_style style_choose(const thing *what, unsigned n, const uint8_t under[3], const scene_rules *rules, rng *r) {
    static const double k_largest[SCENE_OBJECTS] = {0.75, 0.6, 0.5, 0.42};
    const double side = rules->side, least = rules->level == 1 ? 0.45 : rules->level == 2 ? 0.3 : 0.22;
    sprite_style s = {.aspect = 1, .under = {under[0], under[1], under[2]}};
    if (what->class == THING_WORD) {
        const double letters = (double)strlen(what->word), widest = n == 1 ? 0.85 : n == 2 ? 0.6 : 0.45; /* a letter is about as wide as high */
        const double highest = rules->level == 1 ? 64.0 / 128 : rules->level == 2 ? 40.0 / 128 : 26.0 / 128;
        s.size_px = side * rng_between(r, 11.0 / 128, fmax(12.0 / 128, fmin(highest, widest / letters)));
        s.angle = rng_between(r, -0.15, 0.15);
    } else {
        s.size_px = side * rng_between(r, least, k_largest[n - 1]);
        s.aspect = rules->level >= 3 ? rng_between(r, 0.92, 1.08) : 1;
        s.angle = rng_between(r, -25, 25) * 3.14159265358979323846 / 180;
        s.mirrored = rules->level >= 2 && rng_chance(r, 0.5);
    }
    if (rules->level == 1) s.angle *= 0.3;
    return s;
}

/* ---- The picture ---- */

static void ground_mean(uint8_t out[3], const uint8_t *rgb, size_t n_pixels) {
    uint64_t sum[3] = {0};
    for (size_t i = 0; i < 3 * n_pixels; i++) sum[i % 3] += rgb[i];
    for (unsigned i = 0; i < 3; i++) out[i] = (uint8_t)(sum[i] / n_pixels);
}

static void sprite_blend(uint8_t *rgb, unsigned side, const placed *p) {
    for (int y = 0; y < p->sprite.height; y++)
        for (int x = 0; x < p->sprite.width; x++) {
            const int px = p->x + x, py = p->y + y;
            if (px < 0 || py < 0 || px >= (int)side || py >= (int)side) continue;
            const uint8_t *from = p->sprite.data + (ptrdiff_t)y * p->sprite.stride + 4 * x; /* blue first */
            uint8_t *to = rgb + 3 * ((size_t)py * side + (size_t)px);
            for (unsigned i = 0; i < 3; i++) {
                const unsigned v = from[2 - i] + (to[i] * (255u - from[3]) + 127) / 255;
                to[i] = (uint8_t)(v > 255 ? 255 : v);
            }
        }
}

/* Light that is a little off, and the noise of a sensor: the sum of four bytes is nearly normal. */
static void camera(uint8_t *rgb, size_t n_bytes, const scene_rules *rules, rng *r) {
    const double gain = rules->level >= 3 ? rng_between(r, 0.85, 1.1) : 1, sigma = rules->level >= 2 && rng_chance(r, 0.6) ? rng_between(r, 0, 9) : 0;
    const int32_t gain_q = (int32_t)lround(gain * 65536), noise_q = (int32_t)lround(sigma / 147.8 * 65536); /* 147.8: the sum's deviation */
    if (gain_q == 65536 && noise_q == 0) return;
    uint64_t bits = 0;
    for (size_t i = 0; i < n_bytes; i++) {
        bits = i % 2 ? bits >> 32 : rng_next(r);
        const int32_t sum = (int32_t)((bits & 255) + (bits >> 8 & 255) + (bits >> 16 & 255) + (bits >> 24 & 255)) - 510;
        const int32_t v = (rgb[i] * gain_q + sum * noise_q + 32768) / 65536;
        rgb[i] = (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
    }
}

/* ---- The whole ---- */

unsigned scene_snap(unsigned at, unsigned side) {
    const unsigned step = (unsigned)(((uint64_t)at * (1024 / SCENE_LOC_STEP) * 2 + side) / (2 * (uint64_t)side)), loc = step * SCENE_LOC_STEP;
    return loc >= 1024 ? 1023 : loc;
}

static bool object_fill(scene_object *o, const placed *list, unsigned n, unsigned i, unsigned side) {
    o->what = list[i].what;
    o->mask = calloc((size_t)side * side, 1);
    if (!o->mask) return false;
    const seen s = look(list, n, i, side, o->mask);
    memcpy(o->box, s.box, sizeof o->box);
    for (unsigned k = 0; k < 4; k++) o->loc[k] = scene_snap(o->box[k ^ 1u], side); /* y before x */
    return true;
}

static int by_middle(const void *a, const void *b) {
    const scene_object *p = a, *q = b;
    return (int)(p->box[0] + p->box[2]) - (int)(q->box[0] + q->box[2]);
}

/* Draws and places what fits; a thing that finds no place is tried in other sizes and then left out. */
static bool objects_place(placed *list, unsigned *n, const uint8_t under[3], const scene_rules *rules, rng *r) {
    thing things[SCENE_OBJECTS] = {0};
    const unsigned n_things = things_choose(things, rules, r);
    for (unsigned i = 0; i < n_things; i++)
        for (unsigned k = 0; k < SIZE_TRIES; k++) {
            const sprite_style style = style_choose(&things[i], n_things, under, rules, r);
            placed *p = &list[*n];
            *p = (placed){.what = things[i]};
            if (!sprite_draw(&p->sprite, rules->atlas, &things[i], &style, r)) return false;
            if (place(list, *n, rules, r)) {
                ++*n;
                break;
            }
            sprite_free(&p->sprite);
        }
    return true;
}

bool scene_make(scene *s, const scene_rules *rules, rng *r) {
    const size_t n_pixels = (size_t)rules->side * rules->side;
    *s = (scene){.side = rules->side, .rgb = malloc(3 * n_pixels)};
    if (!s->rgb) return false;
    placed list[SCENE_OBJECTS + 1] = {0};
    uint8_t under[3];
    ground_draw(s->rgb, s->side, rules->level == 1 ? GROUND_PLAIN : rules->level == 2 ? (ground_kind)rng_below(r, 3) : (ground_kind)rng_below(r, GROUND_KINDS), r);
    ground_mean(under, s->rgb, n_pixels);
    bool fine = true;
    while (fine && s->n == 0) fine = objects_place(list, &s->n, under, rules, r);
    for (unsigned i = 0; i < s->n && fine; i++) {
        sprite_blend(s->rgb, s->side, &list[i]);
        fine = object_fill(&s->object[i], list, s->n, i, s->side);
    }
    for (unsigned i = 0; i < SCENE_OBJECTS + 1; i++) sprite_free(&list[i].sprite);
    if (!fine) return false;
    qsort(s->object, s->n, sizeof *s->object, by_middle);
    camera(s->rgb, 3 * n_pixels, rules, r);
    return true;
}

void scene_free(scene *s) {
    for (unsigned i = 0; i < SCENE_OBJECTS; i++) free(s->object[i].mask);
    free(s->rgb);
    *s = (scene){0};
}

unsigned scene_count(const scene *s, const thing *what, unsigned *at) {
    unsigned n = 0;
    for (unsigned i = 0; i < s->n; i++)
        if (thing_same(&s->object[i].what, what)) {
            n++;
            if (at) *at = i;
        }
    return n;
}
