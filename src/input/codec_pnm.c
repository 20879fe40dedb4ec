/* codec_pnm.c: PBM, PGM, PPM, plain (P1 to P3) and raw (P4 to P6). Values are scaled to 0..255, but grey of more than 8 bits
 * keeps its values and is clipped, as Pillow does. */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "input/codec.h"

typedef struct reader {
    const bytes *file;
    size_t at;
} reader;

static pali_status bad(const bytes *file, const char *what) {
    return status_fail(PALI_ERR_FORMAT, "%s: PNM: %s", file->name, what);
}

static bool is_space(uint8_t c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* White space and comments up to the next token. */
static void skip(reader *r) {
    while (r->at < r->file->n) {
        uint8_t c = r->file->data[r->at];
        if (c == '#')
            while (r->at < r->file->n && r->file->data[r->at] != '\n') r->at++;
        else if (is_space(c))
            r->at++;
        else
            return;
    }
}

static pali_status number(reader *r, size_t *out) {
    size_t digits = 0;
    *out = 0;
    skip(r);
    for (; r->at < r->file->n && r->file->data[r->at] >= '0' && r->file->data[r->at] <= '9'; r->at++, digits++) {
        if (digits == 9) return bad(r->file, "a number is too long");
        *out = *out * 10 + (size_t)(r->file->data[r->at] - '0');
    }
    return digits ? PALI_OK : bad(r->file, "expected a number (truncated?)");
}

/* The next sample of rows that are not bitmaps. */
static pali_status sample(reader *r, size_t *out, bool plain, size_t max) {
    if (plain) {
        STATUS_TRY(number(r, out));
    } else {
        size_t n = max > 255 ? 2 : 1;
        if (r->file->n - r->at < n) return bad(r->file, "truncated");
        *out = n == 2 ? (size_t)r->file->data[r->at] << 8 | r->file->data[r->at + 1] : r->file->data[r->at];
        r->at += n;
    }
    return *out <= max ? PALI_OK : bad(r->file, "a value is above the maximum");
}

static uint8_t scaled(size_t value, size_t max, bool grey) {
    if (max == 255) return (uint8_t)value;
    if (grey && max > 255) { /* Pillow: scaled to 16 bits, then clipped */
        double wide = nearbyint((double)value / (double)max * 65535);
        return wide > 255 ? 255 : (uint8_t)wide;
    }
    return (uint8_t)nearbyint((double)value / (double)max * 255);
}

static pali_status bitmap_read(raster *out, reader *r, bool plain) {
    for (size_t y = 0; y < out->height; y++) {
        for (size_t x = 0; x < out->width; x++) {
            bool black;
            if (plain) {
                skip(r);
                if (r->at == r->file->n) return bad(r->file, "truncated");
                uint8_t c = r->file->data[r->at++];
                if (c != '0' && c != '1') return bad(r->file, "expected 0 or 1");
                black = c == '1';
            } else {
                size_t stride = (out->width + 7) / 8, at = r->at + y * stride + x / 8;
                if (at >= r->file->n) return bad(r->file, "truncated");
                black = r->file->data[at] >> (7 - x % 8) & 1;
            }
            memset(out->data + (y * out->width + x) * 3, black ? 0 : 255, 3);
        }
    }
    return PALI_OK;
}

pali_status pnm_decode(raster *out, const bytes *file) {
    reader r = {file, 2};
    int kind = file->data[1] - '0';
    bool plain = kind <= 3, bitmap = kind == 1 || kind == 4, grey = kind == 2 || kind == 5;
    size_t width, height, max = 1;
    STATUS_TRY(number(&r, &width));
    STATUS_TRY(number(&r, &height));
    if (!bitmap) STATUS_TRY(number(&r, &max));
    if (max == 0 || max > 65535) return bad(file, "maximum is not between 1 and 65535");
    if (r.at >= file->n || !is_space(file->data[r.at++])) return bad(file, "truncated header");
    STATUS_TRY(raster_new(out, width, height, 3, file->name));
    if (bitmap) return bitmap_read(out, &r, plain);
    for (size_t i = 0; i < width * height; i++) {
        for (size_t c = 0; c < (grey ? 1u : 3u); c++) {
            size_t value;
            STATUS_TRY(sample(&r, &value, plain, max));
            out->data[i * 3 + c] = scaled(value, max, grey);
        }
        if (grey) out->data[i * 3 + 1] = out->data[i * 3 + 2] = out->data[i * 3];
    }
    return PALI_OK;
}
