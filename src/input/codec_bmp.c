/* codec_bmp.c: uncompressed BMP: 1, 4, 8 bits with palette, 16, 24 and 32 bits plain or with masks. */
#include <string.h>

#include "base/mem.h"
#include "input/codec.h"

typedef struct header {
    size_t pixels_at, palette_at, n_palette, palette_entry; /* bytes per entry: 3 (OS/2) or 4 */
    size_t width, height;
    bool top_down;
    unsigned bits;
    uint32_t masks[4]; /* red, green, blue, alpha; 0 for palettes */
} header;

static uint32_t u16(const uint8_t *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8;
}

static uint32_t u32(const uint8_t *p) {
    return u16(p) | u16(p + 2) << 16;
}

static pali_status bad(const bytes *file, const char *what) {
    return status_fail(PALI_ERR_FORMAT, "%s: BMP: %s", file->name, what);
}

static pali_status header_read(header *h, const bytes *file) {
    const uint8_t *d = file->data;
    if (file->n < 26) return bad(file, "truncated header");
    size_t info = u32(d + 14), used = 0;
    uint32_t compression = 0;
    *h = (header){.pixels_at = u32(d + 10), .palette_entry = 4};
    if (info == 12) { /* OS/2 */
        h->width = u16(d + 18);
        h->height = u16(d + 20);
        h->bits = u16(d + 24);
        h->palette_entry = 3;
    } else {
        if (info < 40 || info > 256 || file->n < 14 + info) return bad(file, "unknown or truncated header");
        int64_t height = (int32_t)u32(d + 22), width = (int32_t)u32(d + 18);
        if (width <= 0 || height == 0) return bad(file, "size is not positive");
        h->top_down = height < 0;
        h->width = (size_t)width;
        h->height = (size_t)(height < 0 ? -height : height);
        h->bits = u16(d + 28);
        compression = u32(d + 30);
        used = u32(d + 46);
    }
    if (compression != 0 && compression != 3 && compression != 6)
        return status_fail(PALI_ERR_UNSUPPORTED, "%s: BMP: compression %u is not supported", file->name, (unsigned)compression);
    h->palette_at = 14 + info;
    if (h->bits == 1 || h->bits == 4 || h->bits == 8) {
        h->n_palette = used ? used : (size_t)1 << h->bits;
        if (h->n_palette > 256 || h->palette_at + h->n_palette * h->palette_entry > file->n) return bad(file, "truncated palette");
        return PALI_OK;
    }
    if (h->bits != 16 && h->bits != 24 && h->bits != 32) return bad(file, "unknown depth");
    static const uint32_t k_555[] = {0x7c00, 0x3e0, 0x1f, 0}, k_888[] = {0xff0000, 0xff00, 0xff, 0};
    memcpy(h->masks, h->bits == 16 ? k_555 : k_888, sizeof h->masks);
    if (compression != 0 && h->bits != 24) {
        size_t n = compression == 6 || info >= 56 ? 4 : 3; /* masks follow the 40 bytes, inside longer headers */
        if (file->n < 54 + n * 4) return bad(file, "truncated masks");
        h->masks[3] = 0;
        for (size_t i = 0; i < n; i++) h->masks[i] = u32(d + 54 + i * 4);
    }
    return PALI_OK;
}

/* The bits of a mask, scaled to 0..255. */
static uint8_t masked(uint32_t value, uint32_t mask) {
    if (!mask) return 0;
    int shift = __builtin_ctz(mask);
    uint64_t top = mask >> shift, part = (value & mask) >> shift;
    return (uint8_t)(part * 255 / top);
}

static pali_status row_read(uint8_t *to, const uint8_t *from, const header *h, const bytes *file, size_t channels) {
    for (size_t x = 0; x < h->width; x++, to += channels) {
        if (h->n_palette) {
            size_t bit = x * h->bits, index = from[bit / 8] >> (8 - h->bits - bit % 8) & ((1u << h->bits) - 1);
            const uint8_t *entry = file->data + h->palette_at + index * h->palette_entry;
            if (index >= h->n_palette) return bad(file, "a colour outside the palette");
            to[0] = entry[2];
            to[1] = entry[1];
            to[2] = entry[0];
            continue;
        }
        const uint8_t *p = from + x * h->bits / 8;
        uint32_t value = h->bits == 16 ? u16(p) : h->bits == 24 ? u16(p) | (uint32_t)p[2] << 16 : u32(p);
        for (size_t c = 0; c < channels; c++) to[c] = masked(value, h->masks[c]);
    }
    return PALI_OK;
}

pali_status bmp_decode(raster *out, const bytes *file) {
    header h = {0};
    STATUS_TRY(header_read(&h, file));
    size_t channels = h.masks[3] ? 4 : 3, stride = (h.width * h.bits + 31) / 32 * 4; /* width < 2^31, bits <= 32 */
    STATUS_TRY(raster_new(out, h.width, h.height, channels, file->name));
    if (h.pixels_at > file->n || stride * h.height > file->n - h.pixels_at) return bad(file, "truncated");
    for (size_t y = 0; y < h.height; y++) {
        size_t row = h.top_down ? y : h.height - 1 - y;
        STATUS_TRY(row_read(out->data + row * h.width * channels, file->data + h.pixels_at + y * stride, &h, file, channels));
    }
    return PALI_OK;
}
