/* save.c: model -> one .gguf file (MODEL.md describes it), front to back: values, what every tensor will be, then the tensors
 * in pieces. A piece is converted in parallel into a buffer and written; the pages of the source are let go of, so that the
 * whole takes tens of megabytes whatever the size of the model. */
#include "model/save.h"

#include <stdatomic.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "input/tokenizer_save.h"
#include "io/gguf_write.h"
#include "model/config_gguf.h"
#include "model/weights.h"

#define PIECE_BYTES ((size_t)8 << 20) /* of the source or the file, whichever is larger */

typedef struct saver {
    const model *m;
    const model_save_options *o;
    gguf_writer w;
    exec e;
    uint8_t *buffer; /* a piece, converted */
    size_t buffer_cap;
} saver;

/* ---- The header ---- */

static pali_dtype matrix_dtype(const saver *v, const spec_tensor *t) {
    pali_dtype asked = spec_dtype(t, v->o->dtypes);
    return asked != PALI_DTYPE_AUTO ? asked : t->matrix->dtype;
}

static size_t n_elements(const spec_tensor *t) {
    size_t n = 1;
    for (size_t i = 0; i < t->n_dims; i++) n *= t->dims[i];
    return n;
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

static void tensor_put(saver *v, const spec_tensor *t) {
    size_t dims[4];
    pali_dtype dtype = t->matrix ? matrix_dtype(v, t) : PALI_DTYPE_F32;
    memcpy(dims, t->dims, sizeof dims);
    dims[t->n_dims - 1] = gguf_row_width(dtype, dims[t->n_dims - 1]);
    gguf_put_tensor(&v->w, t->gguf_name, dtype, t->n_dims, dims);
    if (is_norm(t) && norm_is_lossy(t)) {
        char name[SPEC_GGUF_NAME_MAX];
        spec_exact_name(name, t);
        gguf_put_tensor(&v->w, name, PALI_DTYPE_F32, 1, t->dims);
    }
}

static pali_status header_write(saver *v, const tokenizer *t) {
    const spec *s = &v->m->spec;
    pali_dtype text = matrix_dtype(v, spec_of(s, &v->m->text.layers[0].down));
    gguf_put_string(&v->w, "general.type", "model");
    gguf_put_string(&v->w, "general.name", v->m->name);
    gguf_put_u32(&v->w, "general.file_type", file_type(text));
    gguf_put_u32(&v->w, "general.quantization_version", 2);
    config_gguf_write(&v->m->cfg, &v->w);
    if (t) STATUS_TRY(tokenizer_save_gguf(t, &v->w));
    for (size_t i = 0; i < s->n; i++) tensor_put(v, &s->tensors[i]);
    return gguf_writer_begin(&v->w);
}

/* ---- The data ---- */

typedef struct piece_job {
    const saver *v;
    const mat *from;
    pali_dtype to;
    size_t first, n_rows, rows_per_task;
    atomic_bool unfit; /* a row could not be converted */
} piece_job;

static void piece_task(void *context, size_t task, size_t worker) {
    piece_job *j = context;
    size_t begin = task * j->rows_per_task, n = j->n_rows - begin < j->rows_per_task ? j->n_rows - begin : j->rows_per_task;
    uint8_t *to = j->v->buffer + begin * dtype_bytes(j->to, j->from->cols);
    const exec *e = &j->v->e;
    bool fits = mat_rows_convert(e->k, to, j->to, j->from, j->first + begin, n, e->worker[worker].data);
    if (!fits) atomic_store(&j->unfit, true);
}

/* Some rows of a tensor, as they are or converted. */
static pali_status rows_write(saver *v, const spec_tensor *t, pali_dtype to, size_t first, size_t n_rows) {
    const mat *from = t->matrix;
    const void *data = mat_row(from, first);
    if (from->dtype != to) {
        piece_job j = {v, from, to, first, n_rows, (n_rows + v->e.n_workers - 1) / v->e.n_workers, false};
        pool_run(v->e.pool, (n_rows + j.rows_per_task - 1) / j.rows_per_task, piece_task, &j);
        if (j.unfit) return weights_unfit(v->m->path ? v->m->path : v->m->name, t->name);
        data = v->buffer;
    }
    pali_status s = gguf_writer_data(&v->w, data, n_rows * dtype_bytes(to, from->cols));
    if (weights_is_mapped(v->m->weights, from->data)) file_map_drop(mat_row(from, first), n_rows * mat_row_bytes(from));
    return s;
}

static pali_status progress_report(const saver *v) {
    if (v->o->progress && v->o->progress(v->o->user, "writing weights", gguf_writer_done(&v->w), v->w.n_data))
        return status_fail(PALI_ERR_CANCELLED, "%s: cancelled", v->w.file.path);
    return PALI_OK;
}

static pali_status matrix_write(saver *v, const spec_tensor *t) {
    const mat *from = t->matrix;
    pali_dtype to = matrix_dtype(v, t);
    size_t to_bytes = dtype_bytes(to, from->cols), row_bytes = mat_row_bytes(from) > to_bytes ? mat_row_bytes(from) : to_bytes;
    size_t step = PIECE_BYTES / row_bytes + 1;
    if (step > from->rows) step = from->rows;
    if (from->dtype != to) {
        STATUS_TRY(exec_worker_scratch(&v->e, from->cols * sizeof(float)));
        if (step * to_bytes > v->buffer_cap) {
            mem_free(v->buffer);
            v->buffer_cap = step * to_bytes;
            v->buffer = mem_alloc(v->buffer_cap, 1);
            if (!v->buffer) return status_no_memory(v->buffer_cap);
        }
    }
    for (size_t r = 0; r < from->rows; r += step) {
        STATUS_TRY(rows_write(v, t, to, r, from->rows - r < step ? from->rows - r : step));
        STATUS_TRY(progress_report(v));
    }
    return PALI_OK;
}

/* Gemma's norms have 1 added in GGUF; where that loses bits, what was there before comes behind. */
static pali_status norm_write(saver *v, const spec_tensor *t) {
    size_t n = t->dims[0];
    float *sum = mem_alloc(n, sizeof *sum);
    if (!sum) return status_no_memory(n * sizeof *sum);
    for (size_t i = 0; i < n; i++) sum[i] = 1 + (*t->vector)[i];
    pali_status s = gguf_writer_data(&v->w, sum, n * sizeof *sum);
    mem_free(sum);
    return s == PALI_OK && norm_is_lossy(t) ? gguf_writer_data(&v->w, *t->vector, n * sizeof *sum) : s;
}

static pali_status data_write(saver *v) {
    const spec *s = &v->m->spec;
    for (size_t i = 0; i < s->n; i++) {
        const spec_tensor *t = &s->tensors[i];
        if (t->matrix)
            STATUS_TRY(matrix_write(v, t));
        else if (is_norm(t))
            STATUS_TRY(norm_write(v, t));
        else
            STATUS_TRY(gguf_writer_data(&v->w, *t->vector, n_elements(t) * sizeof(float)));
    }
    return progress_report(v);
}

/* ---- The file ---- */

static pali_status path_check(const model *m, const char *path) {
    for (size_t i = 0; i < m->weights->n_files; i++)
        if (file_same(path, m->weights->files[i].path))
            return status_fail(PALI_ERR_ARGUMENT, "%s: a file of the model itself: expected another name", path);
    return PALI_OK;
}

pali_status model_save_gguf(const model *m, const tokenizer *t, const char *path, const model_save_options *options) {
    saver v = {.m = m, .o = options};
    const vit_config *c = &m->cfg.vit;
    STATUS_TRY(path_check(m, path));
    if (c->image_size % c->patch_size != 0) /* readers of the format refuse it, and so do we */
        return status_fail(PALI_ERR_UNSUPPORTED, "%s: image_size %zu is not a multiple of patch_size %zu", path, c->image_size, c->patch_size);
    STATUS_TRY(exec_init(&v.e, options->n_threads));
    pali_status s = gguf_writer_open(&v.w, path);
    if (s == PALI_OK) {
        s = header_write(&v, t);
        if (s == PALI_OK) s = data_write(&v);
        if (s == PALI_OK) s = gguf_writer_commit(&v.w);
        gguf_writer_free(&v.w);
    }
    mem_free(v.buffer);
    exec_free(&v.e);
    return s;
}
