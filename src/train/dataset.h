/* dataset.h: the rows of JSONL files (spec training 8.1), one object a line:
 *
 *   {"image": "a.jpg" or ["a.jpg", "b.jpg"], "prefix": "...", "suffix": "..." or ["...", ...]}    also "images" for "image", and "id"
 *
 * Paths are relative to the file. The rows of several files are numbered through. Opening reads every line once and looks whether its pictures are there; what stays in memory
 * of a row is where its line lies, so that millions cost megabytes, and rows are parsed again when their turn comes. A bad row
 * is reported with its line, counted and left out; with more of them than the budget nothing goes on. */
#ifndef PALI_TRAIN_DATASET_H
#define PALI_TRAIN_DATASET_H

#include <jansson.h>
#include <stdint.h>

#include "base/status.h"

#define DATASET_MAX_LINE_BYTES ((size_t)4 << 20)
#define DATASET_MAX_FILES 64u
#define DATASET_MAX_IMAGES 64u /* of a row */
#define DATASET_MAX_SUFFIXES 1024u
/* Bad rows that are put up with unless the caller says how many: a tenth of the lines, and always a few. */
#define DATASET_BAD_SHARE 10u
#define DATASET_BAD_FEW 10u
#define DATASET_BAD_DEFAULT SIZE_MAX

/* `message` names file and line. */
typedef void (*dataset_bad_fn)(void *user, const char *message);

typedef struct dataset_line {
    uint64_t offset;
    uint32_t n_bytes, number; /* without the newline; from 1 */
} dataset_line;

typedef struct dataset_file {
    char *path, *dir;
    int fd;
    size_t end; /* number of the row after its last */
} dataset_file;

typedef struct dataset {
    dataset_file *files;  /* [n_files] */
    size_t n_files;
    dataset_line *lines;  /* [n] the good rows */
    size_t n;
    size_t n_bad, max_bad;
    uint8_t *bad_later;   /* [n / 8] bits: rows that turned out bad after opening, each counted once */
    dataset_bad_fn on_bad;
    void *user;
} dataset;

typedef struct dataset_row {
    json_t *json;           /* owns the strings */
    const char *prefix, *suffix, *id; /* id NULL: none */
    size_t n_prefix, n_suffix;
    const json_t *suffixes; /* all of them, of which `suffix` is one: the longest until one is drawn; NULL: there is no list */
    char **images;          /* [n_images] paths that can be opened */
    size_t n_images, line;
} dataset_row;

/* max_bad: DATASET_BAD_DEFAULT or a number, of all files together. on_bad may be NULL. A file without a good row is an error.
 * dataset_close it, also after a failure. */
pali_status dataset_open(dataset *d, const char *path, size_t max_bad, dataset_bad_fn on_bad, void *user);
pali_status dataset_open_all(dataset *d, const char *const *paths, size_t n, size_t max_bad, dataset_bad_fn on_bad, void *user);
void dataset_close(dataset *d);

/* The file that row i is of. */
const dataset_file *dataset_file_of(const dataset *d, size_t i);
/* Row i; any number of threads may read at once. dataset_row_free it, also after a failure. */
pali_status dataset_row_read(dataset_row *out, const dataset *d, size_t i);
void dataset_row_free(dataset_row *row);
/* One line: what a row's line says. `name` stands for file and line in messages, `dir` is where relative paths begin. */
pali_status dataset_row_parse(dataset_row *out, const char *line, size_t n_bytes, const char *dir, const char *name);

/* Makes one of several suffixes the row's: another one in each epoch until all have had their turn, then in another order again. */
void dataset_row_draw(dataset_row *row, uint64_t seed, uint64_t epoch, size_t i);

/* Row i turned out to be bad in later work: reports and counts it the first time. An error once the budget is spent. */
pali_status dataset_row_bad(dataset *d, size_t i, const char *message);

#endif
