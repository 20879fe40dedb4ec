/* weights_bind.c: the spec's matrices and vectors onto a checkpoint's entries: checks, memory, conversion, random values,
 * and the pages of what is mapped. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "io/gguf.h"
#include "model/weights.h"
#include "tensor/encode.h"

#define CHUNK_ELEMENTS ((size_t)1 << 20) /* of a matrix per task when converting or filling */
#define CHUNK_BYTES ((size_t)4 << 20)    /* of a file per task when prefaulting */
#define CHUNKS_PER_STEP 64u              /* between two calls of the progress function */

/* ---- Long work in steps, with progress ---- */

typedef struct chunk_job {
    const char *what;
    pool_fn fn;   /* its context is the chunk_job */
    size_t first; /* task 0 of the current step */
    size_t n_chunks;
    void *context;
} chunk_job;

static pali_status chunks_run(chunk_job *job, exec *e, uint64_t n_bytes, pali_progress_fn progress, void *user) {
    for (job->first = 0; job->first < job->n_chunks; job->first += CHUNKS_PER_STEP) {
        size_t n = job->n_chunks - job->first < CHUNKS_PER_STEP ? job->n_chunks - job->first : CHUNKS_PER_STEP;
        pool_run(e->pool, n, job->fn, job);
        uint64_t done = n_bytes / job->n_chunks * (job->first + n); /* chunks are alike but for the last of a matrix */
        if (job->first + n == job->n_chunks) done = n_bytes;
        if (progress && progress(user, job->what, done, n_bytes))
            return status_fail(PALI_ERR_CANCELLED, "%s: cancelled", job->what);
    }
    return PALI_OK;
}

/* Some rows of one matrix. */
typedef struct piece {
    const weights_entry *entry;
    mat from; /* all of it; data NULL: random */
    const mat *to;
    size_t first, rows;
    uint64_t seed;
    bool unfit; /* could not be converted */
} piece;

typedef struct piece_list {
    piece *pieces;
    size_t n, cap, cols_max;
    exec *e;
} piece_list;

/* Cuts a matrix into pieces. */
static pali_status pieces_add(piece_list *list, const piece *whole) {
    const mat *to = whole->to;
    size_t step = CHUNK_ELEMENTS / to->cols + 1;
    if (to->codes) step = (step + ENCODE_ROWS - 1) / ENCODE_ROWS * ENCODE_ROWS;
    if (to->cols > list->cols_max) list->cols_max = to->cols;
    for (size_t at = 0; at < to->rows; at += step) {
        if (list->n == list->cap) {
            size_t cap = list->cap ? 2 * list->cap : 256;
            piece *grown = mem_grow(list->pieces, list->cap, cap, sizeof *grown);
            if (!grown) return status_no_memory(cap * sizeof *grown);
            list->pieces = grown;
            list->cap = cap;
        }
        piece *p = &list->pieces[list->n];
        *p = *whole;
        p->first = at;
        p->rows = to->rows - at < step ? to->rows - at : step;
        p->seed = whole->seed + list->n++;
    }
    return PALI_OK;
}

pali_status weights_unfit(const char *file, const char *name, pali_dtype dtype) {
    if (dtype == PALI_DTYPE_F16) return status_fail(PALI_ERR_FORMAT, "%s: %s: a weight is beyond 65504, the largest of f16", file, name);
    return status_fail(PALI_ERR_FORMAT, "%s: %s: a weight is not a number or beyond 65504, and cannot be quantized", file, name);
}

/* Uniform with the standard deviation 0.02 of an initialised model. */
static void random_row(float *row, size_t n, uint64_t *state) {
    for (size_t i = 0; i < n; i++) {
        *state = *state * 6364136223846793005u + 1442695040888963407u;
        row[i] = (float)(int32_t)(*state >> 32) * (0.02f * 1.7320508f / 2147483648.0f);
    }
}

/* Where rows of the source begin, which may be of a type that can only be decoded. */
static size_t source_offset(const piece *p, size_t row) {
    return p->entry->decode ? row * (p->entry->n_bytes / p->from.rows) : mat_row_offset(&p->from, row);
}

static void piece_row(const piece *p, const kernels *k, float *row, size_t r, uint64_t *state) {
    if (!p->from.data)
        random_row(row, p->to->cols, state);
    else if (p->entry->decode)
        p->entry->decode(row, p->entry->data + source_offset(p, r), p->from.cols);
    else
        mat_rows_f32(k, row, &p->from, r, 1);
}

