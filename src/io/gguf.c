#include "io/gguf.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define MIN_VALUE_BYTES 14u  /* a key of one byte and a value of one */
#define MIN_TENSOR_BYTES 33u /* a name of one byte and one dim */

/* Types by number: a row of `block` elements takes `bytes`. Those without a dtype can be listed, not used. */
static const struct {
    const char *name;
    uint16_t block, bytes;
    pali_dtype dtype;
} k_types[] = {
    [0] = {"F32", 1, 4, PALI_DTYPE_F32},
    [1] = {"F16", 1, 2, PALI_DTYPE_F16},
    [2] = {"Q4_0", 32, 18, PALI_DTYPE_Q4_0},
    [3] = {"Q4_1", 32, 20, PALI_DTYPE_Q4_1},
    [6] = {"Q5_0", 32, 22, PALI_DTYPE_AUTO},
    [7] = {"Q5_1", 32, 24, PALI_DTYPE_AUTO},
    [8] = {"Q8_0", 32, 34, PALI_DTYPE_Q8_0},
    [9] = {"Q8_1", 32, 40, PALI_DTYPE_AUTO},
    [10] = {"Q2_K", 256, 84, PALI_DTYPE_AUTO},
    [11] = {"Q3_K", 256, 110, PALI_DTYPE_AUTO},
    [12] = {"Q4_K", 256, 144, PALI_DTYPE_Q4_K},
    [13] = {"Q5_K", 256, 176, PALI_DTYPE_AUTO},
    [14] = {"Q6_K", 256, 210, PALI_DTYPE_AUTO},
    [15] = {"Q8_K", 256, 292, PALI_DTYPE_AUTO},
    [16] = {"IQ2_XXS", 256, 66, PALI_DTYPE_AUTO},
    [17] = {"IQ2_XS", 256, 74, PALI_DTYPE_AUTO},
    [18] = {"IQ3_XXS", 256, 98, PALI_DTYPE_AUTO},
    [19] = {"IQ1_S", 256, 50, PALI_DTYPE_AUTO},
    [20] = {"IQ4_NL", 32, 18, PALI_DTYPE_AUTO},
    [21] = {"IQ3_S", 256, 110, PALI_DTYPE_AUTO},
    [22] = {"IQ2_S", 256, 82, PALI_DTYPE_AUTO},
    [23] = {"IQ4_XS", 256, 136, PALI_DTYPE_AUTO},
    [24] = {"I8", 1, 1, PALI_DTYPE_AUTO},
    [25] = {"I16", 1, 2, PALI_DTYPE_AUTO},
    [26] = {"I32", 1, 4, PALI_DTYPE_AUTO},
    [27] = {"I64", 1, 8, PALI_DTYPE_AUTO},
    [28] = {"F64", 1, 8, PALI_DTYPE_AUTO},
    [29] = {"IQ1_M", 256, 56, PALI_DTYPE_AUTO},
    [30] = {"BF16", 1, 2, PALI_DTYPE_BF16},
    [34] = {"TQ1_0", 256, 54, PALI_DTYPE_AUTO},
    [35] = {"TQ2_0", 256, 66, PALI_DTYPE_AUTO},
    [39] = {"MXFP4", 32, 17, PALI_DTYPE_AUTO},
};
#define N_TYPES (sizeof k_types / sizeof k_types[0])

static const uint8_t k_kind_bytes[] = {[GGUF_U8] = 1,  [GGUF_I8] = 1,   [GGUF_U16] = 2, [GGUF_I16] = 2, [GGUF_U32] = 4, [GGUF_I32] = 4, [GGUF_F32] = 4,
                                       [GGUF_BOOL] = 1, [GGUF_STRING] = 0, [GGUF_ARRAY] = 0, [GGUF_U64] = 8, [GGUF_I64] = 8, [GGUF_F64] = 8};

const char *gguf_type_name(uint32_t type) {
    return type < N_TYPES ? k_types[type].name : NULL;
}

pali_dtype gguf_type_dtype(uint32_t type) {
    return type < N_TYPES ? k_types[type].dtype : PALI_DTYPE_AUTO;
}

uint32_t gguf_dtype_type(pali_dtype dtype) {
    uint32_t type = 0;
    while (type < N_TYPES && (k_types[type].dtype != dtype || !k_types[type].name)) type++;
    return type;
}

size_t gguf_type_block(uint32_t type) {
    return k_types[type].block;
}

