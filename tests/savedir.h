/* savedir.h: a directory of the test program's own, into which models are saved, and from which they are opened again. Functions fail
 * the running cmocka test. */
#ifndef PALI_TESTS_SAVEDIR_H
#define PALI_TESTS_SAVEDIR_H

#include <jansson.h>

#include "input/tokenizer.h"
#include "model/model.h"

/* For cmocka: makes the directory, empties it after a test, removes it. */
int savedir_setup(void **state);
int savedir_clean(void **state);
int savedir_teardown(void **state);

const char *savedir_root(void);
/* A name in it; eight of them at a time. */
const char *savedir_in(const char *name);
/* Removes everything below a directory; how many entries it has. */
void savedir_empty(const char *path);
size_t savedir_count(const char *path);

/* The directory of a golden model; it as a model; its tokenizer. */
void savedir_golden(char out[512], const char *name);
model *savedir_open_golden(const char *name);
tokenizer *savedir_tokenizer(const char *name);

/* Every matrix in its order, whatever the format. */
model *savedir_open(const char *path, pali_dtype dtype);
void savedir_save(const model *m, const tokenizer *t, const char *path, pali_dtype dtype);
/* Opens a file or directory as the program does to save it, and writes it as another. */
void savedir_convert(const char *from, const char *to, pali_dtype dtype);
/* A golden model's config.json, for formats that have none. */
void savedir_put_config(const char *name);
json_t *savedir_json(const char *dir, const char *name);
/* The tensors of two directories have the same types, shapes and bytes. */
void assert_same_files(const char *a, const char *b);

#endif
