/* image_pnm.c: PBM, PGM and PPM, plain (P1 - P3) and raw (P4 - P6), as Pillow reads them.
 *
 * Samples are scaled from the file's maximum to 255 (rounded half to even); a grey picture with a maximum above 255 is
 * scaled to 65535 instead and then clipped, not scaled, to 8 bits (spec inference 5.3). In plain files a comment may stand
 * anywhere, even inside a number. */
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "base/mem.h"
#include "input/image_codec.h"

#define MAX_TOKEN_BYTES 10u

typedef struct pnm_reader {
    const image_source *src;
    size_t at;
    uint8_t *table; /* [max_value + 1]: sample -> byte */
} pnm_reader;

static bool is_space(uint8_t c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static pali_status ends_early(const pnm_reader *r) {
    return status_fail(PALI_ERR_FORMAT, "%s: PNM: the file ends before the picture does", r->src->name);
}

static void skip_comment(pnm_reader *r) {
    while (r->at < r->src->n_bytes && r->src->bytes[r->at] != '\n' && r->src->bytes[r->at] != '\r') r->at++;
    if (r->at < r->src->n_bytes) r->at++;
}

/* The next decimal number, and the one character behind it. */
static pali_status read_number(pnm_reader *r, uint64_t *out, const char *what) {
    size_t n = 0;
    *out = 0;
    for (;;) {
        if (r->at == r->src->n_bytes) break;
        const uint8_t c = r->src->bytes[r->at++];
        if (c == '#') {
            skip_comment(r);
        } else if (is_space(c)) {
            if (n > 0) break;
        } else if (c < '0' || c > '9' || n == MAX_TOKEN_BYTES) {
            return status_fail(PALI_ERR_FORMAT, "%s: PNM: %s: expected a number of at most %u digits", r->src->name, what,
                               MAX_TOKEN_BYTES);
        } else {
            *out = *out * 10 + (unsigned)(c - '0');
            n++;
        }
    }
    return n > 0 ? PALI_OK : ends_early(r);
}

static pali_status make_table(pnm_reader *r, uint64_t max_value, bool is_grey) {
    if (max_value == 0 || max_value > 65535) {
        return status_fail(PALI_ERR_FORMAT, "%s: PNM: maximum %llu: expected 1 to 65535", r->src->name,
                           (unsigned long long)max_value);
    }
    const double top = is_grey && max_value > 255 ? 65535.0 : 255.0;
    r->table = mem_alloc((size_t)max_value + 1, 1);
    if (!r->table) return status_no_memory((size_t)max_value + 1);
    for (uint64_t v = 0; v <= max_value; v++) {
        double scaled = rint((double)v / (double)max_value * top);
        r->table[v] = (uint8_t)(scaled > 255.0 ? 255.0 : scaled);
    }
    return PALI_OK;
}

static pali_status read_plain_bits(pnm_reader *r, image *out) {
    const size_t n = out->width * out->height;
    for (size_t i = 0; i < n;) {
        if (r->at == r->src->n_bytes) return ends_early(r);
        const uint8_t c = r->src->bytes[r->at++];
        if (c == '#') {
            skip_comment(r);
        } else if (c == '0' || c == '1') {
            memset(out->rgb + 3 * i++, c == '0' ? 255 : 0, 3);
        } else if (!is_space(c)) {
            return status_fail(PALI_ERR_FORMAT, "%s: PNM: a sample is neither 0 nor 1", r->src->name);
        }
    }
    return PALI_OK;
}

static pali_status read_raw_bits(pnm_reader *r, image *out) {
    const size_t n_row_bytes = (out->width + 7) / 8;
    if (r->src->n_bytes - r->at < n_row_bytes * out->height) return ends_early(r);
    for (size_t y = 0; y < out->height; y++) {
        const uint8_t *row = r->src->bytes + r->at + y * n_row_bytes;
        for (size_t x = 0; x < out->width; x++) {
            memset(out->rgb + 3 * (y * out->width + x), row[x / 8] >> (7 - x % 8) & 1 ? 0 : 255, 3);
        }
    }
    return PALI_OK;
}

static pali_status read_plain_samples(pnm_reader *r, uint8_t *out, size_t n, uint64_t max_value) {
    for (size_t i = 0; i < n; i++) {
        uint64_t v;
        STATUS_TRY(read_number(r, &v, "a sample"));
        if (v > max_value) {
            return status_fail(PALI_ERR_FORMAT, "%s: PNM: sample %llu: above the maximum %llu", r->src->name,
                               (unsigned long long)v, (unsigned long long)max_value);
        }
        out[i] = r->table[v];
    }
    return PALI_OK;
}

/* Samples above the maximum are clipped to it. */
static pali_status read_raw_samples(const pnm_reader *r, uint8_t *out, size_t n, uint64_t max_value) {
    const uint8_t *p = r->src->bytes + r->at;
    const size_t n_sample_bytes = max_value > 255 ? 2 : 1;
    if (r->src->n_bytes - r->at < n * n_sample_bytes) return ends_early(r);
    for (size_t i = 0; i < n; i++, p += n_sample_bytes) {
        const unsigned v = n_sample_bytes == 2 ? (unsigned)p[0] << 8 | p[1] : p[0];
        out[i] = r->table[v < max_value ? v : max_value];
    }
    return PALI_OK;
}

/* Grey samples are read into the front of the picture, then spread from the end. */
static pali_status read_samples(pnm_reader *r, image *out, bool is_grey, bool is_plain, uint64_t max_value) {
    const size_t n_pixels = out->width * out->height, n = is_grey ? n_pixels : 3 * n_pixels;
    STATUS_TRY(is_plain ? read_plain_samples(r, out->rgb, n, max_value) : read_raw_samples(r, out->rgb, n, max_value));
    for (size_t i = n_pixels; is_grey && i-- > 0;) memset(out->rgb + 3 * i, out->rgb[i], 3);
    return PALI_OK;
}

static pali_status read_picture(pnm_reader *r, image *out) {
    if (r->src->n_bytes < 3 || !is_space(r->src->bytes[2])) {
        return status_fail(PALI_ERR_FORMAT, "%s: PNM: expected P1 to P6 and white space", r->src->name);
    }
    const int kind = r->src->bytes[1] - '0';
    const bool is_plain = kind <= 3, is_bits = kind == 1 || kind == 4, is_grey = kind == 2 || kind == 5;
    uint64_t width, height, max_value = 0;
    r->at = 3;
    STATUS_TRY(read_number(r, &width, "width"));
    STATUS_TRY(read_number(r, &height, "height"));
    if (!is_bits) {
        STATUS_TRY(read_number(r, &max_value, "maximum"));
        STATUS_TRY(make_table(r, max_value, is_grey));
    }
    STATUS_TRY(image_alloc(out, (size_t)width, (size_t)height, r->src));
    if (!is_bits) return read_samples(r, out, is_grey, is_plain, max_value);
    return is_plain ? read_plain_bits(r, out) : read_raw_bits(r, out);
}

pali_status image_pnm_decode(image *out, int *orientation, const image_source *src) {
    pnm_reader r = {.src = src};
    (void)orientation; /* PNM has none */
    pali_status s = read_picture(&r, out);
    mem_free(r.table);
    return s;
}
