/* exif.c: one tag of a TIFF structure. Anything malformed means "no orientation": a bad tag is no reason to refuse a
 * picture that decodes. */
#include <string.h>

#include "input/codec.h"

static unsigned u16(const uint8_t *p, bool big) {
    return big ? (unsigned)p[0] << 8 | p[1] : (unsigned)p[1] << 8 | p[0];
}

static uint32_t u32(const uint8_t *p, bool big) {
    return big ? (uint32_t)u16(p, true) << 16 | u16(p + 2, true) : (uint32_t)u16(p + 2, false) << 16 | u16(p, false);
}

int exif_orientation(const uint8_t *data, size_t n) {
    if (n >= 6 && memcmp(data, "Exif\0\0", 6) == 0) {
        data += 6;
        n -= 6;
    }
    if (n < 8 || (memcmp(data, "II*\0", 4) != 0 && memcmp(data, "MM\0*", 4) != 0)) return 1;
    bool big = data[0] == 'M';
    size_t at = u32(data + 4, big);
    if (at > n || n - at < 2) return 1;
    size_t count = u16(data + at, big);
    for (at += 2; count-- > 0 && n - at >= 12; at += 12) { /* at <= n always */
        if (u16(data + at, big) != 0x0112) continue;
        unsigned type = u16(data + at + 2, big), value = type == 3 ? u16(data + at + 8, big) : type == 4 ? u32(data + at + 8, big) : 1;
        return u32(data + at + 4, big) == 1 && value >= 1 && value <= 8 ? (int)value : 1;
    }
    return 1;
}
