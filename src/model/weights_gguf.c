/* weights_gguf.c: a .gguf file as a source of weights. */
#include <string.h>

#include "base/mem.h"
#include "io/gguf.h"
#include "model/weights.h"

static void gguf_free(void *handle) {
    gguf_close(handle);
    mem_free(handle);
}

static pali_status gguf_add(weights *w, const char *path, gguf **out) {
    char *copy = mem_copy_string(path);
    gguf *g = mem_calloc(1, sizeof *g);
    pali_status s = copy && g ? gguf_open(g, path) : status_no_memory(strlen(path) + sizeof *g);
    if (s != PALI_OK) {
        mem_free(copy);
        mem_free(g);
        return s;
    }
    STATUS_TRY(weights_add_file(w, copy, g, gguf_free));
    for (size_t i = 0; i < g->n_tensors; i++) {
        const gguf_tensor *t = &g->tensors[i];
        weights_entry entry = {.file = copy, .file_name = t->name, .dtype = gguf_type_dtype(t->type), .dtype_name = gguf_type_name(t->type),
                               .n_dims = t->n_dims, .data = t->data, .n_bytes = t->n_bytes};
        memcpy(entry.dims, t->dims, sizeof t->dims);
        STATUS_TRY(weights_add(w, t->name, &entry));
    }
    *out = g;
    return weights_seal(w);
}

pali_status weights_open_gguf(weights **out, const char *path, const gguf **out_file) {
    weights *w = mem_calloc(1, sizeof *w);
    gguf *g = NULL;
    *out = NULL;
    if (!w) return status_no_memory(sizeof *w);
    w->layout = SPEC_GGUF;
    pali_status s = gguf_add(w, path, &g);
    if (s != PALI_OK) {
        weights_free(w);
        return s;
    }
    *out = w;
    *out_file = g;
    return PALI_OK;
}