static void piece_task(void *context, size_t task, size_t worker) {
    const chunk_job *job = context;
    const piece_list *list = job->context;
    piece *p = &list->pieces[job->first + task];
    const kernels *k = list->e->k;
    float *row = list->e->worker[worker].data;
    uint64_t state = p->seed * 0x9e3779b97f4a7c15u + 1;
    encoder e = encode_begin(k, p->to, p->first);
    for (size_t r = p->first; r < p->first + p->rows && !p->unfit; r++) {
        piece_row(p, k, row, r, &state);
        p->unfit = !encode_row(&e, row);
    }
    encode_end(&e);
    if (!p->from.data) return;
    size_t begin = source_offset(p, p->first); /* source and copy must not both stay resident */
    weights_drop(p->entry, (const char *)p->from.data + begin, source_offset(p, p->first + p->rows) - begin);
}

/* What a piece makes. */
static uint64_t piece_bytes(const piece *p) {
    return mat_row_offset(p->to, p->first + p->rows) - mat_row_offset(p->to, p->first);
}

static pali_status pieces_run(piece_list *list, const char *what, exec *e, pali_progress_fn progress, void *user) {
    list->e = e;
    pali_status s = exec_worker_scratch(e, (list->cols_max + 1) * sizeof(float));
    chunk_job job = {.what = what, .fn = piece_task, .n_chunks = list->n, .context = list};
    uint64_t n_bytes = 0;
    for (size_t i = 0; i < list->n; i++) n_bytes += piece_bytes(&list->pieces[i]);
    if (s == PALI_OK) s = chunks_run(&job, e, n_bytes, progress, user);
    for (size_t i = 0; i < list->n && s == PALI_OK; i++)
        if (list->pieces[i].unfit) s = weights_unfit(list->pieces[i].entry->file, list->pieces[i].entry->file_name, list->pieces[i].to->dtype);
    mem_free(list->pieces);
    return s;
}

/* ---- Binding ---- */

static size_t vector_floats(const spec_tensor *t) { /* to the next cache line */
    return (spec_n_elements(t) + 15) & ~(size_t)15;
}

static void shape_print(char *out, size_t n, const size_t *dims, size_t n_dims) {
    size_t at = 0;
    out[0] = 0;
    for (size_t i = 0; i < n_dims && at + 24 < n; i++)
        at += (size_t)snprintf(out + at, n - at, i ? ", %zu" : "%zu", dims[i]);
}

/* Rows of quantized matrices are whole blocks, so the entry's may be longer than the matrix's. */
static pali_status entry_check(const weights_entry *entry, const spec_tensor *t, spec_layout layout) {
    size_t wanted[SPEC_NPZ_MAX_DIMS], n_dims = t->n_dims, last = n_dims - 1;
    bool matrix = t->matrix && t->n_dims == 2, blocks = layout == SPEC_GGUF && matrix, known = entry->dtype != PALI_DTYPE_AUTO || entry->decode;
    bool misplaced = ((entry->decode || dtype_is_blocks(entry->dtype)) && !blocks) || (dtype_is_codes(entry->dtype) && !matrix);
    if (!known || misplaced) /* before the shape: packed weights have another one too */
        return status_fail(PALI_ERR_UNSUPPORTED, "%s: %s: dtype %s is not supported%s: expected %s", entry->file, entry->file_name, entry->dtype_name,
                           known ? " here" : " yet", blocks ? "F32, BF16, F16 or one of Q2_K to Q8_0" : "F32, BF16 or F16");
    memcpy(wanted, t->dims, sizeof t->dims);
    if (entry->block) wanted[last] = (wanted[last] + entry->block - 1) / entry->block * entry->block;
    if (layout == SPEC_NPZ) n_dims = spec_npz_shape(wanted, &t->npz, strcmp(entry->name, t->npz.name) == 0);
    if (entry->n_dims != n_dims || memcmp(entry->dims, wanted, n_dims * sizeof *wanted) != 0) {
        char has[128], wants[128];
        shape_print(has, sizeof has, entry->dims, entry->n_dims);
        shape_print(wants, sizeof wants, wanted, n_dims);
        return status_fail(PALI_ERR_FORMAT, "%s: %s: shape [%s], expected [%s]", entry->file, entry->file_name, has, wants);
    }
    return PALI_OK;
}

