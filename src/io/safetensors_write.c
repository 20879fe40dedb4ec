#include "io/safetensors_write.h"

#include <stdlib.h>
#include <string.h>

#include "io/json.h"

pali_status safetensors_writer_open(safetensors_writer *w, const file_out *file) {
    *w = (safetensors_writer){.file = *file, .header = json_pack("{s:{s:s}}", "__metadata__", "format", "pt")};
    if (w->header) return PALI_OK;
    safetensors_writer_free(w);
    return status_no_memory(1);
}

pali_status safetensors_writer_put(safetensors_writer *w, const char *name, st_dtype dtype, size_t n_dims, const size_t *dims) {
    json_t *shape = json_array();
    uint64_t n_bytes = safetensors_dtype_bytes(dtype);
    bool ok = shape != NULL;
    for (size_t i = 0; i < n_dims; i++) {
        n_bytes *= dims[i];
        ok = ok && json_array_append_new(shape, json_integer((json_int_t)dims[i])) == 0;
    }
    json_t *entry = ok ? json_pack("{s:s, s:O, s:[I, I]}", "dtype", safetensors_dtype_name(dtype), "shape", shape, "data_offsets", (json_int_t)w->n_data,
                                   (json_int_t)(w->n_data + n_bytes))
                       : NULL;
    json_decref(shape);
    if (json_object_set_new(w->header, name, entry) != 0) return status_no_memory(strlen(name));
    w->n_data += n_bytes;
    return PALI_OK;
}

pali_status safetensors_writer_begin(safetensors_writer *w) {
    static const char k_spaces[SAFETENSORS_WRITE_ALIGNMENT + 1] = "                                                                ";
    char *text = json_dumps(w->header, JSON_COMPACT);
    if (!text) return status_no_memory(1);
    size_t n = strlen(text), n_spaces = SAFETENSORS_WRITE_ALIGNMENT - 1 - (n + 8 + SAFETENSORS_WRITE_ALIGNMENT - 1) % SAFETENSORS_WRITE_ALIGNMENT;
    uint8_t length[8];
    for (size_t i = 0; i < 8; i++) length[i] = (uint8_t)((uint64_t)(n + n_spaces) >> 8 * i);
    pali_status s = file_out_write(&w->file, length, sizeof length);
    if (s == PALI_OK) s = file_out_write(&w->file, text, n);
    if (s == PALI_OK) s = file_out_write(&w->file, k_spaces, n_spaces);
    w->n_header = w->file.n_bytes;
    free(text);
    return s;
}

pali_status safetensors_writer_data(safetensors_writer *w, const void *data, size_t n_bytes) {
    if (n_bytes > w->n_data - (w->file.n_bytes - w->n_header)) return status_fail(PALI_ERR_INTERNAL, "%s: more data than the header says", w->file.path);
    return file_out_write(&w->file, data, n_bytes);
}

pali_status safetensors_writer_commit(safetensors_writer *w) {
    if (w->file.n_bytes - w->n_header != w->n_data) return status_fail(PALI_ERR_INTERNAL, "%s: less data than the header says", w->file.path);
    return file_out_commit(&w->file);
}

void safetensors_writer_free(safetensors_writer *w) {
    file_out_abort(&w->file);
    json_decref(w->header);
    *w = (safetensors_writer){0};
}
