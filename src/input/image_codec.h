/* image_codec.h: what the picture codecs share. Each decoder turns a file's first picture into 8-bit RGB, composited over
 * white, and reports the EXIF orientation (1 to 8, 1 where there is none); image.c applies it. */
#ifndef PALI_INPUT_IMAGE_CODEC_H
#define PALI_INPUT_IMAGE_CODEC_H

#include "input/image.h"

typedef struct image_source {
    const uint8_t *bytes;
    size_t n_bytes;
    const char *name; /* for messages */
} image_source;

typedef pali_status image_decoder(image *out, int *orientation, const image_source *src);
image_decoder image_jpeg_decode, image_png_decode, image_webp_decode, image_gif_decode, image_bmp_decode, image_pnm_decode;

/* Checks the size against the limits, then makes out->rgb [height, width, 3]; not cleared, so that a header's lie about the
 * size costs address space only. */
pali_status image_alloc(image *out, size_t width, size_t height, const image_source *src);

/* One channel over white: the nearest integer of (c * a + 255 * (255 - a)) / 255, which is what Pillow's
 * alpha_composite yields on an opaque white ground. */
static inline uint8_t image_over_white(unsigned c, unsigned a) {
    return (uint8_t)((c * a + 255u * (255u - a) + 127u) / 255u);
}
/* rgb [n, 3] from rgba [n, 4]; they may begin at the same place. */
void image_rgba_over_white(uint8_t *rgb, const uint8_t *rgba, size_t n);

/* A colour table with alpha; entries that a file does not give are opaque black, as in Pillow. */
typedef struct image_palette {
    uint8_t rgba[256][4];
} image_palette;
void image_palette_init(image_palette *p);
/* Composites every entry; its alpha has served then. */
void image_palette_over_white(image_palette *p);
/* rgb [n, 3] from index [n]: the entries' colours as they are. */
void image_palette_apply(uint8_t *rgb, const image_palette *p, const uint8_t *index, size_t n);

#endif