size_t gguf_row_bytes(uint32_t type, size_t n_elements) {
    return n_elements / k_types[type].block * k_types[type].bytes;
}

size_t gguf_row_width(pali_dtype dtype, size_t n) {
    size_t block = gguf_type_block(gguf_dtype_type(dtype));
    return (n + block - 1) / block * block;
}

/* ---- Reading front to back ---- */

typedef struct reader {
    const uint8_t *begin, *at, *end;
    const char *file;
} reader;

static size_t left(const reader *r) {
    return (size_t)(r->end - r->at);
}

static uint64_t number_at(const uint8_t *p, size_t n) {
    uint64_t x = 0;
    for (size_t i = n; i-- > 0;) x = x << 8 | p[i];
    return x;
}

static pali_status number(reader *r, uint64_t *out, size_t n, const char *what) {
    *out = 0;
    if (left(r) < n) return status_fail(PALI_ERR_FORMAT, "%s: %s: the file ends at byte %zu", r->file, what, (size_t)(r->end - r->begin));
    *out = number_at(r->at, n);
    r->at += n;
    return PALI_OK;
}

/* A string that names something: not empty, printable ASCII. */
static pali_status name_read(reader *r, const char **out, size_t *out_n, size_t max, const char *what) {
    uint64_t n;
    STATUS_TRY(number(r, &n, 8, what));
    if (n == 0 || n > max) return status_fail(n ? PALI_ERR_LIMIT : PALI_ERR_FORMAT, "%s: %s: %" PRIu64 " bytes: expected 1 to %zu", r->file, what, n, max);
    if (n > left(r)) return status_fail(PALI_ERR_FORMAT, "%s: %s: %" PRIu64 " bytes, but the file has %zu left", r->file, what, n, left(r));
    for (size_t i = 0; i < n; i++)
        if (r->at[i] < 0x20 || r->at[i] > 0x7e) return status_fail(PALI_ERR_FORMAT, "%s: %s: expected printable ASCII", r->file, what);
    *out = (const char *)r->at;
    *out_n = (size_t)n;
    r->at += n;
    return PALI_OK;
}

static pali_status bad_value(const reader *r, const gguf_value *v, const char *what) {
    return status_fail(PALI_ERR_FORMAT, "%s: %.*s: %s", r->file, (int)v->n_key, v->key, what);
}

/* Steps over v->n elements. */
static pali_status elements_skip(reader *r, gguf_value *v) {
    size_t n_bytes;
    v->data = r->at;
    if (v->kind != GGUF_STRING) {
        if (!mem_mul(&n_bytes, v->n, k_kind_bytes[v->kind]) || n_bytes > left(r)) return bad_value(r, v, "runs past the end of the file");
        r->at += n_bytes;
    }
    for (size_t i = 0; v->kind == GGUF_STRING && i < v->n; i++) {
        if (left(r) < 8) return bad_value(r, v, "runs past the end of the file");
        uint64_t n = number_at(r->at, 8);
        r->at += 8;
        if (n > left(r)) return bad_value(r, v, "a string runs past the end of the file");
        r->at += n;
    }
    v->n_bytes = (size_t)(r->at - v->data);
    return PALI_OK;
}

static pali_status value_read(reader *r, gguf_value *v) {
    uint64_t kind, n = 1;
    STATUS_TRY(name_read(r, &v->key, &v->n_key, GGUF_MAX_KEY, "key"));
    STATUS_TRY(number(r, &kind, 4, "kind of a value"));
    v->is_array = kind == GGUF_ARRAY;
    if (v->is_array) {
        STATUS_TRY(number(r, &kind, 4, "kind of an array"));
        STATUS_TRY(number(r, &n, 8, "length of an array"));
        if (kind == GGUF_ARRAY) return status_fail(PALI_ERR_UNSUPPORTED, "%s: %.*s: arrays of arrays are not supported", r->file, (int)v->n_key, v->key);
    }
    if (kind > GGUF_F64) return bad_value(r, v, "unknown kind of value");
    if (n > left(r)) return bad_value(r, v, "runs past the end of the file"); /* an element has a byte at least */
    v->kind = (gguf_kind)kind;
    v->n = (size_t)n;
    return elements_skip(r, v);
}

