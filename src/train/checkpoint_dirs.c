/* checkpoint_dirs.c: the folders of checkpoints: which there are, which go, and what of the last one is in the output's own folder. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/dir.h"
#include "base/mem.h"
#include "train/checkpoint.h"

#define NAME "checkpoint-"
#define LEFT ".tmp" /* after it in names of what is being written or removed */

char *checkpoint_path(const char *out_dir, size_t step) {
    char name[64];
    (void)snprintf(name, sizeof name, NAME "%zu", step);
    return file_join(out_dir, name);
}

/* "checkpoint-12": *step 12, *whole; "checkpoint-12.tmpAbCdEf": 12, not whole. */
static bool name_read(const char *name, size_t *step, bool *whole) {
    char *end;
    if (strncmp(name, NAME, strlen(NAME)) != 0) return false;
    const char *digits = name + strlen(NAME);
    if (*digits < '0' || *digits > '9' || strlen(digits) > 32) return false;
    errno = 0;
    unsigned long long n = strtoull(digits, &end, 10);
    *step = (size_t)n;
    *whole = !*end;
    return errno == 0 && (*whole || strncmp(end, LEFT, strlen(LEFT)) == 0);
}

typedef struct steps {
    size_t *items, n, cap;
} steps;

static pali_status steps_add(steps *s, size_t step) {
    if (s->n == s->cap) {
        size_t cap = s->cap ? 2 * s->cap : 16;
        size_t *grown = mem_grow(s->items, s->n, cap, sizeof *grown);
        if (!grown) return status_no_memory(cap * sizeof *grown);
        s->items = grown;
        s->cap = cap;
    }
    s->items[s->n++] = step;
    return PALI_OK;
}

static int by_number(const void *a, const void *b) {
    const size_t x = *(const size_t *)a, y = *(const size_t *)b;
    return (x > y) - (x < y);
}

/* Whole ones in order; those that are not are removed if so wished. */
static pali_status steps_list(steps *out, const char *out_dir, bool clean) {
    *out = (steps){0};
    DIR *dir = opendir(out_dir);
    if (!dir) return errno == ENOENT ? PALI_OK : status_fail(PALI_ERR_IO, "%s: cannot read: %s", out_dir, strerror(errno));
    pali_status s = PALI_OK;
    for (struct dirent *entry; s == PALI_OK && (entry = readdir(dir));) {
        size_t step;
        bool whole;
        if (!name_read(entry->d_name, &step, &whole)) continue;
        if (whole) s = steps_add(out, step);
        if (whole || !clean) continue;
        char *path = file_join(out_dir, entry->d_name);
        s = path ? dir_remove(path) : status_no_memory(strlen(out_dir));
        mem_free(path);
    }
    closedir(dir);
    if (out->n) qsort(out->items, out->n, sizeof *out->items, by_number);
    return s;
}

pali_status checkpoint_latest(char **out, const char *out_dir) {
    steps all;
    *out = NULL;
    pali_status s = steps_list(&all, out_dir, false);
    if (s == PALI_OK && all.n && !(*out = checkpoint_path(out_dir, all.items[all.n - 1]))) s = status_no_memory(strlen(out_dir));
    mem_free(all.items);
    return s;
}

/* It loses its name before its files. */
pali_status checkpoint_drop(const char *out_dir, size_t step) {
    char *path = checkpoint_path(out_dir, step), *gone = path ? mem_alloc(strlen(path) + 16, 1) : NULL;
    pali_status s = gone ? PALI_OK : status_no_memory(strlen(out_dir));
    if (s == PALI_OK) {
        (void)snprintf(gone, strlen(path) + 16, "%s" LEFT, path);
        const bool there = rename(path, gone) == 0;
        if (!there && errno != ENOENT) s = status_fail(PALI_ERR_IO, "%s: cannot rename: %s", path, strerror(errno));
        if (there) s = dir_remove(gone);
    }
    mem_free(path);
    mem_free(gone);
    return s;
}

pali_status checkpoint_prune(const char *out_dir, size_t keep) {
    steps all;
    pali_status s = steps_list(&all, out_dir, true);
    for (size_t i = 0; s == PALI_OK && i < all.n && all.n - i > keep; i++) s = checkpoint_drop(out_dir, all.items[i]);
    mem_free(all.items);
    return s;
}

/* ---- The result ---- */

static bool is_for_others(const char *name) {
    static const char *const k_own[] = {".", "..", "optimizer.safetensors", "train_state.json"};
    for (size_t i = 0; i < sizeof k_own / sizeof *k_own; i++)
        if (strcmp(name, k_own[i]) == 0) return false;
    return true;
}

static pali_status file_copy(const char *from, const char *to) {
    file_map map;
    STATUS_TRY(file_map_open(&map, from));
    pali_status s = file_write_atomic(to, map.data, map.n_bytes);
    file_map_close(&map);
    return s;
}

/* A second name for the file; where file systems have none, a copy. */
static pali_status file_publish(const char *from, const char *to) {
    size_t n = strlen(to) + 16;
    char *temp = mem_alloc(n, 1);
    if (!temp) return status_no_memory(n);
    (void)snprintf(temp, n, "%s.%ld" LEFT, to, (long)getpid() % 10000000);
    (void)unlink(temp);
    pali_status s = PALI_OK;
    if (link(from, temp) != 0)
        s = file_copy(from, to);
    else if (rename(temp, to) != 0)
        s = status_fail(PALI_ERR_IO, "%s: cannot rename into place: %s", to, strerror(errno));
    (void)unlink(temp); /* is still there if both were names of one file already */
    mem_free(temp);
    return s;
}

pali_status checkpoint_publish(const char *path, const char *out_dir) {
    DIR *dir = opendir(path);
    if (!dir) return status_fail(PALI_ERR_IO, "%s: cannot read: %s", path, strerror(errno));
    pali_status s = PALI_OK;
    for (struct dirent *entry; s == PALI_OK && (entry = readdir(dir));) {
        if (!is_for_others(entry->d_name)) continue;
        char *from = file_join(path, entry->d_name), *to = file_join(out_dir, entry->d_name);
        s = from && to ? file_publish(from, to) : status_no_memory(strlen(path));
        mem_free(from);
        mem_free(to);
    }
    closedir(dir);
    return s == PALI_OK ? dir_sync(out_dir) : s;
}
