#include "model/weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/halffloat.h"
#include "base/mem.h"
#include "io/shards.h"

#define CHUNK_ELEMENTS ((size_t)1 << 20) /* of a matrix per task when converting or filling */
#define CHUNK_BYTES ((size_t)4 << 20)    /* of a file per task when prefaulting */
#define CHUNKS_PER_STEP 64u              /* between two calls of the progress function */

/* ---- Files ---- */

static char *copy_string(const char *s) {
    size_t n = strlen(s) + 1;
    char *copy = mem_alloc(n, 1);
    if (copy) memcpy(copy, s, n);
    return copy;
}

static pali_status file_add(weights *w, const char *dir, const char *name) {
    char *path = file_join(dir, name);
    if (!path) return status_no_memory(strlen(name));
    w->paths[w->n_files] = path;
    pali_status s = safetensors_open(&w->files[w->n_files], path);
    if (s != PALI_OK) {
        mem_free(path);
        return s;
    }
    w->n_files++;
    return PALI_OK;
}

static pali_status shards_add(weights *w, const char *dir, const char *index_path) {
    shards list;
    STATUS_TRY(shards_load(&list, index_path));
    pali_status s = PALI_OK;
    for (size_t i = 0; i < list.n && s == PALI_OK; i++) s = file_add(w, dir, list.names[i]);
    shards_free(&list);
    return s;
}

static pali_status files_open(weights *w, const char *dir) {
    char *index = file_join(dir, "model.safetensors.index.json"), *single = file_join(dir, "model.safetensors");
    pali_status s = PALI_OK;
    w->files = mem_calloc(SHARDS_MAX_FILES, sizeof *w->files);
    w->paths = mem_calloc(SHARDS_MAX_FILES, sizeof *w->paths);
    if (!index || !single || !w->files || !w->paths) {
        s = status_no_memory(SHARDS_MAX_FILES * sizeof *w->files);
    } else if (file_exists(single)) {
        s = file_add(w, dir, "model.safetensors");
    } else if (file_exists(index)) {
        s = shards_add(w, dir, index);
    } else {
        s = status_fail(PALI_ERR_IO, "%s: found neither model.safetensors nor model.safetensors.index.json", dir);
    }
    mem_free(index);
    mem_free(single);
    return s;
}

/* ---- Names ---- */

static int by_name(const void *a, const void *b) {
    return strcmp(((const weights_entry *)a)->name, ((const weights_entry *)b)->name);
}

static pali_status entries_list(weights *w) {
    size_t n = 0;
    for (size_t f = 0; f < w->n_files; f++) n += w->files[f].n_tensors;
    w->entries = mem_calloc(n + 1, sizeof *w->entries);
    if (!w->entries) return status_no_memory(n * sizeof *w->entries);
    for (size_t f = 0; f < w->n_files; f++) {
        for (size_t i = 0; i < w->files[f].n_tensors; i++) {
            const st_tensor *t = &w->files[f].tensors[i];
            char name[SPEC_NAME_MAX];
            if (!spec_canonical_name(name, sizeof name, t->name)) continue; /* too long to be one of ours */
            weights_entry *entry = &w->entries[w->n_entries];
            *entry = (weights_entry){.name = copy_string(name), .file = w->paths[f], .tensor = t};
            if (!entry->name) return status_no_memory(sizeof name);
            w->n_entries++;
        }
    }
    qsort(w->entries, w->n_entries, sizeof *w->entries, by_name);
    for (size_t i = 1; i < w->n_entries; i++)
        if (by_name(&w->entries[i - 1], &w->entries[i]) == 0)
            return status_fail(PALI_ERR_FORMAT, "%s: %s: the same tensor is also in %s", w->entries[i].file,
                               w->entries[i].name, w->entries[i - 1].file);
    return PALI_OK;
}

pali_status weights_open(weights **out, const char *dir) {
    weights *w = mem_calloc(1, sizeof *w);
    *out = NULL;
    if (!w) return status_no_memory(sizeof *w);
    pali_status s = files_open(w, dir);
    if (s == PALI_OK) s = entries_list(w);
    if (s != PALI_OK) {
        weights_free(w);
        return s;
    }
    *out = w;
    return PALI_OK;
}

void weights_free(weights *w) {
    if (!w) return;
    for (size_t i = 0; i < w->n_entries; i++) mem_free(w->entries[i].name);
    mem_free(w->entries);
    for (size_t i = 0; i < w->n_files; i++) {
        safetensors_close(&w->files[i]);
        mem_free(w->paths[i]);
    }
    mem_free(w->files);
    mem_free(w->paths);
    mem_free(w->vectors);
    mem_huge_free(w->block, w->block_bytes);
    mem_free(w);
}