static pali_status tensor_read(reader *r, gguf_tensor *t, uint64_t *offset) {
    const char *name;
    size_t n_name, n_elements = 1;
    uint64_t n_dims, type;
    STATUS_TRY(name_read(r, &name, &n_name, GGUF_MAX_NAME, "name of a tensor"));
    memcpy(t->name, name, n_name);
    t->name[n_name] = 0;
    STATUS_TRY(number(r, &n_dims, 4, t->name));
    if (n_dims < 1 || n_dims > GGUF_MAX_DIMS)
        return status_fail(PALI_ERR_FORMAT, "%s: %s: %" PRIu64 " dims: expected 1 to %u", r->file, t->name, n_dims, GGUF_MAX_DIMS);
    t->n_dims = (size_t)n_dims;
    for (size_t i = t->n_dims; i-- > 0;) {
        uint64_t dim;
        STATUS_TRY(number(r, &dim, 8, t->name));
        if (dim == 0 || dim > SIZE_MAX || !mem_mul(&n_elements, n_elements, (size_t)dim))
            return status_fail(PALI_ERR_FORMAT, "%s: %s: dims: %s", r->file, t->name, dim ? "size overflows" : "a size is 0");
        t->dims[i] = (size_t)dim;
    }
    STATUS_TRY(number(r, &type, 4, t->name));
    STATUS_TRY(number(r, offset, 8, t->name));
    t->type = (uint32_t)type;
    if (!gguf_type_name(t->type)) return status_fail(PALI_ERR_UNSUPPORTED, "%s: %s: type %" PRIu64 " is unknown", r->file, t->name, type);
    size_t block = k_types[type].block, row = t->dims[t->n_dims - 1];
    if (row % block != 0)
        return status_fail(PALI_ERR_FORMAT, "%s: %s: rows of %zu are not whole blocks of %s, which have %zu", r->file, t->name, row, k_types[type].name, block);
    if (!mem_mul(&t->n_bytes, n_elements / block, k_types[type].bytes))
        return status_fail(PALI_ERR_FORMAT, "%s: %s: dims: size overflows", r->file, t->name);
    return PALI_OK;
}

/* ---- The parts of a file ---- */

static int key_compare(const char *a, size_t n_a, const char *b, size_t n_b) {
    int order = memcmp(a, b, n_a < n_b ? n_a : n_b);
    return order ? order : n_a < n_b ? -1 : n_a > n_b;
}

static int by_key(const void *a, const void *b) {
    const gguf_value *x = a, *y = b;
    return key_compare(x->key, x->n_key, y->key, y->n_key);
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const gguf_tensor *)a)->name, ((const gguf_tensor *)b)->name);
}

static int by_position(const void *a, const void *b) {
    const gguf_tensor *x = a, *y = b;
    return x->data < y->data ? -1 : x->data > y->data;
}

static pali_status values_read(gguf *out, reader *r, size_t n) {
    out->values = mem_calloc(n, sizeof *out->values);
    if (!out->values) return status_no_memory(n * sizeof *out->values);
    for (; out->n_values < n; out->n_values++) STATUS_TRY(value_read(r, &out->values[out->n_values]));
    qsort(out->values, n, sizeof *out->values, by_key);
    for (size_t i = 1; i < n; i++)
        if (by_key(&out->values[i - 1], &out->values[i]) == 0) return bad_value(r, &out->values[i], "the same key comes twice");
    return PALI_OK;
}

static pali_status alignment_read(gguf *out) {
    out->alignment = GGUF_ALIGNMENT;
    STATUS_TRY(gguf_get_size(out, "general.alignment", &out->alignment, 8, GGUF_MAX_ALIGNMENT));
    if (out->alignment & (out->alignment - 1))
        return status_fail(PALI_ERR_FORMAT, "%s: general.alignment: %zu is not a power of two", out->path, out->alignment);
    return PALI_OK;
}

static pali_status tensors_read(gguf *out, reader *r, size_t n) {
    uint64_t *offsets = mem_alloc(n, sizeof *offsets);
    pali_status s = offsets ? PALI_OK : status_no_memory(n * sizeof *offsets);
    out->tensors = mem_calloc(n, sizeof *out->tensors);
    if (!out->tensors && s == PALI_OK) s = status_no_memory(n * sizeof *out->tensors);
    for (; out->n_tensors < n && s == PALI_OK; out->n_tensors++) s = tensor_read(r, &out->tensors[out->n_tensors], &offsets[out->n_tensors]);
    size_t padding = (out->alignment - (size_t)(r->at - r->begin) % out->alignment) % out->alignment;
    const uint8_t *data = r->at + (padding < left(r) ? padding : left(r));
    size_t n_data = (size_t)(r->end - data);
    for (size_t i = 0; i < n && s == PALI_OK; i++) {
        gguf_tensor *t = &out->tensors[i];
        if (offsets[i] % out->alignment != 0)
            s = status_fail(PALI_ERR_FORMAT, "%s: %s: offset %" PRIu64 " is not a multiple of the alignment %zu", r->file, t->name, offsets[i], out->alignment);
        else if (offsets[i] > n_data || t->n_bytes > n_data - offsets[i])
            s = status_fail(PALI_ERR_FORMAT, "%s: %s: %zu bytes at %" PRIu64 " of the data, but the file has %zu (truncated?)", r->file, t->name, t->n_bytes, offsets[i], n_data);
        else
            t->data = data + offsets[i];
    }
    mem_free(offsets);
    return s;
}

