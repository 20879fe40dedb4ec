/* adapter.c: from the tensors of a PEFT file to parts of the model. Their names are read by adapter_names.c, and the module's is found
 * by spec_canonical_name. Nothing in the file is skipped: a name without a counterpart in the model is an error. */
#include "model/adapter.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "model/adapter_names.h"
#include "model/view.h"
#include "model/weights.h"

/* The tensors of the file that concern one of the model. */
typedef struct finding {
    const st_tensor *slots[ADAPTER_N_SLOTS];
    char *module; /* name of the module, owned */
} finding;

typedef struct opener {
    adapter *a;
    const model *shape; /* a view of the base, for its spec */
    finding *found;     /* [spec.n] */
    const char *config_path, *path;
    const kernels *k;   /* NULL: an outline */
    float *at;          /* the next free place in the block */
    size_t n_floats;    /* that the block needs */
} opener;

static pali_status wrong(const opener *o, const st_tensor *t, const char *what) {
    return status_fail(PALI_ERR_FORMAT, "%s: %s: %s", o->path, t->name, what);
}

static pali_status tensor_find(opener *o, const st_tensor *t) {
    char full[ADAPTER_MODULE_MAX + 16], name[SPEC_NAME_MAX];
    adapter_name own;
    const spec *s = &o->shape->spec;
    if (spec_is_computed(t->name)) return PALI_OK;
    if (strstr(t->name, ".lora_magnitude_vector")) return status_fail(PALI_ERR_UNSUPPORTED, "%s: %s: DoRA is not supported", o->path, t->name);
    if (weights_st_dtype(t->dtype) == PALI_DTYPE_AUTO)
        return status_fail(PALI_ERR_UNSUPPORTED, "%s: %s: dtype %s is not supported: expected F32, BF16 or F16", o->path, t->name, safetensors_dtype_name(t->dtype));
    if (!adapter_name_read(&own, t->name)) return wrong(o, t, "not a name that PEFT gives the tensors of a LoRA adapter");
    (void)snprintf(full, sizeof full, "%s%s", own.module, own.tensor);
    size_t at = s->n;
    if (spec_canonical_name(name, sizeof name, full))
        for (at = 0; at < s->n && strcmp(s->tensors[at].name, name) != 0;) at++;
    if (at == s->n) return wrong(o, t, "the model has nothing of this name");
    finding *f = &o->found[at];
    if (f->slots[own.slot]) return wrong(o, t, "the same tensor is there twice, under another name");
    f->slots[own.slot] = t;
    if (!f->module) f->module = mem_copy_string(own.module);
    return f->module ? PALI_OK : status_no_memory(strlen(own.module));
}

/* A tied head's own parameter is the table. */
static void tied_move(opener *o) {
    finding *head = &o->found[o->a->n_parts - 1], *table = &o->found[spec_of(&o->shape->spec, &o->shape->text.embed) - o->shape->spec.tensors];
    if (o->shape->text.head.dtype != PALI_DTYPE_AUTO || !head->slots[ADAPTER_BASE]) return;
    if (!table->slots[ADAPTER_BASE]) table->slots[ADAPTER_BASE] = head->slots[ADAPTER_BASE];
    head->slots[ADAPTER_BASE] = NULL;
}

/* ---- Updates ---- */

static size_t n_elements(const st_tensor *t) {
    size_t n = 1;
    for (size_t i = 0; i < t->n_dims; i++) n *= t->dims[i]; /* the file's size bounds it */
    return n;
}

/* As many dimensions as the model's own tensor (a convolution has four), the first two or the first and the product of the rest
 * as given. */
static bool shape_is(const st_tensor *t, const spec_tensor *of, size_t rows, size_t cols) {
    return t->n_dims == of->n_dims && t->dims[0] == rows && rows && n_elements(t) / rows == cols && n_elements(t) % rows == 0;
}

static size_t padded(size_t n) {
    return (n + 15) & ~(size_t)15;
}

