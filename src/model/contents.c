#include "model/contents.h"

#include <string.h>

#include "base/mem.h"

/* The line of the failure just now; the first one stays. */
pali_status contents_add_problem(contents *c) {
    if (!c->problem) c->problem = mem_copy_string(status_message());
    return c->problem ? PALI_OK : status_no_memory(strlen(status_message()));
}

static pali_status tensor_add(contents *c, const spec_tensor *t, spec_dtypes dtypes, const char *path) {
    weights *w = c->m.weights;
    weights_entry *entry = w ? weights_of(w, t) : NULL, *exact = w ? weights_exact(w, t) : NULL;
    if (w && !entry && t->optional) return PALI_OK;
    contents_tensor *to = &c->tensors[c->n++];
    *to = (contents_tensor){.name = t->name, .entry = entry, .n_dims = t->n_dims, .state = PALI_TENSOR_FOUND};
    memcpy(to->dims, t->dims, sizeof t->dims);
    if (t->matrix) weights_plan_matrix(t, entry, dtypes);
    to->dtype = t->matrix ? t->matrix->dtype : entry ? entry->dtype : PALI_DTYPE_F32;
    c->m.weight_bytes += spec_held_bytes(t);
    if (entry) {
        entry->used = true;
        to->n_bytes = weights_bytes(entry, t);
    }
    if (!w) to->n_bytes = spec_held_bytes(t);
    if (exact) exact->used = true;
    if (!w || weights_check(w, t, path) == PALI_OK) return PALI_OK;
    to->state = entry ? PALI_TENSOR_UNFIT : PALI_TENSOR_MISSING;
    to->problem = mem_copy_string(status_message());
    return to->problem ? contents_add_problem(c) : status_no_memory(strlen(status_message()));
}

static void extra_add(contents *c, const weights_entry *entry) {
    contents_tensor *to = &c->tensors[c->n++];
    *to = (contents_tensor){.name = entry->file_name, .entry = entry, .state = c->is_adapter ? PALI_TENSOR_FOUND : PALI_TENSOR_EXTRA, .dtype = entry->dtype, .n_dims = entry->n_dims,
                           .n_bytes = entry->n_bytes};
    memcpy(to->dims, entry->dims, sizeof to->dims);
}

/* When the config, if there is one, and the files are known. */
static pali_status tensors_list(contents *c, const char *path, const model_options *options) {
    model *m = &c->m;
    if (c->has_config) STATUS_TRY(model_list(m, options));
    size_t n = m->spec.n + (m->weights ? m->weights->n_entries : 0);
    c->tensors = mem_calloc(n, sizeof *c->tensors);
    if (!c->tensors) return status_no_memory(n * sizeof *c->tensors);
    for (size_t i = 0; i < m->spec.n; i++) STATUS_TRY(tensor_add(c, &m->spec.tensors[i], model_dtypes(options, !m->weights), path));
    for (size_t i = 0; m->weights && i < m->weights->n_entries; i++)
        if (model_is_extra(&m->weights->entries[i])) extra_add(c, &m->weights->entries[i]);
    return PALI_OK;
}

/* An adapter's directory: what there is of it, and of what is wrong the first. */
static pali_status adapter_open_files(contents *c, const char *path, const char *config_path) {
    c->is_adapter = true;
    STATUS_TRY(weights_open_file(&c->m.weights, path, "adapter_model.safetensors"));
    pali_status s = adapter_summary_make(&c->adapter, config_path, c->m.weights);
    return s == PALI_OK || s == PALI_ERR_MEMORY ? s : contents_add_problem(c);
}

/* false: it is none. */
static bool adapter_find(contents *c, const char *path, pali_status *s) {
    char *model_config = file_join(path, "config.json"), *adapter = file_join(path, "adapter_config.json");
    bool found = model_config && adapter && file_exists(adapter) && !file_exists(model_config);
    *s = !model_config || !adapter ? status_no_memory(strlen(path)) : found ? adapter_open_files(c, path, adapter) : PALI_OK;
    mem_free(model_config);
    mem_free(adapter);
    return found || *s != PALI_OK;
}

/* Files of a directory whose config says nothing; the failure that stays is that of the config. */
static pali_status files_open(contents *c, const char *path, bool in_memory, pali_status status) {
    model *m = &c->m;
    if (status == PALI_ERR_MEMORY) return status;
    STATUS_TRY(contents_add_problem(c));
    if (!m->weights && !in_memory && file_is_dir(path)) (void)weights_open(&m->weights, path);
    return m->weights && m->weights->n_entries ? PALI_OK : status_fail(status, "%s", c->problem);
}

/* Passes c on, or ends it. */
static pali_status finish(contents **out, contents *c, pali_status s) {
    if (s == PALI_OK)
        *out = c;
    else
        contents_free(c);
    return s;
}

pali_status contents_load(contents **out, const char *path, const model_options *options) {
    contents *c = mem_calloc(1, sizeof *c);
    *out = NULL;
    if (!c) return status_no_memory(sizeof *c);
    pali_status s;
    if (!options->gguf && adapter_find(c, path, &s)) return finish(out, c, s == PALI_OK ? tensors_list(c, path, options) : s);
    s = model_open_files(&c->m, path, options);
    /* In a directory the config is read first: where there are weights, what failed came after it. */
    c->has_config = s == PALI_OK || (c->m.weights && c->m.weights->layout == SPEC_HF);
    if (s != PALI_OK) s = files_open(c, path, options->gguf != NULL, s);
    return finish(out, c, s == PALI_OK ? tensors_list(c, path, options) : s);
}

pali_status contents_random(contents **out, const char *shape, const model_options *options) {
    contents *c = mem_calloc(1, sizeof *c);
    *out = NULL;
    if (!c) return status_no_memory(sizeof *c);
    pali_status s = config_named(&c->m.cfg, shape);
    c->has_config = s == PALI_OK;
    return finish(out, c, s == PALI_OK ? tensors_list(c, shape, options) : s);
}

void contents_free(contents *c) {
    if (!c) return;
    for (size_t i = 0; i < c->n; i++) mem_free(c->tensors[i].problem);
    mem_free(c->tensors);
    mem_free(c->problem);
    adapter_summary_free(&c->adapter);
    model_clear(&c->m);
    mem_free(c);
}
