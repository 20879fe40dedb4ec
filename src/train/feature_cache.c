#include "train/feature_cache.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/mem.h"

#define MAGIC 0x3154414546494c50u /* "PLIFEAT1"; of another byte order it is another number, and the file no use */
#define SLOTS_FIRST ((size_t)256) /* a power of two, as all after it */

typedef struct slot {
    hash_key key;
    float *features; /* [n_floats]; NULL: empty */
} slot;

struct feature_cache {
    feature_cache_options o;
    size_t max_pictures, n_pictures;
    slot *slots;    /* [n_slots] open addressing, at most half full */
    size_t n_slots;
    char *dir;      /* NULL: none */
    bool writes;
    pthread_mutex_t lock; /* of slots and writes */
};

typedef struct header {
    uint64_t magic, n_floats;
    hash_key fingerprint, key, sum; /* sum: of the features */
} header;

/* ---- In memory ---- */

static slot *slot_of(slot *slots, size_t n_slots, hash_key key) {
    size_t i = (size_t)key.hash[0] & (n_slots - 1);
    while (slots[i].features && memcmp(&slots[i].key, &key, sizeof key)) i = (i + 1) & (n_slots - 1);
    return &slots[i];
}

static bool slots_grow(feature_cache *c) {
    const size_t n = c->n_slots ? 2 * c->n_slots : SLOTS_FIRST;
    slot *slots = mem_calloc(n, sizeof *slots);
    if (!slots) return false;
    for (size_t i = 0; i < c->n_slots; i++)
        if (c->slots[i].features) *slot_of(slots, n, c->slots[i].key) = c->slots[i];
    mem_free(c->slots);
    c->slots = slots;
    c->n_slots = n;
    return true;
}

/* Without memory for it a picture is just not remembered. Under the lock. */
static void keep(feature_cache *c, hash_key key, const float *features) {
    if (c->n_pictures == c->max_pictures) return;
    if (2 * (c->n_pictures + 1) > c->n_slots && !slots_grow(c)) return;
    slot *s = slot_of(c->slots, c->n_slots, key);
    if (s->features) return;
    float *own = mem_alloc(c->o.n_floats, sizeof *own);
    if (!own) return;
    memcpy(own, features, c->o.n_floats * sizeof *own);
    *s = (slot){key, own};
    c->n_pictures++;
}

/* ---- In files ---- */

static char *file_name(const feature_cache *c, hash_key key) {
    char name[96];
    (void)snprintf(name, sizeof name, "%016" PRIx64 "%016" PRIx64 "-%016" PRIx64 "%016" PRIx64 ".features", c->o.fingerprint.hash[0], c->o.fingerprint.hash[1],
                   key.hash[0], key.hash[1]);
    return file_join(c->dir, name);
}

static header header_of(const feature_cache *c, hash_key key, const float *features) {
    return (header){MAGIC, c->o.n_floats, c->o.fingerprint, key, hash_bytes((hash_key){{0}}, features, c->o.n_floats * sizeof *features)};
}

/* Whatever is wrong with the file, it is not what we look for. */
static bool file_find(const feature_cache *c, hash_key key, float *room) {
    const size_t n_bytes = c->o.n_floats * sizeof *room;
    char *path = file_name(c, key), *bytes = NULL;
    size_t n = 0;
    bool found = path && file_exists(path) && file_read(&bytes, &n, path, sizeof(header) + n_bytes) == PALI_OK && n == sizeof(header) + n_bytes;
    if (found) {
        memcpy(room, bytes + sizeof(header), n_bytes);
        const header expected = header_of(c, key, room);
        found = !memcmp(bytes, &expected, sizeof expected);
    }
    mem_free(bytes);
    mem_free(path);
    return found;
}

static pali_status file_put(const feature_cache *c, hash_key key, const float *features) {
    char *path = file_name(c, key);
    file_out out = {0};
    const header h = header_of(c, key, features);
    pali_status s = path ? file_out_open(&out, path) : status_no_memory(strlen(c->dir));
    mem_free(path);
    if (s == PALI_OK) s = file_out_write(&out, &h, sizeof h);
    if (s == PALI_OK) s = file_out_write(&out, features, c->o.n_floats * sizeof *features);
    if (s == PALI_OK) return file_out_commit(&out);
    file_out_abort(&out);
    return s;
}

/* ---- Both ---- */

const float *feature_cache_find(feature_cache *c, hash_key key, float *room) {
    pthread_mutex_lock(&c->lock);
    const float *features = c->n_slots ? slot_of(c->slots, c->n_slots, key)->features : NULL;
    pthread_mutex_unlock(&c->lock);
    if (features) return features; /* nothing is ever put out */
    if (!c->dir || !file_find(c, key, room)) return NULL;
    pthread_mutex_lock(&c->lock);
    keep(c, key, room);
    pthread_mutex_unlock(&c->lock);
    return room;
}

