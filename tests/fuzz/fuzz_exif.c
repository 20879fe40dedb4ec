/* fuzz_exif.c: any bytes as an EXIF block and as an XMP packet; the result is always a known orientation or none. */
#include <stdlib.h>

#include "input/exif.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const int exif = exif_orientation(data, size), xmp = exif_xmp_orientation(data, size);
    if (exif < 0 || exif > 8 || xmp < 0 || xmp > 8) abort();
    return 0;
}
