/* draw.c: what goes where: scale, colours, plates. draw_raster.c and draw_svg.c paint it. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/draw_plan.h"
#include "common/outfile.h"

#define FONT_SHARE 0.022  /* of the square root of the canvas' area */
#define FONT_MIN_PX 13.0
#define LINE_SHARE 0.11   /* of the font size */
#define LINE_MIN_PX 2.0
#define PLATE_MAX_SHARE 0.5 /* of the canvas' width */
#define MASK_TOLERANCE_PX 0.3
/* Where plates find no room, they are tried smaller. */
static const double font_scales[] = {1, 0.8, 0.64};

/* Okabe and Ito's colours for all kinds of colour vision, without black. A second and a third round of labels has them
 * with dashed lines. */
#define N_COLORS 7
#define N_STYLES 21
#define COLORS(on, off)                                                                                                         \
    {{0xd5, 0x5e, 0x00}, true, on, off}, {{0x56, 0xb4, 0xe9}, true, on, off}, {{0x00, 0x9e, 0x73}, true, on, off},              \
    {{0xf0, 0xe4, 0x42}, true, on, off}, {{0x00, 0x72, 0xb2}, false, on, off}, {{0xcc, 0x79, 0xa7}, true, on, off},             \
    {{0xe6, 0x9f, 0x00}, true, on, off}
static const draw_style styles[N_STYLES] = {COLORS(0, 0), COLORS(5, 2), COLORS(1.5, 1.5)};

draw_format draw_format_of(const char *path) {
    static const struct {
        const char *ending;
        draw_format format;
    } endings[] = {{".png", DRAW_PNG}, {".jpg", DRAW_JPEG}, {".jpeg", DRAW_JPEG}, {".svg", DRAW_SVG}};
    const char *dot = strrchr(path, '.');
    for (size_t i = 0; dot && i < sizeof endings / sizeof *endings; i++) {
        if (!strcasecmp(dot, endings[i].ending)) return endings[i].format;
    }
    return DRAW_NONE;
}

/* Means of factor x factor blocks. */
static uint8_t *reduce(const uint8_t *rgb, int32_t width, int32_t height, int32_t factor, int32_t out_w, int32_t out_h) {
    uint8_t *out = malloc((size_t)out_w * (size_t)out_h * 3);
    if (!out) return NULL;
    for (int32_t y = 0; y < out_h; y++) {
        for (int32_t x = 0; x < out_w; x++) {
            uint32_t sum[3] = {0}, n = 0;
            for (int32_t v = y * factor; v < (y + 1) * factor && v < height; v++) {
                for (int32_t u = x * factor; u < (x + 1) * factor && u < width; u++, n++) {
                    for (size_t k = 0; k < 3; k++) sum[k] += rgb[((size_t)v * (size_t)width + (size_t)u) * 3 + k];
                }
            }
            for (size_t k = 0; k < 3; k++) out[((size_t)y * (size_t)out_w + (size_t)x) * 3 + k] = (uint8_t)(sum[k] / n);
        }
    }
    return out;
}

draw *draw_new(const uint8_t *rgb, int32_t width, int32_t height) {
    draw *d = calloc(1, sizeof *d);
    if (!d) return NULL;
    int32_t shorter = width < height ? width : height, longer = width < height ? height : width;
    int32_t factor = (longer - 1) / DRAW_MAX_SIDE + 1;
    d->rgb = rgb;
    d->width = width;
    d->height = height;
    d->source_w = (width - 1) / factor + 1;
    d->source_h = (height - 1) / factor + 1;
    d->enlarge = (DRAW_MIN_SIDE - 1) / shorter + 1;
    while (d->enlarge > 1 && longer > DRAW_MAX_SIDE / 4 / d->enlarge) d->enlarge--; /* a strip would become a huge one */
    if (factor > 1) {
        d->rgb = d->reduced = reduce(rgb, width, height, factor, d->source_w, d->source_h);
        if (!d->reduced) {
            free(d);
            return NULL;
        }
    }
    d->canvas_w = d->source_w * d->enlarge;
    d->canvas_h = d->source_h * d->enlarge;
    d->font_px = fmax(FONT_MIN_PX, FONT_SHARE * sqrt((double)d->canvas_w * (double)d->canvas_h));
    d->line_px = fmax(LINE_MIN_PX, LINE_SHARE * d->font_px);
    d->casing_px = fmax(1, 0.3 * d->line_px);
    return d;
}

