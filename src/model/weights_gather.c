/* weights_gather.c: tensors that do not lie in a file as the model needs them: a layer's part of an array of big_vision, whose
 * axes have another order and which may be compressed (spec inference 3.4).
 *
 * Whatever the order, pages are best read one after the other. So a batch of matrices is brought in whole, put in order by all
 * threads, and let go of before the next: source and copy are never both resident. Compressed arrays are unpacked one at a time. */
#include "base/file.h"
#include "base/mem.h"
#include "model/weights.h"
#include "tensor/encode.h"
#include "tensor/strided.h"

#define BATCH_BYTES ((size_t)64 << 20)     /* of sources that are resident together, and one tensor more */
#define FETCH_BYTES ((size_t)4 << 20)      /* of a source per task */
#define PIECE_ELEMENTS ((size_t)1 << 20)   /* of a tensor per task */
_Static_assert(STRIDED_TILE % ENCODE_ROWS == 0, "pieces begin where blocks begin");

/* A tensor on its way. */
typedef struct source {
    const weights_entry *entry;
    mat from;
    strided order; /* from's */
    mat to;
} source;

typedef struct piece {
    const source *from;
    size_t first, n; /* rows */
    bool unfit;      /* could not be converted */
} piece;

typedef struct range {
    const char *begin;
    size_t n;
} range;

typedef struct gatherer {
    const weights *w;
    exec *e;
    source *sources; /* [n] of the batch */
    size_t n, n_batch_bytes;
    piece *pieces;   /* of the batch */
    size_t n_pieces, pieces_cap;
    range *ranges;   /* of the batch, to fetch */
    size_t n_ranges, ranges_cap;
    uint64_t n_done, n_total; /* bytes of sources */
    pali_progress_fn progress;
    void *user;
} gatherer;

bool weights_is_gathered(const weights *w, const weights_entry *entry, const spec_tensor *t) {
    const spec_npz *z = &t->npz;
    if (w->layout != SPEC_NPZ) return false;
    bool whole = z->n_layers <= 1 && z->n_slots <= 1 && !entry->unpack && !(entry->fortran_order && entry->n_dims > 1);
    for (size_t i = 0; i < z->n_dims; i++) whole = whole && z->axes[i] == i;
    return !whole;
}

bool weights_is_kept(const weights *w, const weights_entry *entry, const spec_tensor *t) {
    return w->keeps_order && t->matrix && t->matrix->dtype == entry->dtype && !entry->unpack && weights_is_gathered(w, entry, t);
}

/* The tensor where it lies in its array, whose shape weights_plan has checked. A vector is a matrix of one row. */
static mat part_of(const weights_entry *entry, const spec_tensor *t, strided *order) {
    const spec_npz *z = &t->npz;
    size_t steps[WEIGHTS_MAX_DIMS], step = 1, at = 0, offset = 0, n = 1;
    strided_axis axes[STRIDED_MAX_AXES];
    for (size_t i = 0; i < entry->n_dims; i++) {
        size_t d = entry->fortran_order ? i : entry->n_dims - 1 - i;
        steps[d] = step;
        step *= entry->dims[d];
    }
    const size_t n_leading = entry->n_dims - z->n_dims; /* an array of this layer alone has no axis of layers */
    if (z->n_layers && n_leading > (z->n_slots ? 1u : 0u)) offset += z->layer * steps[at++];
    if (z->n_slots) offset += z->slot * steps[at++];
    for (size_t i = 0; i < z->n_dims; i++) {
        axes[i] = (strided_axis){z->dims[z->axes[i]], steps[at + z->axes[i]]};
        n *= axes[i].n;
    }
    mat m = {.dtype = entry->dtype, .rows = t->matrix ? t->matrix->rows : 1, .data = entry->data + offset * dtype_bytes(entry->dtype, 1), .order = order};
    m.cols = n / m.rows;
    strided_init(order, axes, z->n_dims, m.rows);
    return m;
}

void weights_keep(const weights_entry *entry, const spec_tensor *t, strided *order) {
    *t->matrix = part_of(entry, t, order);
}

/* ---- A batch ---- */

static void fetch_task(void *context, size_t task, size_t worker) {
    (void)worker;
    const gatherer *g = context;
    file_map_fetch(g->ranges[task].begin, g->ranges[task].n);
}

static void piece_task(void *context, size_t task, size_t worker) {
    const gatherer *g = context;
    piece *p = &g->pieces[task];
    const source *s = p->from;
    if (s->to.dtype == s->from.dtype) {
        strided_rows((char *)(uintptr_t)mat_row(&s->to, p->first), s->from.data, dtype_bytes(s->from.dtype, 1), &s->order, p->first, p->n);
        return;
    }
    encoder e = encode_begin(g->e->k, &s->to, p->first);
    p->unfit = !encode_rows(&e, &s->from, p->first, p->n, g->e->worker[worker].data);
    encode_end(&e);
}

static size_t source_bytes(const source *s) {
    return s->from.rows * mat_row_bytes(&s->from);
}

/* Those of them that lie together in a file; else there is nothing to fetch or to let go of. */
static size_t source_map_bytes(const source *s) {
    return s->entry->unpack || !strided_is_dense(&s->order) ? 0 : source_bytes(s);
}

/* Room for one more in a list of the gatherer's. */
static bool list_grow(void **list, size_t n, size_t *cap, size_t size) {
    if (n < *cap) return true;
    size_t more = *cap ? 2 * *cap : 256;
    void *grown = mem_grow(*list, *cap, more, size);
    if (!grown) return false;
    *list = grown;
    *cap = more;
    return true;
}

