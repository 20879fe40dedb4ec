#include "io/gguf_write.h"

#include <string.h>

#include "base/mem.h"

/* ---- The header, in memory ---- */

static void buffer_put(gguf_writer *w, gguf_buffer *b, const void *data, size_t n) {
    size_t need;
    if (w->status != PALI_OK || !n) return;
    if (!mem_add(&need, b->n, n)) {
        w->status = status_no_memory(SIZE_MAX);
        return;
    }
    if (need > b->cap) {
        size_t cap = b->cap ? 2 * b->cap : 4096;
        if (cap < need) cap = need;
        uint8_t *grown = mem_grow(b->data, b->n, cap, 1);
        if (!grown) {
            w->status = status_no_memory(cap);
            return;
        }
        b->data = grown;
        b->cap = cap;
    }
    memcpy(b->data + b->n, data, n);
    b->n = need;
}

/* The low n bytes, lowest first. */
static void buffer_number(gguf_writer *w, gguf_buffer *b, uint64_t x, size_t n) {
    uint8_t bytes[8];
    for (size_t i = 0; i < n; i++) bytes[i] = (uint8_t)(x >> 8 * i);
    buffer_put(w, b, bytes, n);
}

static void buffer_string(gguf_writer *w, gguf_buffer *b, const char *text, size_t n) {
    buffer_number(w, b, n, 8);
    buffer_put(w, b, text, n);
}

static void key(gguf_writer *w, const char *name, gguf_kind kind) {
    buffer_string(w, &w->values, name, strlen(name));
    buffer_number(w, &w->values, kind, 4);
    w->n_values++;
}

void gguf_put_u32(gguf_writer *w, const char *name, uint32_t x) {
    key(w, name, GGUF_U32);
    buffer_number(w, &w->values, x, 4);
}

void gguf_put_f32(gguf_writer *w, const char *name, float x) {
    key(w, name, GGUF_F32);
    gguf_item_f32(w, x);
}

void gguf_put_bool(gguf_writer *w, const char *name, bool x) {
    key(w, name, GGUF_BOOL);
    gguf_item_bool(w, x);
}

void gguf_put_string(gguf_writer *w, const char *name, const char *text) {
    key(w, name, GGUF_STRING);
    gguf_item_string(w, text, strlen(text));
}

void gguf_put_array(gguf_writer *w, const char *name, gguf_kind kind, size_t n) {
    key(w, name, GGUF_ARRAY);
    buffer_number(w, &w->values, kind, 4);
    buffer_number(w, &w->values, n, 8);
}

void gguf_item_i32(gguf_writer *w, int32_t x) {
    buffer_number(w, &w->values, (uint32_t)x, 4);
}

void gguf_item_f32(gguf_writer *w, float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    buffer_number(w, &w->values, bits, 4);
}

void gguf_item_bool(gguf_writer *w, bool x) {
    buffer_number(w, &w->values, x, 1);
}

void gguf_item_string(gguf_writer *w, const char *text, size_t n) {
    buffer_string(w, &w->values, text, n);
}

static uint64_t aligned(uint64_t n) {
    return (n + GGUF_WRITE_ALIGNMENT - 1) / GGUF_WRITE_ALIGNMENT * GGUF_WRITE_ALIGNMENT;
}

void gguf_put_tensor(gguf_writer *w, const char *name, pali_dtype dtype, size_t n_dims, const size_t *dims) {
    uint32_t type = gguf_dtype_type(dtype);
    uint64_t n_bytes = gguf_row_bytes(type, dims[n_dims - 1]);
    buffer_string(w, &w->tensors, name, strlen(name));
    buffer_number(w, &w->tensors, n_dims, 4);
    for (size_t i = n_dims; i-- > 0;) {
        buffer_number(w, &w->tensors, dims[i], 8);
        if (i + 1 < n_dims) n_bytes *= dims[i];
    }
    buffer_number(w, &w->tensors, type, 4);
    buffer_number(w, &w->tensors, w->n_data, 8);
    if (w->status == PALI_OK && w->n_tensors == w->sizes_cap) {
        size_t cap = w->sizes_cap ? 2 * w->sizes_cap : 512;
        uint64_t *grown = mem_grow(w->sizes, w->sizes_cap, cap, sizeof *grown);
        if (!grown) {
            w->status = status_no_memory(cap * sizeof *grown);
        } else {
            w->sizes = grown;
            w->sizes_cap = cap;
        }
    }
    if (w->status != PALI_OK) return;
    w->sizes[w->n_tensors++] = n_bytes;
    w->n_data = aligned(w->n_data + n_bytes);
}

/* ---- The file ---- */

pali_status gguf_writer_open(gguf_writer *w, const char *path) {
    *w = (gguf_writer){0};
    STATUS_TRY(file_out_open(&w->file, path));
    gguf_put_u32(w, "general.alignment", GGUF_WRITE_ALIGNMENT);
    return PALI_OK;
}

static pali_status pad(gguf_writer *w) {
    static const uint8_t k_zeros[GGUF_WRITE_ALIGNMENT];
    return file_out_write(&w->file, k_zeros, (size_t)(aligned(w->file.n_bytes) - w->file.n_bytes));
}

pali_status gguf_writer_begin(gguf_writer *w) {
    gguf_buffer head = {0};
    buffer_put(w, &head, "GGUF", 4);
    buffer_number(w, &head, 3, 4);
    buffer_number(w, &head, w->n_tensors, 8);
    buffer_number(w, &head, w->n_values, 8);
    pali_status s = w->status;
    if (s == PALI_OK) s = file_out_write(&w->file, head.data, head.n);
    if (s == PALI_OK) s = file_out_write(&w->file, w->values.data, w->values.n);
    if (s == PALI_OK) s = file_out_write(&w->file, w->tensors.data, w->tensors.n);
    if (s == PALI_OK) s = pad(w);
    w->n_header = w->file.n_bytes;
    mem_free(head.data);
    return s;
}

uint64_t gguf_writer_done(const gguf_writer *w) {
    return w->file.n_bytes - w->n_header;
}

pali_status gguf_writer_data(gguf_writer *w, const void *data, size_t n_bytes) {
    if (w->current == w->n_tensors || n_bytes > w->sizes[w->current] - w->written)
        return status_fail(PALI_ERR_INTERNAL, "%s: more data than the header says", w->file.path);
    STATUS_TRY(file_out_write(&w->file, data, n_bytes));
    w->written += n_bytes;
    if (w->written < w->sizes[w->current]) return PALI_OK;
    w->current++;
    w->written = 0;
    return pad(w);
}

pali_status gguf_writer_commit(gguf_writer *w) {
    if (w->current != w->n_tensors) return status_fail(PALI_ERR_INTERNAL, "%s: less data than the header says", w->file.path);
    return file_out_commit(&w->file);
}

void gguf_writer_free(gguf_writer *w) {
    file_out_abort(&w->file);
    mem_free(w->values.data);
    mem_free(w->tensors.data);
    mem_free(w->sizes);
    *w = (gguf_writer){0};
}