/* Types that can only be read become 8 bits: a little more memory than 5 or 6 and next to no further loss. */
static pali_dtype dtype_held(const weights_entry *entry, const spec_tensor *t, spec_dtypes asked) {
    pali_dtype dtype = spec_dtype(t, asked);
    return dtype != PALI_DTYPE_AUTO ? dtype : !entry ? PALI_DTYPE_BF16 : entry->decode ? PALI_DTYPE_Q8_0 : entry->dtype;
}

static size_t to_line(size_t n_bytes) { /* to the next cache line */
    return (n_bytes + 63) & ~(size_t)63;
}

/* Of codes first those, then the scales. */
static size_t matrix_bytes(const spec_tensor *t, pali_dtype dtype) {
    size_t rows = t->matrix->rows, cols = t->matrix->cols;
    if (!dtype_is_codes(dtype)) return to_line(rows * dtype_bytes(dtype, cols));
    return to_line(codes_bytes(dtype, rows, cols)) + to_line(codes_n_scales(dtype, rows, cols) * sizeof(float));
}

/* Bytes of scales that are quantized in the file and so have to be made. */
static size_t nested_bytes(const weights_entry *entry) {
    return entry && entry->codes && entry->codes->nested ? to_line(entry->codes->n_scales * sizeof(float)) : 0;
}

pali_status weights_check(const weights *w, const spec_tensor *t, const char *path) {
    const weights_entry *entry = weights_of(w, t);
    if (entry) return entry_check(entry, t, w->layout);
    if (t->optional) return PALI_OK;
    size_t wanted[SPEC_NPZ_MAX_DIMS], n_dims = w->layout == SPEC_NPZ ? spec_npz_shape(wanted, &t->npz, true) : t->n_dims;
    char wants[128];
    shape_print(wants, sizeof wants, w->layout == SPEC_NPZ ? wanted : t->dims, n_dims);
    return status_fail(PALI_ERR_FORMAT, "%s: %s: tensor missing: expected one of shape [%s]", path, spec_name(t, w->layout), wants);
}

/* The type that weights of an entry are rounded to, in the sense of codes. */
static pali_dtype rounding_of(const weights_entry *entry) {
    if (!entry) return PALI_DTYPE_BF16; /* random ones */
    pali_dtype dtype = entry->codes ? entry->codes->codes.rounding : entry->dtype;
    return dtype == PALI_DTYPE_BF16 || dtype == PALI_DTYPE_F16 ? dtype : PALI_DTYPE_F32;
}

/* Stands for codes that are not there yet: the rounding decides how products are made, and with it what scratch they need. */
static const coded *codes_planned(pali_dtype dtype, const weights_entry *entry) {
    static const coded k_planned[] = {{.rounding = PALI_DTYPE_F32}, {.rounding = PALI_DTYPE_BF16}, {.rounding = PALI_DTYPE_F16}};
    if (!dtype_is_codes(dtype)) return NULL;
    return &k_planned[dtype == PALI_DTYPE_INT8 ? 0 : rounding_of(entry) - PALI_DTYPE_F32];
}

void weights_plan_matrix(const spec_tensor *t, const weights_entry *entry, spec_dtypes dtypes) {
    t->matrix->dtype = dtype_held(entry, t, dtypes);
    t->matrix->codes = codes_planned(t->matrix->dtype, entry);
}

pali_status weights_plan(weights_memory *out, const weights *w, const spec *s, spec_dtypes dtypes, const char *path) {
    *out = (weights_memory){0};
    for (size_t i = 0; w && i < s->n; i++) STATUS_TRY(weights_check(w, &s->tensors[i], path));
    for (size_t i = 0; i < s->n; i++) {
        const spec_tensor *t = &s->tensors[i];
        const weights_entry *entry = w ? weights_of(w, t) : NULL;
        if (t->vector) {
            out->vectors += vector_floats(t) * sizeof(float);
        } else if (w ? entry != NULL : !t->optional) {
            weights_plan_matrix(t, entry, dtypes);
            bool mapped = entry && entry->dtype == t->matrix->dtype && (!weights_is_gathered(w, entry, t) || weights_is_kept(w, entry, t));
            *(mapped ? &out->mapped : &out->block) += matrix_bytes(t, t->matrix->dtype);
            out->block += nested_bytes(entry);
        }
        if (entry && entry->unpack && entry->n_bytes > out->unpacked) out->unpacked = entry->n_bytes;
    }
    return PALI_OK;
}

