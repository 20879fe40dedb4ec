#include "savedir.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/mem.h"
#include "golden.h"
#include "io/json.h"
#include "model/save.h"

static char g_dir[] = "/tmp/pali-savedir-XXXXXX";

const char *savedir_root(void) {
    return g_dir;
}

/* A name in the test's directory; few at a time. */
const char *savedir_in(const char *name) {
    static char names[8][128];
    static size_t at;
    char *out = names[at++ % 8];
    (void)snprintf(out, sizeof names[0], "%s/%s", g_dir, name);
    return out;
}

/* Everything below a directory, which may itself be kept. */
void savedir_empty(const char *path) {
    DIR *dir = opendir(path);
    if (!dir) return;
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        char *name = file_join(path, entry->d_name);
        struct stat info;
        if (lstat(name, &info) == 0 && S_ISDIR(info.st_mode)) {
            savedir_empty(name);
            (void)rmdir(name);
        } else {
            (void)unlink(name);
        }
        mem_free(name);
    }
    closedir(dir);
}

size_t savedir_count(const char *path) {
    size_t n = 0;
    DIR *dir = opendir(path);
    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir));) n += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    closedir(dir);
    return n;
}

int savedir_setup(void **state) {
    (void)state;
    return mkdtemp(g_dir) ? 0 : -1;
}

int savedir_clean(void **state) {
    (void)state;
    savedir_empty(g_dir);
    return 0;
}

int savedir_teardown(void **state) {
    (void)savedir_clean(state);
    return rmdir(g_dir);
}

void savedir_golden(char out[512], const char *name) {
    (void)snprintf(out, 512, "%s/%s", GOLDEN_DIR, name);
}

/* as_it_lies: as the program opens what it saves; else every matrix is in its order. */
static model *savedir_open_as(const char *path, pali_dtype dtype, bool as_it_lies) {
    model *m;
    model_options o = {.dtype = dtype, .n_threads = 2, .no_prefault = as_it_lies};
    if (model_load(&m, path, &o) != PALI_OK) fail_msg("%s", status_message());
    return m;
}

model *savedir_open(const char *path, pali_dtype dtype) {
    return savedir_open_as(path, dtype, false);
}

model *savedir_open_golden(const char *name) {
    char path[512];
    savedir_golden(path, name);
    return savedir_open(path, PALI_DTYPE_AUTO);
}

tokenizer *savedir_tokenizer(const char *name) {
    char path[640];
    tokenizer *t;
    (void)snprintf(path, sizeof path, "%s/%s/tokenizer.json", GOLDEN_DIR, name);
    if (tokenizer_load(&t, path) != PALI_OK) fail_msg("%s", status_message());
    return t;
}

void savedir_save(const model *m, const tokenizer *t, const char *path, pali_dtype dtype) {
    model_save_options o = {.dtypes = {.all = dtype}, .n_threads = 2};
    if (model_save(m, t, path, &o) != PALI_OK) fail_msg("%s", status_message());
}

/* Opens a file or directory, and writes it as another. */
void savedir_convert(const char *from, const char *to, pali_dtype dtype) {
    model *m = savedir_open_as(from, PALI_DTYPE_AUTO, true);
    savedir_save(m, NULL, to, dtype);
    model_free(m);
}

/* The config, for formats that have none. */
void savedir_put_config(const char *name) {
    char from[640], *text;
    size_t n;
    (void)snprintf(from, sizeof from, "%s/%s/config.json", GOLDEN_DIR, name);
    assert_int_equal(file_read(&text, &n, from, 1 << 20), PALI_OK);
    assert_int_equal(file_write_atomic(savedir_in("config.json"), text, n), PALI_OK);
    mem_free(text);
}

json_t *savedir_json(const char *dir, const char *name) {
    json_t *root;
    char *path = file_join(dir, name);
    if (json_read(&root, path) != PALI_OK) fail_msg("%s", status_message());
    mem_free(path);
    return root;
}

/* The tensors of two directories: type, shape and bytes. */
void assert_same_files(const char *a, const char *b) {
    weights *x = NULL, *y = NULL;
    if (weights_open(&x, a) != PALI_OK || weights_open(&y, b) != PALI_OK) fail_msg("%s", status_message());
    assert_int_equal(x->n_entries, y->n_entries);
    for (size_t i = 0; i < x->n_entries; i++) {
        const weights_entry *s = &x->entries[i], *t = &y->entries[i];
        assert_string_equal(s->name, t->name);
        if (s->dtype != t->dtype) fail_msg("%s: %s became %s", s->name, pali_dtype_name(s->dtype), pali_dtype_name(t->dtype));
        assert_int_equal(s->n_dims, t->n_dims);
        assert_memory_equal(s->dims, t->dims, s->n_dims * sizeof *s->dims);
        assert_int_equal(s->n_bytes, t->n_bytes);
        if (memcmp(s->data, t->data, s->n_bytes) != 0) fail_msg("%s: other bytes", s->name);
    }
    weights_free(x);
    weights_free(y);
}
