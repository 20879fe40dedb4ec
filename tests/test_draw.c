/* test_draw.c: the drawing of apps/common: curves of masks, places of plates, harmless labels, and what is in the files.
 * With the argument "no-font" (and FONTCONFIG_FILE naming a configuration without fonts) only that case is tested. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/rng.h"
#include "common/draw.h"
#include "common/label.h"
#include "common/outfile.h"
#include "common/outline.h"
#include "common/plates.h"
#include "paligemma.h"

/* ---- Outlines ---- */

static bool is_inside(const outline *o, double x, double y) {
    bool inside = false;
    for (size_t k = 0, first = 0; k < o->n_curves; first = o->ends[k++]) {
        for (size_t i = first, j = o->ends[k] - 1; i < o->ends[k]; j = i++) {
            double xi = (double)o->xy[2 * i], yi = (double)o->xy[2 * i + 1], xj = (double)o->xy[2 * j], yj = (double)o->xy[2 * j + 1];
            if ((yi > y) != (yj > y) && x < (xj - xi) * (y - yi) / (yj - yi) + xi) inside = !inside;
        }
    }
    return inside;
}

static void outline_separates_pixels(void **state) {
    (void)state;
    rng r;
    rng_seed(&r, 7);
    for (int round = 0; round < 300; round++) {
        enum { W = 13, H = 9 };
        uint8_t mask[W * H];
        int kind = round % 3; /* noise of two values, noise of all, blobs */
        for (size_t i = 0; i < W * H; i++) {
            uint8_t v = (uint8_t)(rng_next(&r) >> 56);
            mask[i] = kind == 0 ? (v & 1 ? 255 : 0) : kind == 1 ? v : (i / 3 % 2 ? 200 : 10);
        }
        outline o;
        assert_true(outline_trace(&o, mask, W, H, 0));
        for (int y = 0; y < H; y++) {
            for (int x = 0; x < W; x++) {
                /* beside the centre by less than a crossing can be near it (0.5 / 255), so that no corner is hit exactly */
                assert_int_equal(is_inside(&o, x + 0.5 + 1e-4, y + 0.5 + 1.3e-4), mask[y * W + x] >= 128);
            }
        }
        outline_free(&o);
    }
}

static void outline_of_known_shapes(void **state) {
    (void)state;
    enum { N = 200 };
    static uint8_t mask[N * N];
    outline o;
    memset(mask, 127, sizeof mask);
    assert_true(outline_trace(&o, mask, N, N, 0.3));
    assert_int_equal(o.n_curves, 0);
    outline_free(&o);

    memset(mask, 255, sizeof mask); /* all of it: one curve, simplified to a few points at the border */
    assert_true(outline_trace(&o, mask, N, N, 0.3));
    assert_int_equal(o.n_curves, 1);
    assert_in_range(o.n_points, 4, 12);
    for (size_t i = 0; i < o.n_points; i++) {
        double from_border =
            fmin(fmin((double)o.xy[2 * i], N - (double)o.xy[2 * i]), fmin((double)o.xy[2 * i + 1], N - (double)o.xy[2 * i + 1]));
        assert_true(fabs(from_border) < 0.51);
    }
    outline_free(&o);

    for (int y = 0; y < N; y++) { /* a ring: two curves, each near its circle */
        for (int x = 0; x < N; x++) {
            double d = hypot(x + 0.5 - 100, y + 0.5 - 90);
            mask[y * N + x] = d > 40 && d < 80 ? 255 : 0;
        }
    }
    assert_true(outline_trace(&o, mask, N, N, 0));
    size_t n_exact = o.n_points;
    outline_free(&o);
    assert_true(outline_trace(&o, mask, N, N, 0.6)); /* more than the steps of a circle of pixels */
    assert_int_equal(o.n_curves, 2);
    assert_true(o.n_points < n_exact / 2);
    for (size_t i = 0; i < o.n_points; i++) {
        double d = hypot((double)o.xy[2 * i] - 100, (double)o.xy[2 * i + 1] - 90);
        assert_true(fabs(d - 40) < 1.2 || fabs(d - 80) < 1.2);
    }
    outline_free(&o);
}

