#include "model/weights.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"

pali_status weights_add_file(weights *w, char *path, void *handle, void (*close)(void *handle)) {
    pali_status s = path && handle ? PALI_OK : status_no_memory(sizeof *w->files);
    if (s == PALI_OK && w->n_files == w->files_cap) {
        size_t cap = w->files_cap ? 2 * w->files_cap : 8;
        weights_file *grown = mem_grow(w->files, w->files_cap, cap, sizeof *grown);
        if (!grown) {
            s = status_no_memory(cap * sizeof *grown);
        } else {
            w->files = grown;
            w->files_cap = cap;
        }
    }
    if (s == PALI_OK) {
        w->files[w->n_files++] = (weights_file){path, handle, close};
        return PALI_OK;
    }
    if (handle) close(handle);
    mem_free(path);
    return s;
}

pali_status weights_add(weights *w, const char *name, const weights_entry *entry) {
    if (w->n_entries == w->entries_cap) {
        size_t cap = w->entries_cap ? 2 * w->entries_cap : 256;
        weights_entry *grown = mem_grow(w->entries, w->entries_cap, cap, sizeof *grown);
        if (!grown) return status_no_memory(cap * sizeof *grown);
        w->entries = grown;
        w->entries_cap = cap;
    }
    weights_entry *e = &w->entries[w->n_entries];
    *e = *entry;
    e->name = mem_copy_string(name);
    if (!e->name) return status_no_memory(strlen(name) + 1);
    w->n_entries++;
    return PALI_OK;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const weights_entry *)a)->name, ((const weights_entry *)b)->name);
}

pali_status weights_seal(weights *w) {
    if (w->n_entries) qsort(w->entries, w->n_entries, sizeof *w->entries, by_name);
    for (size_t i = 1; i < w->n_entries; i++)
        if (by_name(&w->entries[i - 1], &w->entries[i]) == 0)
            return status_fail(PALI_ERR_FORMAT, "%s: %s: the same tensor is also in %s", w->entries[i].file,
                               w->entries[i].name, w->entries[i - 1].file);
    return PALI_OK;
}

void weights_free(weights *w) {
    if (!w) return;
    for (size_t i = 0; i < w->n_entries; i++) {
        mem_free(w->entries[i].name);
        mem_free(w->entries[i].codes);
    }
    mem_free(w->entries);
    for (size_t i = 0; i < w->n_files; i++) {
        w->files[i].close(w->files[i].handle);
        mem_free(w->files[i].path);
    }
    mem_free(w->files);
    mem_free(w->orders);
    mem_free(w->vectors);
    mem_free(w->made);
    mem_huge_free(w->block, w->block_bytes);
    mem_free(w);
}

weights_entry *weights_find(const weights *w, const char *name) {
    weights_entry key = {.name = (char *)(uintptr_t)name};
    return w->n_entries ? bsearch(&key, w->entries, w->n_entries, sizeof key, by_name) : NULL;
}

weights_entry *weights_of(const weights *w, const spec_tensor *t) {
    weights_entry *entry = weights_find(w, spec_name(t, w->layout));
    char name[SPEC_NPZ_NAME_MAX + 24];
    return entry || w->layout != SPEC_NPZ || !spec_npz_unstacked_name(name, sizeof name, &t->npz) ? entry : weights_find(w, name);
}

weights_entry *weights_exact(const weights *w, const spec_tensor *t) {
    char name[SPEC_GGUF_NAME_MAX];
    if (w->layout != SPEC_GGUF || t->group != SPEC_LLM_NORM) return NULL;
    spec_exact_name(name, t);
    return weights_find(w, name);
}

size_t weights_n_elements(const weights_entry *entry) {
    size_t n = 1;
    for (size_t i = 0; i < entry->n_dims; i++) n *= entry->dims[i]; /* the file's size bounds it */
    return n;
}

size_t weights_bytes(const weights_entry *entry, const spec_tensor *t) {
    size_t n = weights_n_elements(entry), n_own = spec_n_elements(t);
    return n > n_own && !entry->block ? n_own * (entry->n_bytes / n) : entry->n_bytes; /* several tensors may share an entry */
}

bool weights_same(const weights *w, const spec_tensor *a, const spec_tensor *b) {
    const weights_entry *s = weights_of(w, a), *t = weights_of(w, b);
    return s && t && s->dtype == t->dtype && s->decode == t->decode && s->n_dims == t->n_dims && memcmp(s->dims, t->dims, s->n_dims * sizeof *s->dims) == 0 &&
           s->n_bytes == t->n_bytes && memcmp(s->data, t->data, s->n_bytes) == 0;
}

void weights_drop(const weights_entry *entry, const void *begin, size_t n_bytes) {
    if (!entry->borrowed) file_map_drop(begin, n_bytes);
}

bool weights_is_mapped(const weights *w, const void *data) {
    uintptr_t at = (uintptr_t)data, block = (uintptr_t)w->block;
    return !(w->block && at >= block && at - block < w->block_bytes);
}
