/* save_hf.c: model -> a directory as Transformers has them: weights in one or several .safetensors files, config.json,
 * preprocessor and tokenizer. What of it the model's own directory has is copied byte for byte, config.json but for what changed.
 *
 * Tensors have the names of the files on the hub (layout A of spec 3.3). Newer versions of Transformers write others, but
 * every version reads these, and so do other programs. */
#include <stdio.h>
#include <string.h>

#include "base/dir.h"
#include "base/mem.h"
#include "input/tokenizer_save.h"
#include "io/json.h"
#include "io/safetensors_write.h"
#include "model/config_json.h"
#include "model/save_bnb.h"

/* A tensor of the files. */
typedef struct part {
    const spec_tensor *from;
    pali_dtype dtype;
    bnb_part bnb; /* of types of kernels/codes.h */
    st_dtype stored;
    size_t n_dims;
    const size_t *dims;
    char name[SPEC_NAME_MAX];
    uint64_t n_elements, n_bytes;
    size_t shard; /* which of the files, from 0 */
} part;

typedef struct hf_writer {
    saver *v;
    part *parts;
    size_t n_parts, n_shards;
    dir_out dir;
} hf_writer;

static const struct {
    st_dtype stored;
    const char *torch;
} k_dtypes[] = {[PALI_DTYPE_F32] = {ST_F32, "float32"}, [PALI_DTYPE_BF16] = {ST_BF16, "bfloat16"}, [PALI_DTYPE_F16] = {ST_F16, "float16"}};

/* ---- Weights ---- */

/* A tensor of floats as it is called on the hub. */
static void float_part(hf_writer *w, const spec_tensor *t) {
    part *p = &w->parts[w->n_parts++];
    *p = (part){.from = t, .dtype = saver_float_dtype(w->v, t), .n_elements = spec_n_elements(t), .n_dims = t->n_dims, .dims = t->dims};
    p->stored = k_dtypes[p->dtype].stored;
    p->n_bytes = dtype_bytes(p->dtype, p->n_elements);
    spec_hub_name(p->name, t);
}

/* A matrix of bitsandbytes, which is several. */
static void coded_parts(hf_writer *w, const spec_tensor *t, pali_dtype dtype) {
    bnb_part all[SAVE_BNB_PARTS];
    char name[SPEC_NAME_MAX];
    size_t n = save_bnb_parts(all, t, dtype);
    spec_hub_name(name, t);
    for (size_t i = 0; i < n; i++) {
        part *p = &w->parts[w->n_parts++];
        *p = (part){.from = t, .dtype = dtype, .bnb = all[i], .stored = all[i].stored, .n_bytes = all[i].n_bytes, .n_dims = all[i].n_dims};
        p->n_elements = all[i].is_codes ? spec_n_elements(t) : 0;
        p->dims = p->bnb.dims;
        (void)snprintf(p->name, sizeof p->name, "%.*s%s", (int)(strlen(name) - strlen("weight")), name, all[i].ending);
    }
}

/* Each file takes as many weights as fit, in order; one that is larger than that has a file of its own. */
static pali_status parts_list(hf_writer *w) {
    const spec *s = &w->v->m->spec;
    uint64_t limit = w->v->o->shard_bytes ? w->v->o->shard_bytes : SAVE_SHARD_BYTES, used = 0;
    w->parts = mem_calloc(s->n, SAVE_BNB_PARTS * sizeof *w->parts);
    if (!w->parts) return status_no_memory(s->n * SAVE_BNB_PARTS * sizeof *w->parts);
    for (size_t i = 0; i < s->n; i++) {
        pali_dtype codes = save_bnb_dtype(w->v, &s->tensors[i]);
        size_t first = w->n_parts;
        uint64_t n_bytes = 0;
        if (codes != PALI_DTYPE_AUTO)
            coded_parts(w, &s->tensors[i], codes);
        else
            float_part(w, &s->tensors[i]);
        for (size_t k = first; k < w->n_parts; k++) n_bytes += w->parts[k].n_bytes;
        if (used && used + n_bytes > limit) {
            w->n_shards++;
            used = 0;
        }
        for (size_t k = first; k < w->n_parts; k++) w->parts[k].shard = w->n_shards;
        used += n_bytes;
        w->v->n_total += n_bytes;
    }
    w->n_shards++;
    return PALI_OK;
}