static void outline_of_noise_is_bounded(void **state) {
    (void)state;
    enum { N = 1500 };
    uint8_t *mask = malloc((size_t)N * N);
    assert_non_null(mask);
    for (size_t i = 0; i < (size_t)N * N; i++) mask[i] = (i * 2654435761u >> 15) & 1 ? 255 : 0;
    outline o;
    assert_true(outline_trace(&o, mask, N, N, 0.3));
    assert_true(o.n_points <= OUTLINE_MAX_POINTS);
    outline_free(&o);
    free(mask);
}

/* ---- Plates ---- */

static bool plates_overlap(const plate *a, const plate *b) {
    return fmin(a->x + a->w, b->x + b->w) - fmax(a->x, b->x) > 1e-9 && fmin(a->y + a->h, b->y + b->h) - fmax(a->y, b->y) > 1e-9;
}

static void plates_do_not_meet(void **state) {
    (void)state;
    rng r;
    rng_seed(&r, 3);
    for (int round = 0; round < 40; round++) {
        enum { N = 60 };
        plate plates[N] = {{0}};
        plate_box boxes[N];
        double w = 200 + 20 * round, h = 640 - 10 * round;
        for (int i = 0; i < N; i++) {
            double x = rng_uniform(&r) * w, y = rng_uniform(&r) * h;
            boxes[i] = (plate_box){x, y, fmin(w, x + rng_uniform(&r) * w), fmin(h, y + rng_uniform(&r) * h)};
            plates[i].w = 20 + rng_uniform(&r) * 90;
            plates[i].h = 12 + rng_uniform(&r) * 10;
        }
        size_t n = plates_place(plates, boxes, N, w, h), counted = 0;
        for (int i = 0; i < N; i++) {
            if (!plates[i].placed) continue;
            counted++;
            assert_true(plates[i].x >= 0 && plates[i].y >= 0 && plates[i].x + plates[i].w <= w + 1e-9 &&
                        plates[i].y + plates[i].h <= h + 1e-9);
            for (int j = 0; j < i; j++) assert_false(plates[j].placed && plates_overlap(&plates[i], &plates[j]));
        }
        assert_int_equal(n, counted);
        assert_true(n > N / 2);
    }
}

static void plates_at_their_usual_places(void **state) {
    (void)state;
    plate p[3] = {{.w = 50, .h = 10}, {.w = 50, .h = 10}, {.w = 50, .h = 10}};
    plate_box b[3] = {{100, 100, 180, 180}, {20, 0, 200, 90}, {280, 50, 300, 90}};
    assert_int_equal(plates_place(p, b, 3, 300, 200), 3);
    assert_true(p[0].x == 100 && p[0].y == 90);  /* on the box's upper edge */
    assert_true(p[1].x == 20 && p[1].y == 0);    /* no room above: inside */
    assert_true(p[2].x == 250 && p[2].y == 40);  /* pushed back into the canvas */
    plate same[5] = {{.w = 50, .h = 10}, {.w = 50, .h = 10}, {.w = 50, .h = 10}, {.w = 400, .h = 10}, {.w = 10, .h = 0}};
    plate_box at[5] = {{100, 100, 180, 180}, {100, 100, 180, 180}, {100, 100, 180, 180}, {0, 0, 9, 9}, {0, 0, 9, 9}};
    assert_int_equal(plates_place(same, at, 5, 300, 200), 3); /* the fourth is wider than the canvas, the fifth none */
    assert_false(same[3].placed || same[4].placed);
}

/* ---- Labels ---- */

