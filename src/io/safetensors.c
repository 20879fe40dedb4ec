#include "io/safetensors.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "io/json.h"

static const struct {
    const char *name;
    size_t n_bytes;
} k_dtypes[] = {
    [ST_F32] = {"F32", 4},   [ST_BF16] = {"BF16", 2},       [ST_F16] = {"F16", 2},         [ST_F64] = {"F64", 8},
    [ST_I8] = {"I8", 1},     [ST_U8] = {"U8", 1},           [ST_I16] = {"I16", 2},         [ST_U16] = {"U16", 2},
    [ST_I32] = {"I32", 4},   [ST_U32] = {"U32", 4},         [ST_I64] = {"I64", 8},         [ST_U64] = {"U64", 8},
    [ST_BOOL] = {"BOOL", 1}, [ST_F8_E4M3] = {"F8_E4M3", 1}, [ST_F8_E5M2] = {"F8_E5M2", 1},
};

const char *safetensors_dtype_name(st_dtype dtype) {
    return k_dtypes[dtype].name;
}

size_t safetensors_dtype_bytes(st_dtype dtype) {
    return k_dtypes[dtype].n_bytes;
}

static pali_status bad(const char *file, const char *tensor, const char *what) {
    return status_fail(PALI_ERR_FORMAT, "%s: %s: %s", file, tensor, what);
}

/* One entry of the header into *t; `data` is the file's data section. */
static pali_status entry_read(st_tensor *t, const char *name, const json_t *entry, const uint8_t *data, size_t n_data,
                              const char *file) {
    const char *dtype = json_string_value(json_object_get(entry, "dtype"));
    const json_t *shape = json_object_get(entry, "shape"), *offsets = json_object_get(entry, "data_offsets");
    size_t kind = 0, n_kinds = sizeof k_dtypes / sizeof k_dtypes[0], n_elements = 1, want;
    if (!dtype) return bad(file, name, "dtype: expected a string");
    while (kind < n_kinds && strcmp(k_dtypes[kind].name, dtype) != 0) kind++;
    if (kind == n_kinds) return status_fail(PALI_ERR_FORMAT, "%s: %s: unknown dtype '%s'", file, name, dtype);
    if (!json_is_array(shape) || json_array_size(shape) > SAFETENSORS_MAX_DIMS)
        return bad(file, name, "shape: expected at most 8 sizes");
    *t = (st_tensor){.name = name, .dtype = (st_dtype)kind, .n_dims = json_array_size(shape)};
    for (size_t i = 0; i < t->n_dims; i++) {
        const json_t *dim = json_array_get(shape, i);
        if (!json_is_integer(dim) || json_integer_value(dim) < 0) return bad(file, name, "shape: expected whole numbers");
        t->dims[i] = (size_t)json_integer_value(dim);
        if (!mem_mul(&n_elements, n_elements, t->dims[i])) return bad(file, name, "shape: size overflows");
    }
    if (!mem_mul(&want, n_elements, k_dtypes[kind].n_bytes)) return bad(file, name, "shape: size overflows");
    const json_t *begin = json_array_get(offsets, 0), *end = json_array_get(offsets, 1);
    if (!json_is_array(offsets) || json_array_size(offsets) != 2 || !json_is_integer(begin) || !json_is_integer(end))
        return bad(file, name, "data_offsets: expected two whole numbers");
    json_int_t b = json_integer_value(begin), e = json_integer_value(end);
    if (b < 0 || e < b) return bad(file, name, "data_offsets: begin and end are not in order");
    if ((uint64_t)e > n_data)
        return status_fail(PALI_ERR_FORMAT,
                           "%s: %s: ends at byte %" JSON_INTEGER_FORMAT " of the data, but the file has %zu (truncated?)",
                           file, name, e, n_data);
    t->n_bytes = (size_t)(e - b);
    t->data = data + b;
    if (t->n_bytes != want)
        return status_fail(PALI_ERR_FORMAT, "%s: %s: %zu bytes of data, but dtype and shape need %zu", file, name,
                           t->n_bytes, want);
    return PALI_OK;
}

static int by_position(const void *a, const void *b) {
    const st_tensor *x = a, *y = b;
    if (x->data != y->data) return x->data < y->data ? -1 : 1;
    return x->n_bytes < y->n_bytes ? -1 : x->n_bytes > y->n_bytes;
}

static pali_status header_read(safetensors *out, const uint8_t *bytes, size_t n_bytes, const char *file) {
    uint64_t n_header = 0;
    if (n_bytes < 8) return status_fail(PALI_ERR_FORMAT, "%s: %zu bytes are too few for a safetensors file", file, n_bytes);
    for (int i = 7; i >= 0; i--) n_header = n_header << 8 | bytes[i];
    if (n_header > n_bytes - 8)
        return status_fail(PALI_ERR_FORMAT, "%s: header: %llu bytes, but the file has %zu (not a safetensors file?)", file,
                           (unsigned long long)n_header, n_bytes);
    if (n_header > SAFETENSORS_MAX_HEADER)
        return status_fail(PALI_ERR_LIMIT, "%s: header: %llu bytes, more than the limit of %u", file,
                           (unsigned long long)n_header, SAFETENSORS_MAX_HEADER);
    json_t *header;
    STATUS_TRY(json_parse(&header, (const char *)bytes + 8, (size_t)n_header, file));
    out->header = header;
    if (!json_is_object(header)) return status_fail(PALI_ERR_FORMAT, "%s: header: expected an object", file);
    out->tensors = mem_calloc(json_object_size(header) + 1, sizeof *out->tensors);
    if (!out->tensors) return status_no_memory(json_object_size(header) * sizeof *out->tensors);
    const char *name;
    json_t *entry;
    json_object_foreach(header, name, entry) {
        if (strcmp(name, "__metadata__") == 0) continue;
        STATUS_TRY(entry_read(&out->tensors[out->n_tensors], name, entry, bytes + 8 + n_header,
                              n_bytes - 8 - (size_t)n_header, file));
        out->n_tensors++;
    }
    qsort(out->tensors, out->n_tensors, sizeof *out->tensors, by_position);
    for (size_t i = 1; i < out->n_tensors; i++) {
        const st_tensor *a = &out->tensors[i - 1], *b = &out->tensors[i];
        if (a->data + a->n_bytes > b->data)
            return status_fail(PALI_ERR_FORMAT, "%s: %s and %s overlap", file, a->name, b->name);
    }
    return PALI_OK;
}

pali_status safetensors_parse(safetensors *out, const uint8_t *bytes, size_t n_bytes, const char *name) {
    *out = (safetensors){0};
    pali_status s = header_read(out, bytes, n_bytes, name);
    if (s != PALI_OK) safetensors_close(out);
    return s;
}

pali_status safetensors_open(safetensors *out, const char *path) {
    file_map map;
    *out = (safetensors){0};
    STATUS_TRY(file_map_open(&map, path));
    pali_status s = safetensors_parse(out, map.data, map.n_bytes, path);
    if (s != PALI_OK)
        file_map_close(&map);
    else
        out->map = map;
    return s;
}

void safetensors_close(safetensors *st) {
    json_decref(st->header);
    mem_free(st->tensors);
    file_map_close(&st->map);
    *st = (safetensors){0};
}
