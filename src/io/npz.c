#include "io/npz.h"

#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/mem.h"

#define END_BYTES 22u      /* of the end of central directory, without a comment */
#define LOCATOR_BYTES 20u  /* of the zip64 locator, which lies before it */
#define END64_BYTES 56u    /* of the zip64 end, which lies before that */
#define CENTRAL_BYTES 46u  /* of an entry of the directory, without its name */
#define LOCAL_BYTES 30u    /* of the header before a member */
#define MAX_COMMENT 65535u
#define FLAG_ENCRYPTED 1u
#define METHOD_STORED 0u
#define METHOD_DEFLATED 8u
#define MAX_RATIO 1032u    /* what deflate can make of a byte at most */

static uint64_t number(const uint8_t *p, size_t n) {
    uint64_t x = 0;
    for (size_t i = n; i-- > 0;) x = x << 8 | p[i];
    return x;
}

/* The archive as bytes, and where its directory lies. */
typedef struct archive {
    const uint8_t *bytes;
    size_t n_bytes, directory, n_directory, n_entries;
    const char *file;
} archive;

/* An entry of the directory. */
typedef struct entry {
    const char *name; /* in the directory; not terminated */
    size_t n_name;
    uint64_t stored_bytes, inflated_bytes, local; /* local: offset of the header before the member */
    uint32_t crc;
    unsigned flags, method;
} entry;

static pali_status bad(const archive *z, const char *what) {
    return status_fail(PALI_ERR_FORMAT, "%s: %s", z->file, what);
}

static pali_status entry_bad(const archive *z, const entry *e, const char *what) {
    return status_fail(PALI_ERR_FORMAT, "%s: %.*s: %s", z->file, (int)e->n_name, e->name, what);
}

/* ---- The end of the file: where the directory is ---- */

static pali_status end64_read(archive *z, size_t end, uint64_t *n_entries, uint64_t *n_directory, uint64_t *directory) {
    if (end < LOCATOR_BYTES + END64_BYTES || memcmp(z->bytes + end - LOCATOR_BYTES, "PK\6\7", 4) != 0) return bad(z, "end of directory: sizes of zip64, but no zip64 locator");
    const uint64_t at = number(z->bytes + end - LOCATOR_BYTES + 8, 8);
    if (at > end - LOCATOR_BYTES - END64_BYTES || memcmp(z->bytes + at, "PK\6\6", 4) != 0) return bad(z, "zip64 locator: points at no zip64 end of directory");
    const uint8_t *end64 = z->bytes + at;
    *n_entries = number(end64 + 32, 8);
    *n_directory = number(end64 + 40, 8);
    *directory = number(end64 + 48, 8);
    if (number(end64 + 24, 8) != *n_entries) return bad(z, "archives of several disks are not supported");
    return *directory <= at && *n_directory <= at - *directory ? PALI_OK : bad(z, "directory: lies outside the file (truncated?)");
}

static pali_status end_read(archive *z) {
    size_t end = z->n_bytes < END_BYTES ? 0 : z->n_bytes - END_BYTES, comment = 0;
    if (z->n_bytes < END_BYTES) return status_fail(PALI_ERR_FORMAT, "%s: %zu bytes are too few for an npz file", z->file, z->n_bytes);
    /* The record ends the file, but for a comment whose length it holds. */
    while (memcmp(z->bytes + end, "PK\5\6", 4) != 0 || number(z->bytes + end + 20, 2) != comment) {
        if (end == 0 || comment == MAX_COMMENT) return bad(z, "no zip directory at its end (not an npz file, or truncated)");
        end--;
        comment++;
    }
    const uint8_t *p = z->bytes + end;
    uint64_t n_entries = number(p + 10, 2), n_directory = number(p + 12, 4), directory = number(p + 16, 4);
    if (n_entries == 0xffff || n_directory == 0xffffffff || directory == 0xffffffff)
        STATUS_TRY(end64_read(z, end, &n_entries, &n_directory, &directory));
    else if (number(p + 4, 2) != 0 || number(p + 6, 2) != 0 || number(p + 8, 2) != n_entries)
        return bad(z, "archives of several disks are not supported");
    else if (directory > end || n_directory > end - directory)
        return bad(z, "directory: lies outside the file (truncated?)");
    if (n_entries > NPZ_MAX_ARRAYS) return status_fail(PALI_ERR_LIMIT, "%s: %" PRIu64 " members, more than the limit of %u", z->file, n_entries, NPZ_MAX_ARRAYS);
    z->directory = (size_t)directory;
    z->n_directory = (size_t)n_directory;
    z->n_entries = (size_t)n_entries;
    return PALI_OK;
}

/* ---- An entry of the directory ---- */

