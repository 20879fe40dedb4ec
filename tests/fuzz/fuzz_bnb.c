/* fuzz_bnb.c: any bytes as a safetensors file whose matrices bitsandbytes may have quantized: what is put together must have its
 * codes and scales inside the file, and decode to finite weights. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "io/safetensors.h"
#include "model/weights.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_inside(const uint8_t *at, size_t n, const uint8_t *data, size_t size) {
    if (at < data || at > data + size || n > (size_t)(data + size - at)) abort();
}

static void check_entry(weights_entry *e, const uint8_t *data, size_t size) {
    coded *c = &e->codes->codes;
    const mat w = {.dtype = e->dtype, .rows = e->dims[0], .cols = e->dims[1], .data = e->data, .codes = c};
    bool nested = e->codes->nested != NULL;
    float *scales = nested ? mem_alloc(e->codes->n_scales, sizeof *scales) : NULL, *row = mem_alloc(w.cols + 1, sizeof *row);
    if ((nested && !scales) || !row) abort();
    check_inside(e->data, mat_bytes(&w), data, size);
    if (mat_scale_bytes(&w) != e->codes->n_scales * sizeof(float)) abort();
    if (!nested) check_inside(c->scales, mat_scale_bytes(&w), data, size);
    if (weights_bnb_scales(e, scales) == PALI_OK) {
        if (nested) c->scales = (const uint8_t *)scales;
        for (size_t r = 0; r < w.rows; r += w.rows / 7 + 1) {
            mat_rows_f32(kernels_get(CPU_REF), row, &w, r, 1);
            for (size_t i = 0; i < w.cols; i++)
                if (!isfinite(row[i])) abort();
        }
    }
    mem_free(scales);
    mem_free(row);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    safetensors st;
    weights *w = mem_calloc(1, sizeof *w);
    if (!w) abort();
    if (safetensors_parse(&st, data, size, "fuzz") == PALI_OK) {
        for (size_t i = 0; i < st.n_tensors; i++) {
            const st_tensor *t = &st.tensors[i];
            weights_entry entry = {.file = "fuzz", .file_name = t->name, .dtype_name = safetensors_dtype_name(t->dtype), .n_dims = t->n_dims,
                                   .data = t->data, .n_bytes = t->n_bytes};
            memcpy(entry.dims, t->dims, sizeof entry.dims);
            if (weights_add(w, t->name, &entry) != PALI_OK) abort();
        }
        if (weights_seal(w) == PALI_OK && weights_bnb(w) == PALI_OK)
            for (size_t i = 0; i < w->n_entries; i++)
                if (w->entries[i].codes && w->entries[i].dims[0] && w->entries[i].dims[1]) check_entry(&w->entries[i], data, size);
        safetensors_close(&st);
    }
    weights_free(w);
    return 0;
}
