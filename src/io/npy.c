#include "io/npy.h"

#include <string.h>

#include "base/mem.h"

/* By numpy's type code and size. Byte order: '<' or, for single bytes and void, '|'. */
static const struct {
    const char *code, *name;
    size_t n_bytes;
} k_dtypes[] = {
    [NPY_F32] = {"f4", "f32", 4}, [NPY_BF16] = {"V2", "bf16", 2}, [NPY_F16] = {"f2", "f16", 2}, [NPY_F64] = {"f8", "f64", 8},
    [NPY_I8] = {"i1", "i8", 1},   [NPY_U8] = {"u1", "u8", 1},     [NPY_I16] = {"i2", "i16", 2}, [NPY_U16] = {"u2", "u16", 2},
    [NPY_I32] = {"i4", "i32", 4}, [NPY_U32] = {"u4", "u32", 4},   [NPY_I64] = {"i8", "i64", 8}, [NPY_U64] = {"u8", "u64", 8},
    [NPY_BOOL] = {"b1", "bool", 1}, [NPY_OTHER] = {"", "other", 0},
};

const char *npy_dtype_name(npy_dtype dtype) {
    return k_dtypes[dtype].name;
}

/* The rest of the dict's text, and what to say it is about. */
typedef struct reader {
    const char *at, *end;
    const char *file, *name;
} reader;

static pali_status bad(const reader *r, const char *what) {
    return status_fail(PALI_ERR_FORMAT, "%s: %s: npy header: %s", r->file, r->name, what);
}

static void spaces_skip(reader *r) {
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\n' || *r->at == '\t' || *r->at == '\r')) r->at++;
}

/* Steps over one punctuation mark, if it is next. */
static bool mark(reader *r, char c) {
    spaces_skip(r);
    if (r->at == r->end || *r->at != c) return false;
    r->at++;
    return true;
}

/* Steps over a bare word, if it is next. */
static bool word(reader *r, const char *text) {
    size_t n = strlen(text);
    spaces_skip(r);
    if ((size_t)(r->end - r->at) < n || memcmp(r->at, text, n) != 0) return false;
    r->at += n;
    return true;
}

/* A quoted string without escapes: none of the values here needs one. */
static pali_status string(reader *r, const char **out, size_t *out_n, const char *what) {
    spaces_skip(r);
    if (r->at == r->end || (*r->at != '\'' && *r->at != '"')) return bad(r, what);
    const char quote = *r->at++, *begin = r->at;
    while (r->at < r->end && *r->at != quote && *r->at != '\\') r->at++;
    if (r->at == r->end || *r->at != quote) return bad(r, what);
    *out = begin;
    *out_n = (size_t)(r->at++ - begin);
    return PALI_OK;
}

static pali_status descr(reader *r, npy_array *a) {
    const char *text;
    size_t n;
    spaces_skip(r);
    if (r->at < r->end && *r->at == '[') return status_fail(PALI_ERR_UNSUPPORTED, "%s: %s: npy header: descr: arrays of records are not supported", r->file, r->name);
    STATUS_TRY(string(r, &text, &n, "descr: expected a string"));
    if (n < 2) return bad(r, "descr: expected a byte order, a kind and a size");
    a->dtype = NPY_OTHER;
    for (size_t i = 0; i < NPY_OTHER; i++) {
        if (n != 3 || memcmp(text + 1, k_dtypes[i].code, 2) != 0) continue;
        bool any_order = k_dtypes[i].n_bytes == 1 || i == NPY_BF16;
        if (text[0] == '>' && !any_order)
            return status_fail(PALI_ERR_UNSUPPORTED, "%s: %s: npy header: descr '%.3s': big-endian numbers are not supported", r->file, r->name, text);
        if (text[0] == '<' || (text[0] == '|' && any_order)) a->dtype = (npy_dtype)i;
    }
    return PALI_OK;
}

/* (), (3,), (3, 4), (3, 4,) */
static pali_status shape(reader *r, npy_array *a) {
    if (!mark(r, '(')) return bad(r, "shape: expected a tuple");
    while (!mark(r, ')')) {
        size_t dim = 0;
        const char *begin = r->at;
        if (a->n_dims == NPY_MAX_DIMS) return status_fail(PALI_ERR_LIMIT, "%s: %s: npy header: shape: more than the limit of %u dims", r->file, r->name, NPY_MAX_DIMS);
        for (; r->at < r->end && *r->at >= '0' && *r->at <= '9'; r->at++)
            if (!mem_mul(&dim, dim, 10) || !mem_add(&dim, dim, (size_t)(*r->at - '0'))) return bad(r, "shape: size overflows");
        if (r->at == begin) return bad(r, "shape: expected whole numbers");
        a->dims[a->n_dims++] = dim;
        if (mark(r, ',')) continue;
        if (a->n_dims == 1) return bad(r, "shape: expected a tuple"); /* (3) is a number */
        if (!mark(r, ')')) return bad(r, "shape: expected whole numbers");
        break;
    }
    return PALI_OK;
}

