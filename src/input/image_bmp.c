/* image_bmp.c: Windows and OS/2 bitmaps of 1, 4, 8, 16, 24 and 32 bits, RLE4 and RLE8, as Pillow reads them.
 *
 * The fourth byte of a 32-bit pixel is alpha only where a bit mask says so. Rows run upwards unless the height is negative.
 * A run-length stream is laid out as one sequence of pixels; a run is cut at the end of its row, literal pixels are not. */
#include <stdbool.h>
#include <string.h>

#include "base/mem.h"
#include "input/image_codec.h"

#define FILE_HEADER_BYTES 14u
#define MAX_COLORS 65536u

enum { BMP_RAW = 0, BMP_RLE8 = 1, BMP_RLE4 = 2, BMP_BITFIELDS = 3 };

typedef struct bmp_header {
    size_t width, height, n_bits;
    uint32_t compression;
    bool is_top_down;
    uint32_t masks[4]; /* red, green, blue, alpha; used by 16 and 32 bits */
    size_t pixels_at;
    image_palette palette;
} bmp_header;

static uint32_t read_u16(const uint8_t *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8;
}

static uint32_t read_u32(const uint8_t *p) {
    return read_u16(p) | read_u16(p + 2) << 16;
}

static pali_status ends_early(const image_source *src) {
    return status_fail(PALI_ERR_FORMAT, "%s: BMP: the file ends before the picture does", src->name);
}

static pali_status unsupported(const image_source *src, const char *what, uint32_t value) {
    return status_fail(PALI_ERR_UNSUPPORTED, "%s: BMP: %s: %u is not supported", src->name, what, (unsigned)value);
}

static const uint32_t k_mask_555[4] = {0x7c00, 0x3e0, 0x1f, 0}, k_mask_565[4] = {0xf800, 0x7e0, 0x1f, 0};
static const uint32_t k_mask_bgr[4] = {0xff0000, 0xff00, 0xff, 0}, k_mask_bgra[4] = {0xff0000, 0xff00, 0xff, 0xff000000};

/* 16 bits: 5-5-5 or 5-6-5; 24 bits: the plain order; 32 bits: any order of whole bytes. */
static bool are_masks_known(const uint32_t *m, size_t n_bits) {
    const size_t n_rgb_bytes = 3 * sizeof *m;
    if (n_bits == 16) return memcmp(m, k_mask_555, n_rgb_bytes) == 0 || memcmp(m, k_mask_565, n_rgb_bytes) == 0;
    if (n_bits == 24) return memcmp(m, k_mask_bgr, n_rgb_bytes) == 0;
    for (size_t i = 0; i < 4; i++) {
        const bool is_byte = m[i] == 0xff || m[i] == 0xff00 || m[i] == 0xff0000 || m[i] == 0xff000000;
        if (!is_byte && (i < 3 || m[i] != 0)) return false;
    }
    return true;
}

/* Bit masks lie inside headers of 52 bytes and more (alpha from 56), behind shorter ones. All zero means BGRA. */
static pali_status read_masks(bmp_header *h, size_t *at, size_t header_bytes, const image_source *src) {
    memcpy(h->masks, h->n_bits == 16 ? k_mask_555 : k_mask_bgr, sizeof h->masks);
    if (h->compression != BMP_BITFIELDS) return PALI_OK;
    if (h->n_bits < 16) return unsupported(src, "bit masks for a pixel depth in bits", (uint32_t)h->n_bits);

    const size_t from = FILE_HEADER_BYTES + 40, n_masks = header_bytes >= 56 ? 4 : 3;
    if (header_bytes < 52) {
        *at += 12;
        if (*at > src->n_bytes) return ends_early(src);
    }
    h->masks[3] = 0;
    for (size_t i = 0; i < n_masks; i++) h->masks[i] = read_u32(src->bytes + from + 4 * i);
    const uint32_t *m = h->masks;
    if (h->n_bits == 32 && (m[0] | m[1] | m[2] | m[3]) == 0) memcpy(h->masks, k_mask_bgra, sizeof h->masks);
    if (!are_masks_known(m, h->n_bits)) {
        return status_fail(PALI_ERR_UNSUPPORTED, "%s: BMP: the bit masks %08x %08x %08x %08x are not supported", src->name,
                           (unsigned)m[0], (unsigned)m[1], (unsigned)m[2], (unsigned)m[3]);
    }
    return PALI_OK;
}

