/* weights_hf.c: safetensors as a source of weights: model.safetensors, or the shards that an index names. */
#include <string.h>

#include "base/mem.h"
#include "io/shards.h"
#include "model/weights.h"

pali_dtype weights_st_dtype(st_dtype dtype) {
    return dtype == ST_F32 ? PALI_DTYPE_F32 : dtype == ST_BF16 ? PALI_DTYPE_BF16 : dtype == ST_F16 ? PALI_DTYPE_F16 : PALI_DTYPE_AUTO;
}

static void safetensors_free(void *handle) {
    safetensors_close(handle);
    mem_free(handle);
}

static pali_status file_add(weights *w, const char *dir, const char *name) {
    char *path = file_join(dir, name);
    safetensors *st = mem_calloc(1, sizeof *st);
    pali_status s = path && st ? safetensors_open(st, path) : status_no_memory(strlen(name));
    if (s != PALI_OK) {
        mem_free(path);
        mem_free(st);
        return s;
    }
    STATUS_TRY(weights_add_file(w, path, st, safetensors_free));
    for (size_t i = 0; i < st->n_tensors; i++) {
        const st_tensor *t = &st->tensors[i];
        char canonical[SPEC_NAME_MAX];
        if (!spec_canonical_name(canonical, sizeof canonical, t->name)) continue; /* too long to be one of ours */
        weights_entry entry = {.file = path, .file_name = t->name, .dtype = weights_st_dtype(t->dtype), .dtype_name = safetensors_dtype_name(t->dtype),
                               .n_dims = t->n_dims, .data = t->data, .n_bytes = t->n_bytes};
        memcpy(entry.dims, t->dims, sizeof entry.dims);
        STATUS_TRY(weights_add(w, canonical, &entry));
    }
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

static pali_status dir_add(weights *w, const char *dir) {
    char *index = file_join(dir, "model.safetensors.index.json"), *single = file_join(dir, "model.safetensors");
    pali_status s = PALI_OK;
    if (!index || !single)
        s = status_no_memory(strlen(dir));
    else if (file_exists(single))
        s = file_add(w, dir, "model.safetensors");
    else if (file_exists(index))
        s = shards_add(w, dir, index);
    else
        s = status_fail(PALI_ERR_IO, "%s: found neither model.safetensors nor model.safetensors.index.json", dir);
    mem_free(index);
    mem_free(single);
    return s;
}

/* `name`: a file in it; NULL: those of a model. */
static pali_status open_in(weights **out, const char *dir, const char *name) {
    weights *w = mem_calloc(1, sizeof *w);
    *out = NULL;
    if (!w) return status_no_memory(sizeof *w);
    pali_status s = name ? file_add(w, dir, name) : dir_add(w, dir);
    if (s == PALI_OK) s = weights_seal(w);
    if (s == PALI_OK) s = weights_bnb(w);
    if (s != PALI_OK) {
        weights_free(w);
        return s;
    }
    *out = w;
    return PALI_OK;
}

pali_status weights_open(weights **out, const char *dir) {
    return open_in(out, dir, NULL);
}

pali_status weights_open_file(weights **out, const char *dir, const char *name) {
    return open_in(out, dir, name);
}