static pali_status tensors_check(gguf *out) {
    gguf_tensor *t = out->tensors;
    qsort(t, out->n_tensors, sizeof *t, by_name);
    for (size_t i = 1; i < out->n_tensors; i++)
        if (by_name(&t[i - 1], &t[i]) == 0) return status_fail(PALI_ERR_FORMAT, "%s: %s: the same name comes twice", out->path, t[i].name);
    qsort(t, out->n_tensors, sizeof *t, by_position);
    for (size_t i = 1; i < out->n_tensors; i++)
        if (t[i - 1].data + t[i - 1].n_bytes > t[i].data)
            return status_fail(PALI_ERR_FORMAT, "%s: %s and %s overlap", out->path, t[i - 1].name, t[i].name);
    return PALI_OK;
}

bool gguf_is(const uint8_t *bytes, size_t n_bytes) {
    return n_bytes >= 4 && memcmp(bytes, "GGUF", 4) == 0;
}

static pali_status count_read(reader *r, size_t *out, size_t max, size_t min_bytes, const char *what) {
    uint64_t n;
    STATUS_TRY(number(r, &n, 8, what));
    if (n > max) return status_fail(PALI_ERR_LIMIT, "%s: %" PRIu64 " %s, more than the limit of %zu", r->file, n, what, max);
    if (n * min_bytes > left(r)) return status_fail(PALI_ERR_FORMAT, "%s: %" PRIu64 " %s, but the file has %zu bytes left", r->file, n, what, left(r));
    *out = (size_t)n;
    return PALI_OK;
}

static pali_status file_parse(gguf *out, const uint8_t *bytes, size_t n_bytes) {
    uint64_t version;
    size_t n_tensors, n_values;
    if (!gguf_is(bytes, n_bytes)) return status_fail(PALI_ERR_FORMAT, "%s: not a GGUF file", out->path);
    reader r = {bytes, bytes + 4, bytes + n_bytes, out->path};
    STATUS_TRY(number(&r, &version, 4, "version"));
    if (version && (version & 0xffff) == 0) return status_fail(PALI_ERR_UNSUPPORTED, "%s: big-endian GGUF files are not supported", out->path);
    if (version != 2 && version != 3)
        return status_fail(PALI_ERR_UNSUPPORTED, "%s: version %" PRIu64 " of GGUF is not supported: expected 2 or 3", out->path, version);
    STATUS_TRY(count_read(&r, &n_tensors, GGUF_MAX_TENSORS, MIN_TENSOR_BYTES, "tensors"));
    STATUS_TRY(count_read(&r, &n_values, GGUF_MAX_VALUES, MIN_VALUE_BYTES, "values"));
    STATUS_TRY(values_read(out, &r, n_values));
    STATUS_TRY(alignment_read(out));
    STATUS_TRY(tensors_read(out, &r, n_tensors));
    return tensors_check(out);
}

pali_status gguf_parse(gguf *out, const uint8_t *bytes, size_t n_bytes, const char *name) {
    size_t n = strlen(name) + 1;
    *out = (gguf){.path = mem_alloc(n, 1)};
    if (!out->path) return status_no_memory(n);
    memcpy(out->path, name, n);
    pali_status s = file_parse(out, bytes, n_bytes);
    if (s != PALI_OK) gguf_close(out);
    return s;
}

pali_status gguf_open(gguf *out, const char *path) {
    file_map map;
    *out = (gguf){0};
    STATUS_TRY(file_map_open(&map, path));
    pali_status s = gguf_parse(out, map.data, map.n_bytes, path);
    if (s != PALI_OK)
        file_map_close(&map);
    else
        out->map = map;
    return s;
}

