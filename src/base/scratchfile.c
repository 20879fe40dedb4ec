/* scratchfile.c: a file is made, its name taken away at once, its room reserved, and mapped. */
#include "base/scratchfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"

static pali_status map(scratchfile *out, int fd, const char *dir, size_t n_bytes) {
    int error = n_bytes > INT64_MAX ? EFBIG : posix_fallocate(fd, 0, (off_t)n_bytes);
    if (error) return status_fail(PALI_ERR_IO, "%s: room for %zu bytes: %s", dir, n_bytes, strerror(error));
    void *data = mmap(NULL, n_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (data == MAP_FAILED) return status_fail(PALI_ERR_IO, "%s: mapping %zu bytes: %s", dir, n_bytes, strerror(errno));
    *out = (scratchfile){data, n_bytes};
    return PALI_OK;
}

pali_status scratchfile_open(scratchfile *out, const char *dir, size_t n_bytes) {
    *out = (scratchfile){0};
    if (n_bytes == 0) return PALI_OK;
    char *path = file_join(dir, "paligemma-XXXXXX");
    if (!path) return status_no_memory(strlen(dir));
    int fd = mkstemp(path); /* not O_TMPFILE: some file systems have none */
    if (fd >= 0) (void)unlink(path);
    mem_free(path);
    if (fd < 0) return status_fail(PALI_ERR_IO, "%s: a file for states: %s", dir, strerror(errno));
    pali_status status = map(out, fd, dir, n_bytes);
    (void)close(fd);
    return status;
}

void scratchfile_close(scratchfile *f) {
    if (f->data) (void)munmap(f->data, f->n_bytes);
    *f = (scratchfile){0};
}