static pali_status batch_cut(gatherer *g) {
    size_t scratch = 0;
    g->n_pieces = g->n_ranges = 0;
    for (size_t i = 0; i < g->n; i++) {
        const source *s = &g->sources[i];
        size_t n_bytes = source_map_bytes(s), step = PIECE_ELEMENTS / s->from.cols / STRIDED_TILE * STRIDED_TILE + STRIDED_TILE;
        for (size_t at = 0; at < n_bytes; at += FETCH_BYTES) {
            void *list = g->ranges;
            if (!list_grow(&list, g->n_ranges, &g->ranges_cap, sizeof *g->ranges)) return status_no_memory(g->n_ranges * sizeof *g->ranges);
            g->ranges = list;
            g->ranges[g->n_ranges++] = (range){(const char *)s->from.data + at, n_bytes - at < FETCH_BYTES ? n_bytes - at : FETCH_BYTES};
        }
        for (size_t r = 0; r < s->from.rows; r += step) {
            void *list = g->pieces;
            if (!list_grow(&list, g->n_pieces, &g->pieces_cap, sizeof *g->pieces)) return status_no_memory(g->n_pieces * sizeof *g->pieces);
            g->pieces = list;
            g->pieces[g->n_pieces++] = (piece){s, r, s->from.rows - r < step ? s->from.rows - r : step, false};
        }
        if (s->to.dtype != s->from.dtype && mat_scratch_floats(&s->from) > scratch) scratch = mat_scratch_floats(&s->from);
    }
    return exec_worker_scratch(g->e, (scratch + 1) * sizeof(float));
}

static pali_status batch_run(gatherer *g) {
    if (g->n == 0) return PALI_OK;
    STATUS_TRY(batch_cut(g));
    pool_run(g->e->pool, g->n_ranges, fetch_task, g);
    pool_run(g->e->pool, g->n_pieces, piece_task, g);
    for (size_t i = 0; i < g->n_pieces; i++)
        if (g->pieces[i].unfit) return weights_unfit(g->pieces[i].from->entry->file, g->pieces[i].from->entry->file_name, g->pieces[i].from->to.dtype);
    for (size_t i = 0; i < g->n; i++) {
        const source *s = &g->sources[i];
        weights_drop(s->entry, s->from.data, source_map_bytes(s));
        g->n_done += source_bytes(s);
    }
    g->n = g->n_batch_bytes = 0;
    if (g->progress && g->progress(g->user, "putting weights in order", g->n_done, g->n_total)) return status_fail(PALI_ERR_CANCELLED, "putting weights in order: cancelled");
    return PALI_OK;
}

/* ---- All of them ---- */

static pali_status source_add(gatherer *g, const spec_tensor *t, const weights_entry *entry) {
    source *s = &g->sources[g->n];
    *s = (source){.entry = entry};
    s->from = part_of(entry, t, &s->order);
    s->to = t->matrix ? *t->matrix : mat_f32(1, s->from.cols, *t->vector); /* our own memory: weights_bind's */
    g->n++;
    g->n_batch_bytes += source_bytes(s);
    if (g->n_batch_bytes >= BATCH_BYTES) STATUS_TRY(batch_run(g));
    return PALI_OK;
}

/* The tensors that lie in `packed`; NULL: in entries that are not compressed. */
static pali_status sources_run(gatherer *g, const spec *s, const weights_entry *packed) {
    for (size_t i = 0; i < s->n; i++) {
        const spec_tensor *t = &s->tensors[i];
        const weights_entry *entry = weights_of(g->w, t);
        if (entry && (entry->unpack ? entry : NULL) == packed && weights_is_gathered(g->w, entry, t) && !weights_is_kept(g->w, entry, t))
            STATUS_TRY(source_add(g, t, entry));
    }
    return batch_run(g);
}

static pali_status all_run(gatherer *g, weights *w, const spec *s) {
    for (size_t i = 0; i < s->n; i++) {
        const spec_tensor *t = &s->tensors[i];
        const weights_entry *entry = weights_of(w, t);
        uint64_t n = 1;
        for (size_t d = 0; d < t->n_dims; d++) n *= t->dims[d];
        if (entry && weights_is_gathered(w, entry, t) && !weights_is_kept(w, entry, t)) g->n_total += n * dtype_bytes(entry->dtype, 1);
    }
    STATUS_TRY(sources_run(g, s, NULL));
    for (size_t i = 0; i < w->n_entries; i++) {
        weights_entry *packed = &w->entries[i];
        if (!packed->unpack || !packed->used) continue;
        STATUS_TRY(packed->unpack(packed));
        pali_status status = sources_run(g, s, packed);
        packed->release(packed);
        STATUS_TRY(status);
    }
    return PALI_OK;
}

pali_status weights_gather(weights *w, const spec *s, exec *e, pali_progress_fn progress, void *user) {
    if (w->layout != SPEC_NPZ) return PALI_OK;
    gatherer g = {.w = w, .e = e, .sources = mem_alloc(s->n, sizeof *g.sources), .progress = progress, .user = user};
    pali_status status = g.sources ? all_run(&g, w, s) : status_no_memory(s->n * sizeof *g.sources);
    mem_free(g.sources);
    mem_free(g.pieces);
    mem_free(g.ranges);
    return status;
}
