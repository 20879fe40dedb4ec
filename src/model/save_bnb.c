#include "model/save_bnb.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "tensor/encode.h"

pali_dtype save_bnb_dtype(const saver *v, const spec_tensor *t) {
    pali_dtype asked = spec_dtype(t, v->o->dtypes);
    if (asked != PALI_DTYPE_AUTO) return dtype_is_codes(asked) ? asked : PALI_DTYPE_AUTO;
    return t->matrix && t->matrix->codes && !t->matrix->lora ? t->matrix->dtype : PALI_DTYPE_AUTO;
}

/* The matrix is that already. */
static bool as_held(const mat *w, pali_dtype dtype) {
    return w->dtype == dtype && !w->lora;
}

/* What weights are rounded to: codes say so, floats are it. */
static pali_dtype rounding_of(const mat *w) {
    return w->codes ? w->codes->rounding : saver_is_float(w->dtype) ? w->dtype : PALI_DTYPE_F32;
}

static const char *torch_name(pali_dtype rounding) {
    return rounding == PALI_DTYPE_BF16 ? "bfloat16" : rounding == PALI_DTYPE_F16 ? "float16" : "float32";
}

/* ---- Tensors ---- */

static bnb_part part_of(const char *ending, st_dtype stored, size_t n, size_t element) {
    return (bnb_part){.ending = ending, .stored = stored, .n_dims = 1, .dims = {n, 1}, .n_bytes = n * element};
}

size_t save_bnb_parts(bnb_part out[SAVE_BNB_PARTS], const spec_tensor *t, pali_dtype dtype) {
    const mat *w = t->matrix;
    size_t n = codes_n_scales(dtype, w->rows, w->cols);
    if (dtype == PALI_DTYPE_INT8) {
        out[0] = part_of("weight", ST_I8, w->rows, w->cols);
        out[0].n_dims = 2;
        out[0].dims[1] = w->cols;
        out[1] = part_of("SCB", ST_F32, n, sizeof(float));
        out[2] = part_of("weight_format", ST_U8, 1, 1); /* 0: in rows */
        out[2].n_dims = 0;
    } else {
        const float *table = as_held(w, dtype) ? w->codes->table : dtype == PALI_DTYPE_NF4 ? k_codes_nf4 : k_codes_fp4;
        const char *type = dtype == PALI_DTYPE_NF4 ? "nf4" : "fp4";
        char state[SAVE_BNB_STATE];
        size_t length = (size_t)snprintf(state, sizeof state, "{\"quant_type\": \"%s\", \"blocksize\": %u, \"dtype\": \"%s\", \"shape\": [%zu, %zu]}", type,
                                         CODES_BLOCK, torch_name(rounding_of(w)), w->rows, w->cols);
        out[0] = part_of("weight", ST_U8, codes_bytes(dtype, w->rows, w->cols), 1);
        out[0].n_dims = 2;
        out[1] = part_of("weight.absmax", ST_F32, n, sizeof(float));
        out[2] = part_of("weight.quant_map", ST_F32, 16, sizeof(float));
        memcpy(out[2].small, table, 16 * sizeof *table);
        out[3] = part_of(dtype == PALI_DTYPE_NF4 ? "weight.quant_state.bitsandbytes__nf4" : "weight.quant_state.bitsandbytes__fp4", ST_U8, length, 1);
        memcpy(out[3].small, state, length);
    }
    out[0].is_codes = out[1].is_scales = true;
    return dtype == PALI_DTYPE_INT8 ? 3 : 4;
}

typedef struct encode_job {
    const saver *v;
    const mat *from, *to;
    size_t rows_per_task;
    atomic_bool unfit;
} encode_job;

static void encode_task(void *context, size_t task, size_t worker) {
    encode_job *j = context;
    const exec *e = &j->v->e;
    size_t begin = task * j->rows_per_task, end = j->to->rows - begin < j->rows_per_task ? j->to->rows : begin + j->rows_per_task;
    encoder to = encode_begin(e->k, j->to, begin);
    float *row = e->worker[worker].data;
    for (size_t r = begin; r < end; r++) {
        mat_rows_f32(e->k, row, j->from, r, 1);
        if (encode_row(&to, row)) continue;
        atomic_store(&j->unfit, true);
        return;
    }
    encode_end(&to);
}

/* The whole matrix into the saver's buffer: scales, then codes. */
static pali_status encode(saver *v, const spec_tensor *t, pali_dtype dtype, bool measured) {
    const mat *from = t->matrix;
    size_t scales = codes_n_scales(dtype, from->rows, from->cols) * sizeof(float);
    STATUS_TRY(saver_buffer(v, scales + codes_bytes(dtype, from->rows, from->cols)));
    STATUS_TRY(exec_worker_scratch(&v->e, from->cols * sizeof(float)));
    coded c = {.data = v->buffer + scales, .scales = v->buffer, .cols = from->cols, .rounding = PALI_DTYPE_F32};
    const mat to = {.dtype = dtype, .rows = from->rows, .cols = from->cols, .data = c.data, .codes = &c};
    encode_job j = {.v = v, .from = from, .to = &to, .rows_per_task = ENCODE_ROWS};
    pool_run(v->e.pool, (from->rows + ENCODE_ROWS - 1) / ENCODE_ROWS, encode_task, &j);
    if (j.unfit) return saver_unfit(v, t, dtype);
    if (!measured) return PALI_OK;
    if (dtype != PALI_DTYPE_INT8) { /* as they will be read */
        memcpy(c.table, dtype == PALI_DTYPE_NF4 ? k_codes_nf4 : k_codes_fp4, sizeof c.table);
        c.rounding = rounding_of(from);
    }
    return saver_merge_measure(v, t, &to, 0);
}

