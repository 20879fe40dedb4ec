/* adapter_dir.c: see adapter_dir.h. */
#include "adapter_dir.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static FILE *file_in(const char *dir, const char *name) {
    char path[128];
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    return f;
}

static size_t n_elements(const adapter_tensor *t) {
    size_t n = 1;
    for (size_t i = 0; i < t->n_dims; i++) n *= t->dims[i];
    return n;
}

static size_t n_bytes(const adapter_tensor *t) {
    return n_elements(t) * (strcmp(t->dtype, "F32") == 0 ? 4 : strcmp(t->dtype, "I64") == 0 ? 8 : 2);
}

static void header_write(FILE *f, const adapter_tensor *tensors, size_t n) {
    char *text = NULL;
    size_t length = 0, at = 0;
    FILE *h = open_memstream(&text, &length);
    assert_non_null(h);
    fputc('{', h);
    for (size_t i = 0; i < n; at += n_bytes(&tensors[i++])) {
        fprintf(h, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[", i ? "," : "", tensors[i].name, tensors[i].dtype);
        for (size_t j = 0; j < tensors[i].n_dims; j++) fprintf(h, "%s%zu", j ? "," : "", tensors[i].dims[j]);
        fprintf(h, "],\"data_offsets\":[%zu,%zu]}", at, at + n_bytes(&tensors[i]));
    }
    fputc('}', h);
    assert_int_equal(fclose(h), 0);
    for (size_t i = 0; i < 8; i++) fputc((int)((uint64_t)length >> (8 * i) & 0xff), f);
    assert_int_equal(fwrite(text, 1, length, f), length);
    free(text);
}

/* Zeros are a hole: a large adapter costs no disk. */
static void data_write(FILE *f, const adapter_tensor *t) {
    if (strcmp(t->dtype, "F32") != 0 || (!t->data && t->fill == 0)) {
        assert_int_equal(fseek(f, (long)n_bytes(t), SEEK_CUR), 0);
        return;
    }
    for (size_t i = 0; i < n_elements(t); i++) assert_int_equal(fwrite(t->data ? t->data + i : &t->fill, sizeof(float), 1, f), 1);
}

adapter_dir adapter_dir_new(const char *config, const adapter_tensor *tensors, size_t n) {
    adapter_dir d = {"/tmp/pali_adapter_XXXXXX"};
    assert_non_null(mkdtemp(d.path));
    if (config) {
        FILE *f = file_in(d.path, "adapter_config.json");
        fputs(config, f);
        assert_int_equal(fclose(f), 0);
    }
    if (tensors) {
        FILE *f = file_in(d.path, "adapter_model.safetensors");
        header_write(f, tensors, n);
        for (size_t i = 0; i < n; i++) data_write(f, &tensors[i]);
        long end = ftell(f);
        assert_true(end > 0);
        assert_int_equal(fflush(f), 0);
        assert_int_equal(ftruncate(fileno(f), end), 0);
        assert_int_equal(fclose(f), 0);
    }
    return d;
}

void adapter_dir_free(adapter_dir *d) {
    static const char *const k_names[] = {"adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"};
    for (size_t i = 0; i < 3; i++) {
        char path[128];
        (void)snprintf(path, sizeof path, "%s/%s", d->path, k_names[i]);
        (void)unlink(path);
    }
    assert_int_equal(rmdir(d->path), 0);
}
