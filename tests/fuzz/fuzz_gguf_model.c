/* fuzz_gguf_model.c: any bytes as a .gguf file with a whole model: its configuration, tensors and tokenizer. What loads must have
 * every weight inside the file, and encode and decode text. */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/mem.h"
#include "model/contents.h"
#include "model/weights.h"
#include "input/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_weights(const model *m) {
    const file_map *map = &((const gguf *)m->weights->files[0].handle)->map;
    for (size_t i = 0; i < m->spec.n; i++) {
        const mat *w = m->spec.tensors[i].matrix;
        if (!w || !weights_is_mapped(m->weights, w->data)) continue; /* types that cannot be held are converted */
        const uint8_t *at = w->data;
        size_t n = w->rows * mat_row_bytes(w);
        if (at < map->data || at > map->data + map->n_bytes || n > (size_t)(map->data + map->n_bytes - at)) abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char k_text[] = "the cat <loc0001> <bos>\n\n  \xe7\x8c\xab ab";
    model_options options = {.n_threads = 1};
    char path[64];
    model *m;
    contents *c;
    tokenizer *t;
    int32_t *ids;
    char *text;
    size_t n, n_text;
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size) abort();
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    /* Beside it are /proc's other descriptors: no vision file is among them. */
    if (model_load(&m, path, &options) == PALI_OK) {
        check_weights(m);
        model_free(m);
    }
    if (contents_load(&c, path, &options) == PALI_OK) contents_free(c);
    if (size && tokenizer_parse(&t, data, size, "fuzz") == PALI_OK) {
        if (tokenizer_encode(t, k_text, sizeof k_text, TOKENIZER_SPECIAL, &ids, &n) == PALI_OK) {
            if (tokenizer_decode(t, ids, n, &text, &n_text) == PALI_OK) mem_free(text);
            mem_free(ids);
        }
        tokenizer_free(t);
    }
    close(fd);
    return 0;
}
