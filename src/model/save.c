/* save.c: which writer a name asks for, and what all of them need. */
#include "model/save.h"

#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "model/saver.h"

static bool has_ending(const char *name, const char *ending) {
    size_t n = strlen(name), m = strlen(ending);
    return n > m && strcmp(name + n - m, ending) == 0 && name[n - m - 1] != '/';
}

/* A bias that an adapter adds where the model has none has no place in a file. */
static pali_status adapters_check(const spec *s) {
    for (size_t i = 0; i < s->n; i++)
        for (const lora *l = s->tensors[i].matrix ? s->tensors[i].matrix->lora : NULL; l; l = l->next)
            if (l->bias) return status_fail(PALI_ERR_UNSUPPORTED, "%s: an adapter with lora_bias cannot be merged", s->tensors[i].name);
    return PALI_OK;
}

static pali_status path_check(const model *m, const char *path) {
    if (!*path) return status_fail(PALI_ERR_ARGUMENT, "path: empty: expected the name of a file or directory to write");
    for (size_t i = 0; i < m->weights->n_files; i++)
        if (file_same(path, m->weights->files[i].path))
            return status_fail(PALI_ERR_ARGUMENT, "%s: a file of the model itself: expected another name", path);
    return PALI_OK;
}

pali_status model_save(const model *m, const tokenizer *t, const char *path, const model_save_options *options) {
    saver v = {.m = m, .t = t, .o = options, .path = path};
    STATUS_TRY(path_check(m, path));
    STATUS_TRY(adapters_check(&m->spec));
    STATUS_TRY(exec_init(&v.e, options->n_threads));
    pali_status s = has_ending(path, ".gguf") ? save_gguf(&v) : has_ending(path, ".npz") ? save_npz(&v) : save_hf(&v);
    saver_merge_end(&v);
    mem_free(v.buffer);
    mem_scratch_free(&v.norms);
    exec_free(&v.e);
    return s;
}
