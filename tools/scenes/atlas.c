#include "atlas.h"

#include <pango/pangocairo.h>
#include <stdlib.h>
#include <string.h>

#define EMOJI_FAMILY "Noto Color Emoji"
#define EMOJI_PX 109 /* the size of its bitmaps: pixels as they are in the font */
#define CANVAS_PX 320
#define ORIGIN_PX 64

/* ---- Emoji ---- */

static unsigned utf8(char out[8], uint32_t c) {
    static const char k_as_picture[] = "\xef\xb8\x8f"; /* U+FE0F: not the black and white text form */
    unsigned n = 0;
    if (c < 0x10000) {
        out[n++] = (char)(0xe0 | c >> 12);
    } else {
        out[n++] = (char)(0xf0 | c >> 18);
        out[n++] = (char)(0x80 | (c >> 12 & 63));
    }
    out[n++] = (char)(0x80 | (c >> 6 & 63));
    out[n++] = (char)(0x80 | (c & 63));
    memcpy(out + n, k_as_picture, sizeof k_as_picture);
    return n;
}

static bool row_inked(const uint8_t *row, int width) {
    for (int x = 0; x < width; x++)
        if (row[4 * x + 3]) return true;
    return false;
}

static bool column_inked(const uint8_t *data, int stride, int x, int top, int bottom) {
    for (int y = top; y < bottom; y++)
        if (data[(ptrdiff_t)y * stride + 4 * x + 3]) return true;
    return false;
}

/* Little-endian ARGB32: the alpha is the fourth byte. The canvas has some ink. */
static bool picture_crop(atlas_picture *p, cairo_surface_t *canvas) {
    const uint8_t *data = cairo_image_surface_get_data(canvas);
    const int stride = cairo_image_surface_get_stride(canvas);
    int x0 = 0, y0 = 0, x1 = CANVAS_PX, y1 = CANVAS_PX;
    while (y0 < y1 && !row_inked(data + (ptrdiff_t)y0 * stride, CANVAS_PX)) y0++;
    while (y1 > y0 && !row_inked(data + (ptrdiff_t)(y1 - 1) * stride, CANVAS_PX)) y1--;
    while (x0 < x1 && !column_inked(data, stride, x0, y0, y1)) x0++;
    while (x1 > x0 && !column_inked(data, stride, x1 - 1, y0, y1)) x1--;
    *p = (atlas_picture){.width = x1 - x0, .height = y1 - y0, .stride = 4 * (x1 - x0)};
    if (p->width < 8 || p->height < 8) return false; /* nothing, or the box of a missing glyph at best */
    p->data = malloc((size_t)p->stride * (size_t)p->height);
    for (int y = 0; p->data && y < p->height; y++)
        memcpy(p->data + (ptrdiff_t)y * p->stride, data + (ptrdiff_t)(y0 + y) * stride + 4 * x0, (size_t)p->stride);
    return p->data != NULL;
}

/* Averages two by two; what is beyond an odd side counts as empty, so that edges stay where they are. */
static bool picture_halve(atlas_picture *out, const atlas_picture *in) {
    *out = (atlas_picture){.width = (in->width + 1) / 2, .height = (in->height + 1) / 2, .stride = 4 * ((in->width + 1) / 2)};
    out->data = malloc((size_t)out->stride * (size_t)out->height);
    if (!out->data) return false;
    for (int y = 0; y < out->height; y++)
        for (int x = 0; x < 4 * out->width; x++) {
            unsigned sum = 0;
            for (int i = 0; i < 4; i++) {
                const int sx = 2 * (x / 4) + i % 2, sy = 2 * y + i / 2;
                if (sx < in->width && sy < in->height) sum += in->data[(ptrdiff_t)sy * in->stride + 4 * sx + x % 4];
            }
            out->data[(ptrdiff_t)y * out->stride + x] = (uint8_t)((sum + 2) / 4);
        }
    return true;
}

/* Whether the font that pango took is the one meant: it always takes some. */
static bool layout_font_is(PangoLayout *layout, const char *family) {
    PangoLayoutIter *iter = pango_layout_get_iter(layout);
    const PangoLayoutRun *run = pango_layout_iter_get_run_readonly(iter);
    bool fine = false;
    if (run) {
        PangoFontDescription *taken = pango_font_describe(run->item->analysis.font);
        fine = !strcmp(pango_font_description_get_family(taken), family);
        pango_font_description_free(taken);
    }
    pango_layout_iter_free(iter);
    return fine;
}