static pali_status fortran_order(reader *r, npy_array *a) {
    a->fortran_order = word(r, "True");
    return a->fortran_order || word(r, "False") ? PALI_OK : bad(r, "fortran_order: expected True or False");
}

static pali_status dict(reader *r, npy_array *a) {
    static const struct {
        const char *key;
        pali_status (*read)(reader *r, npy_array *a);
    } k_fields[] = {{"descr", descr}, {"fortran_order", fortran_order}, {"shape", shape}};
    enum { N_FIELDS = sizeof k_fields / sizeof k_fields[0] };
    bool seen[N_FIELDS] = {false};
    if (!mark(r, '{')) return bad(r, "expected a dict");
    while (!mark(r, '}')) {
        const char *key;
        size_t n, i = 0;
        STATUS_TRY(string(r, &key, &n, "expected a key"));
        while (i < N_FIELDS && (strlen(k_fields[i].key) != n || memcmp(k_fields[i].key, key, n) != 0)) i++;
        if (i == N_FIELDS || seen[i]) return bad(r, i == N_FIELDS ? "unknown key" : "a key twice");
        seen[i] = true;
        if (!mark(r, ':')) return bad(r, "expected ':' after a key");
        STATUS_TRY(k_fields[i].read(r, a));
        if (mark(r, ',')) continue;
        if (!mark(r, '}')) return bad(r, "expected ',' or '}' after a value");
        break;
    }
    for (size_t i = 0; i < N_FIELDS; i++)
        if (!seen[i]) return status_fail(PALI_ERR_FORMAT, "%s: %s: npy header: %s missing", r->file, r->name, k_fields[i].key);
    spaces_skip(r);
    return r->at == r->end ? PALI_OK : bad(r, "text after the dict");
}

/* Where the dict begins and how long it is. */
static pali_status preamble(size_t *begin, size_t *n_dict, const uint8_t *bytes, size_t n, const char *file, const char *name) {
    if (n < 10 || memcmp(bytes, "\x93NUMPY", 6) != 0) return status_fail(PALI_ERR_FORMAT, "%s: %s: not a npy array", file, name);
    if (bytes[6] < 1 || bytes[6] > 3 || bytes[7] != 0) return status_fail(PALI_ERR_UNSUPPORTED, "%s: %s: npy version %u.%u: expected 1.0, 2.0 or 3.0", file, name, bytes[6], bytes[7]);
    *begin = bytes[6] == 1 ? 10 : 12;
    if (n < *begin) return status_fail(PALI_ERR_FORMAT, "%s: %s: npy header: cut short", file, name);
    *n_dict = bytes[8] | (size_t)bytes[9] << 8;
    if (*begin == 12) *n_dict |= (size_t)bytes[10] << 16 | (size_t)bytes[11] << 24;
    if (*n_dict > NPY_MAX_HEADER) return status_fail(PALI_ERR_LIMIT, "%s: %s: npy header: %zu bytes, more than the limit of %u", file, name, *n_dict, NPY_MAX_HEADER);
    return PALI_OK;
}

pali_status npy_header_bytes(size_t *out, const uint8_t *bytes, size_t n, const char *file, const char *name) {
    size_t begin, n_dict;
    STATUS_TRY(preamble(&begin, &n_dict, bytes, n, file, name));
    *out = begin + n_dict;
    return PALI_OK;
}

pali_status npy_parse(npy_array *out, const uint8_t *bytes, size_t n_bytes, const char *file, const char *name) {
    size_t begin, n_dict, want = 1;
    *out = (npy_array){0};
    STATUS_TRY(preamble(&begin, &n_dict, bytes, n_bytes, file, name));
    if (n_dict > n_bytes - begin) return status_fail(PALI_ERR_FORMAT, "%s: %s: npy header: %zu bytes, but there are %zu", file, name, n_dict, n_bytes - begin);
    const char *text = (const char *)bytes + begin;
    reader r = {text, text + n_dict, file, name};
    STATUS_TRY(dict(&r, out));
    out->n_header_bytes = begin + n_dict;
    out->n_bytes = n_bytes - out->n_header_bytes;
    for (size_t i = 0; i < out->n_dims; i++)
        if (!mem_mul(&want, want, out->dims[i])) return bad(&r, "shape: size overflows");
    if (out->dtype == NPY_OTHER) return PALI_OK; /* how large an element is, nobody asks */
    if (!mem_mul(&want, want, k_dtypes[out->dtype].n_bytes)) return bad(&r, "shape: size overflows");
    if (want != out->n_bytes)
        return status_fail(PALI_ERR_FORMAT, "%s: %s: %zu bytes of data, but dtype and shape need %zu", file, name, out->n_bytes, want);
    return PALI_OK;
}