/* Sizes that do not fit into 32 bits are in the extra field of zip64, those and no others, in this order. */
static pali_status extra64_read(const archive *z, entry *e, const uint8_t *extra, size_t n_extra) {
    uint64_t *wide[3];
    size_t n_wide = 0;
    if (e->inflated_bytes == 0xffffffff) wide[n_wide++] = &e->inflated_bytes;
    if (e->stored_bytes == 0xffffffff) wide[n_wide++] = &e->stored_bytes;
    if (e->local == 0xffffffff) wide[n_wide++] = &e->local;
    while (n_wide && n_extra >= 4) {
        const size_t n = (size_t)number(extra + 2, 2);
        if (n > n_extra - 4) break;
        if (number(extra, 2) == 1) {
            if (n < 8 * n_wide) break;
            for (size_t i = 0; i < n_wide; i++) *wide[i] = number(extra + 4 + 8 * i, 8);
            return PALI_OK;
        }
        extra += 4 + n;
        n_extra -= 4 + n;
    }
    return n_wide ? entry_bad(z, e, "sizes of zip64, but no zip64 field") : PALI_OK;
}

/* The entry at *at of the directory; steps over it. */
static pali_status entry_read(const archive *z, entry *e, size_t *at) {
    const uint8_t *p = z->bytes + z->directory + *at;
    const size_t left = z->n_directory - *at;
    if (left < CENTRAL_BYTES || memcmp(p, "PK\1\2", 4) != 0) return bad(z, "directory: fewer entries than it says");
    *e = (entry){.name = (const char *)p + CENTRAL_BYTES, .n_name = (size_t)number(p + 28, 2), .flags = (unsigned)number(p + 8, 2),
                 .method = (unsigned)number(p + 10, 2), .crc = (uint32_t)number(p + 16, 4), .stored_bytes = number(p + 20, 4),
                 .inflated_bytes = number(p + 24, 4), .local = number(p + 42, 4)};
    const size_t n_extra = (size_t)number(p + 30, 2), n = CENTRAL_BYTES + e->n_name + n_extra + (size_t)number(p + 32, 2);
    if (n > left) return bad(z, "directory: an entry runs past its end");
    *at += n;
    if (e->n_name > NPZ_MAX_NAME) return status_fail(PALI_ERR_LIMIT, "%s: name of a member: %zu bytes, more than the limit of %u", z->file, e->n_name, NPZ_MAX_NAME);
    if (memchr(e->name, 0, e->n_name)) return bad(z, "name of a member: holds a NUL");
    return extra64_read(z, e, p + CENTRAL_BYTES + e->n_name, n_extra);
}

/* Where the member's bytes lie. */
static pali_status member_find(const archive *z, const entry *e, npz_array *a) {
    if (e->flags & FLAG_ENCRYPTED) return status_fail(PALI_ERR_UNSUPPORTED, "%s: %.*s: encrypted", z->file, (int)e->n_name, e->name);
    if (e->method != METHOD_STORED && e->method != METHOD_DEFLATED)
        return status_fail(PALI_ERR_UNSUPPORTED, "%s: %.*s: compression method %u: expected stored or deflated", z->file, (int)e->n_name, e->name, e->method);
    if (e->local > z->directory || z->directory - e->local < LOCAL_BYTES) return entry_bad(z, e, "lies outside the file");
    const uint8_t *p = z->bytes + e->local;
    const size_t left = z->directory - (size_t)e->local, n_name = (size_t)number(p + 26, 2), begin = LOCAL_BYTES + n_name + (size_t)number(p + 28, 2);
    if (memcmp(p, "PK\3\4", 4) != 0) return entry_bad(z, e, "no local header where the directory says");
    if (begin > left || n_name != e->n_name || memcmp(p + LOCAL_BYTES, e->name, n_name) != 0 || number(p + 8, 2) != e->method)
        return entry_bad(z, e, "its local header says otherwise than the directory");
    if (e->stored_bytes > left - begin)
        return status_fail(PALI_ERR_FORMAT, "%s: %.*s: %" PRIu64 " bytes, but there are %zu before the directory", z->file, (int)e->n_name, e->name, e->stored_bytes, left - begin);
    if (e->method == METHOD_STORED ? e->inflated_bytes != e->stored_bytes : e->inflated_bytes / MAX_RATIO > e->stored_bytes)
        return entry_bad(z, e, "its stored size and its true size can not both be right");
    a->member = p + begin;
    a->member_bytes = (size_t)e->stored_bytes;
    a->crc = e->crc;
    a->deflated = e->method == METHOD_DEFLATED;
    return PALI_OK;
}

/* ---- Inflating ---- */

typedef struct inflater {
    z_stream stream;
    const uint8_t *next; /* input not handed over yet: zlib counts in 32 bits */
    size_t left;
} inflater;