static void labels_are_clean(void **state) {
    (void)state;
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"cat", "cat"},
        {"  a\tb\r\n c  ", "a b c"},
        {"\x1b[31mred\x07", "[31mred"},
        {"a\xff\xfe" "b", "a\xef\xbf\xbd\xef\xbf\xbd" "b"},
        {"\xe2\x80\xae" "evil\xe2\x80\xac", "evil"},                 /* right-to-left override */
        {"x\xe2\x80\xa8y\xe2\x80\xa9z", "x y z"},                    /* line and paragraph separator */
        {"\xc2\x9b" "1m", "1m"},                                     /* a C1 control */
        {"\xe0\xa4\x95\xe0\xa5\x8d\xe2\x80\x8d\xe0\xa4\xb7", "\xe0\xa4\x95\xe0\xa5\x8d\xe2\x80\x8d\xe0\xa4\xb7"}, /* a joiner stays */
        {"\xef\xbf\xbe", "\xef\xbf\xbd"},                            /* U+FFFE is not a character of XML */
        {"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},    /* a surrogate is not UTF-8 */
        {"\n\t ", ""},
        {"", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *clean = label_clean(cases[i].in, strlen(cases[i].in));
        assert_non_null(clean);
        assert_string_equal(clean, cases[i].out);
        free(clean);
    }
    char *clean = label_clean("a\0b", 3);
    assert_true(g_utf8_validate(clean, -1, NULL));
    assert_int_equal(strlen(clean), 5); /* the NUL became U+FFFD */
    free(clean);
    char *long_text = malloc(1000000);
    memset(long_text, 'w', 1000000);
    clean = label_clean(long_text, 1000000);
    assert_int_equal(g_utf8_strlen(clean, -1), LABEL_MAX_CHARACTERS + 1);
    free(clean);
    free(long_text);
}

/* ---- Files ---- */

#define GRAY 90

static uint8_t *gray_picture(int32_t w, int32_t h) {
    uint8_t *rgb = malloc((size_t)w * (size_t)h * 3);
    assert_non_null(rgb);
    memset(rgb, GRAY, (size_t)w * (size_t)h * 3);
    return rgb;
}

static draw_object object_of(const char *label, double x0, double y0, double x1, double y1, double score) {
    return (draw_object){.label = label, .n_label_bytes = label ? strlen(label) : 0, .box = {x0, y0, x1, y1}, .score = score};
}

static encoded draw_objects(int32_t w, int32_t h, const draw_object *objects, size_t n, draw_format format, draw_notes *notes) {
    uint8_t *rgb = gray_picture(w, h);
    draw *d = draw_new(rgb, w, h);
    assert_non_null(d);
    fault f;
    for (size_t i = 0; i < n; i++) assert_true(draw_add(d, &objects[i], &f));
    encoded out;
    assert_true(draw_encode(d, format, &out, notes, &f));
    draw_free(d);
    free(rgb);
    return out;
}

static pali_image *decode(encoded file) {
    pali_image *image = NULL;
    assert_int_equal(pali_image_from_memory(&image, file.data, file.n_bytes), PALI_OK);
    free(file.data);
    return image;
}

static const uint8_t *pixel(const pali_image *image, int32_t x, int32_t y) {
    return pali_image_rgb(image) + ((size_t)y * (size_t)pali_image_width(image) + (size_t)x) * 3;
}

static bool is_gray(const uint8_t *p) {
    return abs(p[0] - GRAY) <= 3 && abs(p[1] - GRAY) <= 3 && abs(p[2] - GRAY) <= 3;
}

