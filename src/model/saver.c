#include "model/saver.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "base/file.h"
#include "base/halffloat.h"
#include "base/mem.h"
#include "tensor/compensate.h"
#include "tensor/encode.h"

mat saver_rows(const spec_tensor *t) {
    if (t->matrix) return *t->matrix;
    size_t rows = t->n_dims > 1 ? t->dims[0] : 1;
    return mat_f32(rows, spec_n_elements(t) / rows, *t->vector);
}

/* ---- Dtypes ---- */

bool saver_is_float(pali_dtype dtype) {
    return dtype == PALI_DTYPE_F32 || dtype == PALI_DTYPE_BF16 || dtype == PALI_DTYPE_F16;
}

pali_dtype saver_matrix_dtype(const mat *w) {
    return saver_is_float(w->dtype) ? w->dtype : w->codes ? w->codes->rounding : PALI_DTYPE_BF16;
}

/* The matrix before it in the table, or the first. */
static pali_dtype neighbour_dtype(const spec *s, const spec_tensor *t) {
    const spec_tensor *at = t;
    while (at > s->tensors && !at->matrix) at--;
    while (!at->matrix) at++;
    return saver_matrix_dtype(at->matrix);
}

static bool is_exact(const float *x, size_t n, pali_dtype dtype) {
    for (size_t i = 0; i < n; i++) {
        float back = dtype == PALI_DTYPE_BF16 ? half_from_bf16(half_to_bf16(x[i])) : dtype == PALI_DTYPE_F16 ? half_from_f16(half_to_f16(x[i])) : x[i];
        if (memcmp(&back, &x[i], sizeof back) != 0) return false;
    }
    return true;
}

pali_dtype saver_float_dtype(const saver *v, const spec_tensor *t) {
    const model *m = v->m;
    pali_dtype asked = spec_dtype(t, v->o->dtypes);
    if (asked != PALI_DTYPE_AUTO) return asked;
    if (t->matrix) return saver_matrix_dtype(t->matrix);
    const weights_entry *entry = m->weights->layout == SPEC_GGUF ? NULL : weights_of(m->weights, t);
    if (entry && saver_is_float(entry->dtype)) return entry->dtype;
    pali_dtype dtype = neighbour_dtype(&m->spec, t);
    return is_exact(*t->vector, spec_n_elements(t), dtype) ? dtype : PALI_DTYPE_F32;
}

pali_status saver_no_codes(const saver *v) {
    const spec_dtypes *d = &v->o->dtypes;
    if (!dtype_is_codes(d->all) && !dtype_is_codes(d->vision) && !dtype_is_codes(d->embed)) return PALI_OK;
    return status_fail(PALI_ERR_UNSUPPORTED, "%s: bitsandbytes' types are for directories only: expected f32, bf16, f16, q8 or q4, or the name of a directory", v->path);
}

pali_status saver_floats_check(const saver *v, const char *format, bool codes) {
    const spec_dtypes *d = &v->o->dtypes;
    const pali_dtype asked[] = {d->all, d->vision, d->embed};
    for (size_t i = 0; i < 3; i++)
        if (asked[i] != PALI_DTYPE_AUTO && !saver_is_float(asked[i]) && !(codes && dtype_is_codes(asked[i])))
            return status_fail(PALI_ERR_UNSUPPORTED, "%s: %s cannot have weights of type %s: expected f32, bf16%s, or a name that ends in .gguf", v->path,
                               format, pali_dtype_name(asked[i]), codes ? ", f16, nf4 or int8" : " or f16");
    return PALI_OK;
}

/* ---- Data ---- */

pali_status saver_buffer(saver *v, size_t n_bytes) {
    if (n_bytes <= v->buffer_cap) return PALI_OK;
    mem_free(v->buffer);
    v->buffer_cap = 0;
    v->buffer = mem_alloc(n_bytes, 1);
    if (!v->buffer) return status_no_memory(n_bytes);
    v->buffer_cap = n_bytes;
    return PALI_OK;
}

