/* model.c: opens a checkpoint: config, then the tensors it describes, corrected where the files say otherwise. */
#include "model/model.h"

#include <math.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "model/weights.h"

/* Where the sizes of tensors are the better witness, they win over the config (spec 1.4): table rows, patches, heads. */
static pali_status config_correct(config *c, const weights *w) {
    const weights_entry *embed = weights_find(w, "language_model.embed_tokens.weight");
    const weights_entry *position = weights_find(w, "vision_tower.embeddings.position_embedding.weight");
    const weights_entry *q = weights_find(w, "language_model.layers.0.self_attn.q_proj.weight");
    const weights_entry *k = weights_find(w, "language_model.layers.0.self_attn.k_proj.weight");
    gemma_config *t = &c->text;
    if (embed && embed->n_dims == 2 && embed->dims[0] > 0) {
        t->vocab_size = embed->dims[0];
        if (t->vocab_size > CONFIG_MAX_VOCAB)
            return status_fail(PALI_ERR_LIMIT, "%s: %s: %zu rows, more than the limit of %u", embed->file,
                               embed->file_name, t->vocab_size, CONFIG_MAX_VOCAB);
    }
    if (position && position->n_dims == 2 && position->dims[0] != c->vit.n_patches) {
        size_t n = position->dims[0], grid = 1;
        while (grid * grid < n && grid < CONFIG_MAX_IMAGE / c->vit.patch_size) grid++;
        if (grid * grid != n)
            return status_fail(PALI_ERR_FORMAT,
                               "%s: %s: %zu rows are not a square grid of patches of a picture of at most %u pixels a side",
                               position->file, position->file_name, n, CONFIG_MAX_IMAGE);
        c->vit.n_patches = n;
        c->vit.image_size = grid * c->vit.patch_size;
    }
    if (q && q->n_dims == 2) {
        size_t rows = q->dims[0];
        if (rows % t->n_heads == 0 && rows / t->n_heads % 2 == 0 && rows > 0 && rows / t->n_heads <= CONFIG_MAX_HEAD_DIM) {
            bool scale_follows = t->generation == 1; /* Gemma 2 states its scale apart from the head dim */
            t->head_dim = rows / t->n_heads;
            if (scale_follows) t->attn_scale = 1.0f / sqrtf((float)t->head_dim);
        }
    }
    if (k && k->n_dims == 2 && k->dims[0] % t->head_dim == 0) {
        size_t heads = k->dims[0] / t->head_dim;
        if (heads > 0 && t->n_heads % heads == 0) t->n_kv_heads = heads;
    }
    return PALI_OK;
}

/* The structs that the spec points into. */
static pali_status layers_get(model *m) {
    m->vit.cfg = m->cfg.vit;
    m->text.cfg = m->cfg.text;
    m->vit.layers = mem_calloc(m->cfg.vit.n_layers, sizeof *m->vit.layers);
    m->text.layers = mem_calloc(m->cfg.text.n_layers, sizeof *m->text.layers);
    if (!m->vit.layers || !m->text.layers) return status_no_memory(m->cfg.text.n_layers * sizeof *m->text.layers);
    return PALI_OK;
}

static void options_apply(config *c, const model_options *o) {
    if (o->no_sliding_window) c->text.sliding_window = 0;
    if (o->no_final_softcap) c->text.final_softcap = 0;
}

static pali_status tensors_list(model *m, const spec *s) {
    m->tensors = mem_calloc(s->n, sizeof *m->tensors);
    if (!m->tensors) return status_no_memory(s->n * sizeof *m->tensors);
    for (size_t i = 0; i < s->n; i++) {
        const spec_tensor *from = &s->tensors[i];
        const weights_entry *entry = weights_find(m->weights, from->name);
        if (from->matrix && !from->matrix->data) continue; /* an optional one that is not there */
        model_tensor *to = &m->tensors[m->n_tensors++];
        size_t length = strlen(from->name) + 1, n = 1;
        to->name = mem_alloc(length, 1);
        if (!to->name) return status_no_memory(length);
        memcpy(to->name, from->name, length);
        to->file = entry ? entry->file : "";
        /* Vectors are held in f32; what is worth telling is how they are stored. */
        pali_dtype held = from->matrix ? from->matrix->dtype : PALI_DTYPE_F32;
        to->dtype = from->vector && entry ? entry->dtype : held;
        to->n_dims = from->n_dims;
        memcpy(to->dims, from->dims, sizeof to->dims);
        for (size_t d = 0; d < to->n_dims; d++) n *= to->dims[d];
        m->weight_bytes += from->matrix ? from->matrix->rows * mat_row_bytes(from->matrix) : n * sizeof(float);
    }
    return PALI_OK;
}

/* Older writers saved tables that are computed, not learned: nobody misses them (spec 3.2). */
static bool is_ignorable(const char *name) {
    static const char *const k_ends[] = {".rotary_emb.inv_freq", ".position_ids"};
    for (size_t i = 0; i < sizeof k_ends / sizeof k_ends[0]; i++) {
        size_t n = strlen(name), m = strlen(k_ends[i]);
        if (n >= m && strcmp(name + n - m, k_ends[i]) == 0) return true;
    }
    return false;
}