static pali_status inflate_begin(inflater *f, const npz_array *a) {
    *f = (inflater){.next = a->member, .left = a->member_bytes};
    return inflateInit2(&f->stream, -MAX_WBITS) == Z_OK ? PALI_OK : status_no_memory(sizeof f->stream); /* raw: no zlib header */
}

/* Fills out[0..n), less where the member ends before; *ended says that it did. false: not a deflated stream. */
static bool inflate_some(inflater *f, uint8_t *out, size_t n, size_t *got, bool *ended) {
    z_stream *s = &f->stream;
    int result = Z_OK;
    *got = 0;
    while (*got < n && result == Z_OK) {
        if (s->avail_in == 0 && f->left) {
            s->next_in = (Bytef *)(uintptr_t)f->next; /* zlib does not write there */
            s->avail_in = f->left < UINT_MAX ? (uInt)f->left : UINT_MAX;
            f->next += s->avail_in;
            f->left -= s->avail_in;
        }
        const uInt room = n - *got < UINT_MAX ? (uInt)(n - *got) : UINT_MAX;
        s->next_out = out + *got;
        s->avail_out = room;
        result = inflate(s, Z_NO_FLUSH);
        *got += room - s->avail_out;
    }
    *ended = result == Z_STREAM_END;
    return result == Z_OK || result == Z_STREAM_END;
}

/* The header of a deflated member, without the rest. */
static pali_status header_inflate(npz_array *a, inflater *f, uint8_t *header, const archive *z, size_t inflated_bytes) {
    size_t got, n;
    bool ended;
    if (!inflate_some(f, header, NPY_PREAMBLE, &got, &ended)) return status_fail(PALI_ERR_FORMAT, "%s: %s: deflated data is damaged", z->file, a->name);
    STATUS_TRY(npy_header_bytes(&n, header, got, z->file, a->name));
    if (n > got) {
        size_t more;
        if (!inflate_some(f, header + got, n - got, &more, &ended)) return status_fail(PALI_ERR_FORMAT, "%s: %s: deflated data is damaged", z->file, a->name);
        got += more;
    }
    if (n > got || n > inflated_bytes) return status_fail(PALI_ERR_FORMAT, "%s: %s: npy header: cut short", z->file, a->name);
    return npy_parse(&a->array, header, inflated_bytes, z->file, a->name);
}

static pali_status header_read(npz_array *a, const archive *z, const entry *e, uint8_t *header) {
    if (!a->deflated) {
        STATUS_TRY(npy_parse(&a->array, a->member, a->member_bytes, z->file, a->name));
        a->data = a->member + a->array.n_header_bytes;
        return PALI_OK;
    }
    inflater f;
    if (e->inflated_bytes > NPZ_MAX_INFLATED)
        return status_fail(PALI_ERR_LIMIT, "%s: %s: %" PRIu64 " bytes inflated, more than the limit of %zu", z->file, a->name, e->inflated_bytes, NPZ_MAX_INFLATED);
    STATUS_TRY(inflate_begin(&f, a));
    pali_status s = header_inflate(a, &f, header, z, (size_t)e->inflated_bytes);
    inflateEnd(&f.stream);
    return s;
}

static pali_status all_inflate(uint8_t *out, inflater *f, size_t n, const npz *z, const npz_array *a) {
    size_t got, more = 0;
    bool ended, fine = inflate_some(f, out, n, &got, &ended);
    if (fine && !ended) { /* the mark of the end is still to come, and nothing else may */
        uint8_t one;
        fine = inflate_some(f, &one, 1, &more, &ended);
    }
    if (!fine || !ended || got + more != n) return status_fail(PALI_ERR_FORMAT, "%s: %s: deflated data is damaged, or not of the size that the directory says", z->file, a->name);
    return PALI_OK;
}

static uint32_t crc_of(const uint8_t *bytes, size_t n) {
    return (uint32_t)crc32_z(0, bytes, n);
}

pali_status npz_check(const npz *z, const npz_array *a) {
    if (a->deflated || crc_of(a->member, a->member_bytes) == a->crc) return PALI_OK;
    return status_fail(PALI_ERR_FORMAT, "%s: %s: checksum differs: the file is damaged", z->file, a->name);
}

pali_status npz_load(npz *z, npz_array *a) {
    if (a->data) return PALI_OK;
    const size_t n = a->array.n_header_bytes + a->array.n_bytes;
    if (n > NPZ_MAX_INFLATED - z->n_inflated)
        return status_fail(PALI_ERR_LIMIT, "%s: %s: deflated arrays of more than the limit of %zu bytes", z->file, a->name, NPZ_MAX_INFLATED);
    inflater f;
    uint8_t *bytes = mem_alloc(n, 1);
    if (!bytes) return status_no_memory(n);
    pali_status s = inflate_begin(&f, a);
    if (s == PALI_OK) {
        s = all_inflate(bytes, &f, n, z, a);
        inflateEnd(&f.stream);
    }
    if (s == PALI_OK && crc_of(bytes, n) != a->crc) s = status_fail(PALI_ERR_FORMAT, "%s: %s: checksum differs: the file is damaged", z->file, a->name);
    if (s != PALI_OK) {
        mem_free(bytes);
        return s;
    }
    a->inflated = bytes;
    a->data = bytes + a->array.n_header_bytes;
    z->n_inflated += n;
    return PALI_OK;
}