static pali_status read_header(bmp_header *h, const image_source *src) {
    const uint8_t *bytes = src->bytes;
    if (src->n_bytes < FILE_HEADER_BYTES + 4) return ends_early(src);
    const size_t header_bytes = read_u32(bytes + FILE_HEADER_BYTES), pixels_at = read_u32(bytes + 10);
    const bool is_os2 = header_bytes == 12;
    if (!is_os2 && header_bytes != 40 && header_bytes != 52 && header_bytes != 56 && header_bytes != 64 &&
        header_bytes != 108 && header_bytes != 124) {
        return unsupported(src, "header size in bytes", (uint32_t)header_bytes);
    }
    if (src->n_bytes < FILE_HEADER_BYTES + header_bytes) return ends_early(src);

    const uint8_t *p = bytes + FILE_HEADER_BYTES;
    size_t n_colors = 0, n_color_bytes = is_os2 ? 3 : 4, at = FILE_HEADER_BYTES + header_bytes;
    if (is_os2) {
        h->width = read_u16(p + 4);
        h->height = read_u16(p + 6);
        h->n_bits = read_u16(p + 10);
    } else {
        h->is_top_down = p[11] == 0xff;
        h->width = read_u32(p + 4);
        h->height = h->is_top_down ? 0u - read_u32(p + 8) : read_u32(p + 8);
        h->n_bits = read_u16(p + 14);
        h->compression = read_u32(p + 16);
        n_colors = read_u32(p + 32);
    }
    const size_t bits = h->n_bits;
    if (bits != 1 && bits != 4 && bits != 8 && bits != 16 && bits != 24 && bits != 32) {
        return unsupported(src, "pixel depth in bits", (uint32_t)bits);
    }
    if (h->compression > BMP_BITFIELDS || (h->compression == BMP_RLE8 && bits != 8) || (h->compression == BMP_RLE4 && bits != 4)) {
        return unsupported(src, "compression", h->compression);
    }
    STATUS_TRY(read_masks(h, &at, header_bytes, src));
    image_palette_init(&h->palette);
    size_t colors_at = at;
    if (bits <= 8) {
        if (n_colors == 0) n_colors = (size_t)1 << bits;
        if (n_colors > MAX_COLORS) return unsupported(src, "palette size", (uint32_t)n_colors);
        at += n_colors * n_color_bytes;
        if (at > src->n_bytes) return ends_early(src);
        for (size_t i = 0; i < n_colors && i < 256; i++) {
            for (size_t c = 0; c < 3; c++) h->palette.rgba[i][c] = bytes[colors_at + i * n_color_bytes + 2 - c];
        }
    }
    /* Some writers leave the palette out of the offset, others leave the offset out. */
    const bool is_before_palette = pixels_at == FILE_HEADER_BYTES + header_bytes && bits <= 8;
    h->pixels_at = pixels_at == 0 || is_before_palette ? at : pixels_at;
    return PALI_OK;
}

/* A 32-bit pixel has whole-byte masks; a 16-bit one spreads its 5 or 6 bits over 0..255, rounding down. */
static uint8_t masked_channel(uint32_t pixel, uint32_t mask) {
    if (mask == 0) return 255;
    const int shift = __builtin_ctz(mask);
    const uint32_t top = mask >> shift;
    return (uint8_t)(((pixel & mask) >> shift) * 255u / top);
}

static void convert_row(const bmp_header *h, uint8_t *rgb, const uint8_t *row) {
    for (size_t x = 0; x < h->width; x++, rgb += 3) {
        if (h->n_bits <= 8) {
            const size_t bit = x * h->n_bits;
            const uint8_t index = (uint8_t)((row[bit / 8] >> (8 - h->n_bits - bit % 8)) & ((1u << h->n_bits) - 1u));
            memcpy(rgb, h->palette.rgba[index], 3);
        } else if (h->n_bits == 24) {
            rgb[0] = row[3 * x + 2];
            rgb[1] = row[3 * x + 1];
            rgb[2] = row[3 * x];
        } else {
            const uint32_t pixel = h->n_bits == 16 ? read_u16(row + 2 * x) : read_u32(row + 4 * x);
            const uint8_t alpha = h->n_bits == 32 ? masked_channel(pixel, h->masks[3]) : 255;
            for (size_t c = 0; c < 3; c++) rgb[c] = image_over_white(masked_channel(pixel, h->masks[c]), alpha);
        }
    }
}

