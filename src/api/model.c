/* model.c: status, model and tokenizer handles. */
#include "api/handles.h"

#include <math.h>

#include "base/file.h"
#include "base/mem.h"
#include "model/save.h"

#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)

const char *pali_version(void) {
    return TEXT(PALI_VERSION_MAJOR) "." TEXT(PALI_VERSION_MINOR) "." TEXT(PALI_VERSION_PATCH);
}

const char *pali_status_name(pali_status status) {
    static const char *const k_names[] = {"ok", "argument", "memory", "io", "format", "unsupported", "limit", "cancelled", "internal"};
    return (size_t)status < sizeof k_names / sizeof k_names[0] ? k_names[status] : "unknown";
}

const char *pali_dtype_name(pali_dtype dtype) {
    static const char *const k_names[] = {"auto", "f32", "bf16", "f16", "q8_0", "q4_0", "q4_1", "q4_k", "nf4", "fp4", "int8"};
    return k_names[(size_t)dtype < sizeof k_names / sizeof k_names[0] ? (size_t)dtype : 0];
}

const char *pali_last_error(void) {
    return status_message();
}

void pali_free(void *pointer) {
    mem_free(pointer);
}

/* ---- Model ---- */

void pali_model_options_init(pali_model_options *options) {
    *options = (pali_model_options){.struct_size = sizeof *options};
}

/* `last`: Q4_K leaves out bitsandbytes' types. */
static pali_status dtype_check(pali_dtype dtype, pali_dtype last, const char *name) {
    bool known = (int)dtype >= PALI_DTYPE_AUTO && dtype <= last;
    return known ? PALI_OK : status_fail(PALI_ERR_ARGUMENT, "%s: %d is unknown", name, (int)dtype);
}

pali_status model_options_read(pali_model_options *o, model_options *inner, const pali_model_options *given) {
    pali_model_options_init(o);
    STATUS_TRY(options_read(o, sizeof *o, given, "pali_model_options"));
    STATUS_TRY(dtype_check(o->dtype, PALI_DTYPE_INT8, "pali_model_options: dtype"));
    STATUS_TRY(dtype_check(o->vision_dtype, PALI_DTYPE_INT8, "pali_model_options: vision_dtype"));
    STATUS_TRY(dtype_check(o->embed_dtype, PALI_DTYPE_Q4_K, "pali_model_options: embed_dtype"));
    *inner = (model_options){.dtype = o->dtype, .vision_dtype = o->vision_dtype, .embed_dtype = o->embed_dtype, .n_threads = o->n_threads,
                           .no_sliding_window = o->no_sliding_window != 0, .no_final_softcap = o->no_final_softcap != 0,
                           .no_prefault = o->no_prefault != 0, .mmproj_path = o->mmproj_path, .gguf = o->gguf, .n_gguf_bytes = o->n_gguf_bytes,
                           .progress = o->progress, .user = o->user};
    return PALI_OK;
}

/* The first tokenizer that is in a directory; the last name is that of big_vision's bucket. *out NULL: there is none. */
static pali_status tokenizer_in(tokenizer **out, const char *dir) {
    static const char *const k_names[] = {"tokenizer.json", "tokenizer.model", "paligemma_tokenizer.model"};
    *out = NULL;
    for (size_t i = 0; i < sizeof k_names / sizeof k_names[0]; i++) {
        char *path = file_join(dir, k_names[i]);
        if (!path) return status_no_memory(strlen(dir));
        bool there = file_exists(path);
        pali_status s = there ? tokenizer_load(out, path) : PALI_OK;
        mem_free(path);
        if (there) return s;
    }
    return PALI_OK;
}

/* The tokenizer in the file of the weights or beside them. */
static pali_status tokenizer_beside(tokenizer **out, const char *path) {
    if (!file_is_dir(path) && !model_is_npz(path)) return tokenizer_load(out, path);
    char *dir = file_is_dir(path) ? mem_copy_string(path) : file_dir(path);
    pali_status s = dir ? tokenizer_in(out, dir) : status_no_memory(strlen(path));
    if (s == PALI_OK && !*out)
        s = status_fail(PALI_ERR_IO, "%s: no tokenizer: found neither tokenizer.json nor tokenizer.model%s", path, file_is_dir(path) ? "" : " nor paligemma_tokenizer.model beside it");
    mem_free(dir);
    return s;
}

pali_status model_tokenizer_load(tokenizer **out, const model *m, const pali_model_options *o) {
    if (o->tokenizer_path) return tokenizer_load(out, o->tokenizer_path);
    return o->gguf ? tokenizer_parse(out, o->gguf, o->n_gguf_bytes, m->path) : tokenizer_beside(out, m->path);
}

