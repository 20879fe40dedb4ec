/* rle.h: COCO's run-length masks as compressed strings.
 *
 * A mask is read column by column, top to bottom, as runs of zeros, ones, zeros, ... (the first may be empty). Each count,
 * from the fourth on less the count two before it, is a signed number in groups of 5 bits, low ones first, with 0x20 where
 * more follow, and each group a character from '0' on. */
#ifndef PALI_IO_RLE_H
#define PALI_IO_RLE_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* The runs of mask [height, width] >= threshold; mem_free. */
pali_status rle_encode(char **out, const uint8_t *mask, size_t width, size_t height, uint8_t threshold);
/* [height, width] of 0 and 255 (mem_free) from a string, which is checked. width * height must not overflow. */
pali_status rle_decode(uint8_t **out, const char *counts, size_t width, size_t height);

#endif
