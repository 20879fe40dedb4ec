#include "train/loader.h"

#include <pthread.h>
#include <string.h>
#include <time.h>

#include "base/file.h"
#include "base/mem.h"

#define POLL_NS 50000000 /* between looks at *cancel */

struct loader {
    loader_options o;
    pthread_t thread;
    pthread_mutex_t lock;       /* of everything below */
    pthread_cond_t filled, freed;
    loader_item queue[LOADER_AHEAD_MAX]; /* [n_ahead] */
    size_t n_ahead;
    uint64_t n_put, n_taken;    /* items; their difference waits */
    bool quit;
    /* Of the caller's side alone. */
    uint64_t epoch;
    size_t micro;
    size_t n_bad_in_a_row;
};

/* ---- One item, on the thread ---- */

typedef struct maker {
    const loader_options *o;
    uint64_t epoch;
    image last;        /* the last picture that was decoded */
    hash_key last_key;
} maker;

static void item_free(loader_item *item) {
    for (size_t i = 0; i < item->n_pictures; i++) {
        mem_free(item->pictures[i].room);
        image_free(&item->pictures[i].rgb);
    }
    mem_free(item->pictures);
    mem_free(item->message);
    sample_free(&item->text);
    *item = (loader_item){0};
}

/* Looks for the picture's features. PALI_OK with p->features NULL: not there. */
static pali_status picture_find(loader_picture *p, const loader_options *o) {
    const size_t n_floats = feature_cache_n_floats(o->cache);
    p->room = mem_alloc(n_floats, sizeof *p->room);
    if (!p->room) return status_no_memory(n_floats * sizeof *p->room);
    p->features = feature_cache_find(o->cache, p->key, p->room);
    if (p->features == p->room) return PALI_OK;
    mem_free(p->room);
    p->room = NULL;
    return PALI_OK;
}

static pali_status picture_decode(image *out, const loader_options *o, augment *a, const char *bytes, size_t n_bytes, const char *path) {
    image full = {0};
    pali_status s = image_decode(&full, (const uint8_t *)bytes, n_bytes, path);
    if (s == PALI_OK) s = augment_picture(out, a, &full, o->image_size, o->filter);
    image_free(&full);
    return s;
}

static pali_status picture_copy(image *out, const image *in) {
    const size_t n_bytes = in->width * in->height * 3;
    *out = (image){.width = in->width, .height = in->height, .rgb = mem_alloc(n_bytes, 1)};
    if (!out->rgb) return status_no_memory(n_bytes);
    memcpy(out->rgb, in->rgb, n_bytes);
    return PALI_OK;
}

static hash_key key_of(const maker *m, size_t row, size_t index, const char *bytes, size_t n_bytes) {
    const hash_key key = hash_bytes((hash_key){{0}}, bytes, n_bytes);
    const uint64_t place[] = {m->epoch, row, index};
    return augment_any(&m->o->augment) ? hash_bytes(key, place, sizeof place) : key;
}

static pali_status picture_make(loader_picture *p, maker *m, augment *a, const char *bytes, size_t n_bytes, const char *path) {
    if (m->o->cache) STATUS_TRY(picture_find(p, m->o));
    if (p->features) return PALI_OK;
    if (m->last.rgb && hash_same(m->last_key, p->key)) return picture_copy(&p->rgb, &m->last);
    STATUS_TRY(picture_decode(&p->rgb, m->o, a, bytes, n_bytes, path));
    image_free(&m->last);
    m->last_key = p->key;
    return picture_copy(&m->last, &p->rgb);
}

static pali_status picture_load(loader_item *item, size_t index, maker *m, augment *a, const char *path) {
    loader_picture *p = &item->pictures[index];
    char *bytes;
    size_t n_bytes;
    STATUS_TRY(file_read(&bytes, &n_bytes, path, IMAGE_MAX_FILE_BYTES));
    p->key = key_of(m, item->row, index, bytes, n_bytes);
    pali_status s = picture_make(p, m, a, bytes, n_bytes, path);
    mem_free(bytes);
    return s;
}

