#include "base/memory.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#define PATH_MAX_BYTES 4096u

/* Calls for a "NAME 123" or "NAME: 123 kB" line; the number in bytes, or UINT64_MAX. */
static uint64_t field_read(const char *path, const char *name) {
    FILE *f = fopen(path, "re");
    char line[512];
    uint64_t value = UINT64_MAX;
    size_t n = strlen(name);
    while (f && value == UINT64_MAX && fgets(line, sizeof line, f)) {
        if (strncmp(line, name, n) != 0 || (line[n] != ':' && line[n] != ' ')) continue;
        char *end;
        uint64_t x = strtoull(line + n + 1, &end, 10);
        value = strstr(end, "kB") ? x * 1024 : x;
    }
    if (f) (void)fclose(f);
    return value;
}

/* A file that holds one number, or "max". */
static uint64_t number_read(const char *path) {
    FILE *f = fopen(path, "re");
    char line[64] = "";
    if (!f) return UINT64_MAX;
    if (!fgets(line, sizeof line, f)) line[0] = 0;
    (void)fclose(f);
    if (line[0] < '0' || line[0] > '9') return UINT64_MAX;
    return strtoull(line, NULL, 10);
}

static uint64_t less_of(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

/* One control group's limit. Pages of files are charged to it but can be dropped, so they are not counted as used. */
static void group_apply(memory_free *out, const char *dir, const char *max_name, const char *used_name, const char *file_name) {
    char path[PATH_MAX_BYTES];
    if ((size_t)snprintf(path, sizeof path, "%s/%s", dir, max_name) >= sizeof path) return;
    uint64_t max = number_read(path);
    if (max == UINT64_MAX) return;
    (void)snprintf(path, sizeof path, "%s/%s", dir, used_name);
    uint64_t used = number_read(path);
    (void)snprintf(path, sizeof path, "%s/memory.stat", dir);
    uint64_t file = field_read(path, file_name);
    if (used == UINT64_MAX) used = 0;
    if (file != UINT64_MAX) used -= less_of(file, used);
    out->total = less_of(out->total, max);
    out->available = less_of(out->available, max > used ? max - used : 0);
}

/* The groups of /proc/self/cgroup and all groups above them: "0::/a/b" (version 2), "7:memory:/a/b" (version 1). */
static void groups_apply(memory_free *out, const char *root) {
    char path[PATH_MAX_BYTES], line[PATH_MAX_BYTES];
    (void)snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof line, f)) {
        char *first = strchr(line, ':'), *group = first ? strchr(first + 1, ':') : NULL;
        if (!group) continue;
        line[strcspn(line, "\n")] = 0;
        *group++ = 0;
        bool second = first[1] == 0, memory = strcmp(first + 1, "memory") == 0;
        if (!second && !memory) continue;
        for (;;) {
            if ((size_t)snprintf(path, sizeof path, "%s/sys/fs/cgroup%s%s", root, second ? "" : "/memory", group) < sizeof path) {
                if (second)
                    group_apply(out, path, "memory.max", "memory.current", "file");
                else
                    group_apply(out, path, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_cache");
            }
            char *slash = strrchr(group, '/');
            if (!slash || !*group) break;
            *slash = 0;
        }
    }
    if (f) (void)fclose(f);
}

void memory_free_get(memory_free *out, const char *root) {
    char path[PATH_MAX_BYTES];
    struct rlimit limit;
    (void)snprintf(path, sizeof path, "%s/proc/meminfo", root);
    *out = (memory_free){.available = field_read(path, "MemAvailable"), .total = field_read(path, "MemTotal"), .address = UINT64_MAX};
    groups_apply(out, root);
    (void)snprintf(path, sizeof path, "%s/proc/self/status", root);
    if (getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY) {
        uint64_t used = field_read(path, "VmSize");
        out->address = used != UINT64_MAX && limit.rlim_cur > used ? limit.rlim_cur - used : 0;
    }
    if (getrlimit(RLIMIT_DATA, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY) {
        uint64_t used = field_read(path, "VmData");
        out->available = less_of(out->available, used != UINT64_MAX && limit.rlim_cur > used ? limit.rlim_cur - used : 0);
    }
}