/* Checks an update and says what the block must hold for it. */
static pali_status update_check(opener *o, size_t i) {
    const spec_tensor *t = &o->shape->spec.tensors[i];
    const finding *f = &o->found[i];
    adapter_part *part = &o->a->parts[i];
    bool table = f->slots[ADAPTER_TABLE_A] || f->slots[ADAPTER_TABLE_B];
    const st_tensor *a = f->slots[table ? ADAPTER_TABLE_A : ADAPTER_A], *b = f->slots[table ? ADAPTER_TABLE_B : ADAPTER_B], *bias = f->slots[ADAPTER_BIAS];
    double alpha;
    size_t rank, rows, cols;
    if (!a && !b) return bias ? wrong(o, bias, "its lora_A and lora_B are missing") : PALI_OK;
    if (!b) return wrong(o, a, "its lora_B is missing");
    if (!a) return wrong(o, b, "its lora_A is missing");
    if (table && (f->slots[ADAPTER_A] || f->slots[ADAPTER_B] || bias)) return wrong(o, a, "an update of a table and of a linear layer at once");
    if (table != (t->matrix == &o->shape->text.embed)) return wrong(o, a, table ? "not a table of embeddings" : "a table of embeddings: expected lora_embedding_A");
    if (!t->matrix) return wrong(o, a, "updates of this tensor are not supported");
    rows = t->matrix->rows;
    cols = t->matrix->cols;
    STATUS_TRY(adapter_config_module(&o->a->cfg, f->module, &rank, &alpha, o->config_path));
    if (!a->n_dims || a->dims[0] != rank) {
        return status_fail(PALI_ERR_FORMAT, "%s: %s: rank %zu, but %s says %zu", o->path, a->name, a->n_dims ? a->dims[0] : 0, o->config_path, rank);
    }
    if (!shape_is(a, t, rank, table ? rows : cols) || !shape_is(b, t, table ? cols : rows, rank))
        return status_fail(PALI_ERR_FORMAT, "%s: %s: its shape or that of its other half does not fit a matrix [%zu, %zu]", o->path, a->name, rows, cols);
    if (bias && (bias->n_dims != 1 || bias->dims[0] != rows)) return wrong(o, bias, "its shape does not fit");
    *part = (adapter_part){.rank = rank, .scale = (float)adapter_config_scale(&o->a->cfg, rank, alpha), .has_bias = bias != NULL,
                           .a = mat_f32(rank, cols, NULL), .b = mat_f32(rows, rank, NULL)};
    o->n_floats += padded(rank * cols) + padded(rows * rank) + (bias ? padded(rows) : 0);
    o->a->n_parameters += rank * cols + rows * rank + (bias ? rows : 0);
    return PALI_OK;
}

static pali_status value_check(opener *o, size_t i) {
    const spec_tensor *t = &o->shape->spec.tensors[i];
    const finding *f = &o->found[i];
    adapter_part *part = &o->a->parts[i];
    const st_tensor *own = f->slots[ADAPTER_VALUE], *base = f->slots[ADAPTER_BASE], *value = own ? own : base;
    if (!value) return PALI_OK;
    if (own && base) return wrong(o, own, "weights of its own and of the base at once");
    if (value->n_dims != t->n_dims || memcmp(value->dims, t->dims, t->n_dims * sizeof *t->dims) != 0) return wrong(o, value, "its shape is not that of the model's");
    part->replaces = true;
    part->separate = own && t->matrix == &o->shape->text.embed && adapter_config_saves(&o->a->cfg, f->module);
    if (own) o->a->n_parameters += n_elements(own);
    if (t->matrix) {
        part->value = (mat){.dtype = weights_st_dtype(value->dtype), .rows = t->matrix->rows, .cols = t->matrix->cols};
        o->a->mapped_bytes += value->n_bytes;
    } else {
        o->n_floats += padded(n_elements(value));
    }
    return PALI_OK;
}

/* ---- Data ---- */

/* Copies as f32. Of a table's factor the transpose: out [cols, rows]. */
static pali_status floats_take(opener *o, const float **out, const st_tensor *t, bool transpose) {
    size_t n = n_elements(t), rows = t->dims[0], cols = n / rows;
    float *to = o->at, *from = transpose ? mem_alloc(n, sizeof *from) : to;
    if (!from) return status_no_memory(n * sizeof *from);
    o->k->to_f32[weights_st_dtype(t->dtype)](from, t->data, n);
    bool finite = true;
    for (size_t i = 0; i < n; i++) finite &= isfinite(from[i]) != 0;
    for (size_t r = 0; transpose && r < rows; r++)
        for (size_t c = 0; c < cols; c++) to[c * rows + r] = from[r * cols + c];
    if (transpose) mem_free(from);
    o->at += padded(n);
    *out = to;
    return finite ? PALI_OK : wrong(o, t, "a value is not a finite number");
}

static pali_status matrix_take(opener *o, mat *w, const st_tensor *t, bool transpose) {
    const float *data;
    STATUS_TRY(floats_take(o, &data, t, transpose));
    w->data = data;
    return PALI_OK;
}

static pali_status part_fill(opener *o, size_t i) {
    const spec_tensor *t = &o->shape->spec.tensors[i];
    const finding *f = &o->found[i];
    adapter_part *part = &o->a->parts[i];
    const st_tensor *value = f->slots[ADAPTER_VALUE] ? f->slots[ADAPTER_VALUE] : f->slots[ADAPTER_BASE];
    bool table = f->slots[ADAPTER_TABLE_A] != NULL;
    if (part->rank) {
        STATUS_TRY(matrix_take(o, &part->a, f->slots[table ? ADAPTER_TABLE_B : ADAPTER_A], table));
        STATUS_TRY(matrix_take(o, &part->b, f->slots[table ? ADAPTER_TABLE_A : ADAPTER_B], table));
        if (part->has_bias) STATUS_TRY(floats_take(o, &part->bias, f->slots[ADAPTER_BIAS], false));
    }
    if (part->replaces && t->matrix) part->value.data = value->data;
    return part->replaces && t->vector ? floats_take(o, &part->vector, value, false) : PALI_OK;
}