const weights_entry *weights_find(const weights *w, const char *canonical_name) {
    weights_entry key = {.name = (char *)(uintptr_t)canonical_name};
    return w->n_entries ? bsearch(&key, w->entries, w->n_entries, sizeof key, by_name) : NULL;
}

bool weights_same(const weights *w, const char *a, const char *b) {
    const weights_entry *x = weights_find(w, a), *y = weights_find(w, b);
    if (!x || !y) return false;
    const st_tensor *s = x->tensor, *t = y->tensor;
    return s->dtype == t->dtype && s->n_dims == t->n_dims && memcmp(s->dims, t->dims, s->n_dims * sizeof *s->dims) == 0 &&
           memcmp(s->data, t->data, s->n_bytes) == 0;
}

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

/* A run of elements of one matrix. */
typedef struct piece {
    const void *from; /* NULL: random */
    pali_dtype from_dtype, to_dtype;
    void *to;
    size_t n;
    uint64_t seed;
} piece;

typedef struct piece_list {
    piece *pieces;
    size_t n, cap;
    exec *e;
} piece_list;

/* Cuts n elements into pieces. */
static pali_status pieces_add(piece_list *list, const piece *whole) {
    for (size_t at = 0; at < whole->n; at += CHUNK_ELEMENTS) {
        if (list->n == list->cap) {
            size_t cap = list->cap ? 2 * list->cap : 256;
            piece *grown = mem_grow(list->pieces, list->cap, cap, sizeof *grown);
            if (!grown) return status_no_memory(cap * sizeof *grown);
            list->pieces = grown;
            list->cap = cap;
        }
        piece *p = &list->pieces[list->n];
        *p = *whole;
        if (p->from) p->from = (const char *)whole->from + at * dtype_bytes(whole->from_dtype);
        p->to = (char *)whole->to + at * dtype_bytes(whole->to_dtype);
        p->n = whole->n - at < CHUNK_ELEMENTS ? whole->n - at : CHUNK_ELEMENTS;
        p->seed = whole->seed + list->n++;
    }
    return PALI_OK;
}

static void store(void *to, pali_dtype dtype, const float *x, size_t n, const kernels *k) {
    if (dtype == PALI_DTYPE_F32) {
        memcpy(to, x, n * sizeof *x);
    } else if (dtype == PALI_DTYPE_BF16) {
        k->to_bf16(to, x, n);
    } else {
        uint16_t *halves = to;
        for (size_t i = 0; i < n; i++) halves[i] = half_to_f16(x[i]);
    }
}

/* Lets go of the mapped pages that lie wholly in the range: while converting, source and copy must not both stay resident.
 * They are the file's, so nothing is lost. */
static void pages_drop(const void *begin, size_t n) {
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), from = ((uintptr_t)begin + page - 1) & ~(page - 1),
              to = ((uintptr_t)begin + n) & ~(page - 1);
    if (from < to) (void)madvise((void *)from, to - from, MADV_DONTNEED);
}

#define RUN 1024u /* elements in f32 between reading and writing */

static void piece_task(void *context, size_t task, size_t worker) {
    (void)worker;
    const chunk_job *job = context;
    const piece_list *list = job->context;
    const piece *p = &list->pieces[job->first + task];
    const kernels *k = list->e->k;
    float run[RUN];
    uint64_t state = p->seed * 0x9e3779b97f4a7c15u + 1;
    for (size_t at = 0; at < p->n; at += RUN) {
        size_t n = p->n - at < RUN ? p->n - at : RUN;
        if (p->from) {
            k->to_f32[p->from_dtype](run, (const char *)p->from + at * dtype_bytes(p->from_dtype), n);
        } else {
            for (size_t i = 0; i < n; i++) { /* uniform with the standard deviation 0.02 of an initialised model */
                state = state * 6364136223846793005u + 1442695040888963407u;
                run[i] = (float)(int32_t)(state >> 32) * (0.02f * 1.7320508f / 2147483648.0f);
            }
        }
        store((char *)p->to + at * dtype_bytes(p->to_dtype), p->to_dtype, run, n, k);
    }
    if (p->from) pages_drop(p->from, p->n * dtype_bytes(p->from_dtype));
}

