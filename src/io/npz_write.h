/* npz_write.h: writes a .npz file as numpy does, a zip archive of stored .npy members, front to back: the header of an array,
 * then its data in pieces of any size. Checksums are put into the headers once they are known, so the archive reads in any
 * way; data begins at multiples of 64, so it can be used where it lies. Members, offsets and archives of 4 GiB and more have the
 * fields of zip64, the others have not. The same arrays make the same bytes: there is no date. */
#ifndef PALI_IO_NPZ_WRITE_H
#define PALI_IO_NPZ_WRITE_H

#include "base/file.h"
#include "io/npy.h"

#define NPZ_WRITE_ALIGNMENT 64u

typedef struct npz_member {
    char *name; /* with .npy */
    uint64_t offset, n_bytes;
    uint32_t crc;
} npz_member;

typedef struct npz_writer {
    file_out file;
    npz_member *members;
    size_t n_members, members_cap;
    uint64_t n_left;     /* bytes of the current array's data still to come */
    uint64_t zip64_from; /* sizes and offsets from here on are zip64's; tests lower it */
} npz_writer;

pali_status npz_writer_open(npz_writer *w, const char *path);
/* Begins an array, whose data follows; `name` without .npy. F32, BF16, F16 and U8. */
pali_status npz_writer_array(npz_writer *w, const char *name, npy_dtype dtype, size_t n_dims, const size_t *dims);
pali_status npz_writer_data(npz_writer *w, const void *data, size_t n_bytes);
/* All data must be there. */
pali_status npz_writer_commit(npz_writer *w);
/* Without a commit nothing is left of the file. */
void npz_writer_free(npz_writer *w);

#endif