static void raster_has_box_mask_and_plate(void **state) {
    (void)state;
    enum { W = 400, H = 300 };
    uint8_t *mask = calloc(W * H, 1);
    assert_non_null(mask);
    for (int y = 150; y < 200; y++) memset(mask + y * W + 150, 255, 50);
    draw_object objects[] = {object_of("cat", 100, 100, 300, 250, 0.93)};
    objects[0].mask = mask;
    draw_notes notes;
    pali_image *image = decode(draw_objects(W, H, objects, 1, DRAW_PNG, &notes));
    assert_int_equal(pali_image_width(image), W);
    assert_int_equal(pali_image_height(image), H);
    assert_int_equal(notes.n_labels_left_out + notes.n_objects_left_out, 0);
    const uint8_t *line = pixel(image, 200, 250); /* the four edges have one colour, and it is none of grey */
    assert_false(is_gray(line));
    assert_memory_equal(line, pixel(image, 100, 180), 3);
    assert_memory_equal(line, pixel(image, 300, 180), 3);
    assert_true(is_gray(pixel(image, 290, 240)) && is_gray(pixel(image, 50, 200)) && is_gray(pixel(image, 395, 5)));
    const uint8_t *inside = pixel(image, 175, 175); /* the mask's fill lies between the picture and the colour */
    for (size_t k = 0; k < 3; k++) {
        double want = GRAY * (1 - 0.42) + line[k] * 0.42;
        assert_true(fabs(inside[k] - want) <= 2); /* cairo rounds the alpha and the product */
    }
    size_t n_plate = 0, n_ink = 0; /* above the box: the plate in the box's colour, with ink on it */
    for (int y = 80; y < 96; y++) {
        for (int x = 101; x < 150; x++) {
            const uint8_t *p = pixel(image, x, y);
            n_plate += memcmp(p, line, 3) == 0;
            n_ink += memcmp(p, line, 3) != 0 && !is_gray(p);
        }
    }
    assert_true(n_plate > 100 && n_ink > 20);

    pali_image *jpeg = decode(draw_objects(W, H, objects, 1, DRAW_JPEG, NULL));
    assert_int_equal(pali_image_width(jpeg), W);
    for (size_t k = 0; k < 3; k++) assert_true(abs(pixel(jpeg, 175, 175)[k] - inside[k]) <= 6); /* a flat block at quality 92 */
    assert_true(is_gray(pixel(jpeg, 290, 240)));
    pali_image_free(jpeg);
    pali_image_free(image);
    free(mask);
}

static void sizes_follow_the_picture(void **state) {
    (void)state;
    draw_object objects[] = {object_of("cat", 0, 0, 1, 1, 0.5)};
    static const struct {
        int32_t w, h, canvas_w, canvas_h;
    } cases[] = {{64, 64, 256, 256}, {1, 1, 256, 256}, {100, 60, 500, 300}, {300, 256, 300, 256}, {33000, 8, 16500, 4}, {4000, 10, 8000, 20}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pali_image *image = decode(draw_objects(cases[i].w, cases[i].h, objects, 1, DRAW_PNG, NULL));
        assert_int_equal(pali_image_width(image), cases[i].canvas_w);
        assert_int_equal(pali_image_height(image), cases[i].canvas_h);
        pali_image_free(image);
    }
    /* the line of a large picture is a multiple of that of a small one */
    int widths[2] = {0};
    for (int i = 0; i < 2; i++) {
        int32_t w = i ? 2400 : 400, h = i ? 1800 : 300;
        draw_object box[] = {object_of(NULL, w / 4, h / 4, w / 2, h / 2, -1)};
        pali_image *image = decode(draw_objects(w, h, box, 1, DRAW_PNG, NULL));
        for (int32_t x = 0; x < w / 3; x++) widths[i] += !is_gray(pixel(image, x, h * 3 / 8));
        pali_image_free(image);
    }
    assert_true(widths[0] >= 2 && widths[1] >= 2 * widths[0]);
}

