/* train_plan.c: see train_plan.h. An outline of what is trained goes through the same sums as training will. */
#include "train/train_plan.h"

#include <stdlib.h>

#include "base/mem.h"
#include "base/memory.h"
#include "train/crew.h"
#include "train/loader.h"

#define UNKNOWN_LEFT ((uint64_t)2 << 30) /* taken for what is left where nothing says */

typedef struct longest {
    size_t row, n_bytes;
} longest;

static int by_length(const void *a, const void *b) {
    const longest *x = a, *y = b;
    return x->n_bytes != y->n_bytes ? (x->n_bytes < y->n_bytes) - (x->n_bytes > y->n_bytes) : (x->row > y->row) - (x->row < y->row);
}

/* Rows whose lines are the longest: as good as those of the most tokens, without reading them all. */
static pali_status rows_choose(longest **out, const dataset *d) {
    longest *rows = mem_alloc(d->n, sizeof *rows);
    if (!rows) return status_no_memory(d->n * sizeof *rows);
    for (size_t i = 0; i < d->n; i++) rows[i] = (longest){i, d->lines[i].n_bytes};
    qsort(rows, d->n, sizeof *rows, by_length);
    *out = rows;
    return PALI_OK;
}

typedef struct batch {
    sample *samples;            /* [n] */
    backprop_item *items;       /* [n] */
    backprop_picture *pictures; /* [n_pictures] */
    float *there;               /* [n_pictures] where they are said to be: all in different places, though some rows may share one */
    size_t n, n_pictures, batch_size;
} batch;

/* A row that turns out bad is none that will be trained with. */
static pali_status item_add(batch *b, const dataset *d, const sample_rules *rules, size_t row) {
    dataset_row r;
    pali_status s = dataset_row_read(&r, d, row);
    if (s == PALI_OK) s = sample_make(&b->samples[b->n], rules, r.n_images, r.prefix, r.n_prefix, r.suffix, r.n_suffix);
    if (s == PALI_OK) {
        b->items[b->n] = (backprop_item){.text = &b->samples[b->n], .n_pictures = r.n_images};
        b->n_pictures += r.n_images;
        b->n++;
    } else {
        sample_free(&b->samples[b->n]);
    }
    dataset_row_free(&r);
    return s == PALI_ERR_MEMORY ? s : PALI_OK;
}

static pali_status batch_make(batch *b, const dataset *d, const sample_rules *rules, size_t batch_size) {
    longest *rows = NULL;
    const size_t n = batch_size < d->n ? batch_size : d->n;
    *b = (batch){.batch_size = batch_size, .samples = mem_calloc(n, sizeof *b->samples), .items = mem_calloc(n, sizeof *b->items)};
    if (!b->samples || !b->items) return status_no_memory(n * sizeof *b->items);
    STATUS_TRY(rows_choose(&rows, d));
    pali_status s = PALI_OK;
    for (size_t i = 0; i < n && s == PALI_OK; i++) s = item_add(b, d, rules, rows[i].row);
    mem_free(rows);
    return s;
}

static void batch_free(batch *b) {
    for (size_t i = 0; i < b->n; i++) sample_free(&b->samples[i]);
    mem_free(b->samples);
    mem_free(b->items);
    mem_free(b->pictures);
    mem_free(b->there);
}

/* Pictures of which nothing is looked at but where they are. */
static pali_status pictures_place(batch *b, bool pixels) {
    b->pictures = mem_calloc(b->n_pictures, sizeof *b->pictures);
    b->there = mem_calloc(b->n_pictures, sizeof *b->there);
    if (!b->pictures || !b->there) return status_no_memory(b->n_pictures * sizeof *b->pictures);
    for (size_t i = 0, at = 0; i < b->n; i++) {
        b->items[i].pictures = b->pictures + at;
        for (size_t j = 0; j < b->items[i].n_pictures; j++, at++) *(pixels ? &b->pictures[at].pixels : &b->pictures[at].features) = b->there + at;
    }
    return PALI_OK;
}

/* Scratch, and what a micro-batch keeps. */
static pali_status walk_add(train_plan *p, exec *e, trainable *what, batch *b, bool augmented) {
    const vit_config *v = &what->view->cfg.vit;
    const backprop_options o = {0};
    const uint64_t pixels = 3 * (uint64_t)v->image_size * v->image_size, features = (uint64_t)v->n_patches * v->width;
    exec_need need = {0};
    uint64_t own = 0;
    crew c;
    pali_status s = crew_init(&c, e, what->view, what->p);
    p->trains_vision = c.walks[0].grads.trains_vit;
    const bool as_pixels = p->trains_vision || augmented;
    if (!p->trains_vision) vit_need(&need, e, &what->view->vit);
    if (s == PALI_OK) s = pictures_place(b, as_pixels);
    if (s == PALI_OK) s = crew_need(&need, &own, e, &c, b->items, b->n, &o);
    crew_free(&c);
    p->needed += own + need.acts + need.shared + (uint64_t)e->n_workers * need.worker;
    p->needed += (as_pixels ? pixels : features) * b->n_pictures * sizeof(float);
    p->needed += loader_ahead(b->batch_size) * (pixels + (p->trains_vision ? 0 : features * sizeof(float)));
    return s;
}

static void left_share(train_plan *p, const model *base) {
    memory_free there;
    memory_free_get(&there, "");
    p->available = there.available < there.address ? there.available : there.address;
    const uint64_t taken = p->needed + base->weight_bytes; /* files are best kept in memory too */
    const uint64_t left = p->available == UINT64_MAX ? UNKNOWN_LEFT : p->available > taken ? p->available - taken : 0;
    p->keep_bytes = left / 2;
    p->cache_bytes = left / 4;
}

pali_status train_plan_make(train_plan *out, exec *e, const model *base, const trainable_options *what, const optim_options *optimizer, const dataset *d,
                            const sample_rules *rules, size_t batch_size, bool augmented) {
    trainable outline;
    batch b;
    uint64_t states, file;
    *out = (train_plan){0};
    STATUS_TRY(trainable_new(&outline, base, what, NULL));
    optim_need(optimizer, outline.p, &states, &file);
    out->needed = params_need(outline.p, what->adapters ? PARAM_F32 : what->storage, what->half_grads) + states;
    out->n_parameters = outline.p->n_values;
    pali_status s = batch_make(&b, d, rules, batch_size);
    if (s == PALI_OK) s = walk_add(out, e, &outline, &b, augmented);
    batch_free(&b);
    trainable_free(&outline);
    if (s == PALI_OK) left_share(out, base);
    return s;
}
