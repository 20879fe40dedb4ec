/* weights_bnb.c: matrices as bitsandbytes stores them in a Hugging Face directory (spec inference 8.2, 8.3). What a matrix X is, the
 * tensors beside it say, not the config:
 *
 *   X.weight                           bytes of codes, whatever dtype and shape the file gives them
 *   X.weight.absmax                    F32 [n] scales, or U8 [n] where they are quantized again, with
 *   X.weight.nested_absmax             F32 [n / 256], and
 *   X.weight.nested_quant_map          F32 [256]
 *   X.weight.quant_map                 F32 [16] values of the codes
 *   X.weight.quant_state.bitsandbytes__nf4, or __fp4    U8 [..] JSON: the shape, the type weights are rounded to, block sizes
 *
 *   X.weight                           I8 [out, in]
 *   X.SCB                              F32 [out] largest magnitudes of the rows
 *   X.weight_format                    U8: 0, in rows (may be absent)
 *
 * Afterwards there is one entry, of shape [out, in] and dtype NF4, FP4 or INT8. */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "io/json.h"
#include "model/weights.h"

#define STATE_MAX_BYTES 4096u /* of JSON; real ones have some 150 */
#define NESTED_BLOCK 256u
#define NESTED_CODES 256u

static bool has_ending(const char *name, const char *ending) {
    size_t n = strlen(name), m = strlen(ending);
    return n >= m && strcmp(name + n - m, ending) == 0;
}

/* The tensor beside `weight` with this ending in place of its last `less` characters; NULL: there is none. */
static weights_entry *beside(const weights *w, const weights_entry *weight, size_t less, const char *ending) {
    char name[SPEC_NAME_MAX + 64];
    (void)snprintf(name, sizeof name, "%.*s%s", (int)(strlen(weight->name) - less), weight->name, ending);
    return weights_find(w, name);
}

static pali_status bad(const weights_entry *e, const char *what) {
    return status_fail(PALI_ERR_FORMAT, "%s: %s: %s", e->file, e->file_name, what);
}

/* A tensor that has to be there, with n elements of a type. */
static pali_status need(weights_entry **out, const weights *w, const weights_entry *weight, size_t less, const char *ending, const char *dtype, size_t n) {
    weights_entry *e = *out = beside(w, weight, less, ending);
    if (!e) return status_fail(PALI_ERR_FORMAT, "%s: %s: %s is missing beside it", weight->file, weight->file_name, ending);
    if (strcmp(e->dtype_name, dtype) != 0 || weights_n_elements(e) != n)
        return status_fail(PALI_ERR_FORMAT, "%s: %s: %zu of %s, expected %zu of %s", e->file, e->file_name, weights_n_elements(e), e->dtype_name, n, dtype);
    e->used = true;
    return PALI_OK;
}

/* ---- NF4, FP4 ---- */

typedef struct state {
    size_t rows, cols;
    pali_dtype rounding;
    float nested_offset;
} state;

static pali_status rounding_read(pali_dtype *out, const json_t *root, const char *where) {
    static const struct {
        const char *name;
        pali_dtype dtype;
    } k_names[] = {{"float32", PALI_DTYPE_F32}, {"bfloat16", PALI_DTYPE_BF16}, {"float16", PALI_DTYPE_F16}};
    const char *name = "";
    STATUS_TRY(json_get_string(root, "dtype", &name, where));
    for (size_t i = 0; i < sizeof k_names / sizeof k_names[0]; i++) {
        if (strcmp(name, k_names[i].name) != 0) continue;
        *out = k_names[i].dtype;
        return PALI_OK;
    }
    return status_fail(PALI_ERR_UNSUPPORTED, "%s: dtype: '%s': expected float32, bfloat16 or float16", where, name);
}

static pali_status shape_read(state *out, const json_t *root, const char *where) {
    const json_t *shape = json_object_get(root, "shape");
    size_t dims[2] = {0};
    for (size_t i = 0; i < 2 && json_is_array(shape) && json_array_size(shape) == 2; i++) {
        const json_t *dim = json_array_get(shape, i);
        json_int_t n = json_is_integer(dim) ? json_integer_value(dim) : 0;
        dims[i] = n > 0 && n <= CONFIG_MAX_VOCAB ? (size_t)n : 0;
    }
    if (!dims[0] || !dims[1]) return status_fail(PALI_ERR_FORMAT, "%s: shape: expected two sizes of at most %u", where, CONFIG_MAX_VOCAB);
    out->rows = dims[0];
    out->cols = dims[1];
    return PALI_OK;
}

