/* model.c: opens a checkpoint: config, then the tensors it describes, corrected where the files say otherwise. */
#include "model/model.h"

#include <math.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "io/json.h"
#include "model/config_gguf.h"
#include "model/config_npz.h"
#include "model/weights.h"

/* Where the sizes of tensors are the better witness, they win over the config (spec 1.4): table rows, patches, heads. */
static pali_status config_correct(config *c, const weights *w) {
    const weights_entry *embed = weights_find(w, "language_model.embed_tokens.weight");
    const weights_entry *position = weights_find(w, "vision_tower.embeddings.position_embedding.weight");
    const weights_entry *q = weights_find(w, "language_model.layers.0.self_attn.q_proj.weight");
    const weights_entry *k = weights_find(w, "language_model.layers.0.self_attn.k_proj.weight");
    gemma_config *t = &c->text;
    if (embed && embed->n_dims == 2 && embed->dims[0] > 0) {
        if (embed->dims[0] > CONFIG_MAX_VOCAB)
            return status_fail(PALI_ERR_LIMIT, "%s: %s: %zu rows, more than the limit of %u", embed->file,
                               embed->file_name, embed->dims[0], CONFIG_MAX_VOCAB);
        t->vocab_size = embed->dims[0];
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

static pali_status tensors_list(model *m) {
    const spec *s = &m->spec;
    m->tensors = mem_calloc(s->n, sizeof *m->tensors);
    if (!m->tensors) return status_no_memory(s->n * sizeof *m->tensors);
    for (size_t i = 0; i < s->n; i++) {
        const spec_tensor *from = &s->tensors[i];
        const weights_entry *entry = weights_of(m->weights, from);
        if (from->matrix && !from->matrix->data) continue; /* an optional one that is not there */
        model_tensor *to = &m->tensors[m->n_tensors++];
        to->name = mem_copy_string(from->name);
        if (!to->name) return status_no_memory(SPEC_NAME_MAX);
        to->file = entry ? entry->file : "";
        to->stored = entry ? entry->dtype_name : "";
        to->n_bytes = entry ? weights_bytes(entry, from) : 0;
        /* Vectors are held in f32; what is worth telling is how they are stored. */
        pali_dtype held = from->matrix ? from->matrix->dtype : PALI_DTYPE_F32;
        to->dtype = from->vector && entry ? entry->dtype : held;
        to->n_dims = from->n_dims;
        memcpy(to->dims, from->dims, sizeof to->dims);
        m->weight_bytes += spec_held_bytes(from);
    }
    return PALI_OK;
}

static bool has_ending(const char *name, const char *ending) {
    size_t n = strlen(name), m = strlen(ending);
    return n >= m && strcmp(name + n - m, ending) == 0;
}

bool model_is_extra(const weights_entry *entry) {
    return !entry->used && !spec_is_computed(entry->name);
}

static pali_status extras_list(model *m) {
    const weights *w = m->weights;
    m->extras = mem_calloc(w->n_entries, sizeof *m->extras);
    if (!m->extras) return status_no_memory(w->n_entries * sizeof *m->extras);
    for (size_t i = 0; i < w->n_entries; i++)
        if (model_is_extra(&w->entries[i])) m->extras[m->n_extras++] = w->entries[i].file_name;
    return PALI_OK;
}

/* A head of its own is used, as the reference does whatever the config says about tying; a copy of the table is not. */
static bool head_is_tied(const model *m) {
    const spec_tensor *head = spec_of(&m->spec, &m->text.head), *table = spec_of(&m->spec, &m->text.embed);
    return !weights_of(m->weights, head) || weights_same(m->weights, head, table);
}

spec_dtypes model_dtypes(const model_options *o, bool random) {
    return (spec_dtypes){random && o->dtype == PALI_DTYPE_AUTO ? PALI_DTYPE_BF16 : o->dtype, o->vision_dtype, o->embed_dtype};
}

pali_status model_list(model *m, const model_options *o) {
    options_apply(&m->cfg, o);
    config_name(&m->cfg, m->name, sizeof m->name);
    STATUS_TRY(layers_get(m));
    STATUS_TRY(spec_build(&m->spec, &m->vit, &m->text));
    m->cfg.tied = !m->weights || head_is_tied(m);
    if (m->cfg.tied) m->spec.n--; /* the head is last in the table */
    return PALI_OK;
}

/* And the weights themselves. `path` NULL: random ones. */
static pali_status model_fill(model *m, const model_options *o, exec *e, const char *path, uint64_t seed) {
    spec_dtypes dtypes = model_dtypes(o, !path);
    STATUS_TRY(model_list(m, o));
    if (path) {
        m->weights->keeps_order = o->no_prefault;
        STATUS_TRY(weights_bind(m->weights, &m->spec, dtypes, path, e, o->progress, o->user));
        if (!o->no_prefault) STATUS_TRY(weights_prefault(m->weights, &m->spec, e, o->progress, o->user));
    } else {
        STATUS_TRY(weights_random(&m->weights, &m->spec, dtypes, seed, e, o->progress, o->user));
    }
    STATUS_TRY(tensors_list(m));
    return extras_list(m);
}

static pali_status model_make(model **out, model *m, const model_options *o, const char *path, uint64_t seed) {
    exec e;
    pali_status status = exec_init(&e, o->n_threads);
    if (status == PALI_OK) {
        status = model_fill(m, o, &e, path, seed);
        exec_free(&e);
    }
    if (status != PALI_OK) {
        model_free(m);
        return status;
    }
    *out = m;
    return PALI_OK;
}

/* Somebody opens an adapter as if it were a model: which one it belongs to may be in its config. */
static pali_status adapter_refuse(const char *dir, const char *config_path) {
    json_t *root = NULL;
    const char *base = NULL;
    if (json_read(&root, config_path) == PALI_OK) base = json_string_value(json_object_get(root, "base_model_name_or_path"));
    (void)status_fail(PALI_ERR_UNSUPPORTED, "%s: a LoRA adapter, not a model: open the model that it was made for (%s) and add it to that (--lora %s)",
                      dir, base && *base ? base : "its config does not say which", dir);
    json_decref(root);
    return PALI_ERR_UNSUPPORTED;
}

/* config.json and the files, into *m. */
static pali_status dir_open(model *m, const char *path) {
    m->path = mem_copy_string(path);
    if (!m->path) return status_no_memory(strlen(path));
    char *config_path = file_join(path, "config.json"), *adapter = file_join(path, "adapter_config.json");
    pali_status s = config_path && adapter ? PALI_OK : status_no_memory(strlen(path));
    if (s == PALI_OK && file_exists(adapter) && !file_exists(config_path)) s = adapter_refuse(path, adapter);
    if (s == PALI_OK) s = config_load(&m->cfg, config_path);
    if (s == PALI_OK) s = weights_open(&m->weights, path);
    if (s == PALI_OK) s = config_correct(&m->cfg, m->weights);
    if (s == PALI_OK) s = config_load_preprocessor(&m->cfg, path);
    mem_free(config_path);
    mem_free(adapter);
    return s;
}

/* One file with everything, or several. What they say of the config must agree with their tensors. */
static pali_status gguf_files_open(model *m, const char *path, const model_options *o) {
    weights_values values;
    if (o->gguf)
        STATUS_TRY(weights_parse_gguf(&m->weights, o->gguf, o->n_gguf_bytes, path, o->mmproj_path, &values));
    else
        STATUS_TRY(weights_open_gguf(&m->weights, path, o->mmproj_path, &values));
    m->path = mem_copy_string(values.text->path);
    return m->path ? config_gguf_read(&m->cfg, &values, m->weights) : status_no_memory(strlen(path));
}

/* Weights and nothing else. A config.json in its directory is asked where the sizes are not those of a released model. */
static pali_status npz_file_open(model *m, const char *path) {
    char *dir = file_dir(path), *config_path = dir ? file_join(dir, "config.json") : NULL;
    bool has_config = config_path && file_exists(config_path);
    m->path = mem_copy_string(path);
    pali_status s = config_path && m->path ? weights_open_npz(&m->weights, path) : status_no_memory(strlen(path));
    if (s == PALI_OK) s = config_npz_read(&m->cfg, m->weights, path, has_config ? config_path : NULL);
    mem_free(dir);
    mem_free(config_path);
    return s;
}

bool model_is_npz(const char *path) {
    return file_exists(path) && !file_is_dir(path) && (has_ending(path, ".npz") || file_begins(path, "PK"));
}

pali_status model_open_files(model *m, const char *path, const model_options *o) {
    if (o->gguf) return gguf_files_open(m, path, o);
    if (!file_exists(path)) return status_fail(PALI_ERR_IO, "%s: no such file or directory", path);
    if (file_is_dir(path)) return dir_open(m, path);
    return model_is_npz(path) ? npz_file_open(m, path) : gguf_files_open(m, path, o);
}

pali_status model_load(model **out, const char *path, const model_options *options) {
    *out = NULL;
    model *m = mem_calloc(1, sizeof *m);
    if (!m) return status_no_memory(sizeof *m);
    pali_status s = model_open_files(m, path, options);
    if (s != PALI_OK) {
        model_free(m);
        return s;
    }
    return model_make(out, m, options, path, 0);
}

pali_status model_random_of(model **out, const config *cfg, uint64_t seed, const model_options *options) {
    *out = NULL;
    model *m = mem_calloc(1, sizeof *m);
    if (!m) return status_no_memory(sizeof *m);
    m->cfg = *cfg;
    return model_make(out, m, options, NULL, seed);
}

pali_status model_random(model **out, const char *shape, uint64_t seed, const model_options *options) {
    config cfg;
    *out = NULL;
    STATUS_TRY(config_named(&cfg, shape));
    return model_random_of(out, &cfg, seed, options);
}

pali_status model_outline(model **out, weights_memory *memory, const char *name, bool random, const model_options *options) {
    *out = NULL;
    model *m = mem_calloc(1, sizeof *m);
    if (!m) return status_no_memory(sizeof *m);
    pali_status s = random ? config_named(&m->cfg, name) : model_open_files(m, name, options);
    if (s == PALI_OK) s = model_list(m, options);
    if (s == PALI_OK) s = weights_plan(memory, m->weights, &m->spec, model_dtypes(options, random), name);
    if (s != PALI_OK) {
        model_free(m);
        return s;
    }
    *out = m;
    return PALI_OK;
}

pali_status model_check_runs(const model *m) {
    for (size_t i = 0; i < m->spec.n; i++)
        if (m->spec.tensors[i].matrix && m->spec.tensors[i].matrix->order)
            return status_fail(PALI_ERR_ARGUMENT, "%s: opened with no_prefault, which leaves the weights of an .npz file in their order: it can be saved, not run", m->path);
    return PALI_OK;
}

void model_clear(model *m) {
    for (size_t i = 0; i < m->n_tensors; i++) mem_free(m->tensors[i].name);
    mem_free(m->tensors);
    mem_free(m->extras);
    mem_free(m->vit.layers);
    mem_free(m->text.layers);
    mem_free(m->loras);
    spec_free(&m->spec);
    if (!m->base) {
        mem_free(m->path);
        weights_free(m->weights);
    }
}

void model_free(model *m) {
    if (!m) return;
    model_clear(m);
    mem_free(m);
}
