/* encode.h: pixels as PNG and JPEG files in memory. */
#ifndef PALI_COMMON_ENCODE_H
#define PALI_COMMON_ENCODE_H

#include <stddef.h>
#include <stdint.h>

#include "common/fault.h"

typedef enum pixel_layout {
    PIXEL_GRAY8,
    PIXEL_RGB24, /* bytes R G B */
    PIXEL_XRGB32 /* cairo's: 32-bit words 0xXXRRGGBB of this machine's byte order */
} pixel_layout;

typedef struct pixels {
    const uint8_t *data; /* [height] rows, stride_bytes apart */
    int32_t width, height;
    size_t stride_bytes;
    pixel_layout layout;
} pixels;

typedef struct encoded {
    uint8_t *data; /* [n_bytes]; free() it */
    size_t n_bytes;
} encoded;

/* Gray stays gray, the others become RGB. */
bool encode_png(encoded *out, const pixels *p, fault *f);
/* Colour at full resolution: at half, as cameras store it, thin coloured lines smear. quality: 1 to 100. */
bool encode_jpeg(encoded *out, const pixels *p, int quality, fault *f);

#endif
