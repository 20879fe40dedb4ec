/* replay.c: runs a fuzz target over every file of a corpus directory, so that found inputs stay tested everywhere. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int main(int argc, char **argv) {
    DIR *dir = argc == 2 ? opendir(argv[1]) : NULL;
    if (!dir) {
        fprintf(stderr, "usage: %s CORPUS_DIR (it must exist)\n", argv[0]);
        return 1;
    }
    size_t n_files = 0;
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (entry->d_name[0] == '.') continue;
        char *path = file_join(argv[1], entry->d_name), *text;
        size_t n;
        if (!path || file_read(&text, &n, path, (size_t)64 << 20) != PALI_OK) {
            fprintf(stderr, "%s\n", status_message());
            return 1;
        }
        /* An exact-size copy, so that a sanitizer sees a read past the end. */
        uint8_t *bytes = malloc(n ? n : 1);
        if (!bytes) return 1;
        memcpy(bytes, text, n);
        LLVMFuzzerTestOneInput(bytes, n);
        free(bytes);
        mem_free(text);
        mem_free(path);
        n_files++;
    }
    closedir(dir);
    printf("%zu inputs replayed\n", n_files);
    return n_files ? 0 : 1;
}
