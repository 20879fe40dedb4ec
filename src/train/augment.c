#include "train/augment.h"

#include <math.h>
#include <string.h>
#include <strings.h>

#include "base/hash.h"
#include "base/mem.h"

#define ATTEMPTS 100
#define LOC_LENGTH 9u /* <loc0000> */
#define LOC_LAST 1023u

/* ---- Options ---- */

static bool is_word(const char *at, size_t n, const char *word) {
    return strlen(word) == n && memcmp(at, word, n) == 0;
}

pali_status augment_options_parse(augment_options *o, const char *list) {
    for (const char *at = list; at; at++) {
        const size_t n = strcspn(at, ",");
        const augment_crop crop = is_word(at, n, "ic") ? AUGMENT_INCEPTION : is_word(at, n, "rc") ? AUGMENT_RANDOM : AUGMENT_WHOLE;
        if (crop == AUGMENT_WHOLE && !is_word(at, n, "flip"))
            return status_fail(PALI_ERR_ARGUMENT, "augment: \"%.*s\": ic, rc or flip expected", n < 64 ? (int)n : 64, at);
        if (crop != AUGMENT_WHOLE && o->crop != AUGMENT_WHOLE && o->crop != crop) return status_fail(PALI_ERR_ARGUMENT, "augment: ic and rc: one crop expected");
        if (crop != AUGMENT_WHOLE) o->crop = crop;
        o->flip |= crop == AUGMENT_WHOLE;
        at += n;
        if (!*at) break;
    }
    return PALI_OK;
}

/* ---- Texts ---- */

/* The number of the location token at `text`, or -1. */
static int loc_at(const char *text) {
    int n = 0;
    if (strncmp(text, "<loc", 4) != 0) return -1;
    for (size_t i = 4; i < 8; i++) {
        if (text[i] < '0' || text[i] > '9') return -1;
        n = 10 * n + text[i] - '0';
    }
    return text[8] == '>' && n <= (int)LOC_LAST ? n : -1;
}

/* Location tokens one after the other from `text` on. */
static size_t loc_run(const char *text) {
    size_t n = 0;
    while (loc_at(text + n * LOC_LENGTH) >= 0) n++;
    return n;
}

static const char *loc_next(const char *text) {
    while ((text = strstr(text, "<loc")) && loc_at(text) < 0) text++;
    return text;
}

static bool has_word(const char *text, const char *word) {
    const size_t n = strlen(word);
    for (; *text; text++)
        if (strncasecmp(text, word, n) == 0) return true;
    return false;
}

static bool can_flip(const char *text) {
    if (strstr(text, "<seg") || has_word(text, "left") || has_word(text, "right")) return false;
    for (const char *at = text; (at = loc_next(at));) {
        const size_t n = loc_run(at);
        if (n % 4) return false; /* no boxes */
        at += n * LOC_LENGTH;
    }
    return true;
}

/* At token `at`: y0 x0 y1 x1. Indices mirror as the sides do: x / 1023 becomes 1 - x / 1023; of those that are x * 1024, rounded
 * down, too. */
static void box_mirror(char *at) {
    const unsigned x0 = (unsigned)loc_at(at + LOC_LENGTH), x1 = (unsigned)loc_at(at + 3 * LOC_LENGTH);
    const unsigned mirrored[2] = {LOC_LAST - x1, LOC_LAST - x0};
    for (size_t i = 0; i < 2; i++) {
        char *digits = at + (2 * i + 1) * LOC_LENGTH + 4;
        for (unsigned k = 4, n = mirrored[i]; k-- > 0; n /= 10) digits[k] = (char)('0' + n % 10);
    }
}

void augment_mirror_text(char *text) {
    for (const char *next = text; (next = loc_next(next));) {
        const size_t n = loc_run(next);
        for (size_t i = 0; i + 4 <= n; i += 4) box_mirror(text + (next - text) + i * LOC_LENGTH);
        next += n * LOC_LENGTH;
    }
}

