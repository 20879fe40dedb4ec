/* npz.h: a mapped .npz file, a zip archive of .npy members as numpy writes it, as a list of named arrays (spec inference 3.4).
 *
 *   [local header | member] ... | central directory | (zip64 end, its locator) | end of central directory
 *
 * Members are stored (np.savez: their data is used where it lies in the map, whatever the file's size) or deflated
 * (np.savez_compressed). Opening checks every header against the file: sizes, ranges, overlaps, names. It inflates no more
 * than the headers; a deflated array is inflated when somebody who has seen its shape asks for it, so a small file can not
 * make us take much memory or time. Sizes come from the central directory: local headers of streamed or zip64 members hold
 * none. Members that are not .npy are left out. */
#ifndef PALI_IO_NPZ_H
#define PALI_IO_NPZ_H

#include "base/file.h"
#include "io/npy.h"

#define NPZ_MAX_ARRAYS 65536u
#define NPZ_MAX_NAME 511u
#define NPZ_MAX_INFLATED ((size_t)32 << 30) /* of all deflated arrays together */

typedef struct npz_array {
    const char *name;    /* the member's name without .npy; owned by the file */
    npy_array array;     /* dtype, shape, sizes */
    const uint8_t *data; /* array.n_bytes in the map, any alignment; NULL: deflated and not loaded yet */
    const uint8_t *member; /* the whole member as it lies in the file */
    size_t member_bytes;
    uint32_t crc;        /* of the whole member, inflated */
    bool deflated;
    uint8_t *inflated;   /* owned */
} npz_array;

typedef struct npz {
    file_map map;
    const char *file;   /* for messages; the caller's */
    char *names;
    npz_array *arrays;  /* [n_arrays] by name */
    size_t n_arrays;
    size_t n_inflated;  /* bytes */
} npz;

/* `path` must outlive the struct. */
pali_status npz_open(npz *out, const char *path);
/* The same over memory that stays valid, as must `name`, which is for messages. */
pali_status npz_parse(npz *out, const uint8_t *bytes, size_t n_bytes, const char *name);
void npz_close(npz *z);

/* NULL: there is none of that name. */
npz_array *npz_find(const npz *z, const char *name);
/* Sees to it that a->data is there: a deflated array is inflated, and its checksum checked. Nothing to do for stored ones. */
pali_status npz_load(npz *z, npz_array *a);
/* Frees what npz_load has made: a->data of a deflated array is NULL again. */
void npz_unload(npz *z, npz_array *a);
/* Reads a stored array once and compares its checksum. */
pali_status npz_check(const npz *z, const npz_array *a);

#endif
