#include "io/npz_write.h"

#include <stdio.h>
#include <string.h>
#include <zlib.h>

#include "base/mem.h"

#define DATE 0x0021u        /* 1 January 1980, the first that there is */
#define ZIP64_ID 1u
#define PADDING_ID 0xd935u  /* of an extra field that aligns what follows; others skip it */
#define CRC_AT 14u          /* in a local header */
#define MAX_HEADER 1024u    /* of a .npy, and of a member */

/* A header on its way, little-endian. */
typedef struct record {
    uint8_t bytes[MAX_HEADER];
    size_t n;
} record;

static void put(record *r, uint64_t x, size_t n) {
    for (size_t i = 0; i < n; i++) r->bytes[r->n++] = (uint8_t)(x >> 8 * i);
}

static void put_bytes(record *r, const void *data, size_t n) {
    memcpy(r->bytes + r->n, data, n);
    r->n += n;
}

pali_status npz_writer_open(npz_writer *w, const char *path) {
    *w = (npz_writer){.zip64_from = UINT32_MAX};
    return file_out_open(&w->file, path);
}

/* ---- A member ---- */

/* What comes after the signature in both headers of a member. */
static void member_put(record *r, const npz_member *m, bool zip64, bool is_central) {
    uint64_t size = zip64 ? UINT32_MAX : m->n_bytes;
    if (is_central) put(r, zip64 ? 45 : 20, 2);
    put(r, zip64 ? 45 : 20, 2);
    put(r, 0, 2); /* flags */
    put(r, 0, 2); /* stored */
    put(r, 0, 2);
    put(r, DATE, 2);
    put(r, m->crc, 4);
    put(r, size, 4);
    put(r, size, 4);
    put(r, strlen(m->name), 2);
}

/* A large member's two sizes, and zeros up to the alignment. */
static pali_status local_write(npz_writer *w, const npz_member *m) {
    record r = {.n = 0};
    bool zip64 = m->n_bytes >= w->zip64_from;
    size_t n_name = strlen(m->name), n_sizes = zip64 ? 20 : 0;
    size_t past = (size_t)((m->offset + 30 + n_name + n_sizes) % NPZ_WRITE_ALIGNMENT), n_pad = past ? NPZ_WRITE_ALIGNMENT - past : 0;
    if (n_pad && n_pad < 4) n_pad += NPZ_WRITE_ALIGNMENT;
    put(&r, 0x04034b50, 4);
    member_put(&r, m, zip64, false);
    put(&r, n_sizes + n_pad, 2);
    put_bytes(&r, m->name, n_name);
    if (zip64) {
        put(&r, ZIP64_ID, 2);
        put(&r, 16, 2);
        put(&r, m->n_bytes, 8);
        put(&r, m->n_bytes, 8);
    }
    if (n_pad) {
        put(&r, PADDING_ID, 2);
        put(&r, n_pad - 4, 2);
        memset(r.bytes + r.n, 0, n_pad - 4);
        r.n += n_pad - 4;
    }
    return file_out_write(&w->file, r.bytes, r.n);
}

static pali_status central_write(npz_writer *w, const npz_member *m) {
    record r = {.n = 0};
    bool large = m->n_bytes >= w->zip64_from, far = m->offset >= w->zip64_from;
    size_t n_extra = (large ? 16u : 0u) + (far ? 8u : 0u);
    put(&r, 0x02014b50, 4);
    member_put(&r, m, large, true);
    put(&r, n_extra ? n_extra + 4 : 0, 2);
    put(&r, 0, 2);            /* comment */
    put(&r, 0, 2);            /* disk */
    put(&r, 0, 2);            /* not text */
    put(&r, (uint64_t)0644 << 16, 4); /* mode */
    put(&r, far ? UINT32_MAX : m->offset, 4);
    put_bytes(&r, m->name, strlen(m->name));
    if (n_extra) {
        put(&r, ZIP64_ID, 2);
        put(&r, n_extra, 2);
    }
    if (large) {
        put(&r, m->n_bytes, 8);
        put(&r, m->n_bytes, 8);
    }
    if (far) put(&r, m->offset, 8);
    return file_out_write(&w->file, r.bytes, r.n);
}

/* ---- Arrays ---- */

static pali_status bytes_write(npz_writer *w, const void *data, size_t n_bytes) {
    npz_member *m = &w->members[w->n_members - 1];
    for (size_t at = 0, n; at < n_bytes; at += n) {
        n = n_bytes - at < (size_t)1 << 30 ? n_bytes - at : (size_t)1 << 30;
        m->crc = (uint32_t)crc32(m->crc, (const uint8_t *)data + at, (uInt)n);
    }
    return file_out_write(&w->file, data, n_bytes);
}