void draw_free(draw *d) {
    if (!d) return;
    for (size_t i = 0; i < d->n; i++) {
        outline_free(&d->items[i].mask);
        label_text_free(&d->items[i].text);
        free(d->items[i].label);
    }
    free(d->items);
    free(d->plates);
    free(d->reduced);
    free(d);
}

static double clamp(double v, double low, double high) {
    return v < low ? low : v > high ? high : v;
}

/* The box on the canvas, with room for its line; false: there is nothing to draw. */
static bool item_place(draw_item *item, const draw *d, const double box[4]) {
    for (size_t k = 0; k < 4; k++) {
        if (!isfinite(box[k])) return false;
    }
    if (box[2] < box[0] || box[3] < box[1] || box[2] < 0 || box[3] < 0 || box[0] > d->width || box[1] > d->height) return false;
    double sx = (double)d->canvas_w / d->width, sy = (double)d->canvas_h / d->height, room = d->line_px / 2 + d->casing_px;
    double right = fmax(room, d->canvas_w - room), bottom = fmax(room, d->canvas_h - room);
    item->box = (plate_box){clamp(box[0] * sx, room, right), clamp(box[1] * sy, room, bottom), clamp(box[2] * sx, room, right),
                            clamp(box[3] * sy, room, bottom)};
    bool flat_x = !(item->box.x1 > item->box.x0), flat_y = !(item->box.y1 > item->box.y0);
    item->shape = flat_x && flat_y ? SHAPE_POINT : flat_x || flat_y ? SHAPE_LINE : SHAPE_BOX;
    return true;
}

static bool item_outline(draw_item *item, const draw *d, const uint8_t *mask) {
    double sx = (double)d->canvas_w / d->width, sy = (double)d->canvas_h / d->height;
    if (!outline_trace(&item->mask, mask, d->width, d->height, MASK_TOLERANCE_PX / fmax(sx, sy))) return false;
    for (size_t i = 0; i < item->mask.n_points; i++) {
        item->mask.xy[2 * i] *= (float)sx;
        item->mask.xy[2 * i + 1] *= (float)sy;
    }
    return true;
}

bool draw_add(draw *d, const draw_object *object, fault *f) {
    draw_item item = {0};
    if (d->n >= DRAW_MAX_OBJECTS || !item_place(&item, d, object->box)) {
        d->n_left_out++;
        return true;
    }
    if (d->n == d->capacity) {
        size_t capacity = d->capacity ? d->capacity * 2 : 16;
        draw_item *grown = realloc(d->items, capacity * sizeof *grown);
        if (!grown) return fault_set(f, "drawing: out of memory");
        d->items = grown;
        d->capacity = capacity;
    }
    if (object->score >= 0) (void)snprintf(item.score, sizeof item.score, "%.2f", fmin(object->score, 1e6));
    item.label = label_clean(object->label ? object->label : "", object->label ? object->n_label_bytes : 0);
    if (!item.label || (object->mask && !item_outline(&item, d, object->mask))) {
        free(item.label);
        return fault_set(f, "drawing: out of memory");
    }
    d->items[d->n++] = item;
    return true;
}

/* FNV-1a */
static uint32_t hash(const char *text) {
    uint32_t h = 2166136261u;
    for (; *text; text++) h = (h ^ (uint8_t)*text) * 16777619u;
    return h;
}

/* A label's colour is the one its hash names. In a picture the first label to want a colour has it; another label that
 * wants it takes the next free one, then the dashed ones. */
