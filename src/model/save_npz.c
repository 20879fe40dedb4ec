/* save_npz.c: model -> one .npz file as big_vision has them (spec inference 3.4): weights, and of sizes that were never
 * released the config, as an array of bytes. An array holds a
 * weight of all layers, so the table of tensors is gone through once for each array; inputs come before outputs, so a matrix is
 * turned on its way, some of its columns at a time. Arrays have one dtype: where layers differ, it is f32, which holds all.
 *
 * The table of words keeps the rows that Transformers adds at its end (64 in released models): they are weights like any other.
 * big_vision itself has no place for them, nor for a head that is not the table. */
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "io/npz_write.h"
#include "model/config_json.h"
#include "model/config_npz.h"
#include "model/saver.h"
#include "tensor/strided.h"

typedef struct npz_save {
    saver *v;
    npz_writer file;
    mem_scratch whole; /* a matrix that has to be converted before it can be turned */
} npz_save;

static npy_dtype npy_dtype_of(pali_dtype dtype) {
    return dtype == PALI_DTYPE_F32 ? NPY_F32 : dtype == PALI_DTYPE_F16 ? NPY_F16 : NPY_BF16;
}

static pali_status put(void *to, const void *data, size_t n_bytes) {
    return npz_writer_data(to, data, n_bytes);
}

/* ---- A matrix, turned ---- */

/* Rows of the result. Whatever order they are read in, floats are converted one by one, so turning comes first. */
typedef struct turn_job {
    const saver *v;
    const mat *from;
    pali_dtype to;
    strided order;
    size_t cols, first, n, rows_per_task; /* of the result */
    uint8_t *out, *turned;
    atomic_bool unfit;
} turn_job;

static void turn_task(void *context, size_t task, size_t worker) {
    turn_job *j = context;
    size_t begin = task * j->rows_per_task, n = j->n - begin < j->rows_per_task ? j->n - begin : j->rows_per_task;
    size_t from_bytes = dtype_bytes(j->from->dtype, 1), to_bytes = dtype_bytes(j->to, 1);
    uint8_t *turned = j->turned + begin * j->cols * from_bytes;
    strided_rows(turned, j->from->data, from_bytes, &j->order, j->first + begin, n);
    if (j->from->dtype == j->to) return;
    const mat rows = {.dtype = j->from->dtype, .rows = n, .cols = j->cols, .data = turned};
    const exec *e = &j->v->e;
    if (!mat_rows_convert(e->k, j->out + begin * j->cols * to_bytes, j->to, &rows, 0, n, e->worker[worker].data)) atomic_store(&j->unfit, true);
}

/* Where the elements of big_vision's order lie in ours: one row for each place along all its axes but the last. */
static void order_find(turn_job *j, const spec_npz *z) {
    strided_axis axes[4];
    size_t step = 1, rows = 1;
    for (size_t i = z->n_dims; i-- > 0; step *= z->dims[z->axes[i]]) axes[z->axes[i]] = (strided_axis){z->dims[z->axes[i]], step};
    for (size_t i = 0; i + 1 < z->n_dims; i++) rows *= z->dims[i];
    j->cols = z->dims[z->n_dims - 1];
    strided_init(&j->order, axes, z->n_dims, rows);
}

static pali_status turned_put(npz_save *s, const spec_tensor *t, const mat *from, pali_dtype to) {
    saver *v = s->v;
    turn_job j = {.v = v, .from = from, .to = to};
    order_find(&j, &t->npz);
    size_t from_bytes = j.cols * dtype_bytes(from->dtype, 1), to_bytes = j.cols * dtype_bytes(to, 1), rows = spec_n_elements(t) / j.cols;
    size_t step = SAVER_PIECE_BYTES / (from_bytes > to_bytes ? from_bytes : to_bytes) + 1;
    if (step > rows) step = rows;
    STATUS_TRY(exec_worker_scratch(&v->e, j.cols * sizeof(float)));
    STATUS_TRY(saver_buffer(v, step * (from_bytes + to_bytes)));
    j.out = v->buffer;
    j.turned = from->dtype == to ? j.out : j.out + step * to_bytes;
    for (j.first = 0; j.first < rows; j.first += step) {
        j.n = rows - j.first < step ? rows - j.first : step;
        j.rows_per_task = (j.n + v->e.n_workers - 1) / v->e.n_workers;
        pool_run(v->e.pool, (j.n + j.rows_per_task - 1) / j.rows_per_task, turn_task, &j);
        if (j.unfit) return saver_unfit(v, t, to);
        STATUS_TRY(npz_writer_data(&s->file, j.out, j.n * to_bytes));
        STATUS_TRY(saver_progress(v, j.n * to_bytes));
    }
    return PALI_OK;
}