pali_status saver_progress(saver *v, size_t n_bytes) {
    v->n_done += n_bytes;
    if (v->o->progress && v->o->progress(v->o->user, "writing weights", v->n_done, v->n_total))
        return status_fail(PALI_ERR_CANCELLED, "%s: cancelled", v->path);
    return PALI_OK;
}

typedef struct convert_job {
    const saver *v;
    const mat *from;
    pali_dtype to;
    uint8_t *out;
    const float *factors; /* of a calibration; NULL: none */
    size_t first, n_rows, rows_per_task;
    atomic_bool unfit; /* a row could not be converted */
} convert_job;

/* Rows, some at a time, by way of f32 and a calibration's factors. */
static bool rows_compensate(const convert_job *j, uint8_t *out, size_t first, size_t n, float *rows) {
    const kernels *k = j->v->e.k;
    const size_t cols = j->from->cols;
    for (size_t r = 0; r < n; r += COMPENSATE_ROWS) {
        const size_t some = n - r < COMPENSATE_ROWS ? n - r : COMPENSATE_ROWS;
        mat_rows_f32(k, rows, j->from, first + r, some);
        if (!encode_fits(rows, some * cols, j->to)) return false;
        compensate_rows(k, out + r * dtype_bytes(j->to, cols), j->to, j->factors, rows, some, cols);
    }
    return true;
}

static void convert_task(void *context, size_t task, size_t worker) {
    convert_job *j = context;
    size_t begin = task * j->rows_per_task, n = j->n_rows - begin < j->rows_per_task ? j->n_rows - begin : j->rows_per_task;
    const exec *e = &j->v->e;
    uint8_t *out = j->out + begin * dtype_bytes(j->to, j->from->cols);
    float *scratch = e->worker[worker].data;
    bool fits = j->factors ? rows_compensate(j, out, j->first + begin, n, scratch)
                           : mat_rows_convert(e->k, out, j->to, j->from, j->first + begin, n, scratch);
    if (!fits) atomic_store(&j->unfit, true);
}

/* ---- What merging was to make, and what rounding made of that ---- */

typedef struct measure_job {
    const exec *e;
    const mat *from, *out;
    size_t first; /* the row of `from` that is row 0 of `out` */
    merge_norms *norms;
} measure_job;

static void measure_task(void *context, size_t row, size_t worker) {
    const measure_job *j = context;
    const kernels *k = j->e->k;
    const size_t n = j->from->cols;
    float *merged = j->e->worker[worker].data, *base = merged + n, *stored = base + n;
    mat bare = *j->from;
    merge_norms sum = {0};
    bare.lora = NULL;
    mat_rows_f32(k, merged, j->from, j->first + row, 1);
    mat_rows_f32(k, base, &bare, j->first + row, 1);
    mat_rows_f32(k, stored, j->out, row, 1);
    for (size_t i = 0; i < n; i++) {
        double error = (double)stored[i] - (double)merged[i], update = (double)merged[i] - (double)base[i];
        sum.error += error * error;
        sum.merged += (double)merged[i] * (double)merged[i];
        sum.update += update * update;
    }
    j->norms[row] = sum;
}

static void merge_matrix_begin(merge_report *m, const spec_tensor *t) {
    double lost = m->matrix.update > 0 ? sqrt(m->matrix.error / m->matrix.update) : 0;
    if (m->current && lost > m->worst) {
        m->worst = lost;
        memcpy(m->worst_name, m->current->name, sizeof m->worst_name);
    }
    m->current = t;
    m->matrix = (merge_norms){0};
    m->n_matrices += t != NULL;
}

void saver_merge_end(saver *v) {
    if (v->o->merge) merge_matrix_begin(v->o->merge, NULL);
}

/* Row after row, so that the sums do not depend on the threads. Rows of a matrix come one after the other. */
static void merge_add(merge_report *m, const spec_tensor *t, const merge_norms *rows, size_t n_rows) {
    if (m->current != t) merge_matrix_begin(m, t);
    merge_norms *const sums[] = {&m->all, &m->matrix};
    for (size_t i = 0; i < n_rows; i++) {
        for (size_t s = 0; s < 2; s++) {
            sums[s]->error += rows[i].error;
            sums[s]->merged += rows[i].merged;
            sums[s]->update += rows[i].update;
        }
    }
}

