/* weights_npz.c: a big_vision .npz file as a source of weights (spec inference 3.4). */
#include <string.h>

#include "base/mem.h"
#include "io/npz.h"
#include "model/weights.h"

static pali_dtype dtype_of(npy_dtype dtype) {
    return dtype == NPY_F32 ? PALI_DTYPE_F32 : dtype == NPY_BF16 ? PALI_DTYPE_BF16 : dtype == NPY_F16 ? PALI_DTYPE_F16 : PALI_DTYPE_AUTO;
}

static void archive_free(void *handle) {
    npz_close(handle);
    mem_free(handle);
}

static pali_status array_unpack(weights_entry *e) {
    npz_array *a = npz_find(e->handle, e->file_name);
    STATUS_TRY(npz_load(e->handle, a));
    e->data = a->data;
    return PALI_OK;
}

static void array_release(weights_entry *e) {
    npz_unload(e->handle, npz_find(e->handle, e->file_name));
    e->data = NULL;
}

/* Arrays that are nobody's, such as an optimizer's, are entries too: extras. */
static pali_status arrays_add(weights *w, npz *z) {
    static const char k_prefix[] = SPEC_NPZ_PREFIX;
    const size_t n_prefix = sizeof k_prefix - 1;
    for (size_t i = 0; i < z->n_arrays; i++) {
        const npz_array *a = &z->arrays[i];
        const char *name = strncmp(a->name, k_prefix, n_prefix) == 0 ? a->name + n_prefix : a->name;
        weights_entry entry = {.file = z->file, .file_name = a->name, .dtype = dtype_of(a->array.dtype), .dtype_name = npy_dtype_name(a->array.dtype),
                               .n_dims = a->array.n_dims, .fortran_order = a->array.fortran_order, .data = a->data, .n_bytes = a->array.n_bytes, .handle = z};
        memcpy(entry.dims, a->array.dims, sizeof entry.dims);
        if (a->deflated) {
            entry.unpack = array_unpack;
            entry.release = array_release;
        }
        if (*name) STATUS_TRY(weights_add(w, name, &entry));
    }
    return weights_seal(w);
}

static pali_status archive_add(weights *w, const char *path) {
    char *copy = mem_copy_string(path);
    npz *z = mem_calloc(1, sizeof *z);
    pali_status s = copy && z ? npz_open(z, copy) : status_no_memory(strlen(path) + sizeof *z);
    if (s != PALI_OK) {
        mem_free(copy);
        mem_free(z);
        return s;
    }
    STATUS_TRY(weights_add_file(w, copy, z, archive_free));
    return arrays_add(w, z);
}

pali_status weights_open_npz(weights **out, const char *path) {
    weights *w = mem_calloc(1, sizeof *w);
    *out = NULL;
    if (!w) return status_no_memory(sizeof *w);
    w->layout = SPEC_NPZ;
    pali_status s = archive_add(w, path);
    if (s != PALI_OK) {
        weights_free(w);
        return s;
    }
    *out = w;
    return PALI_OK;
}