static pali_status pieces_run(piece_list *list, const char *what, exec *e, pali_progress_fn progress, void *user) {
    list->e = e;
    chunk_job job = {.what = what, .fn = piece_task, .n_chunks = list->n, .context = list};
    uint64_t n_bytes = 0;
    for (size_t i = 0; i < list->n; i++) n_bytes += list->pieces[i].n * dtype_bytes(list->pieces[i].to_dtype);
    pali_status s = chunks_run(&job, e, n_bytes, progress, user);
    mem_free(list->pieces);
    return s;
}

/* ---- Binding ---- */

static size_t n_elements(const spec_tensor *t) {
    size_t n = 1;
    for (size_t i = 0; i < t->n_dims; i++) n *= t->dims[i]; /* bounded by config.c's limits */
    return n;
}

static void shape_print(char *out, size_t n, const size_t *dims, size_t n_dims) {
    size_t at = 0;
    out[0] = 0;
    for (size_t i = 0; i < n_dims && at + 24 < n; i++)
        at += (size_t)snprintf(out + at, n - at, i ? ", %zu" : "%zu", dims[i]);
}

static bool is_weight_dtype(st_dtype dtype) {
    return dtype == ST_F32 || dtype == ST_BF16 || dtype == ST_F16;
}

static pali_status entry_check(const weights_entry *entry, const spec_tensor *t) {
    const st_tensor *st = entry->tensor;
    if (!is_weight_dtype(st->dtype)) /* before the shape: packed weights of quantized checkpoints have another one too */
        return status_fail(PALI_ERR_UNSUPPORTED, "%s: %s: dtype %s is not supported yet: expected F32, BF16 or F16",
                           entry->file, st->name, safetensors_dtype_name(st->dtype));
    bool same = st->n_dims == t->n_dims;
    for (size_t i = 0; same && i < t->n_dims; i++) same = st->dims[i] == t->dims[i];
    if (!same) {
        char has[128], wants[128];
        shape_print(has, sizeof has, st->dims, st->n_dims);
        shape_print(wants, sizeof wants, t->dims, t->n_dims);
        return status_fail(PALI_ERR_FORMAT, "%s: %s: shape [%s], expected [%s]", entry->file, st->name, has, wants);
    }
    return PALI_OK;
}

pali_dtype weights_dtype(const st_tensor *t) {
    return t->dtype == ST_F32 ? PALI_DTYPE_F32 : t->dtype == ST_BF16 ? PALI_DTYPE_BF16 : PALI_DTYPE_F16;
}

/* Memory for all vectors, and for the matrices that `converts` says yes to. */
static pali_status memory_get(weights *w, const spec *s, pali_dtype dtype,
                              bool (*converts)(const weights *, const spec_tensor *, pali_dtype)) {
    size_t floats = 0, bytes = 0;
    for (size_t i = 0; i < s->n; i++) {
        const spec_tensor *t = &s->tensors[i];
        size_t n = n_elements(t);
        if (t->vector) {
            floats += (n + 15) & ~(size_t)15;
        } else if (converts(w, t, dtype)) {
            bytes += (n * dtype_bytes(dtype) + 63) & ~(size_t)63;
        }
    }
    w->vectors = mem_alloc(floats, sizeof *w->vectors);
    if (!w->vectors) return status_no_memory(floats * sizeof *w->vectors);
    if (bytes) {
        w->block = mem_huge_alloc(bytes);
        w->block_bytes = bytes;
        if (!w->block) return status_no_memory(bytes);
    }
    return PALI_OK;
}

static bool converts_if_other(const weights *w, const spec_tensor *t, pali_dtype dtype) {
    const weights_entry *entry = weights_find(w, t->name);
    return entry && dtype != PALI_DTYPE_AUTO && weights_dtype(entry->tensor) != dtype;
}

static bool converts_all(const weights *w, const spec_tensor *t, pali_dtype dtype) {
    (void)w;
    (void)dtype;
    return !t->optional;
}

