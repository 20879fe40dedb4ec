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
/* Lets go of a map's pages that lie wholly in the range, so that a pass over a file larger than memory does not fill it. They
 * are the file's, so nothing is lost. */
void file_map_drop(const void *begin, size_t n_bytes);
/* Brings the pages of such a range in, in their order, before they are used in another or by many at once. */
void file_map_fetch(const void *begin, size_t n_bytes);

/* Reads a regular file of at most max_bytes into a NUL-terminated block (mem_free). */
pali_status file_read(char **out, size_t *out_n, const char *path, size_t max_bytes);
bool file_exists(const char *path);
bool file_is_dir(const char *path);
/* Both names lead to one existing file. */
bool file_same(const char *a, const char *b);
/* It can be read and its first bytes are these. */
bool file_begins(const char *path, const char *bytes);
/* The directory that a path's last name lies in ("." where there is none) in a fresh block (mem_free); NULL: no memory. */
char *file_dir(const char *path);
/* dir + "/" + name in a fresh block (mem_free); NULL: no memory. */
char *file_join(const char *dir, const char *name);

/* A file that comes into being whole: bytes go to a temporary name beside `path`; committing syncs it and renames it into
 * place, so readers see the old content or the new, never half. Aborting, or a failure, leaves nothing behind. */
typedef struct file_out {
    char *path, *temp; /* owned; NULL: not open */
    int fd;
    uint64_t n_bytes;  /* written so far */
    bool stays;        /* a file of a directory that is itself renamed (base/dir.h): this one keeps its name */
} file_out;

pali_status file_out_open(file_out *out, const char *path);
pali_status file_out_write(file_out *out, const void *data, size_t n_bytes);
/* Replaces bytes that are written already. */
pali_status file_out_patch(file_out *out, uint64_t offset, const void *data, size_t n_bytes);
/* Ends it, also when it fails. */
pali_status file_out_commit(file_out *out);
/* Does nothing after a commit, or for a struct of zeros. */
void file_out_abort(file_out *out);

/* The same for bytes that are all there. */
pali_status file_write_atomic(const char *path, const void *data, size_t n_bytes);

#endif