static void degenerate_objects(void **state) {
    (void)state;
    draw_object objects[] = {
        object_of("point", 50, 200, 50, 200, 0.1),
        object_of("line", 100, 200, 300, 200, 0.1),
        object_of("reversed", 300, 200, 100, 100, 0.1),
        object_of("nan", (double)NAN, 0, 10, 10, 0.1),
        object_of("inf", 0, 0, (double)INFINITY, 10, 0.1),
        object_of("outside", 500, 10, 600, 20, 0.1),
        object_of("beyond", 350, 250, 1e300, 1e300, (double)NAN),
    };
    draw_notes notes;
    pali_image *image = decode(draw_objects(400, 300, objects, sizeof objects / sizeof *objects, DRAW_PNG, &notes));
    assert_int_equal(notes.n_objects_left_out, 4);
    assert_false(is_gray(pixel(image, 50, 200)) || is_gray(pixel(image, 200, 200)));
    assert_true(is_gray(pixel(image, 200, 150)));
    pali_image_free(image);
}

/* What is read out of an SVG. */
typedef struct svg_facts {
    int n_objects, n_titles, n_plates, n_images;
    bool in_title, in_text;
    char titles[64][512], colors[64][16];
    char text[65536];
    plate plates[64];
} svg_facts;

static void svg_start(GMarkupParseContext *context, const char *name, const char **names, const char **values, void *user, GError **error) {
    (void)context, (void)error;
    svg_facts *facts = user;
    const char *class = "", *x = "0", *y = "0", *w = "0", *h = "0", *stroke = "";
    for (size_t i = 0; names[i]; i++) {
        if (!strcmp(names[i], "class")) class = values[i];
        if (!strcmp(names[i], "stroke")) stroke = values[i];
        if (!strcmp(names[i], "x")) x = values[i];
        if (!strcmp(names[i], "y")) y = values[i];
        if (!strcmp(names[i], "width")) w = values[i];
        if (!strcmp(names[i], "height")) h = values[i];
    }
    facts->in_title = !strcmp(name, "title");
    facts->in_text = !strcmp(name, "text");
    facts->n_images += !strcmp(name, "image");
    facts->n_objects += !strcmp(class, "object");
    if (!strcmp(class, "plate") && facts->n_plates < 64) {
        facts->plates[facts->n_plates++] = (plate){.x = atof(x), .y = atof(y), .w = atof(w), .h = atof(h)};
    }
    if (!strcmp(class, "line") && !strcmp(name, "rect") && facts->n_objects <= 64)
        (void)snprintf(facts->colors[facts->n_objects - 1], 16, "%s", stroke);
}

static void svg_end(GMarkupParseContext *context, const char *name, void *user, GError **error) {
    (void)context, (void)name, (void)error;
    svg_facts *facts = user;
    facts->in_title = facts->in_text = false;
}

static void svg_text(GMarkupParseContext *context, const char *text, size_t n_bytes, void *user, GError **error) {
    (void)context, (void)error;
    svg_facts *facts = user;
    if (facts->in_title && facts->n_titles < 64) (void)snprintf(facts->titles[facts->n_titles++], 512, "%.*s", (int)n_bytes, text);
    size_t used = strlen(facts->text);
    if (facts->in_text && used + n_bytes + 2 < sizeof facts->text)
        (void)snprintf(facts->text + used, sizeof facts->text - used, "%.*s\n", (int)n_bytes, text);
}

/* GLib's parser demands what XML demands of the parts we use, valid UTF-8 included. */
static svg_facts *svg_read(encoded file) {
    static const GMarkupParser parser = {svg_start, svg_end, svg_text, NULL, NULL};
    svg_facts *facts = calloc(1, sizeof *facts);
    GMarkupParseContext *context = g_markup_parse_context_new(&parser, 0, facts, NULL);
    assert_true(g_markup_parse_context_parse(context, (const char *)file.data, (gssize)file.n_bytes, NULL));
    assert_true(g_markup_parse_context_end_parse(context, NULL));
    g_markup_parse_context_free(context);
    free(file.data);
    return facts;
}

