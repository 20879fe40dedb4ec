/* fuzz_scene_score.c: any bytes as the three files that tools/scenes' scorer reads: a byte that says which task, then the truth, the
 * rows and the answers, with a line "#" between them. Figures must be shares. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "judge.h"

enum { TRUTH, ROWS, ANSWERS, FILES };

static char g_dir[] = "/tmp/pali-fuzz-XXXXXX";
static char g_answers[48], g_paths[FILES][80];

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void remove_files(void) {
    for (unsigned i = 0; i < FILES; i++) unlink(g_paths[i]);
    rmdir(g_answers);
    rmdir(g_dir);
}

static void paths_set(unsigned sheet) {
    (void)snprintf(g_paths[TRUTH], sizeof *g_paths, "%s/truth.jsonl", g_dir);
    (void)snprintf(g_paths[ROWS], sizeof *g_paths, "%s/%s.jsonl", g_dir, rows_sheet_names[sheet]);
    (void)snprintf(g_paths[ANSWERS], sizeof *g_paths, "%s/%s.jsonl", g_answers, rows_sheet_names[sheet]);
}

static void file_write(const char *path, const uint8_t *data, size_t size) {
    const int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size || close(fd) != 0) abort();
}

/* Bytes until the line "#", which is skipped. */
static size_t part_end(const uint8_t *data, size_t size, size_t *next) {
    for (size_t i = 0; i + 3 <= size; i++)
        if (!memcmp(data + i, "\n#\n", 3)) return *next = i + 3, i + 1;
    return *next = size;
}

static void share_check(judge_share s) {
    if (s.right > s.n) abort();
}

static void judge_check(const judge *j) {
    for (unsigned i = 0; i < NAMES_LANGUAGES; i++) {
        share_check(j->caption[i]);
        share_check(j->wordless[i]);
    }
    for (unsigned i = 0; i < ROWS_SHEETS; i++) share_check(j->present[i]);
    share_check(judge_answers(j));
    share_check(j->ocr);
    if (!(j->detect.ap50 >= 0 && j->detect.ap50 <= 1 && j->detect.mean_iou >= 0 && j->detect.mean_iou <= 1.000001)) abort(); /* rounding */
    if (j->detect.n_matched > j->detect.n_objects || j->detect.n_matched > j->detect.n_answers) abort();
    if (!(j->segment_iou >= 0 && j->segment_iou <= 1)) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    judge j;
    fault f = {""};
    if (size == 0) return 0;
    if (!*g_answers) {
        if (!mkdtemp(g_dir)) abort();
        (void)snprintf(g_answers, sizeof g_answers, "%s/answers", g_dir);
        if (mkdir(g_answers, 0700) != 0) abort();
        (void)atexit(remove_files);
    }
    paths_set(data[0] % ROWS_SHEETS);
    data++;
    size--;
    for (unsigned i = 0; i < FILES; i++) {
        size_t next;
        const size_t n = part_end(data, size, &next);
        file_write(g_paths[i], data, n);
        data += next;
        size -= next;
    }
    if (judge_run(&j, g_dir, g_answers, &f))
        judge_check(&j);
    else if (!*f.text)
        abort();
    for (unsigned i = 0; i < FILES; i++) unlink(g_paths[i]);
    return 0;
}
