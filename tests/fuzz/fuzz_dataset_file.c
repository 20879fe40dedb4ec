/* fuzz_dataset_file.c: any bytes as a file of training data, beside which there is one picture, "a". Its good rows are in order and can
 * be read again. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "train/dataset.h"

static char g_dir[] = "/tmp/pali-fuzz-XXXXXX";
static char g_rows[64], g_picture[64];

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void remove_files(void) {
    unlink(g_rows);
    unlink(g_picture);
    rmdir(g_dir);
}

/* A new file: where one is made empty and written again, some file systems wait for the disk. */
static void write_file(const char *path, const uint8_t *data, size_t size) {
    (void)unlink(path);
    const int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size || close(fd) != 0) abort();
}

static void check_file(const uint8_t *data, size_t size) {
    dataset d;
    write_file(g_rows, data, size);
    if (dataset_open(&d, g_rows, SIZE_MAX - 1, NULL, NULL) == PALI_OK) {
        size_t line = 0;
        if (d.n == 0) abort();
        for (size_t i = 0; i < d.n; i++) {
            dataset_row row;
            if (dataset_row_read(&row, &d, i) != PALI_OK || row.line <= line) abort();
            line = row.line;
            dataset_row_free(&row);
        }
    } else if (!*status_message()) {
        abort();
    }
    dataset_close(&d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (!*g_rows) {
        if (!mkdtemp(g_dir)) abort();
        (void)snprintf(g_rows, sizeof g_rows, "%s/rows.jsonl", g_dir);
        (void)snprintf(g_picture, sizeof g_picture, "%s/a", g_dir);
        write_file(g_picture, data, 0);
        (void)atexit(remove_files);
    }
    check_file(data, size);
    return 0;
}
