/* dir.h: a directory that comes into being whole: its files are written into a temporary directory beside the name, which
 * committing syncs and renames into place. Aborting, or a failure, leaves nothing behind. */
#ifndef PALI_BASE_DIR_H
#define PALI_BASE_DIR_H

#include "base/file.h"

typedef struct dir_out {
    char *path, *temp; /* owned; NULL: not open */
} dir_out;

/* `path` must not exist yet, or be an empty directory: nobody's files are replaced or mixed with ours. */
pali_status dir_out_open(dir_out *out, const char *path);
/* A file in it; messages call it by the name that it will have. Committing it syncs it. */
pali_status dir_out_file(const dir_out *out, file_out *file, const char *name);
/* The same for bytes that are all there, and for a copy of a file of any size. */
pali_status dir_out_write(const dir_out *out, const char *name, const void *data, size_t n_bytes);
pali_status dir_out_copy(const dir_out *out, const char *name, const char *from);
/* Ends it, also when it fails. All files must be committed. */
pali_status dir_out_commit(dir_out *out);
/* Does nothing after a commit, or for a struct of zeros. */
void dir_out_abort(dir_out *out);

/* Makes a directory and what leads there, as far as it is not there. *n_made (may be NULL): how many, also after a failure. */
pali_status dir_make(const char *path, size_t *n_made);
/* Removes as many again, from the last one up, as long as they are empty. */
void dir_unmake(const char *path, size_t n_made);
/* Removes a directory with the files in it (nothing deeper). */
pali_status dir_remove(const char *path);
/* What is renamed or made in it is there after a loss of power too. */
pali_status dir_sync(const char *path);

#endif
