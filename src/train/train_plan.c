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
    sample *samples;            /* [n], or NULL: somebody else's */
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
    for (size_t i = 0; b->samples && i < b->n; i++) sample_free(&b->samples[i]);
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

/* Scratch, and what a micro-batch keeps; its pictures and those that wait. */
static pali_status walk_add(train_plan *p, exec *e, trainable *what, batch *b, const train_plan_options *o) {
    const vit_config *v = &what->view->cfg.vit;
    const backprop_options least = {0}, most = {.keep_bytes = UINT64_MAX};
    const uint64_t pixels = 3 * (uint64_t)v->image_size * v->image_size, features = (uint64_t)v->n_patches * v->width;
    exec_need need = {.worker = optim_worker_bytes(o->optimizer, what->p, e->k)};
    uint64_t own = 0, all = 0;
    crew c;
    pali_status s = crew_init(&c, e, what->view, what->p);
    p->trains_vision = c.walks[0].grads.trains_vit;
    const bool as_pixels = p->trains_vision || o->augmented;
    if (!p->trains_vision) vit_need(&need, e, &what->view->vit);
    if (s == PALI_OK) s = pictures_place(b, as_pixels);
    if (s == PALI_OK) s = crew_need(&need, &own, e, &c, b->items, b->n, &least);
    if (s == PALI_OK) s = crew_need(&need, &all, e, &c, b->items, b->n, &most);
    crew_free(&c);
    p->needed += own + need.acts + need.shared + (uint64_t)e->n_workers * need.worker;
    p->needed += (as_pixels ? pixels : features) * b->n_pictures * sizeof(float);
    p->needed += loader_ahead(b->batch_size) * (pixels + (p->trains_vision ? 0 : features * sizeof(float)));
    p->keep_bytes = all - own;
    return s;
}

static bool is_trained(const train_plan_options *o, const spec_tensor *t) {
    return !o->what->adapters && (o->what->groups & PARAMS_GROUP(t->group));
}

/* In memory of the model's own, and in pages of files: those of weights that are trained are read but once. */
static void weights_split(uint64_t *own, uint64_t *mapped, const model *base, const train_plan_options *o) {
    *own = *mapped = 0;
    for (size_t i = 0; i < base->spec.n; i++) {
        const spec_tensor *t = &base->spec.tensors[i];
        if (t->matrix && !t->matrix->data && t->optional) continue; /* it is not there */
        if (t->vector || !t->matrix->data || !weights_is_mapped(base->weights, t->matrix->data)) *own += spec_held_bytes(t);
        else if (!is_trained(o, t)) *mapped += spec_held_bytes(t);
    }
}

static uint64_t less_of(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

static uint64_t rest_of(uint64_t all, uint64_t taken) {
    return all > taken ? all - taken : 0;
}

/* Two thirds for insides, if there are so many, the others for features. Memory of the model's own is taken already, but files are
 * best kept in memory too. */
static void left_share(train_plan *p, const model *base, const train_plan_options *o) {
    memory_free there;
    memory_free_get(&there, "");
    uint64_t own, mapped;
    weights_split(&own, &mapped, base, o);
    p->weights = own + mapped;
    p->others = MEMORY_PROGRAM_BYTES + (uint64_t)TOKENIZER_BYTES_PER_ID * base->cfg.text.vocab_size;
    p->available = less_of(there.available, there.address);
    uint64_t left = p->available == UINT64_MAX ? UNKNOWN_LEFT : rest_of(p->available, p->needed + mapped) / 4 * 3;
    if (o->memory_bytes) {
        const uint64_t ours = rest_of(o->memory_bytes, p->weights + p->others);
        p->available = less_of(p->available, ours);
        left = less_of(left, rest_of(ours, p->needed));
    }
    p->keep_bytes = less_of(p->keep_bytes, left / 3 * 2);
    p->cache_bytes = p->trains_vision ? 0 : left - p->keep_bytes;
}

static pali_status plan_of(train_plan *out, exec *e, const model *base, const train_plan_options *o, batch *b) {
    trainable outline;
    uint64_t states, file;
    STATUS_TRY(trainable_new(&outline, base, o->what, NULL));
    optim_need(o->optimizer, outline.p, &states, &file);
    out->needed = o->extra_bytes + params_need(outline.p, o->what->adapters ? PARAM_F32 : o->what->storage, o->what->half_grads) + states;
    out->n_parameters = outline.p->n_values;
    pali_status s = walk_add(out, e, &outline, b, o);
    trainable_free(&outline);
    if (s == PALI_OK) left_share(out, base, o);
    return s;
}

pali_status train_plan_micro(train_plan *out, exec *e, const model *base, const train_plan_options *o, const backprop_item *items, size_t n) {
    batch b = {.items = mem_calloc(n, sizeof *b.items), .batch_size = n, .n = n};
    *out = (train_plan){0};
    if (!b.items) return status_no_memory(n * sizeof *b.items);
    for (size_t i = 0; i < n; i++) {
        b.items[i] = items[i];
        b.n_pictures += items[i].n_pictures;
    }
    pali_status s = plan_of(out, e, base, o, &b);
    batch_free(&b);
    return s;
}

pali_status train_plan_make(train_plan *out, exec *e, const model *base, const train_plan_options *o, const dataset *d, const sample_rules *rules, size_t batch_size) {
    batch b;
    *out = (train_plan){0};
    pali_status s = batch_make(&b, d, rules, batch_size);
    if (s == PALI_OK) s = plan_of(out, e, base, o, &b);
    batch_free(&b);
    return s;
}