void npz_unload(npz *z, npz_array *a) {
    if (!a->inflated) return;
    z->n_inflated -= a->array.n_header_bytes + a->array.n_bytes;
    mem_free(a->inflated);
    a->inflated = NULL;
    a->data = NULL;
}

/* ---- The whole ---- */

static int by_position(const void *a, const void *b) {
    const npz_array *x = a, *y = b;
    if (x->member != y->member) return x->member < y->member ? -1 : 1;
    return x->member_bytes < y->member_bytes ? -1 : x->member_bytes > y->member_bytes;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const npz_array *)a)->name, ((const npz_array *)b)->name);
}

static pali_status arrays_sort(npz *out) {
    if (out->n_arrays < 2) return PALI_OK;
    qsort(out->arrays, out->n_arrays, sizeof *out->arrays, by_position);
    for (size_t i = 1; i < out->n_arrays; i++) {
        const npz_array *a = &out->arrays[i - 1], *b = &out->arrays[i];
        if (a->member + a->member_bytes > b->member) return status_fail(PALI_ERR_FORMAT, "%s: %s and %s overlap", out->file, a->name, b->name);
    }
    qsort(out->arrays, out->n_arrays, sizeof *out->arrays, by_name);
    for (size_t i = 1; i < out->n_arrays; i++)
        if (by_name(&out->arrays[i - 1], &out->arrays[i]) == 0) return status_fail(PALI_ERR_FORMAT, "%s: %s: twice in the directory", out->file, out->arrays[i].name);
    return PALI_OK;
}

static pali_status arrays_read(npz *out, const archive *z, uint8_t *header) {
    char *names = out->names;
    size_t at = 0;
    for (size_t i = 0; i < z->n_entries; i++) {
        entry e;
        npz_array *a = &out->arrays[out->n_arrays];
        STATUS_TRY(entry_read(z, &e, &at));
        if (e.n_name < 5 || memcmp(e.name + e.n_name - 4, ".npy", 4) != 0) continue;
        STATUS_TRY(member_find(z, &e, a));
        a->name = names;
        memcpy(names, e.name, e.n_name - 4);
        names += e.n_name - 4;
        *names++ = 0;
        STATUS_TRY(header_read(a, z, &e, header));
        out->n_arrays++;
    }
    return at == z->n_directory ? arrays_sort(out) : bad(z, "directory: more entries than it says");
}

static pali_status archive_read(npz *out, const uint8_t *bytes, size_t n_bytes) {
    archive z = {.bytes = bytes, .n_bytes = n_bytes, .file = out->file};
    STATUS_TRY(end_read(&z));
    if (z.n_entries > z.n_directory / CENTRAL_BYTES) return bad(&z, "directory: fewer entries than it says");
    out->arrays = mem_calloc(z.n_entries + 1, sizeof *out->arrays);
    out->names = mem_alloc(z.n_directory, 1); /* holds the names, and room for an end of each */
    uint8_t *header = mem_alloc(NPY_PREAMBLE + NPY_MAX_HEADER, 1);
    pali_status s = out->arrays && out->names && header ? arrays_read(out, &z, header) : status_no_memory(z.n_entries * sizeof *out->arrays);
    mem_free(header);
    return s;
}

pali_status npz_parse(npz *out, const uint8_t *bytes, size_t n_bytes, const char *name) {
    *out = (npz){.file = name};
    pali_status s = archive_read(out, bytes, n_bytes);
    if (s != PALI_OK) npz_close(out);
    return s;
}

pali_status npz_open(npz *out, const char *path) {
    file_map map;
    *out = (npz){0};
    STATUS_TRY(file_map_open(&map, path));
    pali_status s = npz_parse(out, map.data, map.n_bytes, path);
    if (s != PALI_OK)
        file_map_close(&map);
    else
        out->map = map;
    return s;
}

void npz_close(npz *z) {
    for (size_t i = 0; z->arrays && i < z->n_arrays; i++) mem_free(z->arrays[i].inflated);
    mem_free(z->arrays);
    mem_free(z->names);
    file_map_close(&z->map);
    *z = (npz){0};
}

npz_array *npz_find(const npz *z, const char *name) {
    npz_array key = {.name = name};
    return z->n_arrays ? bsearch(&key, z->arrays, z->n_arrays, sizeof key, by_name) : NULL;
}