pali_status weights_bind(weights *w, const spec *s, pali_dtype dtype, const char *dir, exec *e, pali_progress_fn progress,
                         void *user) {
    for (size_t i = 0; i < s->n; i++) {
        const spec_tensor *t = &s->tensors[i];
        const weights_entry *entry = weights_find(w, t->name);
        if (entry) {
            STATUS_TRY(entry_check(entry, t));
        } else if (!t->optional) {
            char wants[128];
            shape_print(wants, sizeof wants, t->dims, t->n_dims);
            return status_fail(PALI_ERR_FORMAT, "%s: %s: tensor missing: expected one of shape [%s]", dir, t->name, wants);
        }
    }
    STATUS_TRY(memory_get(w, s, dtype, converts_if_other));
    float *vector = w->vectors;
    char *at = w->block;
    piece_list list = {0};
    pali_status status = PALI_OK;
    for (size_t i = 0; i < s->n && status == PALI_OK; i++) {
        const spec_tensor *t = &s->tensors[i];
        weights_entry *entry = (weights_entry *)(uintptr_t)weights_find(w, t->name);
        size_t n = n_elements(t);
        if (!entry) continue;
        entry->used = true;
        pali_dtype stored = weights_dtype(entry->tensor);
        if (t->vector) {
            e->k->to_f32[stored](vector, entry->tensor->data, n);
            *t->vector = vector;
            vector += (n + 15) & ~(size_t)15;
        } else if (!converts_if_other(w, t, dtype)) {
            t->matrix->dtype = stored;
            t->matrix->data = entry->tensor->data;
        } else {
            t->matrix->dtype = dtype;
            t->matrix->data = at;
            status = pieces_add(
                &list, &(piece){.from = entry->tensor->data, .from_dtype = stored, .to_dtype = dtype, .to = at, .n = n});
            at += (n * dtype_bytes(dtype) + 63) & ~(size_t)63;
        }
    }
    if (status != PALI_OK) {
        mem_free(list.pieces);
        return status;
    }
    return pieces_run(&list, "converting weights", e, progress, user);
}

pali_status weights_random(weights **out, const spec *s, pali_dtype dtype, uint64_t seed, exec *e,
                           pali_progress_fn progress, void *user) {
    weights *w = mem_calloc(1, sizeof *w);
    *out = NULL;
    if (!w) return status_no_memory(sizeof *w);
    pali_status status = memory_get(w, s, dtype, converts_all);
    float *vector = w->vectors;
    char *at = w->block;
    piece_list list = {0};
    for (size_t i = 0; i < s->n && status == PALI_OK; i++) {
        const spec_tensor *t = &s->tensors[i];
        size_t n = n_elements(t);
        if (t->optional) continue;
        if (t->vector) { /* Gemma's norms are stored without the +1; layer norm gains are 1, biases 0 */
            bool gain = t->group == SPEC_IMG && strstr(t->name, "norm") && strstr(t->name, ".weight");
            for (size_t j = 0; j < n; j++) vector[j] = gain ? 1.0f : 0.0f;
            *t->vector = vector;
            vector += (n + 15) & ~(size_t)15;
        } else {
            t->matrix->dtype = dtype;
            t->matrix->data = at;
            status = pieces_add(&list, &(piece){.to_dtype = dtype, .to = at, .n = n, .seed = seed});
            at += (n * dtype_bytes(dtype) + 63) & ~(size_t)63;
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
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uintptr_t begin = (uintptr_t)r->begin & ~(uintptr_t)(page - 1), end = (uintptr_t)r->begin + r->n;
#ifdef MADV_POPULATE_READ
    if (madvise((void *)begin, end - begin, MADV_POPULATE_READ) == 0) return;
#endif
    (void)madvise((void *)begin, end - begin, MADV_WILLNEED);
    for (uintptr_t p = (uintptr_t)r->begin; p < end; p = (p & ~(uintptr_t)(page - 1)) + page)
        (void)*(const volatile uint8_t *)p;
}

pali_status weights_prefault(weights *w, const spec *s, exec *e, pali_progress_fn progress, void *user) {
    size_t n = 0, at = 0;
    uint64_t n_bytes = 0;
    for (int pass = 0; pass < 2; pass++) { /* count, then list */
        range *ranges = NULL;
        if (pass == 1 && !(ranges = mem_alloc(n, sizeof *ranges))) return status_no_memory(n * sizeof *ranges);
        for (size_t i = 0; i < s->n; i++) {
            const spec_tensor *t = &s->tensors[i];
            const char *data = t->matrix ? t->matrix->data : NULL, *block = w->block;
            if (!data || (block && data >= block && data < block + w->block_bytes)) continue;
            size_t bytes = n_elements(t) * dtype_bytes(t->matrix->dtype);
            if (pass == 0) n_bytes += bytes;
            for (size_t from = 0; from < bytes; from += CHUNK_BYTES) {
                if (pass == 0)
                    n++;
                else
                    ranges[at++] = (range){(const uint8_t *)data + from,
                                           bytes - from < CHUNK_BYTES ? bytes - from : CHUNK_BYTES};
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
