#include "sprite.h"

#include <math.h>
#include <string.h>

#define PI 3.14159265358979323846

/* ---- The canvas ---- */

/* A canvas that holds width x height turned about its middle, with cr's origin there and a random fraction of a pixel beside. */
static cairo_t *canvas_open(sprite *s, double width, double height, double angle, rng *r) {
    const double c = fabs(cos(angle)), d = fabs(sin(angle));
    s->width = (int)ceil(c * width + d * height) + 3;
    s->height = (int)ceil(d * width + c * height) + 3;
    s->surface = cairo_image_surface_create(CAIRO_FORMAT_ARGB32, s->width, s->height);
    cairo_t *cr = cairo_create(s->surface);
    const double dx = rng_between(r, -0.5, 0.5), dy = rng_between(r, -0.5, 0.5);
    cairo_translate(cr, s->width * 0.5 + dx, s->height * 0.5 + dy);
    cairo_rotate(cr, angle);
    return cr;
}

static bool canvas_close(sprite *s, cairo_t *cr) {
    bool fine = cairo_status(cr) == CAIRO_STATUS_SUCCESS;
    cairo_destroy(cr);
    cairo_surface_flush(s->surface);
    s->data = cairo_image_surface_get_data(s->surface);
    if (!fine || !s->data) return false;
    s->stride = cairo_image_surface_get_stride(s->surface);
    s->n_alpha = 0;
    s->ink[0] = s->width;
    s->ink[1] = s->height;
    s->ink[2] = s->ink[3] = 0;
    for (int y = 0; y < s->height; y++)
        for (int x = 0; x < s->width; x++) {
            const uint8_t alpha = s->data[(ptrdiff_t)y * s->stride + 4 * x + 3];
            s->n_alpha += alpha;
            if (alpha < 128) continue;
            if (x < s->ink[0]) s->ink[0] = x;
            if (y < s->ink[1]) s->ink[1] = y;
            if (x >= s->ink[2]) s->ink[2] = x + 1;
            if (y >= s->ink[3]) s->ink[3] = y + 1;
        }
    return true;
}

/* ---- Colours ---- */

typedef struct shade {
    double r, g, b; /* 0 to 1 */
} shade;

static shade shade_near(const uint8_t rgb[3], double spread, rng *r) {
    double c[3];
    for (unsigned i = 0; i < 3; i++) c[i] = fmin(fmax(rgb[i] + rng_between(r, -spread, spread), 0), 255) / 255;
    return (shade){c[0], c[1], c[2]};
}

static double shade_light(const shade *s) {
    return 0.3 * s->r + 0.59 * s->g + 0.11 * s->b;
}

static double shade_distance(const shade *s, const uint8_t rgb[3]) {
    return fabs(s->r - rgb[0] / 255.0) + fabs(s->g - rgb[1] / 255.0) + fabs(s->b - rgb[2] / 255.0);
}

static void use(cairo_t *cr, shade s) {
    cairo_set_source_rgb(cr, s.r, s.g, s.b);
}

/* Dark for light ones and light for dark ones, with some colour in it. */
static shade shade_against(double light, rng *r) {
    const double base = light > 0.5 ? 0 : 0.78, at = base + rng_between(r, 0, 0.1);
    return (shade){at + rng_between(r, 0, 0.12), at + rng_between(r, 0, 0.12), at + rng_between(r, 0, 0.12)};
}

/* ---- Emoji ---- */

static bool emoji_draw(sprite *s, const atlas *a, const thing *what, const sprite_style *style, rng *r) {
    const atlas_picture *p = a->emoji[what->kind];
    const double longer = p->width > p->height ? p->width : p->height;
    unsigned level = 0;
    while (level + 1 < ATLAS_LEVELS && style->size_px * 1.4 < longer / (2 << level)) level++; /* bilinear sampling is good down to about a half */
    const double scale = style->size_px / longer, shrink = 1 << level;
    p += level;
    cairo_t *cr = canvas_open(s, scale * style->aspect * shrink * p->width, scale * shrink * p->height, style->angle, r);
    cairo_scale(cr, (style->mirrored ? -1 : 1) * scale * style->aspect * shrink, scale * shrink);
    /* A surface of its own each time: threads share the pixels, but cairo's surfaces do not like to be shared. */
    cairo_surface_t *image = cairo_image_surface_create_for_data(p->data, CAIRO_FORMAT_ARGB32, p->width, p->height, p->stride);
    cairo_set_source_surface(cr, image, -0.5 * p->width, -0.5 * p->height);
    cairo_pattern_set_filter(cairo_get_source(cr), CAIRO_FILTER_BILINEAR);
    cairo_paint(cr);
    cairo_surface_destroy(image);
    return canvas_close(s, cr);
}

/* ---- Shapes ---- */

static void star_path(cairo_t *cr) {
    for (unsigned i = 0; i < 10; i++) {
        const double radius = i % 2 ? 0.215 : 0.525, angle = -PI / 2 + i * PI / 5;
        cairo_line_to(cr, radius * cos(angle), radius * sin(angle) + 0.05);
    }
    cairo_close_path(cr);
}

