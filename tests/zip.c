/* zip.c: see zip.h. */
#include "zip.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include <cmocka.h>

void bytes_put(bytes *b, const void *data, size_t n) {
    if (b->n + n > b->cap) {
        b->cap = 2 * (b->n + n);
        b->data = realloc(b->data, b->cap);
        assert_non_null(b->data);
    }
    memcpy(b->data + b->n, data, n);
    b->n += n;
}

void bytes_put_number(bytes *b, uint64_t x, size_t n) {
    for (size_t i = 0; i < n; i++, x >>= 8) bytes_put(b, &(uint8_t){(uint8_t)x}, 1);
}

bytes npy_make(const char *dict, const void *data, size_t n) {
    bytes b = {0};
    bytes_put(&b, "\x93NUMPY\1\0", 8);
    bytes_put_number(&b, strlen(dict), 2);
    bytes_put(&b, dict, strlen(dict));
    bytes_put(&b, data, n);
    return b;
}

void zip_list(zip *z, const char *name, size_t local, size_t n_stored, size_t n_inflated, uint32_t crc, unsigned method) {
    const size_t n_name = strlen(name);
    z->central[z->n++] = z->directory.n;
    bytes_put(&z->directory, "PK\1\2\55\0\55\0\0\0", 10);
    bytes_put_number(&z->directory, method, 2);
    bytes_put_number(&z->directory, 0, 4);
    bytes_put_number(&z->directory, crc, 4);
    bytes_put_number(&z->directory, z->zip64 ? 0xffffffff : n_stored, 4);
    bytes_put_number(&z->directory, z->zip64 ? 0xffffffff : n_inflated, 4);
    bytes_put_number(&z->directory, n_name, 2);
    bytes_put_number(&z->directory, z->zip64 ? 6 + 28 : 0, 2);
    bytes_put_number(&z->directory, 0, 10);
    bytes_put_number(&z->directory, z->zip64 ? 0xffffffff : local, 4);
    bytes_put(&z->directory, name, n_name);
    if (!z->zip64) return;
    bytes_put(&z->directory, "\x99\x99\2\0??", 6); /* a field that nobody knows comes first */
    bytes_put(&z->directory, "\1\0\30\0", 4);
    bytes_put_number(&z->directory, n_inflated, 8);
    bytes_put_number(&z->directory, n_stored, 8);
    bytes_put_number(&z->directory, local, 8);
}

void zip_local(bytes *b, const char *name, unsigned method) {
    bytes_put(b, "PK\3\4\24\0\0\0", 8);
    bytes_put_number(b, method, 2);
    bytes_put_number(b, 0, 16); /* time, checksum and sizes: the directory has them */
    bytes_put_number(b, strlen(name), 2);
    bytes_put_number(b, 3, 2);
    bytes_put(b, name, strlen(name));
    bytes_put(b, "???", 3);
}

void zip_add(zip *z, const char *name, const uint8_t *data, size_t n) {
    z->local[z->n] = z->file.n;
    zip_local(&z->file, name, 0);
    z->member[z->n] = z->file.n;
    bytes_put(&z->file, data, n);
    zip_list(z, name, z->local[z->n], n, n, (uint32_t)crc32_z(0, data, n), 0);
}

void zip_add_deflated(zip *z, const char *name, uint8_t *data, size_t n, size_t claimed) {
    z_stream s = {0};
    bytes packed = {0};
    uint8_t buffer[4096];
    int result;
    assert_int_equal(deflateInit2(&s, 9, Z_DEFLATED, -15, 9, Z_DEFAULT_STRATEGY), Z_OK);
    s.next_in = data;
    s.avail_in = (uInt)n;
    do {
        s.next_out = buffer;
        s.avail_out = sizeof buffer;
        result = deflate(&s, Z_FINISH);
        bytes_put(&packed, buffer, sizeof buffer - s.avail_out);
    } while (result == Z_OK);
    assert_int_equal(result, Z_STREAM_END);
    deflateEnd(&s);
    z->local[z->n] = z->file.n;
    zip_local(&z->file, name, 8);
    z->member[z->n] = z->file.n;
    bytes_put(&z->file, packed.data, packed.n);
    zip_list(z, name, z->local[z->n], packed.n, claimed, (uint32_t)crc32_z(0, data, n), 8);
    free(packed.data);
}

void zip_finish(zip *z, const char *comment) {
    const size_t directory = z->file.n;
    if (z->n) bytes_put(&z->file, z->directory.data, z->directory.n);
    for (size_t i = 0; i < z->n; i++) z->central[i] += directory;
    if (z->zip64) {
        const size_t end64 = z->file.n;
        bytes_put(&z->file, "PK\6\6\54\0\0\0\0\0\0\0\55\0\55\0\0\0\0\0\0\0\0\0", 24);
        bytes_put_number(&z->file, z->n, 8);
        bytes_put_number(&z->file, z->n, 8);
        bytes_put_number(&z->file, z->directory.n, 8);
        bytes_put_number(&z->file, directory, 8);
        bytes_put(&z->file, "PK\6\7\0\0\0\0", 8);
        bytes_put_number(&z->file, end64, 8);
        bytes_put_number(&z->file, 1, 4);
    }
    z->end = z->file.n;
    bytes_put(&z->file, "PK\5\6\0\0\0\0", 8);
    bytes_put_number(&z->file, z->zip64 ? 0xffff : z->n, 2);
    bytes_put_number(&z->file, z->zip64 ? 0xffff : z->n, 2);
    bytes_put_number(&z->file, z->zip64 ? 0xffffffff : z->directory.n, 4);
    bytes_put_number(&z->file, z->zip64 ? 0xffffffff : directory, 4);
    bytes_put_number(&z->file, strlen(comment), 2);
    bytes_put(&z->file, comment, strlen(comment));
    free(z->directory.data);
    z->directory = (bytes){0};
}

void zip_free(zip *z) {
    free(z->directory.data);
    free(z->file.data);
}
