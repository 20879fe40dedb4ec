/* draw_raster.c: paints a plan with cairo. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/draw_plan.h"

static void set_style(cairo_t *cr, const draw_style *s, double alpha) {
    cairo_set_source_rgba(cr, s->rgb[0] / 255.0, s->rgb[1] / 255.0, s->rgb[2] / 255.0, alpha);
}

/* The current path as a line with a dark rim. */
static void stroke(cairo_t *cr, const draw *d, const draw_style *s, double width) {
    double dashes[2] = {s->on * width, s->off * width};
    cairo_set_dash(cr, NULL, 0, 0);
    cairo_set_source_rgba(cr, 0, 0, 0, DRAW_CASING_ALPHA);
    cairo_set_line_width(cr, width + 2 * d->casing_px);
    cairo_stroke_preserve(cr);
    cairo_set_dash(cr, dashes, s->on > 0 ? 2 : 0, 0);
    set_style(cr, s, 1);
    cairo_set_line_width(cr, width);
    cairo_stroke(cr);
    cairo_set_dash(cr, NULL, 0, 0);
}

static void paint_mask(cairo_t *cr, const draw *d, const draw_item *item) {
    const outline *o = &item->mask;
    for (size_t i = 0, at = 0; i < o->n_curves; i++) {
        for (size_t first = at; at < o->ends[i]; at++) {
            double x = (double)o->xy[2 * at], y = (double)o->xy[2 * at + 1];
            if (at == first) cairo_move_to(cr, x, y);
            else cairo_line_to(cr, x, y);
        }
        cairo_close_path(cr);
    }
    set_style(cr, item->style, DRAW_MASK_ALPHA);
    cairo_fill_preserve(cr);
    draw_style solid = *item->style;
    solid.on = solid.off = 0;
    stroke(cr, d, &solid, 0.6 * d->line_px);
}

static void paint_box(cairo_t *cr, const draw *d, const draw_item *item) {
    const plate_box *b = &item->box;
    if (item->shape == SHAPE_BOX) {
        cairo_rectangle(cr, b->x0, b->y0, b->x1 - b->x0, b->y1 - b->y0);
        stroke(cr, d, item->style, d->line_px);
        return;
    }
    /* a point is a line of no length with round ends */
    cairo_save(cr);
    cairo_set_line_cap(cr, CAIRO_LINE_CAP_ROUND);
    cairo_move_to(cr, b->x0, b->y0);
    cairo_line_to(cr, b->x1, b->y1);
    stroke(cr, d, item->style, item->shape == SHAPE_POINT ? 3 * d->line_px : d->line_px);
    cairo_restore(cr);
}

static void paint_leader(cairo_t *cr, const draw *d, const draw_item *item, const plate *p) {
    leader l = draw_leader(p, &item->box);
    cairo_move_to(cr, l.x0, l.y0);
    cairo_line_to(cr, l.x1, l.y1);
    stroke(cr, d, item->style, 0.6 * d->line_px);
}

static void paint_layout(cairo_t *cr, PangoLayout *layout, double x, double y) {
    if (!layout) return;
    cairo_move_to(cr, x, y);
    pango_cairo_update_layout(cr, layout);
    pango_cairo_show_layout(cr, layout);
}

static void paint_plate(cairo_t *cr, const draw_item *item, const plate *p) {
    const label_text *t = &item->text;
    double rim = fmax(1, 0.06 * t->font_px);
    cairo_save(cr);
    cairo_rectangle(cr, p->x, p->y, p->w, p->h);
    cairo_clip_preserve(cr);
    set_style(cr, item->style, 1);
    cairo_fill_preserve(cr);
    cairo_set_source_rgba(cr, 0, 0, 0, DRAW_CASING_ALPHA);
    cairo_set_line_width(cr, rim); /* half of it is clipped away */
    cairo_stroke(cr);
    double ink = item->style->dark_text ? 0 : 1;
    cairo_set_source_rgb(cr, ink, ink, ink);
    paint_layout(cr, t->label, p->x + t->label_x, p->y + t->label_y);
    paint_layout(cr, t->score, p->x + t->score_x, p->y + t->score_y);
    cairo_restore(cr);
}

/* The picture as a surface of its own size. */
static cairo_surface_t *picture_surface(const draw *d) {
    cairo_surface_t *surface = cairo_image_surface_create(CAIRO_FORMAT_RGB24, d->source_w, d->source_h);
    if (cairo_surface_status(surface) != CAIRO_STATUS_SUCCESS) return surface;
    uint8_t *rows = cairo_image_surface_get_data(surface);
    size_t stride = (size_t)cairo_image_surface_get_stride(surface);
    const uint8_t *p = d->rgb;
    for (size_t y = 0; y < (size_t)d->source_h; y++) {
        for (size_t x = 0; x < (size_t)d->source_w; x++, p += 3) {
            uint32_t word = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2];
            memcpy(rows + y * stride + 4 * x, &word, sizeof word);
        }
    }
    cairo_surface_mark_dirty(surface);
    return surface;
}

static cairo_surface_t *enlarged(cairo_surface_t *picture, const draw *d) {
    cairo_surface_t *canvas = cairo_image_surface_create(CAIRO_FORMAT_RGB24, d->canvas_w, d->canvas_h);
    cairo_t *cr = cairo_create(canvas);
    cairo_scale(cr, d->enlarge, d->enlarge);
    cairo_set_source_surface(cr, picture, 0, 0);
    cairo_pattern_set_extend(cairo_get_source(cr), CAIRO_EXTEND_PAD);
    cairo_pattern_set_filter(cairo_get_source(cr), CAIRO_FILTER_BILINEAR);
    cairo_paint(cr);
    cairo_destroy(cr);
    cairo_surface_destroy(picture);
    return canvas;
}

bool draw_paint_raster(const draw *d, draw_format format, encoded *out, fault *f) {
    cairo_surface_t *canvas = picture_surface(d);
    if (d->enlarge > 1) canvas = enlarged(canvas, d);
    cairo_t *cr = cairo_create(canvas);
    cairo_set_fill_rule(cr, CAIRO_FILL_RULE_EVEN_ODD);
    cairo_set_line_join(cr, CAIRO_LINE_JOIN_MITER);
    for (size_t i = 0; i < d->n; i++) {
        if (d->items[i].mask.n_points) paint_mask(cr, d, &d->items[i]);
    }
    for (size_t i = 0; i < d->n; i++) paint_box(cr, d, &d->items[i]);
    for (size_t i = 0; i < d->n; i++) {
        if (d->plates[i].moved_away) paint_leader(cr, d, &d->items[i], &d->plates[i]);
    }
    for (size_t i = 0; i < d->n; i++) {
        if (d->plates[i].placed) paint_plate(cr, &d->items[i], &d->plates[i]);
    }
    cairo_status_t status = cairo_status(cr);
    cairo_destroy(cr);
    cairo_surface_flush(canvas);
    bool ok = status == CAIRO_STATUS_SUCCESS || fault_set(f, "drawing: %s", cairo_status_to_string(status));
    if (ok) {
        pixels p = {cairo_image_surface_get_data(canvas), d->canvas_w, d->canvas_h, (size_t)cairo_image_surface_get_stride(canvas),
                    PIXEL_XRGB32};
        ok = format == DRAW_PNG ? encode_png(out, &p, f) : encode_jpeg(out, &p, DRAW_JPEG_QUALITY, f);
    }
    cairo_surface_destroy(canvas);
    return ok;
}