pali_status saver_merge_measure(saver *v, const spec_tensor *t, const mat *out, size_t first) {
    measure_job j = {&v->e, t->matrix, out, first, NULL};
    if (!v->o->merge || !t->matrix || !t->matrix->lora) return PALI_OK;
    STATUS_TRY(exec_worker_scratch(&v->e, 3 * out->cols * sizeof(float)));
    j.norms = mem_scratch_get(&v->norms, out->rows, sizeof *j.norms);
    if (!j.norms) return status_no_memory(out->rows * sizeof *j.norms);
    pool_run(v->e.pool, out->rows, measure_task, &j);
    merge_add(v->o->merge, t, j.norms, out->rows);
    return PALI_OK;
}

pali_status saver_unfit(const saver *v, const spec_tensor *t, pali_dtype to) {
    return weights_unfit(v->m->path ? v->m->path : v->m->name, t->name, to);
}

/* The rows of a matrix in another order lie all over it: it comes with the first of them and goes with the last. */
static size_t whole_bytes(const mat *m) {
    return m->order && strided_is_dense(m->order) ? m->rows * mat_row_bytes(m) : 0;
}

pali_status saver_rows_convert(saver *v, const spec_tensor *t, pali_dtype to, size_t first, size_t n_rows, uint8_t *out) {
    mat from = saver_rows(t);
    const calibration *c = compensate_has(to) ? v->o->calibration : NULL;
    convert_job j = {v, &from, to, out, c ? calibration_factors(c, &v->m->text, t->matrix) : NULL, first, n_rows, (n_rows + v->e.n_workers - 1) / v->e.n_workers, false};
    STATUS_TRY(exec_worker_scratch(&v->e, (j.factors ? COMPENSATE_ROWS * from.cols : mat_scratch_floats(&from)) * sizeof(float)));
    if (first == 0) file_map_fetch(from.data, whole_bytes(&from));
    pool_run(v->e.pool, (n_rows + j.rows_per_task - 1) / j.rows_per_task, convert_task, &j);
    if (j.unfit) return saver_unfit(v, t, to);
    return saver_merge_measure(v, t, &(mat){.dtype = to, .rows = n_rows, .cols = from.cols, .data = out}, first);
}

void saver_drop(const saver *v, const spec_tensor *t, size_t first, size_t n_rows) {
    const mat *m = t->matrix;
    const weights_entry *entry = m ? weights_of(v->m->weights, t) : NULL;
    if (m && m->order && first + n_rows == m->rows) file_map_drop(m->data, whole_bytes(m));
    if (entry && entry->data == m->data && !m->order) weights_drop(entry, mat_row(m, first), mat_row_offset(m, first + n_rows) - mat_row_offset(m, first));
}

pali_status saver_tensor_put(saver *v, const spec_tensor *t, pali_dtype to, saver_put put, void *user) {
    mat from = saver_rows(t);
    bool as_is = from.dtype == to && !from.lora && !from.order;
    size_t to_bytes = dtype_bytes(to, from.cols), row_bytes = mat_row_bytes(&from) > to_bytes ? mat_row_bytes(&from) : to_bytes;
    size_t step = SAVER_PIECE_BYTES / row_bytes + 1;
    if (step > from.rows) step = from.rows;
    if (!as_is) STATUS_TRY(saver_buffer(v, step * to_bytes));
    for (size_t r = 0; r < from.rows; r += step) {
        size_t n = from.rows - r < step ? from.rows - r : step;
        if (!as_is) STATUS_TRY(saver_rows_convert(v, t, to, r, n, v->buffer));
        STATUS_TRY(put(user, as_is ? mat_row(&from, r) : (const char *)v->buffer, n * to_bytes));
        saver_drop(v, t, r, n);
        STATUS_TRY(saver_progress(v, n * to_bytes));
    }
    return PALI_OK;
}
