#include "npy.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Magic, version and length take 10 bytes; the whole header is padded to 64 so that the data is aligned. */
#define HEADER_BYTES 128
#define PREAMBLE_BYTES 10

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#define FLOAT32_DESCR ">f4"
#else
#define FLOAT32_DESCR "<f4"
#endif

static void make_header(char header[HEADER_BYTES], const uint64_t *dims, size_t n_dims) {
    char shape[80] = "";
    size_t used = 0;
    for (size_t i = 0; i < n_dims && used < sizeof shape; i++) {
        int n = snprintf(shape + used, sizeof shape - used, "%s%llu", i ? ", " : "", (unsigned long long)dims[i]);
        used += n > 0 ? (size_t)n : 0;
    }
    memset(header, ' ', HEADER_BYTES);
    memcpy(header, "\x93NUMPY\x01\x00", 8);
    header[8] = HEADER_BYTES - PREAMBLE_BYTES;
    header[9] = 0;
    char dict[HEADER_BYTES - PREAMBLE_BYTES];
    int n = snprintf(dict, sizeof dict, "{'descr': '%s', 'fortran_order': False, 'shape': (%s%s), }", FLOAT32_DESCR, shape, n_dims == 1 ? "," : "");
    if (n > 0 && (size_t)n < sizeof dict) memcpy(header + PREAMBLE_BYTES, dict, (size_t)n);
    header[HEADER_BYTES - 1] = '\n';
}

static bool write_all(int fd, const void *bytes, size_t n_bytes) {
    const char *p = bytes;
    while (n_bytes) {
        ssize_t n = write(fd, p, n_bytes);
        if (n < 0 && errno == EINTR && !cli_interrupted()) continue;
        if (n <= 0) return false;
        p += n;
        n_bytes -= (size_t)n;
    }
    return true;
}

/* So that the rename itself survives a power cut; failure is not worth a message. */
static void sync_directory_of(char *path) {
    char *slash = strrchr(path, '/');
    if (slash) slash[slash == path] = 0;
    int fd = open(slash ? path : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return;
    (void)fsync(fd);
    (void)close(fd);
}

static int replace_file(cli *c, const char *path, const char *header, const void *data, size_t n_bytes) {
    char *target = realpath(path, NULL); /* through links; NULL: does not exist yet */
    const char *name = target ? target : path;
    size_t n_name = strlen(name);
    char *temporary = malloc(n_name + 8);
    if (!temporary) {
        free(target);
        return cli_fail(c, "%s: out of memory", path);
    }
    memcpy(temporary, name, n_name);
    memcpy(temporary + n_name, ".XXXXXX", 8);
    int fd = mkstemp(temporary), code = CLI_OK;
    bool ok = fd >= 0;
    if (ok) {
        mode_t mask = umask(0);
        (void)umask(mask);
        ok = fchmod(fd, 0666 & ~mask) == 0 && write_all(fd, header, HEADER_BYTES) && write_all(fd, data, n_bytes) && fsync(fd) == 0;
        int error = errno;
        ok = close(fd) == 0 && ok && rename(temporary, name) == 0;
        if (!ok) {
            if (error) errno = error;
            error = errno;
            (void)unlink(temporary);
            errno = error;
        }
    }
    if (!ok) code = cli_interrupted() ? CLI_INTERRUPTED : cli_fail(c, "%s: %s", path, strerror(errno));
    if (ok) sync_directory_of(temporary);
    free(temporary);
    free(target);
    return code;
}

/* A pipe or device: written to, never replaced. */
static int fill_special(cli *c, const char *path, const char *header, const void *data, size_t n_bytes) {
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool ok = fd >= 0 && write_all(fd, header, HEADER_BYTES) && write_all(fd, data, n_bytes);
    if (fd >= 0) ok = close(fd) == 0 && ok;
    return ok ? CLI_OK : cli_fail(c, "%s: %s", path, strerror(errno));
}

int npy_write(cli *c, const char *path, const float *values, const uint64_t *dims, size_t n_dims) {
    char header[HEADER_BYTES];
    size_t n_bytes = sizeof *values;
    for (size_t i = 0; i < n_dims; i++) n_bytes *= (size_t)dims[i]; /* the array exists, so its size does not overflow */
    make_header(header, dims, n_dims);
    if (!strcmp(path, "-")) {
        int code = cli_write(c, header, sizeof header);
        return code ? code : cli_write(c, values, n_bytes);
    }
    struct stat info;
    bool special = stat(path, &info) == 0 && !S_ISREG(info.st_mode);
    return special ? fill_special(c, path, header, values, n_bytes) : replace_file(c, path, header, values, n_bytes);
}