static pali_status data_take(opener *o) {
    adapter *a = o->a;
    a->block_bytes = o->n_floats * sizeof(float);
    if (!o->k) return PALI_OK;
    o->at = a->block = mem_huge_alloc(a->block_bytes + sizeof(float));
    if (!a->block) return status_no_memory(a->block_bytes);
    for (size_t i = 0; i < a->n_parts; i++) STATUS_TRY(part_fill(o, i));
    return PALI_OK;
}

/* ---- Opening ---- */

static pali_status parts_sum(opener *o) {
    adapter *a = o->a;
    for (size_t i = 0; i < a->n_parts; i++) {
        const adapter_part *part = &a->parts[i];
        spec_group group = o->shape->spec.tensors[i].group;
        if (!part->rank && !part->replaces) continue;
        *(group == SPEC_IMG || group == SPEC_PROJ ? &a->touches_vision : &a->touches_text) = true;
        a->n_replaced += part->replaces;
        if (!part->rank) continue;
        if (!a->n_updated++ || part->rank < a->rank_min) a->rank_min = part->rank;
        if (part->rank > a->rank_max) a->rank_max = part->rank;
        STATUS_TRY(adapter_target_add(&a->targets, o->found[i].module));
    }
    if (!a->n_updated && !a->n_replaced) return status_fail(PALI_ERR_FORMAT, "%s: no tensors", o->path);
    if (!a->targets && !(a->targets = mem_copy_string(""))) return status_no_memory(1);
    return PALI_OK;
}

static pali_status file_read_all(opener *o) {
    adapter *a = o->a;
    STATUS_TRY(adapter_config_load(&a->cfg, o->config_path));
    STATUS_TRY(safetensors_open(&a->file, o->path));
    for (size_t i = 0; i < a->file.n_tensors; i++) STATUS_TRY(tensor_find(o, &a->file.tensors[i]));
    tied_move(o);
    for (size_t i = 0; i < a->n_parts; i++) {
        STATUS_TRY(update_check(o, i));
        STATUS_TRY(value_check(o, i));
    }
    STATUS_TRY(parts_sum(o));
    return data_take(o);
}

static pali_status files_check(const char *dir, const char *conf, const char *file, const char *pickle) {
    if (!file_exists(dir)) return status_fail(PALI_ERR_IO, "%s: no such directory", dir);
    if (!file_exists(conf)) return status_fail(PALI_ERR_IO, "%s: no adapter_config.json: expected a directory that PEFT saved", dir);
    if (!file_exists(file) && file_exists(pickle))
        return status_fail(PALI_ERR_UNSUPPORTED, "%s: a Python pickle is not read, it could run anything: expected adapter_model.safetensors", pickle);
    return PALI_OK;
}

static pali_status dir_open(adapter *a, const char *dir, const model *base, bool outline) {
    char *conf = file_join(dir, "adapter_config.json"), *file = file_join(dir, "adapter_model.safetensors"), *pickle = file_join(dir, "adapter_model.bin");
    opener o = {.a = a, .config_path = conf, .path = file};
    model *shape = NULL;
    cpu_level level;
    a->path = mem_copy_string(dir);
    pali_status s = conf && file && pickle && a->path ? files_check(dir, conf, file, pickle) : status_no_memory(strlen(dir));
    if (s == PALI_OK) s = view_new(&shape, base);
    if (s == PALI_OK && !outline) s = cpu_level_chosen(&level);
    if (s == PALI_OK) {
        o.shape = shape;
        o.k = outline ? NULL : kernels_get(level);
        a->n_parts = shape->spec.n;
        a->parts = mem_calloc(a->n_parts, sizeof *a->parts);
        o.found = mem_calloc(a->n_parts, sizeof *o.found);
        s = a->parts && o.found ? file_read_all(&o) : status_no_memory(a->n_parts * sizeof *a->parts);
    }
    for (size_t i = 0; o.found && i < a->n_parts; i++) mem_free(o.found[i].module);
    mem_free(o.found);
    model_free(shape);
    mem_free(conf);
    mem_free(file);
    mem_free(pickle);
    return s;
}

pali_status adapter_open(adapter **out, const char *dir, const model *base, bool outline) {
    *out = NULL;
    adapter *a = mem_calloc(1, sizeof *a);
    if (!a) return status_no_memory(sizeof *a);
    pali_status s = dir_open(a, dir, base, outline);
    if (s != PALI_OK) {
        adapter_free(a);
        return s;
    }
    *out = a;
    return PALI_OK;
}

void adapter_free(adapter *a) {
    if (!a) return;
    adapter_config_free(&a->cfg);
    safetensors_close(&a->file);
    mem_huge_free(a->block, a->block_bytes + sizeof(float));
    mem_free(a->parts);
    mem_free(a->targets);
    mem_free(a->path);
    mem_free(a);
}
