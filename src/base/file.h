/* file.h: whole files, read-only maps and atomic writes. */
#ifndef PALI_BASE_FILE_H
#define PALI_BASE_FILE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

/* A read-only mapping of a whole file. A file that shrinks while mapped is outside what we can defend against (SIGBUS). */
typedef struct file_map {
    const uint8_t *data; /* [n_bytes]; NULL for an empty file */
    size_t n_bytes;
} file_map;

pali_status file_map_open(file_map *out, const char *path);
void file_map_close(file_map *map);

/* Reads a regular file of at most max_bytes into a NUL-terminated block (mem_free). */
pali_status file_read(char **out, size_t *out_n, const char *path, size_t max_bytes);
bool file_exists(const char *path);
bool file_is_dir(const char *path);
/* dir + "/" + name in a fresh block (mem_free); NULL: no memory. */
char *file_join(const char *dir, const char *name);

/* Writes to a temporary name beside `path`, syncs and renames: readers see the old content or the new, never half. */
pali_status file_write_atomic(const char *path, const void *data, size_t n_bytes);

#endif
