#include "base/dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

static pali_status io_error(const char *path, const char *what) {
    return status_fail(PALI_ERR_IO, "%s: %s: %s", path, what, strerror(errno));
}

/* Whether anything but . and .. is in it; -1: cannot be read. */
static int has_entries(const char *path) {
    DIR *dir = opendir(path);
    int n = 0;
    if (!dir) return -1;
    for (struct dirent *entry; !n && (entry = readdir(dir));) n = strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    closedir(dir);
    return n;
}

/* A symbolic link is no directory here: renaming would not follow it. */
static pali_status place_check(const char *path) {
    struct stat st;
    const char *slash = strrchr(path, '/'), *last = slash ? slash + 1 : path;
    if (!*last || strcmp(last, ".") == 0 || strcmp(last, "..") == 0)
        return status_fail(PALI_ERR_ARGUMENT, "%s: expected the name of a directory to write", path);
    if (lstat(path, &st) != 0) return errno == ENOENT ? PALI_OK : io_error(path, "cannot look at it");
    if (!S_ISDIR(st.st_mode)) return status_fail(PALI_ERR_IO, "%s: exists and is not a directory: expected the name of a new one", path);
    switch (has_entries(path)) {
    case 0: return PALI_OK;
    case 1: return status_fail(PALI_ERR_IO, "%s: exists and is not empty: expected the name of a new directory", path);
    default: return io_error(path, "cannot read");
    }
}

static pali_status out_create(dir_out *out, const char *path) {
    size_t n = strlen(path);
    struct stat st;
    while (n > 1 && path[n - 1] == '/') n--;
    out->path = mem_alloc(n + 1, 1);
    char *temp = mem_alloc(n + 11, 1);
    if (!out->path || !temp) {
        mem_free(temp);
        return status_no_memory(n + 11);
    }
    memcpy(out->path, path, n);
    out->path[n] = 0;
    memcpy(temp, path, n);
    memcpy(temp + n, ".tmpXXXXXX", 11);
    pali_status s = place_check(out->path);
    if (s == PALI_OK && !mkdtemp(temp)) s = io_error(out->path, "cannot create a directory beside it");
    if (s != PALI_OK) {
        mem_free(temp);
        return s;
    }
    out->temp = temp;
    mode_t mask = umask(0);
    umask(mask);
    if (stat(temp, &st) != 0 || chmod(temp, (st.st_mode & 07000) | (0777 & ~mask)) != 0) return io_error(out->path, "cannot set its mode");
    return PALI_OK;
}

static void out_free(dir_out *out) {
    mem_free(out->path);
    mem_free(out->temp);
    *out = (dir_out){0};
}

pali_status dir_out_open(dir_out *out, const char *path) {
    *out = (dir_out){0};
    pali_status s = out_create(out, path);
    if (s != PALI_OK) dir_out_abort(out);
    return s;
}

pali_status dir_out_file(const dir_out *out, file_out *file, const char *name) {
    *file = (file_out){.fd = -1, .path = file_join(out->path, name), .temp = file_join(out->temp, name), .stays = true};
    pali_status s = PALI_OK;
    if (!file->path || !file->temp)
        s = status_no_memory(strlen(name));
    else if ((file->fd = open(file->temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666)) < 0)
        s = io_error(file->path, "cannot create");
    if (s != PALI_OK) file_out_abort(file);
    return s;
}

pali_status dir_out_write(const dir_out *out, const char *name, const void *data, size_t n_bytes) {
    file_out file;
    STATUS_TRY(dir_out_file(out, &file, name));
    pali_status s = file_out_write(&file, data, n_bytes);
    if (s == PALI_OK) return file_out_commit(&file);
    file_out_abort(&file);
    return s;
}

pali_status dir_out_copy(const dir_out *out, const char *name, const char *from) {
    file_map map;
    STATUS_TRY(file_map_open(&map, from));
    pali_status s = dir_out_write(out, name, map.data, map.n_bytes);
    file_map_close(&map);
    return s;
}

static pali_status sync_as(const char *dir, const char *name) {
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return io_error(name, "cannot sync its directory");
    pali_status s = fsync(fd) == 0 || errno == EINVAL ? PALI_OK : io_error(name, "cannot sync its directory"); /* EINVAL: not on this file system */
    close(fd);
    return s;
}

pali_status dir_sync(const char *path) {
    return sync_as(path, path);
}

pali_status dir_out_commit(dir_out *out) {
    pali_status s = sync_as(out->temp, out->path);
    if (s == PALI_OK && rename(out->temp, out->path) != 0) s = io_error(out->path, "cannot rename into place");
    if (s != PALI_OK)
        dir_out_abort(out);
    else
        out_free(out);
    return s;
}

/* Nobody but us puts files there, and none of ours is a directory. */
static void files_remove(const char *path) {
    DIR *dir = opendir(path);
    if (!dir) return;
    for (struct dirent *entry; (entry = readdir(dir));)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) (void)unlinkat(dirfd(dir), entry->d_name, 0);
    closedir(dir);
}

pali_status dir_make(const char *path, size_t *n_made) {
    size_t n = 0;
    char *copy = mem_copy_string(path);
    pali_status s = copy ? PALI_OK : status_no_memory(strlen(path));
    for (char *at = copy ? copy + (*copy != 0) : NULL; s == PALI_OK && at; at++) {
        const char c = *at;
        if (c != '/' && c) continue;
        *at = 0;
        if (mkdir(copy, 0777) == 0)
            n++;
        else if (errno != EEXIST)
            s = io_error(copy, "cannot make the directory");
        *at = c;
        if (!c) break;
    }
    mem_free(copy);
    if (n_made) *n_made = n;
    return s;
}

void dir_unmake(const char *path, size_t n_made) {
    char *copy = n_made ? mem_copy_string(path) : NULL;
    for (size_t n = copy ? strlen(copy) : 0; n && n_made && rmdir(copy) == 0; n_made--) {
        while (n && copy[n - 1] == '/') n--;
        while (n && copy[n - 1] != '/') n--;
        copy[n] = 0;
    }
    mem_free(copy);
}

pali_status dir_remove(const char *path) {
    files_remove(path);
    return rmdir(path) == 0 ? PALI_OK : io_error(path, "cannot remove");
}

void dir_out_abort(dir_out *out) {
    if (out->temp) {
        files_remove(out->temp);
        (void)rmdir(out->temp);
    }
    out_free(out);
}