static void writing_ends(feature_cache *c) {
    pthread_mutex_lock(&c->lock);
    c->writes = false;
    pthread_mutex_unlock(&c->lock);
    (void)status_prefix(PALI_ERR_IO, "features are no longer written");
    if (c->o.warn) c->o.warn(c->o.user, status_message());
}

void feature_cache_put(feature_cache *c, hash_key key, const float *features) {
    pthread_mutex_lock(&c->lock);
    keep(c, key, features);
    const bool writes = c->writes;
    pthread_mutex_unlock(&c->lock);
    if (writes && file_put(c, key, features) != PALI_OK) writing_ends(c);
}

static pali_status dir_open(feature_cache *c, const char *dir) {
    c->dir = mem_copy_string(dir);
    if (!c->dir) return status_no_memory(strlen(dir));
    if (mkdir(dir, 0777) != 0 && errno != EEXIST) return status_fail(PALI_ERR_IO, "%s: cannot make the directory: %s", dir, strerror(errno));
    if (!file_is_dir(dir)) return status_fail(PALI_ERR_IO, "%s: not a directory", dir);
    c->writes = true;
    return PALI_OK;
}

pali_status feature_cache_new(feature_cache **out, const feature_cache_options *o) {
    *out = NULL;
    feature_cache *c = mem_calloc(1, sizeof *c);
    if (!c) return status_no_memory(sizeof *c);
    if (pthread_mutex_init(&c->lock, NULL) != 0) {
        mem_free(c);
        return status_no_memory(sizeof *c);
    }
    c->o = *o;
    c->max_pictures = o->memory_bytes / (o->n_floats * sizeof(float));
    pali_status s = o->dir ? dir_open(c, o->dir) : PALI_OK;
    if (s == PALI_OK)
        *out = c;
    else
        feature_cache_free(c);
    return s;
}

void feature_cache_free(feature_cache *c) {
    if (!c) return;
    for (size_t i = 0; i < c->n_slots; i++) mem_free(c->slots[i].features);
    mem_free(c->slots);
    mem_free(c->dir);
    pthread_mutex_destroy(&c->lock);
    mem_free(c);
}

size_t feature_cache_n_floats(const feature_cache *c) {
    return c->o.n_floats;
}

/* ---- The fingerprint ---- */

typedef struct hasher {
    const kernels *k;
    hash_key key;
    mem_scratch row;
    bool failed;
} hasher;

static void add_vector(hasher *h, const float *x, size_t n) {
    h->key = hash_bytes(h->key, x, n * sizeof *x);
}

/* By rows as f32, which every way of storing them has. The dtype chooses the arithmetic. */
static void add_mat(hasher *h, const mat *w) {
    float *row = mem_scratch_get(&h->row, w->cols, sizeof *row);
    const uint64_t sizes[] = {w->rows, w->cols, (uint64_t)w->dtype};
    h->key = hash_bytes(h->key, sizes, sizeof sizes);
    if (!row) {
        h->failed = true;
        return;
    }
    for (size_t i = 0; i < w->rows; i++) {
        mat_rows_f32(h->k, row, w, i, 1);
        add_vector(h, row, w->cols);
    }
}

static void add_layer(hasher *h, const vit_layer *l, size_t width, size_t mlp) {
    const mat *mats[] = {&l->q, &l->k, &l->v, &l->o, &l->fc1, &l->fc2};
    const float *vectors[] = {l->norm1_w, l->norm1_b, l->norm2_w, l->norm2_b, l->q_b, l->k_b, l->v_b, l->o_b, l->fc2_b};
    for (size_t i = 0; i < sizeof mats / sizeof *mats; i++) add_mat(h, mats[i]);
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) add_vector(h, vectors[i], width);
    add_vector(h, l->fc1_b, mlp);
}

pali_status feature_fingerprint(hash_key *out, const kernels *k, const vit *v, int resample) {
    /* The kernels too: those of another processor add up in another order. */
    const uint64_t sizes[] = {v->cfg.image_size, v->cfg.patch_size, v->cfg.n_layers, v->cfg.n_heads, (uint64_t)resample, (uint64_t)k->level};
    hasher h = {.k = k};
    h.key = hash_bytes(h.key, sizes, sizeof sizes);
    add_mat(&h, &v->patch);
    add_vector(&h, v->patch_b, v->cfg.width);
    add_vector(&h, v->position, v->cfg.n_patches * v->cfg.width);
    for (size_t i = 0; i < v->cfg.n_layers; i++) add_layer(&h, &v->layers[i], v->cfg.width, v->cfg.mlp_width);
    add_vector(&h, v->post_w, v->cfg.width);
    add_vector(&h, v->post_b, v->cfg.width);
    mem_scratch_free(&h.row);
    *out = h.key;
    return h.failed ? status_no_memory(v->cfg.mlp_width * sizeof(float)) : PALI_OK;
}
