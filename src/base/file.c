#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

static pali_status io_error(const char *path, const char *what) {
    return status_fail(PALI_ERR_IO, "%s: %s: %s", path, what, strerror(errno));
}

/* Opens a regular file; O_NONBLOCK so that a FIFO in its place cannot hang us. */
static pali_status open_regular(int *fd, size_t *n_bytes, const char *path) {
    struct stat st;
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (*fd < 0) return io_error(path, "cannot open");
    if (fstat(*fd, &st) != 0) {
        pali_status s = io_error(path, "cannot stat");
        close(*fd);
        return s;
    }
    if (!S_ISREG(st.st_mode)) {
        close(*fd);
        return status_fail(PALI_ERR_IO, "%s: not a regular file", path);
    }
    *n_bytes = (size_t)st.st_size;
    return PALI_OK;
}

pali_status file_map_open(file_map *out, const char *path) {
    int fd;
    size_t n;
    *out = (file_map){0};
    STATUS_TRY(open_regular(&fd, &n, path));
    if (n > 0) {
        void *data = mmap(NULL, n, PROT_READ, MAP_SHARED, fd, 0);
        if (data == MAP_FAILED) {
            pali_status s = io_error(path, "cannot map");
            close(fd);
            return s;
        }
        *out = (file_map){data, n};
    }
    close(fd);
    return PALI_OK;
}

void file_map_close(file_map *map) {
    if (map->data) munmap((void *)(uintptr_t)map->data, map->n_bytes);
    *map = (file_map){0};
}

void file_map_drop(const void *begin, size_t n_bytes) {
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), from = ((uintptr_t)begin + page - 1) & ~(page - 1),
              to = ((uintptr_t)begin + n_bytes) & ~(page - 1);
    if (from < to) (void)madvise((void *)from, to - from, MADV_DONTNEED);
}

void file_map_fetch(const void *begin, size_t n_bytes) {
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), from = (uintptr_t)begin & ~(page - 1), to = (uintptr_t)begin + n_bytes;
    if (n_bytes == 0) return;
#ifdef MADV_POPULATE_READ
    if (madvise((void *)from, to - from, MADV_POPULATE_READ) == 0) return;
#endif
    (void)madvise((void *)from, to - from, MADV_WILLNEED);
    for (uintptr_t p = (uintptr_t)begin; p < to; p = (p & ~(page - 1)) + page) (void)*(const volatile uint8_t *)p;
}

pali_status file_read(char **out, size_t *out_n, const char *path, size_t max_bytes) {
    int fd;
    size_t n, got = 0;
    *out = NULL;
    STATUS_TRY(open_regular(&fd, &n, path));
    if (n > max_bytes) {
        close(fd);
        return status_fail(PALI_ERR_LIMIT, "%s: %zu bytes, more than the limit of %zu", path, n, max_bytes);
    }
    char *data = mem_alloc(n + 1, 1);
    if (!data) {
        close(fd);
        return status_no_memory(n + 1);
    }
    while (got < n) {
        ssize_t r = read(fd, data + got, n - got);
        if (r < 0 && errno == EINTR) continue;
        if (r < 0) {
            pali_status s = io_error(path, "cannot read");
            close(fd);
            mem_free(data);
            return s;
        }
        if (r == 0) break; /* it shrank: what is there is the file */
        got += (size_t)r;
    }
    close(fd);
    data[got] = 0;
    *out = data;
    if (out_n) *out_n = got;
    return PALI_OK;
}

bool file_exists(const char *path) {
    struct stat st;
    return stat(path, &st) == 0;
}