pali_status save_bnb_put(saver *v, const spec_tensor *t, pali_dtype dtype, const bnb_part *part, saver_put put, void *user) {
    const mat *w = t->matrix;
    const void *data = part->small;
    if (part->is_codes || part->is_scales) {
        if (!as_held(w, dtype)) STATUS_TRY(encode(v, t, dtype, part->is_codes)); /* twice: a tensor each of scales and codes */
        const uint8_t *codes = as_held(w, dtype) ? w->codes->data : v->buffer + codes_n_scales(dtype, w->rows, w->cols) * sizeof(float);
        const uint8_t *scales = as_held(w, dtype) ? w->codes->scales : v->buffer;
        data = part->is_codes ? codes : scales;
    }
    STATUS_TRY(put(user, data, part->n_bytes));
    return saver_progress(v, part->n_bytes);
}

/* ---- config.json ---- */

/* Parts of the model by the names that Transformers has for them in memory, which is what the list of skipped modules is about. */
static const struct {
    const char *canonical, *module;
} k_modules[] = {{"vision_tower.", "model.vision_tower"}, {"multi_modal_projector.", "model.multi_modal_projector"}, {"language_model.", "model.language_model"}};
#define N_MODULES (sizeof k_modules / sizeof k_modules[0])

static bool is_linear(const spec_tensor *t) {
    return t->matrix && t->n_dims == 2 && t->group != SPEC_EMBED;
}

static bool is_in(const spec_tensor *t, size_t module) {
    return strncmp(t->name, k_modules[module].canonical, strlen(k_modules[module].canonical)) == 0;
}

/* The linear layers that stay plain: whole parts, or one by one. json_null: none. */
static json_t *skipped(const saver *v) {
    const spec *s = &v->m->spec;
    json_t *list = json_array();
    bool ok = list != NULL;
    for (size_t k = 0; k < N_MODULES; k++) {
        size_t n = 0, n_plain = 0;
        for (size_t i = 0; i < s->n; i++) {
            if (!is_linear(&s->tensors[i]) || !is_in(&s->tensors[i], k)) continue;
            n++;
            n_plain += save_bnb_dtype(v, &s->tensors[i]) == PALI_DTYPE_AUTO;
        }
        if (n_plain && n_plain == n) ok = ok && json_array_append_new(list, json_string(k_modules[k].module)) == 0;
        for (size_t i = 0; i < s->n && n_plain && n_plain < n; i++) {
            const spec_tensor *t = &s->tensors[i];
            if (!is_linear(t) || !is_in(t, k) || save_bnb_dtype(v, t) != PALI_DTYPE_AUTO) continue;
            ok = ok && json_array_append_new(list, json_sprintf("model.%.*s", (int)(strlen(t->name) - strlen(".weight")), t->name)) == 0;
        }
    }
    if (ok && json_array_size(list) == 0) {
        json_decref(list);
        return json_null(); /* then Transformers leaves out the head by itself */
    }
    if (ok && json_array_append_new(list, json_string("lm_head")) == 0) return list;
    json_decref(list);
    return NULL;
}

pali_status save_bnb_config(json_t **out, const saver *v) {
    const spec *s = &v->m->spec;
    pali_dtype type = PALI_DTYPE_AUTO, rounding = PALI_DTYPE_F32;
    *out = NULL;
    for (size_t i = 0; i < s->n; i++) {
        pali_dtype dtype = save_bnb_dtype(v, &s->tensors[i]);
        if (dtype == PALI_DTYPE_AUTO) continue;
        if (type != PALI_DTYPE_AUTO && dtype != type)
            return status_fail(PALI_ERR_UNSUPPORTED, "%s: %s: %s in a model with weights of type %s: a directory can have only one of them", v->path,
                               s->tensors[i].name, pali_dtype_name(dtype), pali_dtype_name(type));
        type = dtype;
        rounding = rounding_of(s->tensors[i].matrix);
    }
    if (type == PALI_DTYPE_AUTO) return PALI_OK;
    bool four = type != PALI_DTYPE_INT8;
    *out = json_pack("{s:s, s:b, s:b, s:b, s:b, s:s, s:s, s:b, s:s, s:f, s:o, s:b, s:b}", "quant_method", "bitsandbytes", "load_in_4bit", four,
                     "_load_in_4bit", four, "load_in_8bit", !four, "_load_in_8bit", !four, "bnb_4bit_quant_type", type == PALI_DTYPE_NF4 ? "nf4" : "fp4",
                     "bnb_4bit_compute_dtype", torch_name(rounding), "bnb_4bit_use_double_quant", 0, "bnb_4bit_quant_storage", "uint8", "llm_int8_threshold",
                     6.0, "llm_int8_skip_modules", skipped(v), "llm_int8_enable_fp32_cpu_offload", 0, "llm_int8_has_fp16_weight", 0);
    return *out ? PALI_OK : status_no_memory(1);
}
