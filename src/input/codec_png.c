/* codec_png.c: PNG by libpng's low-level interface. 16-bit grey keeps its values and is clipped, other 16-bit samples keep
 * their high byte, as Pillow does; transparency of every kind becomes an alpha channel. */
#include <setjmp.h>
#include <string.h>

#include <png.h>

#include "base/mem.h"
#include "input/codec.h"

typedef struct source {
    const bytes *file;
    size_t at;
    pali_status status;
    uint8_t **rows; /* here, because a longjmp may skip the end of decode */
} source;

static void on_error(png_structp png, png_const_charp text) {
    source *s = png_get_error_ptr(png);
    s->status = status_fail(PALI_ERR_FORMAT, "%s: PNG: %s", s->file->name, text);
    png_longjmp(png, 1);
}

static void on_warning(png_structp png, png_const_charp text) {
    (void)png;
    (void)text;
}

static void on_read(png_structp png, png_bytep to, size_t n) {
    source *s = png_get_io_ptr(png);
    if (n > s->file->n - s->at) png_error(png, "truncated");
    memcpy(to, s->file->data + s->at, n);
    s->at += n;
}

/* Everything after the structs exist. */
static pali_status decode(raster *out, png_structp png, png_infop info, source *s, const bytes *file) {
    png_set_user_limits(png, IMAGE_MAX_PIXELS, IMAGE_MAX_PIXELS);
    png_set_chunk_cache_max(png, 128);
    png_set_chunk_malloc_max(png, 16u << 20);
    png_read_info(png, info);
    size_t width = png_get_image_width(png, info), height = png_get_image_height(png, info);
    int type = png_get_color_type(png, info), depth = png_get_bit_depth(png, info);
    bool grey16 = type == PNG_COLOR_TYPE_GRAY && depth == 16, transparent = png_get_valid(png, info, PNG_INFO_tRNS) != 0;
    if (type == PNG_COLOR_TYPE_PALETTE) png_set_palette_to_rgb(png);
    if (type == PNG_COLOR_TYPE_GRAY && depth < 8) png_set_expand_gray_1_2_4_to_8(png);
    if (transparent && depth < 16) png_set_tRNS_to_alpha(png); /* a 16-bit colour key matches no 8-bit pixel in Pillow */
    if (depth == 16 && !grey16) png_set_strip_16(png);
    if (!(type & PNG_COLOR_MASK_COLOR) && !grey16) png_set_gray_to_rgb(png);
    (void)png_set_interlace_handling(png);
    png_read_update_info(png, info);
    size_t channels = grey16 ? 3 : png_get_channels(png, info);
    if (channels != 3 && channels != 4) return status_fail(PALI_ERR_INTERNAL, "%s: PNG: %zu channels", file->name, channels);
    STATUS_TRY(raster_new(out, width, height, channels, file->name));
    s->rows = mem_alloc(height, sizeof *s->rows);
    if (!s->rows) return status_no_memory(height * sizeof *s->rows);
    /* 2 bytes of grey fit into the 3 of RGB: such rows are read to their end and spread from the front. */
    for (size_t y = 0; y < height; y++) s->rows[y] = out->data + y * width * channels + (grey16 ? width : 0);
    png_read_image(png, s->rows);
    png_read_end(png, info);
    for (size_t y = 0; y < height && grey16; y++) {
        const uint8_t *from = s->rows[y];
        uint8_t *to = out->data + y * width * 3;
        for (size_t x = 0; x < width; x++) {
            uint8_t value = from[2 * x] ? 255 : from[2 * x + 1];
            to[3 * x] = to[3 * x + 1] = to[3 * x + 2] = value;
        }
    }
    png_bytep exif = NULL;
    png_uint_32 n_exif = 0;
    if (png_get_eXIf_1(png, info, &n_exif, &exif)) out->orientation = exif_orientation(exif, n_exif);
    return PALI_OK;
}

pali_status png_decode(raster *out, const bytes *file) {
    source s = {.file = file};
    png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &s, on_error, on_warning);
    png_infop info = png ? png_create_info_struct(png) : NULL;
    if (!info) {
        png_destroy_read_struct(&png, NULL, NULL);
        return status_no_memory(sizeof(void *));
    }
    if (setjmp(png_jmpbuf(png)) == 0) {
        png_set_read_fn(png, &s, on_read);
        s.status = decode(out, png, info, &s, file);
    }
    png_destroy_read_struct(&png, &info, NULL);
    mem_free(s.rows);
    return s.status;
}