static void shard_name(char out[64], const hf_writer *w, size_t shard) {
    if (w->n_shards == 1)
        (void)snprintf(out, 64, "model.safetensors");
    else
        (void)snprintf(out, 64, "model-%05zu-of-%05zu.safetensors", shard + 1, w->n_shards);
}

static pali_status put(void *to, const void *data, size_t n_bytes) {
    return safetensors_writer_data(to, data, n_bytes);
}

static pali_status part_list(const part *p, safetensors_writer *file) {
    return safetensors_writer_put(file, p->name, p->stored, p->n_dims, p->dims);
}

static pali_status part_write(saver *v, const part *p, safetensors_writer *file) {
    if (dtype_is_codes(p->dtype)) return save_bnb_put(v, p->from, p->dtype, &p->bnb, put, file);
    return saver_tensor_put(v, p->from, p->dtype, put, file);
}

/* Lists or writes the tensors of a file, those of larger elements first. */
static pali_status shard_pass(hf_writer *w, size_t shard, safetensors_writer *file, bool data) {
    for (size_t size = 4; size >= 1; size /= 2) {
        for (size_t i = 0; i < w->n_parts; i++) {
            const part *p = &w->parts[i];
            if (p->shard != shard || safetensors_dtype_bytes(p->stored) != size) continue;
            STATUS_TRY(data ? part_write(w->v, p, file) : part_list(p, file));
        }
    }
    return PALI_OK;
}

static pali_status shard_write(hf_writer *w, size_t shard) {
    char name[64];
    file_out out;
    safetensors_writer file;
    shard_name(name, w, shard);
    STATUS_TRY(dir_out_file(&w->dir, &out, name));
    STATUS_TRY(safetensors_writer_open(&file, &out));
    pali_status s = shard_pass(w, shard, &file, false);
    if (s == PALI_OK) s = safetensors_writer_begin(&file);
    if (s == PALI_OK) s = shard_pass(w, shard, &file, true);
    if (s == PALI_OK) s = safetensors_writer_commit(&file);
    safetensors_writer_free(&file);
    return s;
}

static pali_status text_write(hf_writer *w, const char *name, char *text) {
    pali_status s = dir_out_write(&w->dir, name, text, strlen(text));
    mem_free(text);
    return s;
}

static pali_status index_write(hf_writer *w) {
    uint64_t n_elements = 0;
    json_t *map = json_object();
    char *text;
    bool ok = map != NULL;
    for (size_t i = 0; i < w->n_parts; i++) {
        char name[64];
        shard_name(name, w, w->parts[i].shard);
        n_elements += w->parts[i].n_elements;
        ok = ok && json_object_set_new(map, w->parts[i].name, json_string(name)) == 0;
    }
    json_t *root = ok ? json_pack("{s:{s:I, s:I}, s:O}", "metadata", "total_parameters", (json_int_t)n_elements, "total_size", (json_int_t)w->v->n_total,
                                  "weight_map", map)
                      : NULL;
    json_decref(map);
    STATUS_TRY(json_print(&text, root));
    return text_write(w, "model.safetensors.index.json", text);
}

/* ---- The other files ---- */

/* A copy of a file of the model's directory, if it has it. */
static pali_status copy(hf_writer *w, const char *name, bool *there) {
    char *from = file_join(w->v->m->path, name);
    if (!from) return status_no_memory(strlen(name));
    *there = file_exists(from);
    pali_status s = *there ? dir_out_copy(&w->dir, name, from) : PALI_OK;
    mem_free(from);
    return s;
}