/* Memory for all vectors, and for the matrices that have to be made: those of another dtype than their entry, or all. */
static pali_status memory_get(weights *w, const weights_memory *m, const spec *s) {
    w->made = mem_calloc(s->n, sizeof *w->made);
    if (!w->made) return status_no_memory(s->n * sizeof *w->made);
    w->vectors = mem_alloc(m->vectors, 1);
    if (!w->vectors) return status_no_memory(m->vectors);
    if (m->block) {
        w->block = mem_huge_alloc(m->block);
        w->block_bytes = m->block;
        if (!w->block) return status_no_memory(m->block);
    }
    return PALI_OK;
}

/* GGUF's Gemma norms have the 1 of (1 + w) added, in f32, where rounding may lose bits of w; those tensors have a copy before
 * that in our own files. What the model computes is the same to the bit: 1 + (fl(1 + w) - 1) = fl(1 + w) for any w in f32. */
static pali_status norm_read(weights *w, const spec_tensor *t, const weights_entry *entry, float *norm) {
    size_t n = t->dims[0];
    weights_entry *exact = weights_exact(w, t);
    if (!exact) {
        for (size_t i = 0; i < n; i++) norm[i] -= 1;
        return PALI_OK;
    }
    exact->used = true;
    if (exact->dtype != PALI_DTYPE_F32 || exact->n_dims != 1 || exact->dims[0] != n)
        return status_fail(PALI_ERR_FORMAT, "%s: %s: expected %zu of F32", exact->file, exact->name, n);
    for (size_t i = 0; i < n; i++) {
        float x, sum;
        memcpy(&x, exact->data + i * sizeof x, sizeof x);
        sum = 1 + x;
        if (memcmp(&sum, &norm[i], sizeof sum) != 0)
            return status_fail(PALI_ERR_FORMAT, "%s: %s: element %zu is not that of %s less 1", entry->file, exact->name, i, t->gguf_name);
        norm[i] = x;
    }
    return PALI_OK;
}

/* An entry as a matrix. Scales that are quantized are made at *at. */
static pali_status entry_matrix(mat *out, weights_entry *entry, const mat *like, char **at) {
    *out = (mat){.dtype = entry->dtype, .rows = like->rows, .cols = like->cols, .data = entry->data};
    if (!entry->codes) return PALI_OK;
    out->codes = &entry->codes->codes;
    STATUS_TRY(weights_bnb_scales(entry, (float *)(void *)*at));
    if (entry->codes->nested) entry->codes->codes.scales = (const uint8_t *)*at;
    *at += nested_bytes(entry);
    return PALI_OK;
}

/* Memory at *at for a matrix that is to be made. */
static void matrix_place(weights *w, const spec_tensor *t, char **at) {
    mat *m = t->matrix;
    m->data = *at;
    if (dtype_is_codes(m->dtype)) {
        coded *c = &w->made[w->n_made++];
        const uint8_t *data = (const uint8_t *)*at;
        *c = (coded){.data = data, .scales = data + to_line(codes_bytes(m->dtype, m->rows, m->cols)), .cols = m->cols, .rounding = m->codes->rounding};
        if (m->dtype != PALI_DTYPE_INT8) memcpy(c->table, m->dtype == PALI_DTYPE_NF4 ? k_codes_nf4 : k_codes_fp4, sizeof c->table);
        m->codes = c;
    }
    *at += matrix_bytes(t, m->dtype);
}

pali_status weights_bind(weights *w, const spec *s, spec_dtypes dtypes, const char *path, exec *e, pali_progress_fn progress,
                         void *user) {
    weights_memory memory;
    STATUS_TRY(weights_plan(&memory, w, s, dtypes, path));
    STATUS_TRY(memory_get(w, &memory, s));
    float *vector = w->vectors;
    char *at = w->block;
    piece_list list = {0};
    if (w->keeps_order && !(w->orders = mem_alloc(s->n, sizeof *w->orders))) return status_no_memory(s->n * sizeof *w->orders);
    pali_status status = PALI_OK;
    for (size_t i = 0; i < s->n && status == PALI_OK; i++) {
        const spec_tensor *t = &s->tensors[i];
        weights_entry *entry = weights_of(w, t);
        if (!entry) continue;
        entry->used = true;
        bool gathered = weights_is_gathered(w, entry, t);
        if (t->vector) {
            size_t n = spec_n_elements(t);
            if (!gathered) e->k->to_f32[entry->dtype](vector, entry->data, n);
            if (t->group == SPEC_LLM_NORM && w->layout == SPEC_GGUF) status = norm_read(w, t, entry, vector);
            *t->vector = vector;
            vector += vector_floats(t);
            continue;
        }
        mat *m = t->matrix, from;
        status = entry_matrix(&from, entry, m, &at);
        if (status != PALI_OK) break;
        if (weights_is_kept(w, entry, t)) {
            weights_keep(entry, t, &w->orders[i]);
        } else if (m->dtype == entry->dtype && !gathered) {
            *m = from;
        } else {
            matrix_place(w, t, &at);
            if (!gathered) status = pieces_add(&list, &(piece){.entry = entry, .from = from, .to = m});
        }
    }
    if (status != PALI_OK) {
        mem_free(list.pieces);
        return status;
    }
    if (list.n) STATUS_TRY(pieces_run(&list, "converting weights", e, progress, user));
    return weights_gather(w, s, e, progress, user);
}

