/* image.c: picks the codec by the file's first bytes, applies the orientation, and holds what the codecs share. */
#include "input/image.h"

#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "input/image_codec.h"

#define TILE 32u /* pixels; keeps both sides of a transposition in the first-level cache */

pali_status image_alloc(image *out, size_t width, size_t height, const image_source *src) {
    size_t n_pixels;
    if (width == 0 || height == 0) {
        return status_fail(PALI_ERR_FORMAT, "%s: a picture of %zu x %zu pixels: both must be at least 1", src->name, width, height);
    }
    if (!mem_mul(&n_pixels, width, height) || n_pixels > IMAGE_MAX_PIXELS) {
        return status_fail(PALI_ERR_LIMIT, "%s: a picture of %zu x %zu pixels: more than the limit of %u", src->name, width,
                           height, IMAGE_MAX_PIXELS);
    }
    if (width > IMAGE_MAX_SIDE || height > IMAGE_MAX_SIDE) {
        return status_fail(PALI_ERR_LIMIT, "%s: a picture of %zu x %zu pixels: a side is longer than the limit of %u", src->name,
                           width, height, IMAGE_MAX_SIDE);
    }
    out->rgb = mem_alloc(n_pixels, 3);
    if (!out->rgb) return status_no_memory(n_pixels * 3);
    out->width = width;
    out->height = height;
    return PALI_OK;
}

void image_free(image *img) {
    mem_free(img->rgb);
    *img = (image){0};
}

void image_rgba_over_white(uint8_t *rgb, const uint8_t *rgba, size_t n) {
    for (size_t i = 0; i < n; i++) {
        for (size_t c = 0; c < 3; c++) rgb[3 * i + c] = image_over_white(rgba[4 * i + c], rgba[4 * i + 3]);
    }
}

void image_palette_init(image_palette *p) {
    memset(p->rgba, 0, sizeof p->rgba);
    for (size_t i = 0; i < 256; i++) p->rgba[i][3] = 255;
}

void image_palette_over_white(image_palette *p) {
    for (size_t i = 0; i < 256; i++) image_rgba_over_white(p->rgba[i], p->rgba[i], 1);
}

void image_palette_apply(uint8_t *rgb, const image_palette *p, const uint8_t *index, size_t n) {
    for (size_t i = 0; i < n; i++) memcpy(rgb + 3 * i, p->rgba[index[i]], 3);
}

/* Replaces the picture by its oriented self. A target pixel (x, y) comes from source pixel start + x*step_x + y*step_y. */
static pali_status orient(image *img, int orientation) {
    if (orientation <= 1) return PALI_OK;
    const size_t w = img->width, h = img->height;
    const ptrdiff_t sw = (ptrdiff_t)w, last_column = sw - 1, last_row = (ptrdiff_t)(w * (h - 1));
    const struct {
        ptrdiff_t start, step_x, step_y;
    } walks[] = {
        {last_column, -1, sw},             /* 2: mirror left-right */
        {last_row + last_column, -1, -sw}, /* 3: rotate by 180 degrees */
        {last_row, 1, -sw},                /* 4: mirror top-bottom */
        {0, sw, 1},                        /* 5: transpose */
        {last_row, -sw, 1},                /* 6: rotate clockwise */
        {last_row + last_column, -sw, -1}, /* 7: transverse */
        {last_column, sw, -1},             /* 8: rotate counter-clockwise */
    };
    const size_t k = (size_t)orientation - 2;
    image turned = {orientation >= 5 ? h : w, orientation >= 5 ? w : h, mem_alloc(w * h, 3)};
    if (!turned.rgb) return status_no_memory(w * h * 3);
    for (size_t y0 = 0; y0 < turned.height; y0 += TILE) {
        for (size_t x0 = 0; x0 < turned.width; x0 += TILE) {
            const size_t y1 = turned.height - y0 < TILE ? turned.height : y0 + TILE;
            const size_t x1 = turned.width - x0 < TILE ? turned.width : x0 + TILE;
            for (size_t y = y0; y < y1; y++) {
                for (size_t x = x0; x < x1; x++) {
                    ptrdiff_t from = walks[k].start + (ptrdiff_t)x * walks[k].step_x + (ptrdiff_t)y * walks[k].step_y;
                    memcpy(turned.rgb + 3 * (y * turned.width + x), img->rgb + 3 * from, 3);
                }
            }
        }
    }
    image_free(img);
    *img = turned;
    return PALI_OK;
}

/* NULL where no codec knows the first bytes. */
static image_decoder *find_decoder(const uint8_t *bytes, size_t n_bytes) {
    if (n_bytes >= 3 && memcmp(bytes, "\xff\xd8\xff", 3) == 0) return image_jpeg_decode;
    if (n_bytes >= 8 && memcmp(bytes, "\x89PNG\r\n\x1a\n", 8) == 0) return image_png_decode;
    if (n_bytes >= 12 && memcmp(bytes, "RIFF", 4) == 0 && memcmp(bytes + 8, "WEBP", 4) == 0) return image_webp_decode;
    if (n_bytes >= 6 && (memcmp(bytes, "GIF87a", 6) == 0 || memcmp(bytes, "GIF89a", 6) == 0)) return image_gif_decode;
    if (n_bytes >= 2 && memcmp(bytes, "BM", 2) == 0) return image_bmp_decode;
    if (n_bytes >= 2 && bytes[0] == 'P' && bytes[1] >= '1' && bytes[1] <= '6') return image_pnm_decode;
    return NULL;
}

pali_status image_decode(image *out, const uint8_t *bytes, size_t n_bytes, const char *name) {
    const image_source src = {bytes, n_bytes, name};
    *out = (image){0};
    if (n_bytes > IMAGE_MAX_FILE_BYTES) {
        return status_fail(PALI_ERR_LIMIT, "%s: %zu bytes, more than the limit of %zu", name, n_bytes, IMAGE_MAX_FILE_BYTES);
    }
    image_decoder *decode = find_decoder(bytes, n_bytes);
    if (!decode) {
        return status_fail(PALI_ERR_UNSUPPORTED, "%s: not a picture in a known format (JPEG, PNG, WebP, GIF, BMP, PBM/PGM/PPM)",
                           name);
    }
    int orientation = 1;
    pali_status s = decode(out, &orientation, &src);
    if (s == PALI_OK) s = orient(out, orientation);
    if (s != PALI_OK) image_free(out);
    return s;
}

pali_status image_load(image *out, const char *path) {
    char *bytes;
    size_t n_bytes;
    *out = (image){0};
    STATUS_TRY(file_read(&bytes, &n_bytes, path, IMAGE_MAX_FILE_BYTES));
    pali_status s = image_decode(out, (const uint8_t *)bytes, n_bytes, path);
    mem_free(bytes);
    return s;
}