static bool is_in_order(const spec_npz *z) {
    for (size_t i = 0; i < z->n_dims; i++)
        if (z->axes[i] != i) return false;
    return true;
}

/* Quantized weights, those with adapters and those that lie in another order are made row by row. */
static pali_status tensor_put(npz_save *s, const spec_tensor *t, pali_dtype to) {
    saver *v = s->v;
    if (is_in_order(&t->npz)) return saver_tensor_put(v, t, to, put, &s->file);
    mat from = saver_rows(t);
    if (saver_is_float(from.dtype) && !from.lora && !from.order) {
        STATUS_TRY(turned_put(s, t, &from, to));
        saver_drop(v, t, 0, from.rows);
        return PALI_OK;
    }
    mat whole = {.dtype = to, .rows = from.rows, .cols = from.cols};
    void *data = mem_scratch_get(&s->whole, from.rows, mat_row_bytes(&whole));
    if (!data) return status_no_memory(from.rows * mat_row_bytes(&whole));
    STATUS_TRY(saver_rows_convert(v, t, to, 0, from.rows, data));
    saver_drop(v, t, 0, from.rows);
    whole.data = data;
    return turned_put(s, t, &whole, to);
}

/* ---- Arrays ---- */

static bool is_first(const spec *s, size_t i) {
    for (size_t j = 0; j < i; j++)
        if (strcmp(s->tensors[j].npz.name, s->tensors[i].npz.name) == 0) return false;
    return true;
}

/* What all tensors of an array have, or f32. */
static pali_dtype array_dtype(const saver *v, const spec_tensor *first) {
    const spec *s = &v->m->spec;
    pali_dtype dtype = saver_float_dtype(v, first);
    for (size_t i = 0; i < s->n; i++)
        if (strcmp(s->tensors[i].npz.name, first->npz.name) == 0 && saver_float_dtype(v, &s->tensors[i]) != dtype) return PALI_DTYPE_F32;
    return dtype;
}

/* The table has the layers in order, and of each the slots. */
static pali_status array_write(npz_save *s, const spec_tensor *first) {
    const spec *all = &s->v->m->spec;
    pali_dtype dtype = array_dtype(s->v, first);
    size_t dims[SPEC_NPZ_MAX_DIMS], n_dims = spec_npz_shape(dims, &first->npz, true);
    char name[sizeof SPEC_NPZ_PREFIX + SPEC_NPZ_NAME_MAX];
    (void)snprintf(name, sizeof name, "%s%s", SPEC_NPZ_PREFIX, first->npz.name);
    STATUS_TRY(npz_writer_array(&s->file, name, npy_dtype_of(dtype), n_dims, dims));
    for (size_t i = 0; i < all->n; i++)
        if (strcmp(all->tensors[i].npz.name, first->npz.name) == 0) STATUS_TRY(tensor_put(s, &all->tensors[i], dtype));
    return PALI_OK;
}

/* The arrays tell the sizes, and the sizes of a released model the rest; others need their config. */
static pali_status config_write(npz_save *s) {
    config cfg = s->v->m->cfg;
    char *text;
    if (config_text_released(&cfg.text)) return PALI_OK;
    STATUS_TRY(config_json_text(&text, &s->v->m->cfg, "float32", NULL, NULL));
    const size_t n = strlen(text);
    pali_status status = npz_writer_array(&s->file, CONFIG_NPZ_ARRAY, NPY_U8, 1, &n);
    if (status == PALI_OK) status = npz_writer_data(&s->file, text, n);
    mem_free(text);
    return status;
}

static pali_status arrays_write(npz_save *s) {
    const spec *all = &s->v->m->spec;
    for (size_t i = 0; i < all->n; i++) s->v->n_total += dtype_bytes(array_dtype(s->v, &all->tensors[i]), spec_n_elements(&all->tensors[i]));
    for (size_t i = 0; i < all->n; i++)
        if (is_first(all, i)) STATUS_TRY(array_write(s, &all->tensors[i]));
    STATUS_TRY(config_write(s));
    return npz_writer_commit(&s->file);
}

pali_status save_npz(saver *v) {
    npz_save s = {.v = v};
    STATUS_TRY(saver_floats_check(v, "a .npz file", false));
    if (!v->m->cfg.tied)
        return status_fail(PALI_ERR_UNSUPPORTED, "%s: the model has a head that is not its table of words, and big_vision's layout has no place for one", v->path);
    pali_status status = npz_writer_open(&s.file, v->path);
    if (status == PALI_OK) status = arrays_write(&s);
    npz_writer_free(&s.file);
    mem_scratch_free(&s.whole);
    return status;
}