bool file_is_dir(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

bool file_same(const char *a, const char *b) {
    struct stat s, t;
    return stat(a, &s) == 0 && stat(b, &t) == 0 && s.st_dev == t.st_dev && s.st_ino == t.st_ino;
}

bool file_begins(const char *path, const char *bytes) {
    char head[16];
    size_t n = strlen(bytes);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return false;
    bool same = n <= sizeof head && read(fd, head, n) == (ssize_t)n && memcmp(head, bytes, n) == 0;
    close(fd);
    return same;
}

char *file_dir(const char *path) {
    const char *slash = strrchr(path, '/');
    char *dir = mem_copy_string(slash ? path : ".");
    if (dir && slash) dir[slash == path ? 1 : slash - path] = 0;
    return dir;
}

char *file_join(const char *dir, const char *name) {
    size_t n = strlen(dir), m = strlen(name);
    char *path = mem_alloc(n + m + 2, 1);
    if (!path) return NULL;
    memcpy(path, dir, n);
    size_t at = n;
    if (n && dir[n - 1] != '/') path[at++] = '/';
    memcpy(path + at, name, m + 1);
    return path;
}

static pali_status out_create(file_out *out, const char *path) {
    size_t n = strlen(path);
    struct stat st;
    /* Renaming would replace a device as readily as a file. */
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode))
        return status_fail(PALI_ERR_IO, "%s: exists and is not a regular file: expected the name of a file to write", path);
    out->path = mem_alloc(n + 1, 1);
    out->temp = mem_alloc(n + 11, 1);
    if (!out->path || !out->temp) return status_no_memory(n + 11);
    memcpy(out->path, path, n + 1);
    memcpy(out->temp, path, n);
    memcpy(out->temp + n, ".tmpXXXXXX", 11);
    out->fd = mkstemp(out->temp);
    if (out->fd < 0) return io_error(path, "cannot create a file beside it");
    mode_t mask = umask(0);
    umask(mask);
    return fchmod(out->fd, 0666 & ~mask) == 0 ? PALI_OK : io_error(path, "cannot set its mode");
}

static void out_free(file_out *out) {
    mem_free(out->path);
    mem_free(out->temp);
    *out = (file_out){.fd = -1};
}

pali_status file_out_open(file_out *out, const char *path) {
    *out = (file_out){.fd = -1};
    pali_status s = out_create(out, path);
    if (s != PALI_OK) file_out_abort(out);
    return s;
}

pali_status file_out_write(file_out *out, const void *data, size_t n_bytes) {
    const uint8_t *at = data;
    for (size_t n = n_bytes; n > 0;) {
        ssize_t w = write(out->fd, at, n);
        if (w < 0 && errno == EINTR) continue;
        if (w < 0) return io_error(out->path, "cannot write");
        at += w;
        n -= (size_t)w;
    }
    out->n_bytes += n_bytes;
    return PALI_OK;
}

pali_status file_out_patch(file_out *out, uint64_t offset, const void *data, size_t n_bytes) {
    const uint8_t *at = data;
    for (size_t n = n_bytes; n > 0;) {
        ssize_t w = pwrite(out->fd, at, n, (off_t)offset);
        if (w < 0 && errno == EINTR) continue;
        if (w < 0) return io_error(out->path, "cannot write");
        at += w;
        n -= (size_t)w;
        offset += (uint64_t)w;
    }
    return PALI_OK;
}

pali_status file_out_commit(file_out *out) {
    pali_status s = fsync(out->fd) == 0 ? PALI_OK : io_error(out->path, "cannot sync");
    if (close(out->fd) != 0 && s == PALI_OK) s = io_error(out->path, "cannot close");
    out->fd = -1;
    if (s == PALI_OK && !out->stays && rename(out->temp, out->path) != 0) s = io_error(out->path, "cannot rename into place");
    if (s != PALI_OK) unlink(out->temp);
    out_free(out);
    return s;
}

void file_out_abort(file_out *out) {
    if (!out->path && !out->temp) return;
    if (out->fd >= 0) {
        close(out->fd);
        unlink(out->temp);
    }
    out_free(out);
}

pali_status file_write_atomic(const char *path, const void *data, size_t n_bytes) {
    file_out out;
    STATUS_TRY(file_out_open(&out, path));
    pali_status s = file_out_write(&out, data, n_bytes);
    if (s == PALI_OK) return file_out_commit(&out);
    file_out_abort(&out);
    return s;
}
