/* golden.h: access to tests/golden/models for the tests of whole models (tools/make_model_goldens.py wrote it).
 *
 * NAME/ is a checkpoint; NAME/golden.safetensors holds the reference's intermediates of its first case under the names of
 * exec->tap, NAME/golden.json its answers. Whatever is missing or malformed fails the running cmocka test. */
#ifndef PALI_TESTS_GOLDEN_H
#define PALI_TESTS_GOLDEN_H

#include <jansson.h>

#include "io/safetensors.h"

#define GOLDEN_DIR PALI_TEST_DATA "/models"

extern const char *const k_golden_models[]; /* NULL-terminated */

typedef struct golden {
    const char *name;
    char dir[512];
    json_t *json;
    safetensors st;
} golden;

void golden_open(golden *g, const char *name);
void golden_close(golden *g);

/* Values of a float32 tensor; a vector has one row. */
const float *golden_tensor(const golden *g, const char *name, size_t *rows, size_t *cols);
/* [3, *size, *size] model input of one of the shared pictures; free(). */
float *golden_pixels(const char *picture, size_t *size);

/* Fields of golden.json; a missing one fails. */
json_t *golden_field(const json_t *object, const char *key);
double golden_number(const json_t *object, const char *key);
const char *golden_string(const json_t *object, const char *key);
/* Numbers of an array; free(). */
int32_t *golden_ids(const json_t *array, size_t *n);
double *golden_numbers(const json_t *array, size_t *n);

/* Gemma's tokenizer with PaliGemma's location, segmentation and image tokens added, at the ids they have there; NULL, and a
 * line that says so, where the file is not at hand (test_tokenizer.c). tokenizer_free it. */
struct pali_tokenizer *golden_gemma_tokenizer(void);

/* Largest over the rows of ||a - b|| / ||b||. */
double golden_row_error(const float *a, const float *b, size_t rows, size_t cols);

#endif