static void svg_has_every_object(void **state) {
    (void)state;
    static const char *const labels[] = {"cat",
                                         "قطة سوداء",
                                         "自行车",
                                         "मोटरसाइकिल",
                                         "<script>alert(\"&\")</script>",
                                         "👩‍🚀",
                                         "ลูกสุนัข",
                                         ("a very long description of the object that goes on and on and never seems to end although "
                                          "nobody reads it")};
    enum { N = 24, N_LABELS = sizeof labels / sizeof *labels };
    draw_object objects[N];
    for (int i = 0; i < N; i++) objects[i] = object_of(labels[i % N_LABELS], 20 + 25 * i, 300 - 10 * i, 180 + 25 * i, 420 - 7 * i, 0.01 * i);
    draw_notes notes;
    svg_facts *facts = svg_read(draw_objects(900, 600, objects, N, DRAW_SVG, &notes));
    assert_int_equal(facts->n_objects, N);
    assert_int_equal(facts->n_titles, N);
    assert_int_equal(facts->n_images, 1);
    assert_int_equal(facts->n_plates, N - notes.n_labels_left_out);
    assert_int_equal(notes.n_labels_left_out, 0);
    for (int i = 0; i < N; i++) {
        char want[512];
        (void)snprintf(want, sizeof want, "%s %.2f", labels[i % N_LABELS], 0.01 * i);
        assert_string_equal(facts->titles[i], want);
        const plate *p = &facts->plates[i];
        assert_true(p->x >= 0 && p->y >= 0 && p->x + p->w <= 900 && p->y + p->h <= 600);
        for (int j = 0; j < i; j++) assert_false(plates_overlap(p, &facts->plates[j]));
        /* one colour a label; eight labels, so that one has dashes, or another colour */
        for (int j = 0; j < i; j++) assert_true(i % N_LABELS != j % N_LABELS || !strcmp(facts->colors[i], facts->colors[j]));
    }
    /* the plates show each label, and the long one ends in an ellipsis */
    for (int i = 0; i < N_LABELS - 1; i++) assert_non_null(strstr(facts->text, labels[i]));
    assert_non_null(strstr(facts->text, "a very long"));
    assert_non_null(strstr(facts->text, "\xe2\x80\xa6\n"));
    free(facts);
}

static void colors_are_stable_and_differ(void **state) {
    (void)state;
    static const char *const labels[] = {"a", "b", "c", "d", "e", "f", "g"};
    draw_object objects[7];
    char alone[7][16];
    for (int i = 0; i < 7; i++) {
        objects[i] = object_of(labels[i], 10 + 40 * i, 100, 40 + 40 * i, 200, -1);
        svg_facts *one = svg_read(draw_objects(300, 300, &objects[i], 1, DRAW_SVG, NULL));
        memcpy(alone[i], one->colors[0], 16);
        free(one);
    }
    svg_facts *all = svg_read(draw_objects(300, 300, objects, 7, DRAW_SVG, NULL));
    assert_string_equal(all->colors[0], alone[0]); /* the first comer has its own colour */
    for (int i = 0; i < 7; i++) {
        for (int j = 0; j < i; j++) assert_string_not_equal(all->colors[i], all->colors[j]);
    }
    free(all);
}

static void hostile_labels(void **state) {
    (void)state;
    rng r;
    rng_seed(&r, 11);
    for (int round = 0; round < 20; round++) {
        enum { N = 12 };
        char bytes[N][300];
        draw_object objects[N];
        for (int i = 0; i < N; i++) {
            size_t n = (size_t)(rng_uniform(&r) * 300);
            /* all bytes; or marks on one letter; or markup and controls */
            static const char *const pieces[] = {"\xcc\x81", "\xe2\x80\xae",     "]]>",          "\x1b",
                                                 "&#0;",     "\xf4\x90\x80\x80", "\xef\xbf\xbf", "\xf0\x9f\x8f\xb4"};
            for (size_t k = 0; k < n; k++) bytes[i][k] = (char)(rng_next(&r) >> 56);
            for (size_t k = 0; round % 2 && k + 5 < n;) {
                const char *piece = pieces[rng_next(&r) % 8];
                memcpy(bytes[i] + k, piece, strlen(piece));
                k += strlen(piece);
            }
            objects[i] =
                (draw_object){.label = bytes[i], .n_label_bytes = n, .box = {10 * i, 20 * i, 10 * i + 80, 20 * i + 60}, .score = 0.5};
        }
        free(svg_read(draw_objects(320, 320, objects, N, DRAW_SVG, NULL)));
        pali_image_free(decode(draw_objects(320, 320, objects, N, DRAW_PNG, NULL)));
    }
}

