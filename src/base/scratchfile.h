/* scratchfile.h: memory that lies in a file without a name, so that the system can write it out when it needs the room. It is
 * gone with the process, however that ends. */
#ifndef PALI_BASE_SCRATCHFILE_H
#define PALI_BASE_SCRATCHFILE_H

#include <stddef.h>

#include "base/status.h"

typedef struct scratchfile {
    void *data; /* [n_bytes], zero at first, page-aligned; NULL: none */
    size_t n_bytes;
} scratchfile;

/* In folder `dir`. The disk's room is taken here: a full disk is an error now and not a signal later. */
pali_status scratchfile_open(scratchfile *out, const char *dir, size_t n_bytes);
void scratchfile_close(scratchfile *f);

#endif
