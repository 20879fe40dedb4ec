#include "io/rle.h"

#include <stdbool.h>
#include <string.h>

#include "base/mem.h"

#define TILE 64u        /* columns turned at a time: a cache line of each row, where single columns would cost a line a byte */
#define MAX_CHARS 7u    /* of a number: 35 bits hold any count below 2^32 and its sign */

/* ---- To a string ---- */

typedef struct writer {
    char *text;
    size_t n, cap;
    int64_t counts[2]; /* the last two, by parity */
    size_t n_counts;
} writer;

static pali_status count_write(writer *w, size_t count) {
    int64_t *same = &w->counts[w->n_counts % 2], x = (int64_t)count;
    if (w->cap - w->n <= MAX_CHARS) {
        size_t cap = w->cap ? 2 * w->cap : 256;
        char *grown = mem_grow(w->text, w->n, cap, 1);
        if (!grown) return status_no_memory(cap);
        w->text = grown;
        w->cap = cap;
    }
    if (w->n_counts > 2) x -= *same;
    for (bool more = true; more;) {
        unsigned group = (unsigned)x & 0x1fu;
        x >>= 5; /* keeps the sign */
        more = x != (group & 0x10u ? -1 : 0);
        w->text[w->n++] = (char)('0' + (group | (more ? 0x20u : 0)));
    }
    *same = (int64_t)count;
    w->n_counts++;
    return PALI_OK;
}

static pali_status mask_write(writer *w, uint8_t *tile, const uint8_t *mask, size_t width, size_t height, uint8_t threshold) {
    bool inside = false;
    size_t count = 0;
    for (size_t x0 = 0; x0 < width; x0 += TILE) {
        const size_t n = width - x0 < TILE ? width - x0 : TILE;
        for (size_t y = 0; y < height; y++)
            for (size_t x = 0; x < n; x++) tile[x * height + y] = mask[y * width + x0 + x] >= threshold;
        for (size_t i = 0; i < n * height; i++, count++) {
            if (tile[i] == inside) continue;
            STATUS_TRY(count_write(w, count));
            inside = !inside;
            count = 0;
        }
    }
    return count_write(w, count);
}

pali_status rle_encode(char **out, const uint8_t *mask, size_t width, size_t height, uint8_t threshold) {
    writer w = {0};
    *out = NULL;
    uint8_t *tile = mem_alloc(height, TILE);
    pali_status s = tile ? mask_write(&w, tile, mask, width, height, threshold) : status_no_memory(height * TILE);
    mem_free(tile);
    if (s != PALI_OK) {
        mem_free(w.text);
        return s;
    }
    w.text[w.n] = 0; /* there is room for one more, see count_write */
    *out = w.text;
    return PALI_OK;
}

/* ---- From a string ---- */

typedef struct reader {
    const char *begin, *at;
    int64_t counts[2];
    size_t n_counts, left; /* left: pixels without a run so far */
} reader;

static pali_status bad(const reader *r, const char *what) {
    return status_fail(PALI_ERR_FORMAT, "run-length string: character %zu: %s", (size_t)(r->at - r->begin), what);
}

static pali_status count_read(reader *r, size_t *out) {
    uint64_t bits = 0;
    unsigned group, n_bits = 0;
    do {
        group = (unsigned)(unsigned char)*r->at - (unsigned)'0';
        if (*r->at == 0) return bad(r, "the string ends too early for the mask's size");
        if (group > 0x3fu) return bad(r, "expected '0' to 'o'");
        if (n_bits == 5 * MAX_CHARS) return bad(r, "a count of too many digits");
        bits |= (uint64_t)(group & 0x1fu) << n_bits;
        n_bits += 5;
        r->at++;
    } while (group & 0x20u);
    if (group & 0x10u) bits |= ~(uint64_t)0 << n_bits;
    int64_t *same = &r->counts[r->n_counts % 2], count = (int64_t)bits;
    if (r->n_counts > 2) count += *same; /* 35 bits and 64: no overflow */
    if (count < 0) return bad(r, "a count below zero");
    if ((uint64_t)count > r->left) return bad(r, "the runs are more than the mask's size");
    *same = count;
    r->n_counts++;
    r->left -= (size_t)count;
    *out = (size_t)count;
    return PALI_OK;
}

static pali_status mask_read(uint8_t *mask, uint8_t *tile, reader *r, size_t width, size_t height) {
    size_t count = 0;
    bool inside = true; /* before the first run, which is of zeros */
    for (size_t x0 = 0; x0 < width; x0 += TILE) {
        const size_t n = width - x0 < TILE ? width - x0 : TILE;
        for (size_t at = 0; at < n * height;) {
            while (count == 0) {
                STATUS_TRY(count_read(r, &count));
                inside = !inside;
            }
            const size_t part = count < n * height - at ? count : n * height - at;
            memset(tile + at, inside ? 255 : 0, part);
            at += part;
            count -= part;
        }
        for (size_t y = 0; y < height; y++)
            for (size_t x = 0; x < n; x++) mask[y * width + x0 + x] = tile[x * height + y];
    }
    return *r->at == 0 ? PALI_OK : bad(r, "text after the last run");
}

pali_status rle_decode(uint8_t **out, const char *counts, size_t width, size_t height) {
    reader r = {.begin = counts, .at = counts, .left = width * height};
    uint8_t *tile = mem_alloc(height, TILE), *mask = mem_alloc(width, height);
    pali_status s = tile && mask ? mask_read(mask, tile, &r, width, height) : status_no_memory(width * height);
    mem_free(tile);
    *out = s == PALI_OK ? mask : NULL;
    if (s != PALI_OK) mem_free(mask);
    return s;
}