static void choose_styles(draw *d) {
    const char *owners[N_STYLES] = {NULL};
    for (size_t i = 0; i < d->n; i++) {
        const char *label = d->items[i].label;
        size_t wanted = hash(label) % N_COLORS, found = N_STYLES, free_style = N_STYLES;
        for (size_t k = 0; k < N_STYLES && found == N_STYLES; k++) {
            size_t style = k / N_COLORS * N_COLORS + (wanted + k) % N_COLORS;
            if (owners[style] && !strcmp(owners[style], label)) found = style;
            if (!owners[style] && free_style == N_STYLES) free_style = style;
        }
        if (found == N_STYLES) found = free_style < N_STYLES ? free_style : hash(label) % N_STYLES;
        if (!owners[found]) owners[found] = label;
        d->items[i].style = &styles[found];
    }
}

/* Lays out every label at one size and places the plates; returns how many there is no room for. */
static size_t place_labels(draw *d, const label_fonts *fonts, double font_px) {
    size_t n_wanted = 0;
    for (size_t i = 0; i < d->n; i++) {
        draw_item *item = &d->items[i];
        label_text_free(&item->text);
        d->plates[i] = (plate){0};
        if (i >= DRAW_MAX_LABELS || (!item->label[0] && !item->score[0])) continue;
        label_text_make(&item->text, fonts, item->label, item->score, font_px,
                        fmin(d->canvas_w, fmax(PLATE_MAX_SHARE * d->canvas_w, 8 * font_px)));
        d->plates[i].w = item->text.w;
        d->plates[i].h = item->text.h;
        n_wanted++;
    }
    plate_box *boxes = malloc((d->n ? d->n : 1) * sizeof *boxes);
    if (!boxes) return n_wanted;
    for (size_t i = 0; i < d->n; i++) boxes[i] = d->items[i].box;
    size_t n_placed = plates_place(d->plates, boxes, d->n, d->canvas_w, d->canvas_h);
    free(boxes);
    return n_wanted - n_placed;
}

bool draw_encode(draw *d, draw_format format, encoded *out, draw_notes *notes, fault *f) {
    draw_notes said = {.n_objects_left_out = d->n_left_out};
    free(d->plates);
    d->plates = calloc(d->n ? d->n : 1, sizeof *d->plates);
    if (!d->plates) return fault_set(f, "drawing: out of memory");
    choose_styles(d);
    label_fonts fonts;
    said.no_font = !label_fonts_open(&fonts);
    if (said.no_font) {
        for (size_t i = 0; i < d->n; i++) said.n_labels_left_out += d->items[i].label[0] || d->items[i].score[0];
    }
    for (size_t k = 0; !said.no_font && k < sizeof font_scales / sizeof *font_scales; k++) {
        said.n_labels_left_out = place_labels(d, &fonts, d->font_px * font_scales[k]);
        if (!said.n_labels_left_out) break;
    }
    for (size_t i = 0; i < d->n; i++) said.n_labels_unknown += d->items[i].text.has_unknown_glyphs;
    bool ok = format == DRAW_SVG ? draw_paint_svg(d, out, f) : draw_paint_raster(d, format, out, f);
    for (size_t i = 0; i < d->n; i++) label_text_free(&d->items[i].text); /* before their fonts */
    label_fonts_close(&fonts);
    if (notes) *notes = said;
    return ok;
}

bool draw_write(draw *d, const char *path, draw_notes *notes, fault *f) {
    encoded file;
    draw_format format = draw_format_of(path);
    if (format == DRAW_NONE) return fault_set(f, "%s: a name ending in .png, .jpg or .svg expected", path);
    if (!draw_encode(d, format, &file, notes, f)) return false;
    bool ok = outfile_write(path, &(outfile_piece){file.data, file.n_bytes}, 1, f);
    free(file.data);
    return ok;
}

leader draw_leader(const plate *p, const plate_box *b) {
    leader l;
    l.x1 = clamp(p->x + p->w / 2, b->x0, b->x1);
    l.y1 = clamp(p->y + p->h / 2, b->y0, b->y1);
    l.x0 = clamp(l.x1, p->x, p->x + p->w);
    l.y0 = clamp(l.y1, p->y, p->y + p->h);
    return l;
}