static pali_status extras_list(model *m) {
    const weights *w = m->weights;
    m->extras = mem_calloc(w->n_entries, sizeof *m->extras);
    if (!m->extras) return status_no_memory(w->n_entries * sizeof *m->extras);
    for (size_t i = 0; i < w->n_entries; i++)
        if (!w->entries[i].used && !is_ignorable(w->entries[i].name)) m->extras[m->n_extras++] = w->entries[i].file_name;
    return PALI_OK;
}

/* Everything after the config and the files are known. */
static pali_status model_fill(model *m, const model_options *o, spec *s, exec *e, const char *dir, uint64_t seed) {
    options_apply(&m->cfg, o);
    config_name(&m->cfg, m->name, sizeof m->name);
    STATUS_TRY(layers_get(m));
    STATUS_TRY(spec_build(s, &m->vit, &m->text));
    if (dir) {
        /* A head of its own is used, as the reference does whatever the config says about tying; a copy of the table is not. */
        m->cfg.tied = !weights_find(m->weights, "lm_head.weight") ||
                      weights_same(m->weights, "lm_head.weight", "language_model.embed_tokens.weight");
        if (m->cfg.tied) s->n--; /* the head is last in the table */
        STATUS_TRY(weights_bind(m->weights, s, o->dtype, dir, e, o->progress, o->user));
        STATUS_TRY(weights_prefault(m->weights, s, e, o->progress, o->user));
    } else {
        pali_dtype dtype = o->dtype == PALI_DTYPE_AUTO ? PALI_DTYPE_BF16 : o->dtype;
        STATUS_TRY(weights_random(&m->weights, s, dtype, seed, e, o->progress, o->user));
    }
    STATUS_TRY(tensors_list(m, s));
    return extras_list(m);
}

static pali_status model_make(model **out, model *m, const model_options *o, const char *dir, uint64_t seed) {
    exec e;
    spec s = {0};
    pali_status status = exec_init(&e, o->n_threads);
    if (status == PALI_OK) {
        status = model_fill(m, o, &s, &e, dir, seed);
        exec_free(&e);
    }
    spec_free(&s);
    if (status != PALI_OK) {
        model_free(m);
        return status;
    }
    *out = m;
    return PALI_OK;
}

/* config.json and the files, into *m. */
static pali_status dir_open(model *m, const char *path) {
    char *config_path = file_join(path, "config.json"), *adapter = file_join(path, "adapter_config.json");
    pali_status s = config_path && adapter ? PALI_OK : status_no_memory(strlen(path));
    m->dir = file_join(path, "");
    if (s == PALI_OK && !m->dir) s = status_no_memory(strlen(path));
    if (s == PALI_OK && file_exists(adapter) && !file_exists(config_path))
        s = status_fail(PALI_ERR_UNSUPPORTED, "%s: adapters are not supported yet: expected a whole model with config.json",
                        adapter);
    if (s == PALI_OK) s = config_load(&m->cfg, config_path);
    if (s == PALI_OK) s = weights_open(&m->weights, path);
    if (s == PALI_OK) s = config_correct(&m->cfg, m->weights);
    if (s == PALI_OK) s = config_load_preprocessor(&m->cfg, path);
    mem_free(config_path);
    mem_free(adapter);
    return s;
}

pali_status model_load(model **out, const char *path, const model_options *options) {
    *out = NULL;
    if (!file_exists(path)) return status_fail(PALI_ERR_IO, "%s: no such file or directory", path);
    if (!file_is_dir(path))
        return status_fail(PALI_ERR_UNSUPPORTED, "%s: single files (npz, gguf) are not supported yet: expected a directory with "
                                                 "config.json and safetensors", path);
    model *m = mem_calloc(1, sizeof *m);
    if (!m) return status_no_memory(sizeof *m);
    pali_status s = dir_open(m, path);
    if (s != PALI_OK) {
        model_free(m);
        return s;
    }
    return model_make(out, m, options, path, 0);
}

pali_status model_random(model **out, const char *shape, uint64_t seed, const model_options *options) {
    *out = NULL;
    model *m = mem_calloc(1, sizeof *m);
    if (!m) return status_no_memory(sizeof *m);
    pali_status s = config_named(&m->cfg, shape);
    if (s != PALI_OK) {
        model_free(m);
        return s;
    }
    return model_make(out, m, options, NULL, seed);
}

void model_free(model *m) {
    if (!m) return;
    for (size_t i = 0; i < m->n_tensors; i++) mem_free(m->tensors[i].name);
    mem_free(m->tensors);
    mem_free(m->extras);
    mem_free(m->vit.layers);
    mem_free(m->text.layers);
    mem_free(m->dir);
    weights_free(m->weights);
    mem_free(m);
}
