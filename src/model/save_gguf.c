/* save_gguf.c: model -> one .gguf file (MODEL.md describes it), front to back: values, what every tensor will be, then the
 * tensors. */
#include <string.h>

#include "base/mem.h"
#include "input/tokenizer_save.h"
#include "io/gguf_write.h"
#include "model/config_gguf.h"
#include "model/saver.h"

/* ---- The header ---- */

static pali_dtype tensor_dtype(const saver *v, const spec_tensor *t) {
    if (!t->matrix) return PALI_DTYPE_F32;
    pali_dtype asked = spec_dtype(t, v->o->dtypes);
    return asked != PALI_DTYPE_AUTO ? asked : dtype_is_codes(t->matrix->dtype) ? saver_matrix_dtype(t->matrix) : t->matrix->dtype;
}

static bool is_norm(const spec_tensor *t) { /* of Gemma: stored with 1 added */
    return t->vector && t->group == SPEC_LLM_NORM;
}

/* Adding 1 rounded something away. */
static bool norm_is_lossy(const spec_tensor *t) {
    const float *w = *t->vector;
    for (size_t i = 0; i < t->dims[0]; i++) {
        float back = 1 + w[i] - 1;
        if (memcmp(&back, &w[i], sizeof back) != 0) return true;
    }
    return false;
}

/* The type that most of the text model has, in the numbers of the format. */
static uint32_t file_type(pali_dtype dtype) {
    switch (dtype) {
    case PALI_DTYPE_F16: return 1;
    case PALI_DTYPE_Q4_0: return 2;
    case PALI_DTYPE_Q4_1: return 3;
    case PALI_DTYPE_Q8_0: return 7;
    case PALI_DTYPE_Q4_K: return 14;
    case PALI_DTYPE_BF16: return 32;
    default: return 0;
    }
}

static void tensor_list(saver *v, gguf_writer *w, const spec_tensor *t) {
    size_t dims[4];
    pali_dtype dtype = tensor_dtype(v, t);
    mat rows = saver_rows(t);
    memcpy(dims, t->dims, sizeof dims);
    dims[t->n_dims - 1] = gguf_row_width(dtype, dims[t->n_dims - 1]);
    gguf_put_tensor(w, t->gguf_name, dtype, t->n_dims, dims);
    v->n_total += rows.rows * dtype_bytes(dtype, rows.cols);
    if (is_norm(t) && norm_is_lossy(t)) {
        char name[SPEC_GGUF_NAME_MAX];
        spec_exact_name(name, t);
        gguf_put_tensor(w, name, PALI_DTYPE_F32, 1, t->dims);
        v->n_total += t->dims[0] * sizeof(float);
    }
}

static pali_status header_write(saver *v, gguf_writer *w) {
    const spec *s = &v->m->spec;
    pali_dtype text = tensor_dtype(v, spec_of(s, &v->m->text.layers[0].down));
    gguf_put_string(w, "general.type", "model");
    gguf_put_string(w, "general.name", v->m->name);
    gguf_put_u32(w, "general.file_type", file_type(text));
    gguf_put_u32(w, "general.quantization_version", 2);
    config_gguf_write(&v->m->cfg, w);
    if (v->t) STATUS_TRY(tokenizer_save_gguf(v->t, w));
    for (size_t i = 0; i < s->n; i++) tensor_list(v, w, &s->tensors[i]);
    return gguf_writer_begin(w);
}

/* ---- The data ---- */

static pali_status put(void *to, const void *data, size_t n_bytes) {
    return gguf_writer_data(to, data, n_bytes);
}

/* Gemma's norms have 1 added in GGUF; where that loses bits, what was there before comes behind. */
static pali_status norm_write(saver *v, gguf_writer *w, const spec_tensor *t) {
    size_t n = t->dims[0];
    STATUS_TRY(saver_buffer(v, n * sizeof(float)));
    float *sum = (float *)(void *)v->buffer;
    for (size_t i = 0; i < n; i++) sum[i] = 1 + (*t->vector)[i];
    STATUS_TRY(gguf_writer_data(w, sum, n * sizeof *sum));
    STATUS_TRY(saver_progress(v, n * sizeof *sum));
    return norm_is_lossy(t) ? saver_tensor_put(v, t, PALI_DTYPE_F32, put, w) : PALI_OK;
}

static pali_status data_write(saver *v, gguf_writer *w) {
    const spec *s = &v->m->spec;
    for (size_t i = 0; i < s->n; i++) {
        const spec_tensor *t = &s->tensors[i];
        STATUS_TRY(is_norm(t) ? norm_write(v, w, t) : saver_tensor_put(v, t, tensor_dtype(v, t), put, w));
    }
    return PALI_OK;
}

pali_status save_gguf(saver *v) {
    gguf_writer w;
    const vit_config *c = &v->m->cfg.vit;
    STATUS_TRY(saver_no_codes(v));
    if (c->image_size % c->patch_size != 0) /* readers of the format refuse it, and so do we */
        return status_fail(PALI_ERR_UNSUPPORTED, "%s: image_size %zu is not a multiple of patch_size %zu", v->path, c->image_size, c->patch_size);
    STATUS_TRY(gguf_writer_open(&w, v->path));
    pali_status s = header_write(v, &w);
    if (s == PALI_OK) s = data_write(v, &w);
    if (s == PALI_OK) s = gguf_writer_commit(&w);
    gguf_writer_free(&w);
    return s;
}
