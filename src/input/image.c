/* image.c: which decoder, then orientation and transparency (spec inference 5.3). */
#include "input/image.h"

#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "input/codec.h"

pali_status raster_new(raster *out, size_t width, size_t height, size_t channels, const char *name) {
    size_t pixels;
    if (width == 0 || height == 0) return status_fail(PALI_ERR_FORMAT, "%s: picture of %zu x %zu pixels", name, width, height);
    if (!mem_mul(&pixels, width, height) || pixels > IMAGE_MAX_PIXELS)
        return status_fail(PALI_ERR_LIMIT, "%s: %zu x %zu pixels, more than the limit of %u", name, width, height, IMAGE_MAX_PIXELS);
    *out = (raster){.width = width, .height = height, .channels = channels, .orientation = 1, .data = mem_alloc(pixels, channels)};
    return out->data ? PALI_OK : status_no_memory(pixels * channels);
}

typedef pali_status (*decoder)(raster *out, const bytes *file);

static decoder decoder_find(const bytes *f) {
    const uint8_t *d = f->data;
    if (f->n >= 3 && memcmp(d, "\xff\xd8\xff", 3) == 0) return jpeg_decode;
    if (f->n >= 8 && memcmp(d, "\x89PNG\r\n\x1a\n", 8) == 0) return png_decode;
    if (f->n >= 12 && memcmp(d, "RIFF", 4) == 0 && memcmp(d + 8, "WEBP", 4) == 0) return webp_decode;
    if (f->n >= 6 && (memcmp(d, "GIF87a", 6) == 0 || memcmp(d, "GIF89a", 6) == 0)) return gif_decode;
    if (f->n >= 2 && memcmp(d, "BM", 2) == 0) return bmp_decode;
    if (f->n >= 3 && d[0] == 'P' && d[1] >= '1' && d[1] <= '6') return pnm_decode;
    return NULL;
}

/* Composites over white and drops alpha: the nearest integer of (c a + 255 (255 - a)) / 255. In place, 4 to 3 channels. */
static void flatten(raster *r) {
    size_t n = r->width * r->height;
    for (size_t i = 0; i < n; i++) {
        unsigned a = r->data[i * 4 + 3];
        for (size_t c = 0; c < 3; c++) r->data[i * 3 + c] = (uint8_t)((r->data[i * 4 + c] * a + 255 * (255 - a) + 127) / 255);
    }
    r->channels = 3;
}

/* Orientations of EXIF 0x0112: which corner and direction the stored rows start from. 5 to 8 swap the sides. */
static pali_status orient(raster *r) {
    size_t w = r->width, h = r->height;
    int o = r->orientation;
    if (o <= 1 || o > 8) return PALI_OK;
    bool swap = o >= 5, flip_x = o == 2 || o == 3 || o == 7 || o == 8, flip_y = o == 3 || o == 4 || o == 6 || o == 7;
    size_t out_w = swap ? h : w, out_h = swap ? w : h;
    uint8_t *turned = mem_alloc(w * h, 3);
    if (!turned) return status_no_memory(w * h * 3);
    for (size_t y = 0; y < out_h; y++) {
        for (size_t x = 0; x < out_w; x++) {
            size_t sx = swap ? y : x, sy = swap ? x : y;
            if (flip_x) sx = w - 1 - sx;
            if (flip_y) sy = h - 1 - sy;
            memcpy(turned + (y * out_w + x) * 3, r->data + (sy * w + sx) * 3, 3);
        }
    }
    mem_free(r->data);
    r->data = turned;
    r->width = out_w;
    r->height = out_h;
    return PALI_OK;
}

pali_status image_decode(image *out, const uint8_t *data, size_t n_bytes, const char *name) {
    bytes file = {data, n_bytes, name};
    decoder decode = decoder_find(&file);
    raster r = {0};
    *out = (image){0};
    if (n_bytes > IMAGE_MAX_FILE_BYTES) return status_fail(PALI_ERR_LIMIT, "%s: %zu bytes, more than the limit of %zu", name, n_bytes, IMAGE_MAX_FILE_BYTES);
    if (!decode) return status_fail(PALI_ERR_FORMAT, "%s: not a picture: expected JPEG, PNG, WebP, GIF, BMP or PNM", name);
    pali_status s = decode(&r, &file);
    if (s == PALI_OK) {
        if (r.channels == 4) flatten(&r);
        s = orient(&r);
    }
    if (s != PALI_OK) {
        mem_free(r.data);
        return s;
    }
    *out = (image){r.width, r.height, r.data};
    return PALI_OK;
}

pali_status image_load(image *out, const char *path) {
    char *data;
    size_t n;
    *out = (image){0};
    STATUS_TRY(file_read(&data, &n, path, IMAGE_MAX_FILE_BYTES));
    pali_status s = image_decode(out, (const uint8_t *)data, n, path);
    mem_free(data);
    return s;
}

void image_free(image *img) {
    mem_free(img->rgb);
    *img = (image){0};
}
