/* exif.h: the orientation of a picture, from an EXIF block or an XMP packet (spec inference 5.3). */
#ifndef PALI_INPUT_EXIF_H
#define PALI_INPUT_EXIF_H

#include <stddef.h>
#include <stdint.h>

/* 1 to 8; 0: the block has no orientation. A block that cannot be read has none: it must not cost the picture. */
int exif_orientation(const uint8_t *bytes, size_t n_bytes);
/* The same from the text of an XMP packet, which counts only where EXIF is silent. */
int exif_xmp_orientation(const uint8_t *text, size_t n_bytes);

#endif
