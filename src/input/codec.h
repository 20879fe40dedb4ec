/* codec.h: what the picture decoders share. Each turns a file into 8-bit RGB or RGBA; image.c does the rest. */
#ifndef PALI_INPUT_CODEC_H
#define PALI_INPUT_CODEC_H

#include <stdbool.h>

#include "input/image.h"

typedef struct raster {
    size_t width, height, channels; /* 3, or 4 with alpha (not premultiplied) */
    uint8_t *data;                  /* [height, width, channels] */
    int orientation;                /* EXIF 0x0112, 1 to 8; 1 if there is none */
} raster;

typedef struct bytes {
    const uint8_t *data;
    size_t n;
    const char *name; /* for messages */
} bytes;

/* Sets the size after checking it against the limits, and allocates the data. */
pali_status raster_new(raster *out, size_t width, size_t height, size_t channels, const char *name);

/* Orientation in a TIFF structure, optionally behind "Exif\0\0"; 1 if absent or malformed, as a viewer would. */
int exif_orientation(const uint8_t *data, size_t n);

pali_status jpeg_decode(raster *out, const bytes *file);
pali_status png_decode(raster *out, const bytes *file);
pali_status webp_decode(raster *out, const bytes *file);
pali_status gif_decode(raster *out, const bytes *file);
pali_status bmp_decode(raster *out, const bytes *file);
pali_status pnm_decode(raster *out, const bytes *file);

#endif
