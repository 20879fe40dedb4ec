/* image.h: bytes of a picture file -> 8-bit RGB as the reference sees it (spec inference 5.3): EXIF orientation applied,
 * transparency composited over white, everything else as Pillow's convert("RGB"). */
#ifndef PALI_INPUT_IMAGE_H
#define PALI_INPUT_IMAGE_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

#ifndef IMAGE_MAX_PIXELS /* a build for fuzzing sets less */
#define IMAGE_MAX_PIXELS 178956970u /* Pillow's own hard limit */
#endif
#define IMAGE_MAX_SIDE 1000000u /* resizing holds some eighty bytes of weights per pixel of a side */
#define IMAGE_MAX_FILE_BYTES ((size_t)1 << 30)

/* What a public handle points to; no wrapper around it. */
struct pali_image {
    size_t width, height;
    uint8_t *rgb; /* [height, width, 3] */
};
typedef struct pali_image image;

/* `name` is used in messages only. */
pali_status image_decode(image *out, const uint8_t *bytes, size_t n_bytes, const char *name);
pali_status image_load(image *out, const char *path);
void image_free(image *img);

#endif
