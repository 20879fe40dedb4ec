#include "common/outfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool write_pieces(int fd, const outfile_piece *pieces, size_t n_pieces) {
    for (size_t i = 0; i < n_pieces; i++) {
        const char *p = pieces[i].data;
        for (size_t left = pieces[i].n_bytes; left;) {
            ssize_t n = write(fd, p, left);
            if (n <= 0) return false;
            p += n;
            left -= (size_t)n;
        }
    }
    return true;
}

/* The directory part of path in a fresh block; "." if there is none. NULL: no memory. */
static char *directory_of(const char *path) {
    const char *slash = strrchr(path, '/');
    if (!slash) return strdup(".");
    return strndup(path, slash == path ? 1 : (size_t)(slash - path));
}

/* So that the rename itself survives a power cut; failure is not worth a message. */
static void sync_directory(const char *path) {
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return;
    (void)fsync(fd);
    (void)close(fd);
}

/* Fills the fresh file `temporary` and renames it to name; false: errno, and it is gone. */
static bool fill_and_rename(int fd, const char *temporary, const char *name, const outfile_piece *pieces, size_t n_pieces) {
    mode_t mask = umask(0);
    (void)umask(mask);
    bool ok = fchmod(fd, 0666 & ~mask) == 0 && write_pieces(fd, pieces, n_pieces) && fsync(fd) == 0;
    int error = errno;
    if (close(fd) != 0 && ok) {
        ok = false;
        error = errno;
    }
    if (ok && rename(temporary, name) != 0) {
        ok = false;
        error = errno;
    }
    if (!ok) {
        (void)unlink(temporary);
        errno = error;
    }
    return ok;
}

static bool replace(const char *path, const outfile_piece *pieces, size_t n_pieces, fault *f) {
    char *target = realpath(path, NULL); /* through links; NULL: does not exist yet */
    const char *name = target ? target : path;
    size_t n_name = strlen(name);
    char *temporary = malloc(n_name + 8), *directory = directory_of(name);
    bool ok = temporary && directory;
    if (!ok) (void)fault_set(f, "%s: out of memory", path);
    if (ok) {
        memcpy(temporary, name, n_name);
        memcpy(temporary + n_name, ".XXXXXX", 8);
        int fd = mkstemp(temporary);
        ok = fd >= 0 && fill_and_rename(fd, temporary, name, pieces, n_pieces);
        if (!ok) (void)fault_set(f, "%s: %s", path, strerror(errno));
    }
    if (ok) sync_directory(directory);
    free(directory);
    free(temporary);
    free(target);
    return ok;
}

bool outfile_write(const char *path, const outfile_piece *pieces, size_t n_pieces, fault *f) {
    struct stat info;
    if (stat(path, &info) != 0 || S_ISREG(info.st_mode)) return replace(path, pieces, n_pieces, f);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool ok = fd >= 0 && write_pieces(fd, pieces, n_pieces);
    int error = errno;
    if (fd >= 0 && close(fd) != 0 && ok) {
        ok = false;
        error = errno;
    }
    return ok || fault_set(f, "%s: %s", path, strerror(error));
}

bool outfile_check(const char *path, fault *f) {
    struct stat info;
    if (stat(path, &info) == 0) {
        if (S_ISDIR(info.st_mode)) return fault_set(f, "%s: %s", path, strerror(EISDIR));
        if (!S_ISREG(info.st_mode)) return true;
    } else if (errno != ENOENT) {
        return fault_set(f, "%s: %s", path, strerror(errno));
    }
    char *directory = directory_of(path);
    if (!directory) return fault_set(f, "%s: out of memory", path);
    bool ok = access(directory, W_OK | X_OK) == 0 || fault_set(f, "%s: its directory: %s", path, strerror(errno));
    free(directory);
    return ok;
}

bool outfile_directory(const char *path, fault *f) {
    struct stat info;
    if (mkdir(path, 0777) != 0 && errno != EEXIST) return fault_set(f, "%s: %s", path, strerror(errno));
    if (stat(path, &info) != 0) return fault_set(f, "%s: %s", path, strerror(errno));
    if (!S_ISDIR(info.st_mode)) return fault_set(f, "%s: %s", path, strerror(ENOTDIR));
    return access(path, W_OK | X_OK) == 0 || fault_set(f, "%s: %s", path, strerror(errno));
}
