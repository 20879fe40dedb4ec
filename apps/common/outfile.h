/* outfile.h: a result as a file: whole or not there at all. */
#ifndef PALI_COMMON_OUTFILE_H
#define PALI_COMMON_OUTFILE_H

#include <stddef.h>

#include "common/fault.h"

typedef struct outfile_piece {
    const void *data; /* [n_bytes] */
    size_t n_bytes;
} outfile_piece;

/* Writes the pieces, one after the other. A regular file, through links, is replaced by rename, and a failure leaves
 * neither half a file nor a temporary one; a pipe or device is written to and never replaced. A signal handler that runs
 * meanwhile ends it with EINTR, so that Ctrl-C works on a pipe nobody reads. */
bool outfile_write(const char *path, const outfile_piece *pieces, size_t n_pieces, fault *f);

/* Whether a file could be made there, for a complaint before the work and not after it. */
bool outfile_check(const char *path, fault *f);

/* The directory is there, or has been made inside one that is, and can be written to. */
bool outfile_directory(const char *path, fault *f);

#endif