/* The type of most weights that are floats. */
static const char *torch_dtype(const hf_writer *w) {
    uint64_t n[PALI_DTYPE_F16 + 1] = {0};
    pali_dtype most = PALI_DTYPE_F32;
    for (size_t i = 0; i < w->n_parts; i++)
        if (saver_is_float(w->parts[i].dtype)) n[w->parts[i].dtype] += w->parts[i].n_elements;
    for (pali_dtype d = PALI_DTYPE_BF16; d <= PALI_DTYPE_F16; d++) most = n[d] > n[most] ? d : most;
    return k_dtypes[most].torch;
}

static pali_status configs_write(hf_writer *w, bool from_dir) {
    bool preprocessor = false, processor = false, there;
    const config *c = &w->v->m->cfg;
    char *source = from_dir ? file_join(w->v->m->path, "config.json") : NULL, *text;
    json_t *quantization;
    if (from_dir && !source) return status_no_memory(strlen(w->v->m->path));
    pali_status s = save_bnb_config(&quantization, w->v);
    if (s == PALI_OK) s = config_json_text(&text, c, torch_dtype(w), source, quantization);
    mem_free(source);
    STATUS_TRY(s);
    STATUS_TRY(text_write(w, "config.json", text));
    if (from_dir) {
        STATUS_TRY(copy(w, "preprocessor_config.json", &preprocessor));
        STATUS_TRY(copy(w, "processor_config.json", &processor));
        STATUS_TRY(copy(w, "generation_config.json", &there));
    }
    if (preprocessor || processor) return PALI_OK;
    STATUS_TRY(config_json_preprocessor(&text, c));
    return text_write(w, "preprocessor_config.json", text);
}

static pali_status tokenizer_write(hf_writer *w, bool from_dir) {
    static const char *const k_names[] = {"tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"};
    const char *given = w->v->o->tokenizer_path;
    char *text;
    if (!w->v->t) return PALI_OK;
    if (from_dir && !given) {
        bool there;
        for (size_t i = 0; i < sizeof k_names / sizeof k_names[0]; i++) STATUS_TRY(copy(w, k_names[i], &there));
        return PALI_OK;
    }
    tokenizer_kind kind = TOKENIZER_GGUF;
    if (given) STATUS_TRY(tokenizer_file_kind(&kind, given));
    if (kind == TOKENIZER_SPM) STATUS_TRY(dir_out_copy(&w->dir, "tokenizer.model", given));
    if (kind == TOKENIZER_JSON) {
        STATUS_TRY(dir_out_copy(&w->dir, "tokenizer.json", given));
    } else {
        file_out file;
        STATUS_TRY(dir_out_file(&w->dir, &file, "tokenizer.json"));
        pali_status s = tokenizer_save_json(w->v->t, &file);
        if (s == PALI_OK) s = file_out_commit(&file);
        file_out_abort(&file);
        STATUS_TRY(s);
    }
    STATUS_TRY(tokenizer_save_config(&text, w->v->t));
    return text_write(w, "tokenizer_config.json", text);
}

static pali_status files_write(hf_writer *w) {
    bool from_dir = w->v->m->path && w->v->m->weights->layout == SPEC_HF;
    STATUS_TRY(configs_write(w, from_dir));
    STATUS_TRY(tokenizer_write(w, from_dir));
    for (size_t i = 0; i < w->n_shards; i++) STATUS_TRY(shard_write(w, i));
    if (w->n_shards > 1) STATUS_TRY(index_write(w));
    return dir_out_commit(&w->dir);
}

pali_status save_hf(saver *v) {
    hf_writer w = {.v = v};
    STATUS_TRY(saver_floats_check(v, "a directory", true));
    pali_status s = dir_out_open(&w.dir, v->path);
    if (s == PALI_OK) s = parts_list(&w);
    if (s == PALI_OK) s = files_write(&w);
    dir_out_abort(&w.dir);
    mem_free(w.parts);
    return s;
}