static pali_status read_raw(const bmp_header *h, image *out, const image_source *src) {
    const size_t n_row_bits = h->width * h->n_bits, n_row_bytes = (n_row_bits + 31) / 32 * 4;
    const size_t n_needed = n_row_bytes * (h->height - 1) + (n_row_bits + 7) / 8; /* the last row needs no padding */
    if (h->pixels_at > src->n_bytes || src->n_bytes - h->pixels_at < n_needed) return ends_early(src);
    for (size_t y = 0; y < h->height; y++) {
        uint8_t *rgb = out->rgb + 3 * h->width * (h->is_top_down ? y : h->height - 1 - y);
        convert_row(h, rgb, src->bytes + h->pixels_at + y * n_row_bytes);
    }
    return PALI_OK;
}

/* Colour indices in file order from a run-length stream into index[n]; all of them must be there. */
static pali_status read_runs(const bmp_header *h, uint8_t *index, size_t n, const image_source *src) {
    const bool is_4_bits = h->compression == BMP_RLE4;
    size_t at = h->pixels_at, used = 0, column = 0;
    while (used < n) {
        if (at > src->n_bytes || src->n_bytes - at < 2) return ends_early(src);
        const size_t count = src->bytes[at], value = src->bytes[at + 1], room = n - used;
        at += 2;
        if (count > 0) { /* a run of one colour, or of two in turn */
            size_t n_run = column >= h->width ? 0 : count < h->width - column ? count : h->width - column;
            for (size_t i = 0; i < n_run && i < room; i++) {
                index[used++] = (uint8_t)(is_4_bits ? (i % 2 ? value & 15 : value >> 4) : value);
            }
            column += n_run;
        } else if (value == 0) { /* end of the row */
            while (used % h->width != 0) index[used++] = 0;
            column = 0;
        } else if (value == 1) { /* end of the picture */
            return ends_early(src);
        } else if (value == 2) { /* a jump to the right and up, filled with colour 0 */
            if (src->n_bytes - at < 2) return ends_early(src);
            size_t n_jump = src->bytes[at] + src->bytes[at + 1] * h->width;
            if (n_jump > room) n_jump = room;
            memset(index + used, 0, n_jump);
            at += 2;
            used += n_jump;
            column = used % h->width;
        } else { /* literal pixels, padded to an even place in the file */
            const size_t n_literal = value < room ? value : room, n_bytes = is_4_bits ? (n_literal + 1) / 2 : n_literal;
            if (src->n_bytes - at < n_bytes) return ends_early(src);
            for (size_t i = 0; i < n_literal; i++) {
                const uint8_t byte = src->bytes[at + (is_4_bits ? i / 2 : i)];
                index[used++] = (uint8_t)(is_4_bits ? (i % 2 ? byte & 15 : byte >> 4) : byte);
            }
            at += n_bytes;
            at += at % 2;
            column += value;
        }
    }
    return PALI_OK;
}

static pali_status read_rle(const bmp_header *h, image *out, const image_source *src) {
    const size_t n = h->width * h->height;
    uint8_t *index = mem_alloc(n, 1);
    if (!index) return status_no_memory(n);
    pali_status s = read_runs(h, index, n, src);
    for (size_t y = 0; s == PALI_OK && y < h->height; y++) {
        uint8_t *rgb = out->rgb + 3 * h->width * (h->is_top_down ? y : h->height - 1 - y);
        image_palette_apply(rgb, &h->palette, index + y * h->width, h->width);
    }
    mem_free(index);
    return s;
}

pali_status image_bmp_decode(image *out, int *orientation, const image_source *src) {
    bmp_header h;
    memset(&h, 0, sizeof h);
    (void)orientation; /* BMP has none */
    STATUS_TRY(read_header(&h, src));
    STATUS_TRY(image_alloc(out, h.width, h.height, src));
    return h.compression == BMP_RLE8 || h.compression == BMP_RLE4 ? read_rle(&h, out, src) : read_raw(&h, out, src);
}