pali_status weights_random(weights **out, const spec *s, spec_dtypes dtypes, uint64_t seed, exec *e,
                           pali_progress_fn progress, void *user) {
    weights *w = mem_calloc(1, sizeof *w);
    *out = NULL;
    if (!w) return status_no_memory(sizeof *w);
    weights_memory memory;
    pali_status status = weights_plan(&memory, NULL, s, dtypes, NULL);
    if (status == PALI_OK) status = memory_get(w, &memory, s);
    float *vector = w->vectors;
    char *at = w->block;
    piece_list list = {0};
    for (size_t i = 0; i < s->n && status == PALI_OK; i++) {
        const spec_tensor *t = &s->tensors[i];
        if (t->optional) continue;
        if (t->vector) { /* Gemma's norms are stored without the +1; layer norm gains are 1, biases 0 */
            size_t n = spec_n_elements(t);
            bool gain = t->group == SPEC_IMG && strstr(t->name, "norm") && strstr(t->name, ".weight");
            for (size_t j = 0; j < n; j++) vector[j] = gain ? 1.0f : 0.0f;
            *t->vector = vector;
            vector += vector_floats(t);
        } else {
            matrix_place(w, t, &at);
            status = pieces_add(&list, &(piece){.to = t->matrix, .seed = seed});
        }
    }
    if (status == PALI_OK)
        status = pieces_run(&list, "making random weights", e, progress, user);
    else
        mem_free(list.pieces);
    if (status != PALI_OK) {
        weights_free(w);
        return status;
    }
    *out = w;
    return PALI_OK;
}

/* ---- Prefault ---- */

typedef struct range {
    const uint8_t *begin;
    size_t n;
} range;

static void prefault_task(void *context, size_t task, size_t worker) {
    (void)worker;
    const chunk_job *job = context;
    const range *r = (const range *)job->context + job->first + task;
    file_map_fetch(r->begin, r->n);
}

pali_status weights_prefault(weights *w, const spec *s, exec *e, pali_progress_fn progress, void *user) {
    size_t n = 0, at = 0;
    uint64_t n_bytes = 0;
    for (int pass = 0; pass < 2; pass++) { /* count, then list */
        range *ranges = NULL;
        if (pass == 1 && !(ranges = mem_alloc(n, sizeof *ranges))) return status_no_memory(n * sizeof *ranges);
        for (size_t i = 0; i < 2 * s->n; i++) { /* of each matrix its data, then its scales */
            const mat *m = s->tensors[i / 2].matrix;
            const uint8_t *data = !m || !m->data ? NULL : i % 2 == 0 ? m->data : m->codes ? m->codes->scales : NULL;
            if (!data || !weights_is_mapped(w, data)) continue;
            size_t bytes = i % 2 ? mat_scale_bytes(m) : mat_bytes(m);
            if (pass == 0) n_bytes += bytes;
            for (size_t from = 0; from < bytes; from += CHUNK_BYTES) {
                if (pass == 0)
                    n++;
                else
                    ranges[at++] = (range){data + from, bytes - from < CHUNK_BYTES ? bytes - from : CHUNK_BYTES};
            }
        }
        if (pass == 1) {
            chunk_job job = {.what = "reading weights", .fn = prefault_task, .n_chunks = n, .context = ranges};
            pali_status status = chunks_run(&job, e, n_bytes, progress, user);
            mem_free(ranges);
            return status;
        }
    }
    return PALI_OK;
}