void gguf_close(gguf *g) {
    mem_free(g->values);
    mem_free(g->tensors);
    mem_free(g->path);
    file_map_close(&g->map);
    *g = (gguf){0};
}

/* ---- Values ---- */

const gguf_value *gguf_find(const gguf *g, const char *key) {
    gguf_value wanted = {.key = key, .n_key = strlen(key)};
    return g->n_values ? bsearch(&wanted, g->values, g->n_values, sizeof wanted, by_key) : NULL;
}

const gguf_tensor *gguf_find_tensor(const gguf *g, const char *name) {
    size_t i = 0;
    while (i < g->n_tensors && strcmp(g->tensors[i].name, name) != 0) i++;
    return i < g->n_tensors ? &g->tensors[i] : NULL;
}

static pali_status expected(const gguf *g, const char *key, const char *what) {
    return status_fail(PALI_ERR_FORMAT, "%s: %s: expected %s", g->path, key, what);
}

pali_status gguf_get_size(const gguf *g, const char *key, size_t *out, size_t min, size_t max) {
    const gguf_value *v = gguf_find(g, key);
    if (!v) return PALI_OK;
    if (v->is_array || v->kind == GGUF_F32 || v->kind == GGUF_F64 || v->kind == GGUF_BOOL || v->kind == GGUF_STRING) return expected(g, key, "a whole number");
    uint64_t x = number_at(v->data, v->n_bytes);
    bool is_signed = v->kind == GGUF_I8 || v->kind == GGUF_I16 || v->kind == GGUF_I32 || v->kind == GGUF_I64;
    if (x < min || x > max || (is_signed && x >> (8 * v->n_bytes - 1)))
        return status_fail(PALI_ERR_FORMAT, "%s: %s: expected a number from %zu to %zu", g->path, key, min, max);
    *out = (size_t)x;
    return PALI_OK;
}

pali_status gguf_get_float(const gguf *g, const char *key, float *out, double min, double max) {
    const gguf_value *v = gguf_find(g, key);
    double x;
    if (!v) return PALI_OK;
    if (v->is_array || (v->kind != GGUF_F32 && v->kind != GGUF_F64)) return expected(g, key, "a number");
    if (v->kind == GGUF_F32)
        x = (double)gguf_array_f32(v, 0);
    else
        memcpy(&x, v->data, sizeof x);
    if (!(x >= min && x <= max)) return status_fail(PALI_ERR_FORMAT, "%s: %s: expected a number from %g to %g", g->path, key, min, max);
    *out = (float)x;
    return PALI_OK;
}

pali_status gguf_get_bool(const gguf *g, const char *key, bool *out) {
    const gguf_value *v = gguf_find(g, key);
    if (!v) return PALI_OK;
    if (v->is_array || v->kind != GGUF_BOOL || *v->data > 1) return expected(g, key, "true or false");
    *out = *v->data;
    return PALI_OK;
}

pali_status gguf_get_string(const gguf *g, const char *key, const char **out, size_t *out_n) {
    const gguf_value *v = gguf_find(g, key);
    if (!v) return PALI_OK;
    if (v->is_array || v->kind != GGUF_STRING) return expected(g, key, "a string");
    *out = (const char *)v->data + 8;
    *out_n = v->n_bytes - 8;
    return PALI_OK;
}

pali_status gguf_get_array(const gguf *g, const char *key, gguf_kind kind, const gguf_value **out) {
    const gguf_value *v = gguf_find(g, key);
    gguf_kind brother = kind == GGUF_I32 ? GGUF_U32 : kind == GGUF_U32 ? GGUF_I32 : kind;
    *out = v;
    if (v && (!v->is_array || (v->kind != kind && v->kind != brother)))
        return expected(g, key, kind == GGUF_STRING ? "an array of strings" : kind == GGUF_F32 ? "an array of floats" : kind == GGUF_BOOL ? "an array of true or false" : "an array of whole numbers");
    return PALI_OK;
}

int32_t gguf_array_i32(const gguf_value *array, size_t i) {
    int32_t x;
    memcpy(&x, array->data + i * sizeof x, sizeof x);
    return x;
}

float gguf_array_f32(const gguf_value *array, size_t i) {
    float x;
    memcpy(&x, array->data + i * sizeof x, sizeof x);
    return x;
}

const char *gguf_string_next(const uint8_t **at, size_t *out_n) {
    const char *text = (const char *)*at + 8;
    *out_n = (size_t)number_at(*at, 8);
    *at += 8 + *out_n;
    return text;
}