static void heart_path(cairo_t *cr) {
    cairo_move_to(cr, 0, 0.48);
    cairo_curve_to(cr, -0.75, -0.02, -0.5, -0.46, -0.26, -0.46);
    cairo_curve_to(cr, -0.1, -0.46, 0, -0.34, 0, -0.24);
    cairo_curve_to(cr, 0, -0.34, 0.1, -0.46, 0.26, -0.46);
    cairo_curve_to(cr, 0.5, -0.46, 0.75, -0.02, 0, 0.48);
    cairo_close_path(cr);
}

static void cross_path(cairo_t *cr) {
    cairo_rectangle(cr, -0.16, -0.5, 0.32, 1);
    cairo_rectangle(cr, -0.5, -0.16, 0.34, 0.32);
    cairo_rectangle(cr, 0.16, -0.16, 0.34, 0.32);
}

/* In the order of names_shapes, about one unit wide and high. */
static void shape_path(cairo_t *cr, unsigned kind) {
    cairo_new_path(cr);
    switch (kind) {
    case 0: cairo_arc(cr, 0, 0, 0.5, 0, 2 * PI); break;
    case 1: cairo_rectangle(cr, -0.46, -0.46, 0.92, 0.92); break;
    case 2:
        cairo_move_to(cr, 0, -0.46);
        cairo_line_to(cr, 0.52, 0.44);
        cairo_line_to(cr, -0.52, 0.44);
        cairo_close_path(cr);
        break;
    case 3: star_path(cr); break;
    case 4: heart_path(cr); break;
    default: cross_path(cr); break;
    }
}

static bool shape_draw(sprite *s, const thing *what, const sprite_style *style, rng *r) {
    const shade fill = shade_near(names_colours[what->colour].rgb, 10, r);
    const bool outlined = rng_chance(r, 0.25) || shade_distance(&fill, style->under) < 0.55;
    const double size = style->size_px, line = fmax(1.5, 0.05 * size);
    cairo_t *cr = canvas_open(s, size * style->aspect + line, size + line, style->angle, r);
    if (outlined) { /* the outline first, twice as wide: half of it stays, and the joints of the cross do not show */
        cairo_save(cr);
        cairo_scale(cr, size * style->aspect, size);
        shape_path(cr, what->kind);
        cairo_restore(cr);
        use(cr, shade_against(shade_light(&fill) * 0.5 + (style->under[0] + style->under[1] + style->under[2]) / 1530.0, r));
        cairo_set_line_width(cr, line);
        cairo_stroke(cr);
    }
    cairo_scale(cr, size * style->aspect, size);
    shape_path(cr, what->kind);
    use(cr, fill);
    cairo_fill(cr);
    return canvas_close(s, cr);
}

/* ---- Words ---- */

static void word_path(cairo_t *cr, const atlas_font *font, const char *word, double size) {
    cairo_save(cr);
    cairo_scale(cr, size / ATLAS_LETTER_PX, size / ATLAS_LETTER_PX);
    for (const char *c = word; *c; c++) {
        cairo_append_path(cr, font->letter[*c - 'A']);
        cairo_translate(cr, font->advance[*c - 'A'] * ATLAS_LETTER_PX, 0);
    }
    cairo_restore(cr);
}

static double word_width(const atlas_font *font, const char *word) {
    double width = 0;
    for (const char *c = word; *c; c++) width += font->advance[*c - 'A'];
    return width;
}

/* Letters on a plate of their own, or straight on the ground with a thin rim of the opposite lightness. */
static bool word_draw(sprite *s, const atlas *a, const thing *what, const sprite_style *style, rng *r) {
    const atlas_font *font = &a->font[rng_below(r, ATLAS_FONTS)];
    const bool plate = rng_chance(r, 0.5);
    const double cap = style->size_px, size = cap / font->cap_height, width = word_width(font, what->word) * size;
    const double pad = plate ? cap * rng_between(r, 0.25, 0.45) : 2 + 0.22 * cap; /* the tail of the Q */
    cairo_t *cr = canvas_open(s, width + 2 * pad, cap + 2 * pad, style->angle, r);
    uint8_t ground[3];
    for (unsigned i = 0; i < 3; i++) ground[i] = plate ? (uint8_t)rng_below(r, 256) : style->under[i];
    const shade back = shade_near(ground, 0, r), ink = shade_against(shade_light(&back), r);
    if (plate) {
        use(cr, back);
        cairo_rectangle(cr, -width / 2 - pad, -cap / 2 - pad, width + 2 * pad, cap + 2 * pad);
        cairo_fill(cr);
    }
    cairo_translate(cr, -width / 2, cap / 2);
    cairo_new_path(cr);
    word_path(cr, font, what->word, size);
    if (!plate) {
        use(cr, shade_against(shade_light(&ink), r));
        cairo_set_line_width(cr, 2);
        cairo_set_line_join(cr, CAIRO_LINE_JOIN_ROUND);
        cairo_stroke_preserve(cr);
    }
    use(cr, ink);
    cairo_fill(cr);
    return canvas_close(s, cr);
}

bool sprite_draw(sprite *s, const atlas *a, const thing *what, const sprite_style *style, rng *r) {
    *s = (sprite){0};
    switch (what->class) {
    case THING_EMOJI: return emoji_draw(s, a, what, style, r);
    case THING_SHAPE: return shape_draw(s, what, style, r);
    default: return word_draw(s, a, what, style, r);
    }
}

void sprite_free(sprite *s) {
    if (s->surface) cairo_surface_destroy(s->surface);
    *s = (sprite){0};
}