static pali_status state_read(state *out, const json_t *root, const char *type, bool nested, const char *where) {
    const char *quant_type = "", *nested_dtype = "float32";
    size_t block = 0, nested_block = 0;
    float offset = NAN;
    if (!json_is_object(root)) return status_fail(PALI_ERR_FORMAT, "%s: expected an object", where);
    STATUS_TRY(json_get_string(root, "quant_type", &quant_type, where));
    if (strcmp(quant_type, type) != 0) return status_fail(PALI_ERR_FORMAT, "%s: quant_type: '%s', expected '%s' as in the name", where, quant_type, type);
    STATUS_TRY(json_get_size(root, "blocksize", &block, 0, SIZE_MAX, where));
    if (block != CODES_BLOCK) return status_fail(PALI_ERR_UNSUPPORTED, "%s: blocksize: %zu: only %u is supported", where, block, CODES_BLOCK);
    STATUS_TRY(rounding_read(&out->rounding, root, where));
    STATUS_TRY(shape_read(out, root, where));
    if (!nested) return PALI_OK;
    STATUS_TRY(json_get_size(root, "nested_blocksize", &nested_block, 0, SIZE_MAX, where));
    STATUS_TRY(json_get_string(root, "nested_dtype", &nested_dtype, where));
    STATUS_TRY(json_get_float(root, "nested_offset", &offset, -(double)FLT_MAX, (double)FLT_MAX, where));
    if (nested_block != NESTED_BLOCK)
        return status_fail(PALI_ERR_UNSUPPORTED, "%s: nested_blocksize: %zu: only %u is supported", where, nested_block, NESTED_BLOCK);
    if (strcmp(nested_dtype, "float32") != 0) return status_fail(PALI_ERR_UNSUPPORTED, "%s: nested_dtype: '%s': only float32 is supported", where, nested_dtype);
    if (isnan(offset)) return status_fail(PALI_ERR_FORMAT, "%s: nested_offset: missing", where);
    out->nested_offset = offset;
    return PALI_OK;
}

static pali_status state_parse(state *out, weights_entry *json, const char *type, bool nested) {
    char where[512];
    json_t *root;
    (void)snprintf(where, sizeof where, "%s: %s", json->file, json->file_name);
    if (json->n_bytes > STATE_MAX_BYTES)
        return status_fail(PALI_ERR_LIMIT, "%s: %zu bytes, more than the limit of %u", where, json->n_bytes, STATE_MAX_BYTES);
    STATUS_TRY(json_parse(&root, (const char *)json->data, json->n_bytes, where));
    pali_status s = state_read(out, root, type, nested, where);
    json_decref(root);
    json->used = true;
    return s;
}

static pali_status table_read(float table[16], const weights_entry *map) {
    memcpy(table, map->data, 16 * sizeof *table);
    for (size_t i = 0; i < 16; i++)
        if (!isfinite(table[i])) return bad(map, "a value is not finite");
    return PALI_OK;
}

static pali_status four_bit_read(const weights *w, weights_entry *weight, weights_entry *json, const char *type) {
    weights_entry *absmax = beside(w, weight, 0, ".absmax"), *map, *nested_absmax, *nested_map;
    state st = {0};
    bool nested = absmax && strcmp(absmax->dtype_name, "U8") == 0;
    weights_codes *c = weight->codes = mem_calloc(1, sizeof *c);
    if (!c) return status_no_memory(sizeof *c);
    STATUS_TRY(state_parse(&st, json, type, nested));
    size_t n_bytes = (st.rows * st.cols + 1) / 2; /* at most 2^48 weights */
    if (weight->n_bytes != n_bytes)
        return status_fail(PALI_ERR_FORMAT, "%s: %s: %zu bytes, but its quant_state has the shape [%zu, %zu], which needs %zu", weight->file,
                           weight->file_name, weight->n_bytes, st.rows, st.cols, n_bytes);
    c->n_scales = codes_n_scales(PALI_DTYPE_NF4, st.rows, st.cols);
    STATUS_TRY(need(&absmax, w, weight, 0, ".absmax", nested ? "U8" : "F32", c->n_scales));
    STATUS_TRY(need(&map, w, weight, 0, ".quant_map", "F32", 16));
    if (nested) {
        STATUS_TRY(need(&nested_absmax, w, weight, 0, ".nested_absmax", "F32", (c->n_scales + NESTED_BLOCK - 1) / NESTED_BLOCK));
        STATUS_TRY(need(&nested_map, w, weight, 0, ".nested_quant_map", "F32", NESTED_CODES));
        c->nested = absmax->data;
        c->nested_scales = nested_absmax->data;
        c->nested_map = nested_map->data;
        c->nested_offset = st.nested_offset;
    }
    c->codes = (coded){.data = weight->data, .scales = nested ? NULL : absmax->data, .cols = st.cols, .rounding = st.rounding};
    STATUS_TRY(table_read(c->codes.table, map));
    bool nf4 = strcmp(type, "nf4") == 0;
    weight->dtype = nf4 ? PALI_DTYPE_NF4 : PALI_DTYPE_FP4;
    weight->dtype_name = nf4 ? "NF4" : "FP4";
    weight->n_dims = 2;
    weight->dims[0] = st.rows;
    weight->dims[1] = st.cols;
    return PALI_OK;
}