/* "\x93NUMPY", version 1.0, the length of the dict, the dict, blanks up to a multiple of 64, a newline. */
static void array_header(record *r, const char *descr, size_t n_dims, const size_t *dims) {
    char dict[NPY_MAX_DIMS * 24 + 128];
    int n = snprintf(dict, sizeof dict, "{'descr': '%s', 'fortran_order': False, 'shape': (", descr);
    for (size_t i = 0; i < n_dims; i++) n += snprintf(dict + n, sizeof dict - (size_t)n, "%s%zu%s", i ? ", " : "", dims[i], n_dims == 1 ? "," : "");
    n += snprintf(dict + n, sizeof dict - (size_t)n, "), }");
    size_t length = ((size_t)n + 11 + 63) / 64 * 64 - 10;
    put_bytes(r, "\x93NUMPY\1\0", 8);
    put(r, length, 2);
    put_bytes(r, dict, (size_t)n);
    memset(r->bytes + r->n, ' ', length - (size_t)n - 1);
    r->n += length - (size_t)n - 1;
    put(r, '\n', 1);
}

static pali_status member_add(npz_writer *w, const char *name, uint64_t n_bytes) {
    if (w->n_members == w->members_cap) {
        size_t cap = w->members_cap ? 2 * w->members_cap : 64;
        npz_member *grown = mem_grow(w->members, w->members_cap, cap, sizeof *grown);
        if (!grown) return status_no_memory(cap * sizeof *grown);
        w->members = grown;
        w->members_cap = cap;
    }
    size_t n = strlen(name);
    char *member_name = mem_alloc(n + 5, 1);
    if (!member_name) return status_no_memory(n + 5);
    memcpy(member_name, name, n);
    memcpy(member_name + n, ".npy", 5);
    w->members[w->n_members++] = (npz_member){.name = member_name, .offset = w->file.n_bytes, .n_bytes = n_bytes};
    return PALI_OK;
}

pali_status npz_writer_array(npz_writer *w, const char *name, npy_dtype dtype, size_t n_dims, const size_t *dims) {
    record header = {.n = 0};
    const char *descr = dtype == NPY_F32 ? "<f4" : dtype == NPY_F16 ? "<f2" : dtype == NPY_U8 ? "|u1" : "|V2";
    if (w->n_left) return status_fail(PALI_ERR_INTERNAL, "%s: %s: the array before it is not whole", w->file.path, name);
    if (strlen(name) > MAX_HEADER / 2 || n_dims > NPY_MAX_DIMS) return status_fail(PALI_ERR_LIMIT, "%s: %s: name too long or too many dims", w->file.path, name);
    w->n_left = dtype == NPY_F32 ? 4 : dtype == NPY_U8 ? 1 : 2;
    for (size_t i = 0; i < n_dims; i++) w->n_left *= dims[i];
    array_header(&header, descr, n_dims, dims);
    STATUS_TRY(member_add(w, name, header.n + w->n_left));
    STATUS_TRY(local_write(w, &w->members[w->n_members - 1]));
    return bytes_write(w, header.bytes, header.n);
}

pali_status npz_writer_data(npz_writer *w, const void *data, size_t n_bytes) {
    if (n_bytes > w->n_left) return status_fail(PALI_ERR_INTERNAL, "%s: more data than the header says", w->file.path);
    STATUS_TRY(bytes_write(w, data, n_bytes));
    w->n_left -= n_bytes;
    if (w->n_left) return PALI_OK;
    const npz_member *m = &w->members[w->n_members - 1];
    record crc = {.n = 0};
    put(&crc, m->crc, 4);
    return file_out_patch(&w->file, m->offset + CRC_AT, crc.bytes, crc.n);
}

/* ---- The end ---- */

static void end_put(record *r, const npz_writer *w, uint64_t begin, uint64_t n_bytes) {
    uint64_t n = w->n_members, end = begin + n_bytes;
    bool zip64 = n >= UINT16_MAX || begin >= w->zip64_from || n_bytes >= w->zip64_from;
    if (zip64) {
        put(r, 0x06064b50, 4);
        put(r, 44, 8);
        put(r, 45, 2);
        put(r, 45, 2);
        put(r, 0, 4);
        put(r, 0, 4);
        put(r, n, 8);
        put(r, n, 8);
        put(r, n_bytes, 8);
        put(r, begin, 8);
        put(r, 0x07064b50, 4); /* and where that is */
        put(r, 0, 4);
        put(r, end, 8);
        put(r, 1, 4);
    }
    put(r, 0x06054b50, 4);
    put(r, 0, 4);
    put(r, zip64 ? UINT16_MAX : n, 2);
    put(r, zip64 ? UINT16_MAX : n, 2);
    put(r, zip64 ? UINT32_MAX : n_bytes, 4);
    put(r, zip64 ? UINT32_MAX : begin, 4);
    put(r, 0, 2);
}

pali_status npz_writer_commit(npz_writer *w) {
    record end = {.n = 0};
    uint64_t begin = w->file.n_bytes;
    if (w->n_left) return status_fail(PALI_ERR_INTERNAL, "%s: less data than the header says", w->file.path);
    for (size_t i = 0; i < w->n_members; i++) STATUS_TRY(central_write(w, &w->members[i]));
    end_put(&end, w, begin, w->file.n_bytes - begin);
    STATUS_TRY(file_out_write(&w->file, end.bytes, end.n));
    return file_out_commit(&w->file);
}

void npz_writer_free(npz_writer *w) {
    file_out_abort(&w->file);
    for (size_t i = 0; i < w->n_members; i++) mem_free(w->members[i].name);
    mem_free(w->members);
    *w = (npz_writer){0};
}