void model_adopt_ids(model *m, const tokenizer *t) {
    static const char *const k_pieces[] = {"<image>", "<bos>", "<eos>"};
    int32_t *const ids[] = {&m->cfg.image_token, &m->cfg.bos_token, &m->cfg.eos_token};
    for (size_t i = 0; t && i < 3; i++) {
        int32_t id = tokenizer_find(t, k_pieces[i]);
        if (id >= 0) *ids[i] = id;
    }
}

/* Takes over m and t. */
static pali_status handle_new(pali_model **out, model *m, tokenizer *t, const char *tokenizer_path) {
    pali_model *handle = mem_calloc(1, sizeof *handle);
    char *path = mem_copy_string(tokenizer_path);
    if (!handle || (tokenizer_path && !path)) {
        mem_free(handle);
        mem_free(path);
        model_free(m);
        tokenizer_free(t);
        return status_no_memory(sizeof *handle);
    }
    model_adopt_ids(m, t);
    handle->m = m;
    handle->t = t;
    handle->tokenizer_path = path;
    atomic_store(&handle->references, 1);
    *out = handle;
    return PALI_OK;
}

pali_status pali_model_load(pali_model **out, const char *path, const pali_model_options *options) {
    pali_model_options o;
    model_options inner;
    model *m;
    tokenizer *t = NULL;
    API_NEED(out);
    *out = NULL;
    API_NEED(path);
    STATUS_TRY(model_options_read(&o, &inner, options));
    /* What is another file is missed before gigabytes have been put in order. */
    if (o.tokenizer_path)
        STATUS_TRY(tokenizer_load(&t, o.tokenizer_path));
    else if (!o.gguf && model_is_npz(path))
        STATUS_TRY(tokenizer_beside(&t, path));
    pali_status s = model_load(&m, path, &inner);
    if (s == PALI_OK && !t && (s = model_tokenizer_load(&t, m, &o)) != PALI_OK) model_free(m);
    if (s != PALI_OK) {
        tokenizer_free(t);
        return s;
    }
    return handle_new(out, m, t, o.tokenizer_path);
}

pali_status pali_model_random(pali_model **out, const char *shape, uint64_t seed, const pali_model_options *options) {
    pali_model_options o;
    model_options inner;
    model *m;
    tokenizer *t = NULL;
    API_NEED(out);
    *out = NULL;
    API_NEED(shape);
    STATUS_TRY(model_options_read(&o, &inner, options));
    STATUS_TRY(model_random(&m, shape, seed, &inner));
    pali_status s = o.tokenizer_path ? tokenizer_load(&t, o.tokenizer_path) : PALI_OK;
    if (s != PALI_OK) {
        model_free(m);
        return s;
    }
    return handle_new(out, m, t, o.tokenizer_path);
}

/* ---- Saving ---- */

void pali_save_options_init(pali_save_options *options) {
    *options = (pali_save_options){.struct_size = sizeof *options};
}

static pali_status merge_error_write(pali_merge_error *out, const merge_report *m) {
    pali_merge_error full = {.n_merged = m->n_matrices, .worst = m->worst};
    if (m->all.merged > 0) full.weights = sqrt(m->all.error / m->all.merged);
    if (m->all.update > 0) full.updates = sqrt(m->all.error / m->all.update);
    memcpy(full.worst_name, m->worst_name, sizeof full.worst_name);
    return info_write(out, &full, sizeof full, "pali_merge_error");
}

pali_status pali_model_save(const pali_model *handle, const char *path, const pali_save_options *options) {
    pali_save_options o;
    API_NEED_AS(handle, "model");
    API_NEED(path);
    pali_save_options_init(&o);
    STATUS_TRY(options_read(&o, sizeof o, options, "pali_save_options"));
    STATUS_TRY(dtype_check(o.dtype, PALI_DTYPE_INT8, "pali_save_options: dtype"));
    STATUS_TRY(dtype_check(o.vision_dtype, PALI_DTYPE_INT8, "pali_save_options: vision_dtype"));
    STATUS_TRY(dtype_check(o.embed_dtype, PALI_DTYPE_Q4_K, "pali_save_options: embed_dtype"));
    model_save_options inner = {.dtypes = {o.dtype, o.vision_dtype, o.embed_dtype}, .shard_bytes = o.shard_bytes, .tokenizer_path = handle->tokenizer_path,
                                .n_threads = o.n_threads, .progress = o.progress, .user = o.user};
    merge_report merge = {0};
    model *view;
    if (o.calibration) {
        if (o.calibration->model != handle) return status_fail(PALI_ERR_ARGUMENT, "pali_save_options: calibration: of another model");
        if (!o.calibration->c.solved) return status_fail(PALI_ERR_ARGUMENT, "pali_save_options: calibration: pali_calibration_end has not succeeded");
        inner.calibration = &o.calibration->c;
    }
    if (o.merge_error) {
        STATUS_TRY(merge_error_write(o.merge_error, &merge)); /* its size is checked before the work */
        inner.merge = &merge;
    }
    STATUS_TRY(adapters_view(&view, handle, o.adapters, o.n_adapters));
    pali_status s = model_save(view ? view : handle->m, handle->t, path, &inner);
    model_free(view);
    return s == PALI_OK && o.merge_error ? merge_error_write(o.merge_error, &merge) : s;
}

