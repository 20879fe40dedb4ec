#include "common/label.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <fontconfig/fontconfig.h>

#define ELLIPSIS "\xe2\x80\xa6"

/* What a character of a label becomes; 0: nothing. */
static gunichar clean_character(gunichar ch) {
    switch (g_unichar_type(ch)) {
    case G_UNICODE_CONTROL:
    case G_UNICODE_LINE_SEPARATOR:
    case G_UNICODE_PARAGRAPH_SEPARATOR:
    case G_UNICODE_SPACE_SEPARATOR: return ' ';
    case G_UNICODE_SURROGATE:
    case G_UNICODE_UNASSIGNED: return (ch & 0xfffe) == 0xfffe || g_unichar_type(ch) == G_UNICODE_SURROGATE ? 0xfffd : ch; /* no XML */
    case G_UNICODE_FORMAT: return ch == 0x200c || ch == 0x200d ? ch : 0; /* the joiners make emoji and Indic words */
    default: return ch;
    }
}

char *label_clean(const char *bytes, size_t n_bytes) {
    if (n_bytes > LABEL_MAX_CHARACTERS * 16) n_bytes = LABEL_MAX_CHARACTERS * 16;
    char *valid = g_utf8_make_valid(bytes, (gssize)n_bytes);
    char *out = malloc(LABEL_MAX_CHARACTERS * 6 + sizeof ELLIPSIS);
    if (!out) {
        g_free(valid);
        return NULL;
    }
    size_t n = 0, n_characters = 0;
    const char *p = valid;
    for (; *p && n_characters < LABEL_MAX_CHARACTERS; p += g_utf8_skip[(guchar)*p]) {
        gunichar ch = clean_character(g_utf8_get_char(p));
        if (!ch || (ch == ' ' && (!n || out[n - 1] == ' '))) continue;
        n += (size_t)g_unichar_to_utf8(ch, out + n);
        n_characters++;
    }
    if (*p) {
        memcpy(out + n, ELLIPSIS, sizeof ELLIPSIS - 1);
        n += sizeof ELLIPSIS - 1;
    }
    while (n && out[n - 1] == ' ') n--;
    out[n] = 0;
    g_free(valid);
    return out;
}

/* Pango's own complaint about a missing font ends the program. */
static bool any_font_installed(void) {
    FcPattern *all = FcPatternCreate();
    FcObjectSet *family = FcObjectSetBuild(FC_FAMILY, (char *)NULL);
    FcFontSet *found = all && family ? FcFontList(NULL, all, family) : NULL;
    bool any = found && found->nfont > 0;
    if (found) FcFontSetDestroy(found);
    if (family) FcObjectSetDestroy(family);
    if (all) FcPatternDestroy(all);
    return any;
}

/* Pango and GLib would print. */
static void swallow_message(const char *domain, GLogLevelFlags level, const char *message, void *user) {
    (void)domain;
    (void)level;
    (void)message;
    (void)user;
}

bool label_fonts_open(label_fonts *fonts) {
    *fonts = (label_fonts){NULL};
    if (!any_font_installed()) return false;
    static gsize silenced;
    if (g_once_init_enter(&silenced)) {
        (void)g_log_set_handler("Pango", G_LOG_LEVEL_WARNING | G_LOG_LEVEL_MESSAGE | G_LOG_LEVEL_INFO, swallow_message, NULL);
        g_once_init_leave(&silenced, 1);
    }
    fonts->context = pango_font_map_create_context(pango_cairo_font_map_get_default()); /* one for each thread */
    cairo_font_options_t *options = cairo_font_options_create();
    cairo_font_options_set_antialias(options, CAIRO_ANTIALIAS_GRAY);
    cairo_font_options_set_hint_style(options, CAIRO_HINT_STYLE_NONE);
    cairo_font_options_set_hint_metrics(options, CAIRO_HINT_METRICS_OFF);
    pango_cairo_context_set_font_options(fonts->context, options);
    cairo_font_options_destroy(options);
    return true;
}

void label_fonts_close(label_fonts *fonts) {
    g_clear_object(&fonts->context);
}

static PangoLayout *layout_make(const label_fonts *fonts, const char *text, double font_px) {
    PangoLayout *layout = pango_layout_new(fonts->context);
    PangoFontDescription *font = pango_font_description_from_string("Sans Semi-Bold");
    pango_font_description_set_absolute_size(font, font_px * PANGO_SCALE);
    pango_layout_set_font_description(layout, font);
    pango_font_description_free(font);
    pango_layout_set_text(layout, text, -1);
    return layout;
}

typedef struct extent {
    double w, above, below; /* above and below the first line's baseline */
} extent;

static extent layout_extent(PangoLayout *layout) {
    int w, h, baseline = pango_layout_get_baseline(layout);
    pango_layout_get_size(layout, &w, &h);
    return (extent){(double)w / PANGO_SCALE, (double)baseline / PANGO_SCALE, (double)(h - baseline) / PANGO_SCALE};
}

/* Breaks the label into lines of at most `room` and makes it as wide as the widest of them: they may be shorter than the
 * room, and a right-to-left line begins at its far side. */
static void wrap(PangoLayout *layout, double room) {
    PangoRectangle used;
    pango_layout_set_width(layout, (int)(fmax(room, 1) * PANGO_SCALE));
    pango_layout_set_wrap(layout, PANGO_WRAP_WORD_CHAR);
    pango_layout_set_ellipsize(layout, PANGO_ELLIPSIZE_END);
    pango_layout_set_height(layout, -LABEL_MAX_LINES);
    pango_layout_get_extents(layout, NULL, &used);
    pango_layout_set_width(layout, used.width + PANGO_SCALE); /* a pixel more, lest rounding breaks a line again */
}

void label_text_make(label_text *t, const label_fonts *fonts, const char *label, const char *score, double font_px, double max_w) {
    double pad_x = 0.35 * font_px, pad_y = 0.12 * font_px, gap = 0.45 * font_px;
    extent of_label = {0}, of_score = {0};
    *t = (label_text){.font_px = font_px};
    if (*score) {
        t->score = layout_make(fonts, score, font_px);
        of_score = layout_extent(t->score);
        double room = max_w - 2 * pad_x - of_score.w;
        if (room < 0 || (*label && room - gap < 3 * font_px)) {
            g_clear_object(&t->score);
            of_score = (extent){0};
        }
    }
    if (*label) {
        double room = max_w - 2 * pad_x - (t->score ? of_score.w + gap : 0);
        t->label = layout_make(fonts, label, font_px);
        if (layout_extent(t->label).w > room) wrap(t->label, room);
        of_label = layout_extent(t->label);
        if (pango_layout_get_width(t->label) >= 0) of_label.w = (double)pango_layout_get_width(t->label) / PANGO_SCALE;
        t->has_unknown_glyphs = pango_layout_get_unknown_glyphs_count(t->label) > 0;
    }
    if (!t->label && !t->score) return;
    double above = fmax(of_label.above, of_score.above);
    t->w = 2 * pad_x + of_label.w + of_score.w + (t->label && t->score ? gap : 0);
    t->h = 2 * pad_y + above + fmax(of_label.below, of_score.below);
    t->label_x = pad_x;
    t->label_y = pad_y + above - of_label.above;
    t->score_x = t->w - pad_x - of_score.w;
    t->score_y = pad_y + above - of_score.above;
}

void label_text_free(label_text *t) {
    g_clear_object(&t->label);
    g_clear_object(&t->score);
}
