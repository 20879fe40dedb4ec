/* fuzz_gguf.c: any bytes as a .gguf file; whatever is accepted must lie inside the file, be whole blocks and never overlap. */
#include <stdint.h>
#include <stdlib.h>

#include "io/gguf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_range(const uint8_t *data, size_t size, const uint8_t *at, size_t n) {
    if (at < data || at > data + size || n > (size_t)(data + size - at)) abort();
}

static void check_value(const uint8_t *data, size_t size, const gguf_value *v) {
    check_range(data, size, (const uint8_t *)v->key, v->n_key);
    check_range(data, size, v->data, v->n_bytes);
    const uint8_t *at = v->data;
    for (size_t i = 0; v->kind == GGUF_STRING && i < v->n; i++) {
        size_t n;
        const char *text = gguf_string_next(&at, &n);
        check_range(v->data, v->n_bytes, (const uint8_t *)text, n);
    }
    if (v->kind == GGUF_STRING && at != v->data + v->n_bytes) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    gguf g;
    size_t number = 7;
    float x = 7;
    bool flag = false;
    const char *text;
    const gguf_value *array;
    if (gguf_parse(&g, data, size, "fuzz") != PALI_OK) return 0;
    for (size_t i = 0; i < g.n_values; i++) check_value(data, size, &g.values[i]);
    for (size_t i = 0; i < g.n_tensors; i++) {
        const gguf_tensor *t = &g.tensors[i];
        size_t rows = 1;
        check_range(data, size, t->data, t->n_bytes);
        for (size_t d = 0; d + 1 < t->n_dims; d++) rows *= t->dims[d];
        if (rows * gguf_row_bytes(t->type, t->dims[t->n_dims - 1]) != t->n_bytes) abort();
        if (i && g.tensors[i - 1].data + g.tensors[i - 1].n_bytes > t->data) abort();
    }
    static const char *const k_keys[] = {"general.alignment", "k0", "k5", "k6", "k7", "k8", "k12", "a4", "a8", "none"};
    for (size_t i = 0; i < sizeof k_keys / sizeof k_keys[0]; i++) {
        if (gguf_get_size(&g, k_keys[i], &number, 1, 9) == PALI_OK && (number < 1 || number > 9)) abort();
        if (gguf_get_float(&g, k_keys[i], &x, 0, 9) == PALI_OK && !(x >= 0 && x <= 9)) abort();
        (void)gguf_get_bool(&g, k_keys[i], &flag);
        if (gguf_get_string(&g, k_keys[i], &text, &number) == PALI_OK && gguf_find(&g, k_keys[i])) check_range(data, size, (const uint8_t *)text, number);
        if (gguf_get_array(&g, k_keys[i], GGUF_U32, &array) == PALI_OK && array && array->n) (void)gguf_array_i32(array, array->n - 1);
        number = 7;
    }
    gguf_close(&g);
    return 0;
}