static bool emoji_make(atlas_picture levels[ATLAS_LEVELS], uint32_t code_point, const PangoFontDescription *font) {
    cairo_surface_t *canvas = cairo_image_surface_create(CAIRO_FORMAT_ARGB32, CANVAS_PX, CANVAS_PX);
    cairo_t *cr = cairo_create(canvas);
    PangoLayout *layout = pango_cairo_create_layout(cr);
    char text[8];
    (void)utf8(text, code_point);
    pango_layout_set_font_description(layout, font);
    pango_layout_set_text(layout, text, -1);
    cairo_move_to(cr, ORIGIN_PX, ORIGIN_PX);
    bool fine = layout_font_is(layout, EMOJI_FAMILY);
    pango_cairo_show_layout(cr, layout);
    cairo_surface_flush(canvas);
    fine = fine && cairo_status(cr) == CAIRO_STATUS_SUCCESS && picture_crop(&levels[0], canvas);
    for (unsigned i = 1; i < ATLAS_LEVELS && fine; i++) fine = picture_halve(&levels[i], &levels[i - 1]);
    g_object_unref(layout);
    cairo_destroy(cr);
    cairo_surface_destroy(canvas);
    return fine;
}

/* ---- Letters ---- */

static bool font_make(atlas_font *out, cairo_t *cr, unsigned which) {
    static const struct {
        const char *family;
        cairo_font_weight_t weight;
    } k_fonts[ATLAS_FONTS] = {{"DejaVu Sans", CAIRO_FONT_WEIGHT_NORMAL},      {"DejaVu Sans", CAIRO_FONT_WEIGHT_BOLD},  {"DejaVu Serif", CAIRO_FONT_WEIGHT_NORMAL},
                              {"DejaVu Serif", CAIRO_FONT_WEIGHT_BOLD}, {"DejaVu Sans Mono", CAIRO_FONT_WEIGHT_NORMAL}, {"DejaVu Sans Mono", CAIRO_FONT_WEIGHT_BOLD}};
    cairo_text_extents_t e;
    cairo_select_font_face(cr, k_fonts[which].family, CAIRO_FONT_SLANT_NORMAL, k_fonts[which].weight);
    cairo_set_font_size(cr, ATLAS_LETTER_PX);
    cairo_text_extents(cr, "H", &e);
    out->cap_height = e.height / ATLAS_LETTER_PX;
    for (unsigned i = 0; i < 26; i++) {
        const char text[2] = {(char)('A' + i), 0};
        cairo_text_extents(cr, text, &e);
        out->advance[i] = e.x_advance / ATLAS_LETTER_PX;
        cairo_new_path(cr);
        cairo_move_to(cr, 0, 0);
        cairo_text_path(cr, text);
        out->letter[i] = cairo_copy_path(cr);
        if (out->letter[i]->status != CAIRO_STATUS_SUCCESS || out->advance[i] <= 0) return false;
    }
    return out->cap_height > 0;
}

bool atlas_make(atlas *a, fault *f) {
    *a = (atlas){0};
    PangoFontDescription *font = pango_font_description_from_string(EMOJI_FAMILY);
    pango_font_description_set_absolute_size(font, EMOJI_PX * PANGO_SCALE);
    unsigned i = 0;
    while (i < NAMES_KINDS + NAMES_NOVEL_KINDS && emoji_make(a->emoji[i], names_kinds[i].code_point, font)) i++;
    pango_font_description_free(font);
    if (i < NAMES_KINDS + NAMES_NOVEL_KINDS)
        return fault_set(f, "no picture of \"%s\": expected the font %s (Debian: fonts-noto-color-emoji)", names_kinds[i].name[NAMES_EN], EMOJI_FAMILY);
    cairo_surface_t *canvas = cairo_image_surface_create(CAIRO_FORMAT_A8, 8, 8);
    cairo_t *cr = cairo_create(canvas);
    bool fine = true;
    for (i = 0; i < ATLAS_FONTS && fine; i++) fine = font_make(&a->font[i], cr, i);
    cairo_destroy(cr);
    cairo_surface_destroy(canvas);
    return fine || fault_set(f, "no outlines of letters: expected a scalable font (Debian: fonts-dejavu-core)");
}

void atlas_free(atlas *a) {
    for (unsigned i = 0; i < NAMES_KINDS + NAMES_NOVEL_KINDS; i++)
        for (unsigned l = 0; l < ATLAS_LEVELS; l++) free(a->emoji[i][l].data);
    for (unsigned i = 0; i < ATLAS_FONTS; i++)
        for (unsigned l = 0; l < 26; l++)
            if (a->font[i].letter[l]) cairo_path_destroy(a->font[i].letter[l]);
    *a = (atlas){0};
}
