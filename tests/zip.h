/* zip.h: .npz archives made in memory, for tests, true ones and lying ones. Functions fail the running cmocka test. */
#ifndef PALI_TESTS_ZIP_H
#define PALI_TESTS_ZIP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ZIP_MAX 256u /* members */

typedef struct bytes {
    uint8_t *data;
    size_t n, cap;
} bytes;

void bytes_put(bytes *b, const void *data, size_t n);
void bytes_put_number(bytes *b, uint64_t x, size_t n);

/* An npy of version 1 with the given dict and n bytes of data. */
bytes npy_make(const char *dict, const void *data, size_t n);

typedef struct zip {
    bytes file, directory;
    size_t n, local[ZIP_MAX], member[ZIP_MAX], central[ZIP_MAX]; /* offsets; central in the file once it is finished */
    size_t end;
    bool zip64; /* every size in a zip64 field */
} zip;

/* Writes the directory's entry of a member whose local header lies at `local`. */
void zip_list(zip *z, const char *name, size_t local, size_t n_stored, size_t n_inflated, uint32_t crc, unsigned method);
void zip_local(bytes *b, const char *name, unsigned method);
void zip_add(zip *z, const char *name, const uint8_t *data, size_t n);
/* The same deflated; claimed: the size that the directory gives. */
void zip_add_deflated(zip *z, const char *name, uint8_t *data, size_t n, size_t claimed);
void zip_finish(zip *z, const char *comment);
void zip_free(zip *z);

#endif