static void files_are_whole_or_not_there(void **state) {
    (void)state;
    char dir[] = "/tmp/test_draw.XXXXXX", path[64];
    assert_non_null(mkdtemp(dir));
    uint8_t *rgb = gray_picture(20, 10);
    draw *d = draw_new(rgb, 20, 10);
    fault f;
    static const char *const good[] = {"a.png", "a.JPG", "a.jpeg", "a.Svg"};
    for (size_t i = 0; i < 4; i++) {
        (void)snprintf(path, sizeof path, "%s/%s", dir, good[i]);
        assert_true(draw_write(d, path, NULL, &f));
        assert_int_equal(access(path, R_OK), 0);
        assert_int_equal(unlink(path), 0);
    }
    static const char *const bad[] = {"a.gif", "a", "png", "nowhere/a.png"};
    for (size_t i = 0; i < 4; i++) {
        (void)snprintf(path, sizeof path, "%s/%s", dir, bad[i]);
        assert_false(draw_write(d, path, NULL, &f));
        assert_non_null(strstr(f.text, bad[i]));
    }
    assert_false(outfile_check(dir, &f));
    assert_false(outfile_check("/nowhere/a/b", &f));
    assert_false(outfile_directory("/dev/null", &f));
    assert_false(outfile_write("/dev/full", &(outfile_piece){"x", 1}, 1, &f));
    draw_free(d);
    free(rgb);
    assert_int_equal(rmdir(dir), 0); /* nothing was left behind */
}

static void without_a_font(void **state) {
    (void)state;
    draw_object objects[] = {object_of("cat", 20, 20, 100, 100, 0.5), object_of("dog", 120, 20, 200, 100, 0.5)};
    draw_notes notes;
    svg_facts *facts = svg_read(draw_objects(300, 300, objects, 2, DRAW_SVG, &notes));
    assert_true(notes.no_font);
    assert_int_equal(notes.n_labels_left_out, 2);
    assert_int_equal(facts->n_plates, 0);
    assert_string_equal(facts->titles[1], "dog 0.50");
    free(facts);
    pali_image *image = decode(draw_objects(300, 300, objects, 2, DRAW_PNG, NULL));
    assert_false(is_gray(pixel(image, 20, 60)));
    pali_image_free(image);
}

int main(int argc, char **argv) {
    const struct CMUnitTest no_font[] = {cmocka_unit_test(without_a_font)};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(outline_separates_pixels),
        cmocka_unit_test(outline_of_known_shapes),
        cmocka_unit_test(outline_of_noise_is_bounded),
        cmocka_unit_test(plates_do_not_meet),
        cmocka_unit_test(plates_at_their_usual_places),
        cmocka_unit_test(labels_are_clean),
        cmocka_unit_test(raster_has_box_mask_and_plate),
        cmocka_unit_test(sizes_follow_the_picture),
        cmocka_unit_test(degenerate_objects),
        cmocka_unit_test(svg_has_every_object),
        cmocka_unit_test(colors_are_stable_and_differ),
        cmocka_unit_test(hostile_labels),
        cmocka_unit_test(files_are_whole_or_not_there),
    };
    if (argc > 1 && !strcmp(argv[1], "no-font")) return cmocka_run_group_tests(no_font, NULL, NULL);
    label_fonts fonts;
    if (!label_fonts_open(&fonts)) return puts("SKIPPED: no font is installed"), 77;
    label_fonts_close(&fonts);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