augment augment_draw(const augment_options *o, uint64_t epoch, size_t row, const char *prefix, const char *suffix) {
    const uint64_t what[] = {o->seed, epoch, row};
    augment a = {.crop = loc_next(prefix) || loc_next(suffix) ? AUGMENT_WHOLE : o->crop};
    rng_seed(&a.r, hash_bytes((hash_key){{0}}, what, sizeof what).hash[0]);
    const bool heads = rng_next(&a.r) >> 63;
    a.flip = o->flip && heads && can_flip(prefix) && can_flip(suffix);
    return a;
}

/* ---- Pictures ---- */

typedef struct part {
    size_t x, y, w, h;
} part;

static part part_at_random(rng *r, const image *in, size_t w, size_t h) {
    const size_t x = (size_t)rng_below(r, in->width - w + 1), y = (size_t)rng_below(r, in->height - h + 1);
    return (part){x, y, w, h};
}

/* A picture so narrow that no part has the shape is taken whole. */
static part part_inception(rng *r, const image *in) {
    for (int i = 0; i < ATTEMPTS; i++) {
        const double area = (0.5 + 0.5 * rng_uniform(r)) * (double)in->width * (double)in->height, aspect = 0.75 + 0.58 * rng_uniform(r);
        const double w = rint(sqrt(area * aspect)), h = rint(sqrt(area / aspect));
        if (w >= 1 && h >= 1 && w <= (double)in->width && h <= (double)in->height) return part_at_random(r, in, (size_t)w, (size_t)h);
    }
    return (part){0, 0, in->width, in->height};
}

/* Cropping before resizing: the same square up to a pixel, and a picture of a million columns does not become one of more. */
static part part_square(rng *r, const image *in) {
    const size_t shorter = in->width < in->height ? in->width : in->height, side = (7 * shorter + 4) / 8;
    return part_at_random(r, in, side ? side : 1, side ? side : 1);
}

static pali_status cut(image *out, const image *in, part p) {
    out->width = p.w;
    out->height = p.h;
    out->rgb = mem_alloc(p.w * p.h, 3);
    if (!out->rgb) return status_no_memory(p.w * p.h * 3);
    for (size_t y = 0; y < p.h; y++) memcpy(out->rgb + y * p.w * 3, in->rgb + ((p.y + y) * in->width + p.x) * 3, p.w * 3);
    return PALI_OK;
}

static void mirror(image *img) {
    for (size_t y = 0; y < img->height; y++) {
        uint8_t *row = img->rgb + y * img->width * 3, pixel[3];
        for (size_t a = 0, b = img->width - 1; a < b; a++, b--) {
            memcpy(pixel, row + 3 * a, 3);
            memcpy(row + 3 * a, row + 3 * b, 3);
            memcpy(row + 3 * b, pixel, 3);
        }
    }
}

static pali_status resized(image *out, const image *in, size_t size, resize_filter filter) {
    *out = (image){.width = size, .height = size, .rgb = mem_alloc(size * size, 3)};
    return out->rgb ? resize_u8(out->rgb, size, size, in->rgb, in->width, in->height, 3, filter) : status_no_memory(size * size * 3);
}

pali_status augment_picture(image *out, augment *a, const image *in, size_t size, resize_filter filter) {
    image cropped = {0};
    pali_status s = PALI_OK;
    *out = (image){0};
    if (a->crop != AUGMENT_WHOLE) s = cut(&cropped, in, a->crop == AUGMENT_INCEPTION ? part_inception(&a->r, in) : part_square(&a->r, in));
    if (s == PALI_OK) s = resized(out, cropped.rgb ? &cropped : in, size, a->crop == AUGMENT_RANDOM ? RESIZE_BOX : filter);
    image_free(&cropped);
    if (s == PALI_OK && a->flip) mirror(out);
    if (s != PALI_OK) image_free(out);
    return s;
}
