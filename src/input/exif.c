/* exif.c: finds tag 0x0112 in the first directory of the TIFF structure that EXIF is (spec inference 5.3).
 *
 * It reads what Pillow reads: the first value of an integer entry of any width, the last entry where the tag occurs twice,
 * one or two "Exif\0\0" prefixes, byte order marks with a misplaced magic number. */
#include "input/exif.h"

#include <stdbool.h>
#include <string.h>

#define ORIENTATION_TAG 0x0112u
#define TYPE_SHORT 3u
#define TYPE_LONG 4u
#define TYPE_SSHORT 8u
#define TYPE_SLONG 9u

typedef struct tiff {
    const uint8_t *bytes;
    size_t n_bytes;
    bool big_endian;
} tiff;

/* n_bytes of 2 or 4 at an offset; the caller has checked the bounds. */
static uint32_t tiff_read(const tiff *t, size_t offset, size_t n_bytes) {
    uint32_t v = 0;
    for (size_t i = 0; i < n_bytes; i++) v = v << 8 | t->bytes[offset + (t->big_endian ? i : n_bytes - 1 - i)];
    return v;
}

/* The orientation that the entry at `offset` gives, or 0 where its data lie outside the block. */
static int entry_orientation(const tiff *t, size_t offset) {
    uint32_t type = tiff_read(t, offset + 2, 2), count = tiff_read(t, offset + 4, 4);
    size_t size = type == TYPE_SHORT || type == TYPE_SSHORT ? 2 : type == TYPE_LONG || type == TYPE_SLONG ? 4 : 0;
    if (count == 0) return 0;
    if (size == 0) return 1; /* there, but not a number that means a rotation */
    size_t at = offset + 8;
    if (count > 4 / size) {
        at = tiff_read(t, at, 4);
        if (at > t->n_bytes || (t->n_bytes - at) / size < count) return 0;
    }
    uint32_t value = tiff_read(t, at, size);
    return value >= 1 && value <= 8 ? (int)value : 1;
}

int exif_orientation(const uint8_t *bytes, size_t n_bytes) {
    static const uint8_t prefix[6] = {'E', 'x', 'i', 'f', 0, 0};
    for (int i = 0; i < 2 && n_bytes >= sizeof prefix && memcmp(bytes, prefix, sizeof prefix) == 0; i++) {
        bytes += sizeof prefix;
        n_bytes -= sizeof prefix;
    }
    if (n_bytes < 8) return 0;
    tiff t = {bytes, n_bytes, bytes[0] == 'M'};
    bool order = memcmp(bytes, "II", 2) == 0 || memcmp(bytes, "MM", 2) == 0;
    bool magic = memcmp(bytes + 2, "*\0", 2) == 0 || memcmp(bytes + 2, "\0*", 2) == 0;
    if (!order || !magic) return 0;

    size_t at = tiff_read(&t, 4, 4);
    if (at > n_bytes || n_bytes - at < 2) return 0;
    size_t n_entries = tiff_read(&t, at, 2), room = (n_bytes - at - 2) / 12;
    int orientation = 0;
    for (size_t i = 0; i < n_entries && i < room; i++) {
        size_t entry = at + 2 + 12 * i;
        if (tiff_read(&t, entry, 2) != ORIENTATION_TAG) continue;
        int found = entry_orientation(&t, entry);
        if (found) orientation = found;
    }
    return orientation;
}

int exif_xmp_orientation(const uint8_t *text, size_t n_bytes) {
    static const char key[] = "tiff:Orientation";
    const size_t n_key = sizeof key - 1;
    for (size_t i = 0; n_bytes > n_key + 1 && i < n_bytes - n_key - 1; i++) {
        if (text[i] != 't' || memcmp(text + i, key, n_key) != 0) continue;
        size_t at = i + n_key; /* attribute ="6" or element >6 */
        if (text[at] == '=' && text[at + 1] == '"') at++;
        else if (text[at] != '>') continue;
        at++;
        if (at < n_bytes && text[at] >= '0' && text[at] <= '9') return text[at] >= '1' && text[at] <= '8' ? text[at] - '0' : 1;
    }
    return 0;
}
