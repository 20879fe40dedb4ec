/* golden.c: see golden.h. */
#include "golden.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/mem.h"
#include "input/tokenizer.h"

const char *const k_golden_models[] = {"pg1-f32", "pg1-bf16", "pg1-f16", "pg1-mixed", "pg2-f32", "pg2-bf16", NULL};

static void path_join(char *out, size_t n, const char *dir, const char *name) {
    int length = snprintf(out, n, "%s/%s", dir, name);
    assert_true(length > 0 && (size_t)length < n);
}

static void tensors_open(safetensors *st, const char *dir, const char *name) {
    char path[640];
    path_join(path, sizeof path, dir, name);
    if (safetensors_open(st, path) != PALI_OK) fail_msg("%s", status_message());
}

void golden_open(golden *g, const char *name) {
    char path[640];
    json_error_t error;
    *g = (golden){.name = name};
    path_join(g->dir, sizeof g->dir, GOLDEN_DIR, name);
    tensors_open(&g->st, g->dir, "golden.safetensors");
    path_join(path, sizeof path, g->dir, "golden.json");
    g->json = json_load_file(path, JSON_ALLOW_NUL, &error);
    if (!g->json) fail_msg("%s: %s", path, error.text);
}

void golden_close(golden *g) {
    json_decref(g->json);
    safetensors_close(&g->st);
}

static const st_tensor *tensor_find(const safetensors *st, const char *name) {
    for (size_t i = 0; i < st->n_tensors; i++)
        if (strcmp(st->tensors[i].name, name) == 0) return &st->tensors[i];
    fail_msg("no golden tensor %s", name);
    return NULL;
}

const float *golden_tensor(const golden *g, const char *name, size_t *rows, size_t *cols) {
    const st_tensor *t = tensor_find(&g->st, name);
    assert_true(t->dtype == ST_F32 && (t->n_dims == 1 || t->n_dims == 2));
    assert_int_equal((uintptr_t)t->data % sizeof(float), 0);
    *rows = t->n_dims == 2 ? t->dims[0] : 1;
    *cols = t->dims[t->n_dims - 1];
    return (const float *)(const void *)t->data;
}

float *golden_pixels(const char *picture, size_t *size) {
    safetensors st;
    tensors_open(&st, GOLDEN_DIR "/images", "pixels.safetensors");
    const st_tensor *t = tensor_find(&st, picture);
    assert_true(t->dtype == ST_U8 && t->n_dims == 3 && t->dims[0] == 3 && t->dims[1] == t->dims[2]);
    float *pixels = malloc(t->n_bytes * sizeof *pixels);
    assert_non_null(pixels);
    for (size_t i = 0; i < t->n_bytes; i++) pixels[i] = (float)t->data[i] / 127.5f - 1.0f;
    *size = t->dims[1];
    safetensors_close(&st);
    return pixels;
}

json_t *golden_field(const json_t *object, const char *key) {
    json_t *value = json_object_get(object, key);
    if (!value) fail_msg("golden.json: no field %s", key);
    return value;
}

double golden_number(const json_t *object, const char *key) {
    json_t *value = golden_field(object, key);
    assert_true(json_is_number(value));
    return json_number_value(value);
}

const char *golden_string(const json_t *object, const char *key) {
    json_t *value = golden_field(object, key);
    assert_true(json_is_string(value));
    return json_string_value(value);
}

double *golden_numbers(const json_t *array, size_t *n) {
    assert_true(json_is_array(array));
    *n = json_array_size(array);
    double *out = malloc((*n + 1) * sizeof *out);
    assert_non_null(out);
    for (size_t i = 0; i < *n; i++) {
        assert_true(json_is_number(json_array_get(array, i)));
        out[i] = json_number_value(json_array_get(array, i));
    }
    return out;
}

int32_t *golden_ids(const json_t *array, size_t *n) {
    double *numbers = golden_numbers(array, n);
    int32_t *out = malloc((*n + 1) * sizeof *out);
    assert_non_null(out);
    for (size_t i = 0; i < *n; i++) out[i] = (int32_t)numbers[i];
    free(numbers);
    return out;
}

struct pali_tokenizer *golden_gemma_tokenizer(void) {
    static const char k_list[] = "\"added_tokens\": [";
    const char *dir = getenv("PALI_TOKENIZER_DIR");
    char *path = file_join(dir ? dir : PALI_TEST_SOURCE "/../shared/tokenizer", "tokenizer.json"), *text = NULL;
    tokenizer *t = NULL;
    size_t n = 0, cap, at;
    if (!file_exists(path) || file_read(&text, &n, path, (size_t)64 << 20) != PALI_OK) {
        printf("%s is not here: nothing is tried with Gemma's tokenizer (set PALI_TOKENIZER_DIR)\n", path);
        mem_free(path);
        return NULL;
    }
    const char *list = strstr(text, k_list);
    cap = n + 1153 * 64;
    char *more = mem_alloc(cap, 1);
    if (!list || !more) fail_msg("%s: no added tokens, or no memory", path);
    at = (size_t)(list - text) + strlen(k_list);
    memcpy(more, text, at);
    char *to = more + at;
    for (int i = 0; i < 1024; i++) to += snprintf(to, 64, "{\"id\":%d,\"content\":\"<loc%04d>\",\"special\":false},", 256000 + i, i);
    for (int i = 0; i < 128; i++) to += snprintf(to, 64, "{\"id\":%d,\"content\":\"<seg%03d>\",\"special\":false},", 257024 + i, i);
    to += snprintf(to, 64, "{\"id\":257152,\"content\":\"<image>\",\"special\":true},");
    memcpy(to, text + at, n - at);
    if (tokenizer_parse(&t, (const uint8_t *)more, (size_t)(to - more) + n - at, path) != PALI_OK) fail_msg("%s", pali_last_error());
    mem_free(more);
    mem_free(text);
    mem_free(path);
    return t;
}

double golden_row_error(const float *a, const float *b, size_t rows, size_t cols) {
    double worst = 0;
    for (size_t r = 0; r < rows; r++, a += cols, b += cols) {
        double difference = 0, norm = 0;
        for (size_t i = 0; i < cols; i++) {
            double d = (double)a[i] - (double)b[i];
            difference += d * d;
            norm += (double)b[i] * (double)b[i];
        }
        double error = sqrt(difference / norm);
        if (!(error <= worst)) worst = error; /* a NaN must win */
    }
    return worst;
}