static pali_status text_make(loader_item *item, const loader_options *o, const augment *a, const dataset_row *row) {
    char *prefix = mem_copy_string(row->prefix), *suffix = mem_copy_string(row->suffix);
    pali_status s = prefix && suffix ? PALI_OK : status_no_memory(row->n_prefix + row->n_suffix);
    if (s == PALI_OK && a->flip) {
        augment_mirror_text(prefix);
        augment_mirror_text(suffix);
    }
    if (s == PALI_OK) s = sample_make(&item->text, o->rules, row->n_images, prefix, row->n_prefix, suffix, row->n_suffix);
    mem_free(prefix);
    mem_free(suffix);
    return s;
}

static pali_status row_load(loader_item *item, maker *m, const dataset_row *row) {
    augment a = augment_draw(&m->o->augment, m->epoch, item->row, row->prefix, row->suffix);
    STATUS_TRY(text_make(item, m->o, &a, row));
    item->pictures = mem_calloc(row->n_images, sizeof *item->pictures);
    if (!item->pictures) return status_no_memory(row->n_images * sizeof *item->pictures);
    item->n_pictures = row->n_images;
    for (size_t i = 0; i < row->n_images; i++) STATUS_TRY(picture_load(item, i, m, &a, row->images[i]));
    return PALI_OK;
}

static void item_make(loader_item *item, maker *m, size_t index) {
    const loader_options *o = m->o;
    dataset_row row;
    *item = (loader_item){.row = index};
    pali_status s = dataset_row_read(&row, o->data, index);
    dataset_row_draw(&row, o->seed, m->epoch, index);
    if (s == PALI_OK) s = status_prefix(row_load(item, m, &row), "%s:%zu", dataset_file_of(o->data, index)->path, row.line);
    dataset_row_free(&row);
    if (s == PALI_OK) return;
    char *message = mem_copy_string(status_message());
    item_free(item);
    *item = (loader_item){.row = index, .status = s, .message = message};
}

/* ---- The thread ---- */

/* Waits for a place; false: to end. */
static bool queue_wait(loader *l) {
    pthread_mutex_lock(&l->lock);
    while (!l->quit && l->n_put - l->n_taken == l->n_ahead) pthread_cond_wait(&l->freed, &l->lock);
    const bool go_on = !l->quit;
    pthread_mutex_unlock(&l->lock);
    return go_on;
}

static void queue_put(loader *l, const loader_item *item) {
    pthread_mutex_lock(&l->lock);
    l->queue[l->n_put++ % l->n_ahead] = *item;
    pthread_cond_signal(&l->filled);
    pthread_mutex_unlock(&l->lock);
}

/* Goes on until there is no place for the next item any more. */
static void items_make(loader *l, maker *m) {
    order *o = l->o.order;
    size_t at = l->o.micro * o->batch_size;
    for (;; m->epoch++, at = 0) {
        if (o->epoch != m->epoch) order_begin_epoch(o, m->epoch);
        for (; at < o->n_rows; at++) {
            loader_item item;
            if (!queue_wait(l)) return;
            item_make(&item, m, o->rows[at]);
            queue_put(l, &item);
        }
    }
}

static void *thread_main(void *argument) {
    loader *l = argument;
    maker m = {.o = &l->o, .epoch = l->o.epoch};
    items_make(l, &m);
    image_free(&m.last);
    return NULL;
}

/* ---- The caller ---- */

static struct timespec poll_time(void) {
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_nsec += POLL_NS;
    if (t.tv_nsec >= 1000000000) {
        t.tv_nsec -= 1000000000;
        t.tv_sec++;
    }
    return t;
}

static pali_status queue_take(loader *l, loader_item *out, const atomic_int *cancel) {
    bool cancelled = false;
    pthread_mutex_lock(&l->lock);
    while (!(cancelled = cancel && atomic_load(cancel)) && l->n_put == l->n_taken) {
        const struct timespec until = poll_time();
        (void)pthread_cond_timedwait(&l->filled, &l->lock, &until);
    }
    if (!cancelled) {
        *out = l->queue[l->n_taken++ % l->n_ahead];
        pthread_cond_signal(&l->freed);
    }
    pthread_mutex_unlock(&l->lock);
    return cancelled ? status_fail(PALI_ERR_CANCELLED, "cancelled") : PALI_OK;
}

