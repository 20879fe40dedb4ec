/* draw_svg.c: paints a plan as SVG 1.1. Text stays text, so that it can be searched and edited; textLength keeps it on its
 * plate where the viewer has other fonts. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/draw_plan.h"

static void put_escaped(FILE *out, const char *text, size_t n_bytes) {
    for (size_t i = 0; i < n_bytes; i++) {
        switch (text[i]) {
        case '&': fputs("&amp;", out); break;
        case '<': fputs("&lt;", out); break;
        case '>': fputs("&gt;", out); break;
        case '"': fputs("&quot;", out); break;
        default: fputc(text[i], out);
        }
    }
}

static void put_base64(FILE *out, const uint8_t *bytes, size_t n_bytes) {
    char text[4096];
    int state = 0, save = 0;
    for (size_t at = 0; at < n_bytes;) {
        size_t n = n_bytes - at < 3000 ? n_bytes - at : 3000; /* becomes at most 4/3 of it and a group */
        (void)fwrite(text, 1, g_base64_encode_step(bytes + at, n, FALSE, text, &state, &save), out);
        at += n;
    }
    (void)fwrite(text, 1, g_base64_encode_close(FALSE, text, &state, &save), out);
}

static void put_color(FILE *out, const char *attribute, const draw_style *s) {
    fprintf(out, " %s=\"#%02x%02x%02x\"", attribute, s->rgb[0], s->rgb[1], s->rgb[2]);
}

/* The same shape twice: the dark rim and the coloured line. `shape` is an element without its end. */
static void put_lines(FILE *out, const draw *d, const draw_style *s, const char *shape, double width, const char *cap) {
    fprintf(out, "%s class=\"rim\" fill=\"none\" stroke=\"#000\" stroke-opacity=\"%.2f\" stroke-width=\"%.2f\"%s/>\n", shape,
            DRAW_CASING_ALPHA, width + 2 * d->casing_px, cap);
    fprintf(out, "%s class=\"line\" fill=\"none\"", shape);
    put_color(out, "stroke", s);
    fprintf(out, " stroke-width=\"%.2f\"", width);
    if (s->on > 0) fprintf(out, " stroke-dasharray=\"%.2f %.2f\"", s->on * width, s->off * width);
    fprintf(out, "%s/>\n", cap);
}

static void put_mask(FILE *out, const draw *d, const draw_item *item, size_t index) {
    const outline *o = &item->mask;
    fprintf(out, "<defs><path id=\"mask%zu\" d=\"", index);
    for (size_t i = 0, at = 0; i < o->n_curves; i++) {
        for (size_t first = at; at < o->ends[i]; at++)
            fprintf(out, "%s%.1f %.1f", at == first ? "M" : "L", (double)o->xy[2 * at], (double)o->xy[2 * at + 1]);
        fputc('Z', out);
    }
    fprintf(out, "\"/></defs>\n<use xlink:href=\"#mask%zu\" class=\"mask\" fill-rule=\"evenodd\" fill-opacity=\"%.2f\"", index,
            DRAW_MASK_ALPHA);
    put_color(out, "fill", item->style);
    fputs("/>\n", out);
    char shape[64];
    draw_style solid = *item->style;
    solid.on = solid.off = 0;
    (void)snprintf(shape, sizeof shape, "<use xlink:href=\"#mask%zu\"", index);
    put_lines(out, d, &solid, shape, 0.6 * d->line_px, "");
}

static void put_object(FILE *out, const draw *d, size_t index) {
    const draw_item *item = &d->items[index];
    const plate_box *b = &item->box;
    char shape[256];
    fputs("<g class=\"object\"><title>", out);
    put_escaped(out, item->label, strlen(item->label));
    fprintf(out, "%s%s</title>\n", item->label[0] && item->score[0] ? " " : "", item->score);
    if (item->mask.n_points) put_mask(out, d, item, index);
    if (item->shape == SHAPE_BOX) {
        (void)snprintf(shape, sizeof shape, "<rect x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.2f\"", b->x0, b->y0, b->x1 - b->x0,
                       b->y1 - b->y0);
        put_lines(out, d, item->style, shape, d->line_px, "");
    } else {
        (void)snprintf(shape, sizeof shape, "<path d=\"M%.2f %.2fL%.2f %.2f\"", b->x0, b->y0, b->x1, b->y1);
        put_lines(out, d, item->style, shape, item->shape == SHAPE_POINT ? 3 * d->line_px : d->line_px, " stroke-linecap=\"round\"");
    }
    fputs("</g>\n", out);
}

/* The bytes of the line's text that are shown; what is left out for want of room begins at the ellipsis. */
static size_t shown_bytes(const PangoLayoutLine *line, bool *cut) {
    *cut = false;
    for (GSList *run = line->runs; run; run = run->next) {
        const PangoItem *item = ((PangoGlyphItem *)run->data)->item;
        if (!(item->analysis.flags & PANGO_ANALYSIS_FLAG_IS_ELLIPSIS)) continue;
        *cut = true;
        return (size_t)(item->offset - line->start_index);
    }
    return (size_t)line->length;
}

