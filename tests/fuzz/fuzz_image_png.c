/* fuzz_image_png.c: any bytes as a PNG file, once as they are and once with every chunk's checksum made right, since
 * mutations rarely get past a checksum. */
#include <stdlib.h>
#include <string.h>

#include "input/image_codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint32_t crc32_of(const uint8_t *p, size_t n) {
    uint32_t crc = 0xffffffffu;
    for (size_t i = 0; i < n; i++) {
        crc ^= p[i];
        for (int bit = 0; bit < 8; bit++) crc = crc & 1u ? crc >> 1 ^ 0xedb88320u : crc >> 1;
    }
    return ~crc;
}

static void repair_checksums(uint8_t *p, size_t size) {
    for (size_t at = 8; size >= at + 12;) {
        const size_t n = (size_t)p[at] << 24 | (size_t)p[at + 1] << 16 | (size_t)p[at + 2] << 8 | p[at + 3];
        if (n > size - at - 12) return;
        const uint32_t crc = crc32_of(p + at + 4, n + 4);
        for (size_t i = 0; i < 4; i++) p[at + 8 + n + i] = (uint8_t)(crc >> (24 - 8 * i));
        at += n + 12;
    }
}

static void decode(const uint8_t *data, size_t size) {
    const image_source src = {data, size, "fuzz"};
    image img = {0};
    int orientation = 1;
    (void)image_png_decode(&img, &orientation, &src);
    image_free(&img);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    decode(data, size);
    uint8_t *repaired = malloc(size ? size : 1);
    if (!repaired) return 0;
    if (size > 0) memcpy(repaired, data, size);
    repair_checksums(repaired, size);
    decode(repaired, size);
    free(repaired);
    return 0;
}
