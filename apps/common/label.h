/* label.h: the text of a plate, in any script: made harmless, measured, wrapped. */
#ifndef PALI_COMMON_LABEL_H
#define PALI_COMMON_LABEL_H

#include <stdbool.h>
#include <stddef.h>

#include <pango/pangocairo.h>

#define LABEL_MAX_CHARACTERS 200
#define LABEL_MAX_LINES 2

/* One line of valid UTF-8 of at most LABEL_MAX_CHARACTERS (an ellipsis ends a longer one): foreign bytes become U+FFFD,
 * control characters and line separators blanks, directional overrides nothing. "" if nothing is left. free() it; NULL: no
 * memory. */
char *label_clean(const char *bytes, size_t n_bytes);

/* Fonts and a way to measure with them. */
typedef struct label_fonts {
    PangoContext *context; /* NULL: no font is installed */
} label_fonts;

bool label_fonts_open(label_fonts *fonts);
void label_fonts_close(label_fonts *fonts);

/* A plate's text: the label on the left, wrapped and ellipsised, the score on its right. Sizes in pixels. */
typedef struct label_text {
    PangoLayout *label, *score; /* NULL: none */
    double w, h;                /* with the padding */
    double label_x, label_y, score_x, score_y; /* their first lines share a baseline */
    double font_px;
    bool has_unknown_glyphs;    /* a character that no installed font has */
} label_text;

/* Lays out for plates of at most max_w; a score that leaves no room for the label is left out. */
void label_text_make(label_text *t, const label_fonts *fonts, const char *label, const char *score, double font_px, double max_w);
void label_text_free(label_text *t);

#endif