/* The font that the line was measured with, so that a viewer on the same machine takes it too. */
static void put_font_family(FILE *out, const PangoLayoutLine *line) {
    PangoFont *font = line->runs ? ((PangoGlyphItem *)line->runs->data)->item->analysis.font : NULL;
    if (!font) return;
    PangoFontDescription *description = pango_font_describe(font);
    const char *family = pango_font_description_get_family(description);
    fputs(" font-family=\"'", out);
    put_escaped(out, family, strcspn(family, "'"));
    fputs("', sans-serif\"", out);
    pango_font_description_free(description);
}

static void put_layout(FILE *out, PangoLayout *layout, double x, double y, double font_px, const char *color) {
    if (!layout) return;
    PangoLayoutIter *iter = pango_layout_get_iter(layout);
    do {
        PangoLayoutLine *line = pango_layout_iter_get_line_readonly(iter);
        PangoRectangle area;
        bool cut;
        size_t n = shown_bytes(line, &cut);
        pango_layout_iter_get_line_extents(iter, NULL, &area);
        bool rtl = line->resolved_dir == PANGO_DIRECTION_RTL; /* then the line starts at its right end */
        fprintf(out, "<text x=\"%.2f\" y=\"%.2f\" textLength=\"%.2f\" lengthAdjust=\"spacingAndGlyphs\" font-size=\"%.2f\" fill=\"%s\"%s",
                x + (double)(area.x + (rtl ? area.width : 0)) / PANGO_SCALE, y + (double)pango_layout_iter_get_baseline(iter) / PANGO_SCALE,
                (double)area.width / PANGO_SCALE, font_px, color, rtl ? " direction=\"rtl\"" : "");
        put_font_family(out, line);
        fputc('>', out);
        put_escaped(out, pango_layout_get_text(layout) + line->start_index, n);
        fprintf(out, "%s</text>\n", cut ? "\xe2\x80\xa6" : "");
    } while (pango_layout_iter_next_line(iter));
    pango_layout_iter_free(iter);
}

static void put_leader(FILE *out, const draw *d, size_t index) {
    leader l = draw_leader(&d->plates[index], &d->items[index].box);
    char shape[160];
    (void)snprintf(shape, sizeof shape, "<path d=\"M%.2f %.2fL%.2f %.2f\"", l.x0, l.y0, l.x1, l.y1);
    put_lines(out, d, d->items[index].style, shape, 0.6 * d->line_px, "");
}

static void put_plate(FILE *out, const draw *d, size_t index) {
    const draw_item *item = &d->items[index];
    const plate *p = &d->plates[index];
    const label_text *t = &item->text;
    const char *color = item->style->dark_text ? "#000" : "#fff";
    double rim = fmax(1, 0.06 * t->font_px) / 2;
    fputs("<g class=\"label\">\n", out);
    fprintf(out,
            "<rect class=\"plate\" x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.2f\" stroke=\"#000\" stroke-opacity=\"%.2f\" "
            "stroke-width=\"%.2f\"",
            p->x + rim / 2, p->y + rim / 2, p->w - rim, p->h - rim, DRAW_CASING_ALPHA, rim);
    put_color(out, "fill", item->style);
    fputs("/>\n", out);
    put_layout(out, t->label, p->x + t->label_x, p->y + t->label_y, t->font_px, color);
    put_layout(out, t->score, p->x + t->score_x, p->y + t->score_y, t->font_px, color);
    fputs("</g>\n", out);
}

bool draw_paint_svg(const draw *d, encoded *out, fault *f) {
    encoded picture;
    pixels p = {d->rgb, d->source_w, d->source_h, (size_t)d->source_w * 3, PIXEL_RGB24};
    *out = (encoded){0};
    if (!encode_jpeg(&picture, &p, DRAW_JPEG_QUALITY, f)) return false;
    char *text = NULL;
    size_t n_bytes = 0;
    FILE *file = open_memstream(&text, &n_bytes);
    if (file) {
        fprintf(file,
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<svg xmlns=\"http://www.w3.org/2000/svg\" "
                "xmlns:xlink=\"http://www.w3.org/1999/xlink\" "
                "version=\"1.1\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\">\n<image width=\"%d\" height=\"%d\" "
                "preserveAspectRatio=\"none\" "
                "xlink:href=\"data:image/jpeg;base64,",
                d->canvas_w, d->canvas_h, d->canvas_w, d->canvas_h, d->canvas_w, d->canvas_h);
        put_base64(file, picture.data, picture.n_bytes);
        fputs("\"/>\n<g font-family=\"sans-serif\" font-weight=\"600\">\n", file);
        for (size_t i = 0; i < d->n; i++) put_object(file, d, i);
        for (size_t i = 0; i < d->n; i++) {
            if (d->plates[i].moved_away) put_leader(file, d, i);
        }
        for (size_t i = 0; i < d->n; i++) {
            if (d->plates[i].placed) put_plate(file, d, i);
        }
        fputs("</g>\n</svg>\n", file);
    }
    free(picture.data);
    bool ok = file && !ferror(file);
    if (file) ok = fclose(file) == 0 && ok;
    if (!ok) {
        free(text);
        return fault_set(f, "drawing: SVG: out of memory");
    }
    *out = (encoded){(uint8_t *)text, n_bytes};
    return true;
}