/* ---- INT8 ---- */

static pali_status int8_read(const weights *w, weights_entry *weight, weights_entry *format) {
    weights_entry *scb;
    if (strcmp(weight->dtype_name, "I8") != 0 || weight->n_dims != 2) return bad(weight, "has a SCB beside it, but is not a matrix of I8");
    if (format && (format->n_bytes != 1 || format->data[0] != 0)) return bad(format, "expected one byte of 0 (weights in rows)");
    if (format) format->used = true;
    weights_codes *c = weight->codes = mem_calloc(1, sizeof *c);
    if (!c) return status_no_memory(sizeof *c);
    c->n_scales = weight->dims[0];
    STATUS_TRY(need(&scb, w, weight, strlen("weight"), "SCB", "F32", c->n_scales));
    c->codes = (coded){.data = weight->data, .scales = scb->data, .cols = weight->dims[1], .rounding = PALI_DTYPE_F32};
    weight->dtype = PALI_DTYPE_INT8;
    weight->dtype_name = "INT8";
    return PALI_OK;
}

/* ---- All of them ---- */

static pali_status matrix_read(const weights *w, weights_entry *weight) {
    weights_entry *nf4 = beside(w, weight, 0, ".quant_state.bitsandbytes__nf4"), *fp4 = beside(w, weight, 0, ".quant_state.bitsandbytes__fp4");
    if (nf4 && fp4) return bad(weight, "has a quant_state of nf4 and one of fp4 beside it");
    if (nf4) return four_bit_read(w, weight, nf4, "nf4");
    if (fp4) return four_bit_read(w, weight, fp4, "fp4");
    if (beside(w, weight, 0, ".absmax")) return bad(weight, "has an absmax beside it, but no quant_state");
    if (beside(w, weight, strlen("weight"), "SCB")) return int8_read(w, weight, beside(w, weight, strlen("weight"), "weight_format"));
    return PALI_OK;
}

pali_status weights_bnb(weights *w) {
    for (size_t i = 0; i < w->n_entries; i++)
        if (has_ending(w->entries[i].name, ".weight")) STATUS_TRY(matrix_read(w, &w->entries[i]));
    return PALI_OK;
}

/* The largest scale that leaves all weights finite, also when they are rounded. */
static float scale_max(const coded *c, bool int8) {
    float top = int8 ? 128 : 0, limit = c->rounding == PALI_DTYPE_F16 ? 65504.0f : c->rounding == PALI_DTYPE_BF16 ? 3.38e38f : FLT_MAX;
    for (size_t i = 0; i < 16; i++) top = fmaxf(top, fabsf(c->table[i]));
    return top > 1 ? limit / top : limit;
}

pali_status weights_bnb_scales(const weights_entry *entry, float *scales) {
    const weights_codes *c = entry->codes;
    float limit = scale_max(&c->codes, entry->dtype == PALI_DTYPE_INT8), map[NESTED_CODES];
    bool good = true;
    if (c->nested) memcpy(map, c->nested_map, sizeof map);
    for (size_t i = 0; i < c->n_scales; i++) {
        float scale;
        if (c->nested) {
            float outer;
            memcpy(&outer, c->nested_scales + i / NESTED_BLOCK * sizeof outer, sizeof outer);
            scale = scales[i] = map[c->nested[i]] * outer + c->nested_offset;
        } else {
            scale = codes_scale(&c->codes, i);
        }
        good &= fabsf(scale) <= limit;
    }
    return good ? PALI_OK : bad(entry, "a scale beside it is not finite, or so large that weights are not");
}