/* Memory that is not there is no fault of the row. */
static pali_status item_bad(loader *l, const loader_item *item) {
    const char *message = item->message ? item->message : "no memory for the message";
    if (item->status == PALI_ERR_MEMORY) return status_fail(item->status, "%s", message);
    STATUS_TRY(dataset_row_bad(l->o.data, item->row, message));
    if (++l->n_bad_in_a_row < l->o.order->n_rows) return PALI_OK;
    return status_fail(PALI_ERR_FORMAT, "%s: not one of %zu rows could be loaded; the last one: %s", l->o.data->files[0].path, l->o.order->n_rows, message);
}

static pali_status batch_fill(loader *l, loader_batch *b, size_t n_rows, const atomic_int *cancel) {
    for (size_t i = 0; i < n_rows; i++) {
        loader_item item;
        STATUS_TRY(queue_take(l, &item, cancel));
        if (item.status == PALI_OK) {
            b->items[b->n++] = item;
            l->n_bad_in_a_row = 0;
            continue;
        }
        pali_status s = item_bad(l, &item);
        item_free(&item);
        if (s != PALI_OK) return s;
    }
    return PALI_OK;
}

pali_status loader_next(loader *l, loader_batch *out, const atomic_int *cancel) {
    size_t n_rows;
    (void)order_micro(l->o.order, l->micro, &n_rows);
    *out = (loader_batch){.epoch = l->epoch, .micro = l->micro, .items = mem_calloc(n_rows, sizeof *out->items)};
    pali_status s = out->items ? batch_fill(l, out, n_rows, cancel) : status_no_memory(n_rows * sizeof *out->items);
    if (s != PALI_OK) {
        loader_batch_free(out);
        return s;
    }
    if (++l->micro == l->o.order->n_micro) {
        l->micro = 0;
        l->epoch++;
    }
    return PALI_OK;
}

void loader_batch_free(loader_batch *b) {
    for (size_t i = 0; i < b->n; i++) item_free(&b->items[i]);
    mem_free(b->items);
    *b = (loader_batch){0};
}

/* ---- Opening ---- */

/* If one fails those before it hold nothing that would have to be given back. */
static bool locks_init(loader *l) {
    pthread_condattr_t monotonic;
    if (pthread_condattr_init(&monotonic) != 0) return false;
    const bool fine = pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC) == 0 && pthread_mutex_init(&l->lock, NULL) == 0 &&
                      pthread_cond_init(&l->filled, &monotonic) == 0 && pthread_cond_init(&l->freed, NULL) == 0;
    pthread_condattr_destroy(&monotonic);
    return fine;
}

pali_status loader_open(loader **out, const loader_options *o) {
    *out = NULL;
    if (o->cache && augment_any(&o->augment))
        return status_fail(PALI_ERR_ARGUMENT, "features cannot be kept of pictures that are cropped or flipped anew in every epoch");
    if (o->micro >= o->order->n_micro) return status_fail(PALI_ERR_ARGUMENT, "micro-batch %zu: an epoch has %zu", o->micro, o->order->n_micro);
    loader *l = mem_calloc(1, sizeof *l);
    if (!l) return status_no_memory(sizeof *l);
    l->o = *o;
    l->n_ahead = loader_ahead(o->order->batch_size);
    l->epoch = o->epoch;
    l->micro = o->micro;
    if (!locks_init(l) || pthread_create(&l->thread, NULL, thread_main, l) != 0) {
        mem_free(l);
        return status_fail(PALI_ERR_MEMORY, "cannot start a thread");
    }
    *out = l;
    return PALI_OK;
}

void loader_close(loader *l) {
    if (!l) return;
    pthread_mutex_lock(&l->lock);
    l->quit = true;
    pthread_cond_signal(&l->freed);
    pthread_mutex_unlock(&l->lock);
    pthread_join(l->thread, NULL);
    for (; l->n_taken < l->n_put; l->n_taken++) item_free(&l->queue[l->n_taken % l->n_ahead]);
    pthread_cond_destroy(&l->filled);
    pthread_cond_destroy(&l->freed);
    pthread_mutex_destroy(&l->lock);
    mem_free(l);
}

/* ---- A row by itself ---- */

void loader_item_load(loader_item *item, const loader_options *o, uint64_t epoch, size_t row) {
    maker m = {.o = o, .epoch = epoch};
    item_make(item, &m, row);
    image_free(&m.last);
}

void loader_item_free(loader_item *item) {
    item_free(item);
}