void model_release(pali_model *handle) {
    if (atomic_fetch_sub(&handle->references, 1) != 1) return;
    model_free(handle->m);
    tokenizer_free(handle->t);
    mem_free(handle->tokenizer_path);
    mem_free(handle);
}

void pali_model_free(pali_model *handle) {
    if (handle) model_release(handle);
}

pali_model_info model_info(const model *m, const tokenizer *tokens) {
    const vit_config *v = &m->cfg.vit;
    const gemma_config *t = &m->cfg.text;
    return (pali_model_info){
        .generation = t->generation,
        .image_size = (int32_t)v->image_size,
        .n_image_tokens = (int32_t)v->n_patches,
        .vision_layers = (int32_t)v->n_layers,
        .vision_width = (int32_t)v->width,
        .vision_heads = (int32_t)v->n_heads,
        .vision_mlp_width = (int32_t)v->mlp_width,
        .text_layers = (int32_t)t->n_layers,
        .text_width = (int32_t)t->width,
        .text_heads = (int32_t)t->n_heads,
        .text_kv_heads = (int32_t)t->n_kv_heads,
        .text_head_dim = (int32_t)t->head_dim,
        .text_mlp_width = (int32_t)t->mlp_width,
        .vocab_size = (int32_t)t->vocab_size,
        .sliding_window = (int32_t)t->sliding_window,
        .has_tokenizer = tokens != NULL,
        .n_parameters = config_n_parameters(&m->cfg),
        .weight_bytes = m->weight_bytes,
        .kv_bytes_per_token = kv_bytes(t, 1),
        .name = m->name,
        .image_token = m->cfg.image_token,
        .bos_token = m->cfg.bos_token,
        .eos_token = m->cfg.eos_token,
    };
}

pali_status pali_model_get_info(const pali_model *handle, pali_model_info *info) {
    API_NEED_AS(handle, "model");
    pali_model_info full = model_info(handle->m, handle->t);
    return info_write(info, &full, sizeof full, "pali_model_info");
}

size_t pali_model_tensor_count(const pali_model *handle) {
    return handle ? handle->m->n_tensors : 0;
}

pali_status pali_model_get_tensor(const pali_model *handle, size_t index, pali_tensor_info *info) {
    API_NEED_AS(handle, "model");
    if (index >= handle->m->n_tensors) return status_fail(PALI_ERR_ARGUMENT, "tensor %zu: the model has %zu", index, handle->m->n_tensors);
    const model_tensor *t = &handle->m->tensors[index];
    pali_tensor_info full = {.name = t->name, .file = t->file, .dtype = t->dtype, .n_dims = (int32_t)t->n_dims, .stored = t->stored, .n_bytes = t->n_bytes, .problem = ""};
    for (size_t i = 0; i < t->n_dims; i++) full.dims[i] = t->dims[i];
    return info_write(info, &full, sizeof full, "pali_tensor_info");
}

const pali_tokenizer *pali_model_tokenizer(const pali_model *handle) {
    return handle ? handle->t : NULL;
}

/* ---- Tokenizer ---- */

pali_status pali_tokenizer_load(pali_tokenizer **out, const char *path) {
    API_NEED(out);
    *out = NULL;
    API_NEED(path);
    return tokenizer_load(out, path);
}

void pali_tokenizer_free(pali_tokenizer *handle) {
    tokenizer_free(handle);
}

pali_status pali_tokenizer_encode(const pali_tokenizer *handle, const char *text, size_t n_bytes, uint32_t flags, int32_t **out_ids, size_t *out_n) {
    API_NEED(out_ids);
    *out_ids = NULL;
    API_NEED_AS(handle, "tokenizer");
    API_NEED(text);
    API_NEED(out_n);
    return tokenizer_encode(handle, text, n_bytes, flags & PALI_ENCODE_SPECIAL ? TOKENIZER_SPECIAL : 0, out_ids, out_n);
}

pali_status pali_tokenizer_decode(const pali_tokenizer *handle, const int32_t *ids, size_t n, char **out_text, size_t *out_n_bytes) {
    API_NEED(out_text);
    *out_text = NULL;
    API_NEED_AS(handle, "tokenizer");
    if (n) API_NEED(ids);
    API_NEED(out_n_bytes);
    return tokenizer_decode(handle, ids, n, out_text, out_n_bytes);
}

const char *pali_tokenizer_piece(const pali_tokenizer *handle, int32_t id) {
    return handle ? tokenizer_piece(handle, id) : NULL;
}
