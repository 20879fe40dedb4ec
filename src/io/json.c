#include "io/json.h"

#include <math.h>
#include <stdlib.h>

#include "base/file.h"
#include "base/mem.h"

pali_status json_parse(json_t **out, const char *text, size_t n_bytes, const char *name) {
    json_error_t error;
    /* jansson bounds the nesting depth itself (2048). */
    *out = json_loadb(text, n_bytes, JSON_REJECT_DUPLICATES, &error);
    if (*out) return PALI_OK;
    return status_fail(PALI_ERR_FORMAT, "%s: line %d, column %d: %s", name, error.line, error.column, error.text);
}

pali_status json_read(json_t **out, const char *path) {
    char *text;
    size_t n;
    *out = NULL;
    STATUS_TRY(file_read(&text, &n, path, JSON_MAX_FILE_BYTES));
    pali_status s = json_parse(out, text, n, path);
    mem_free(text);
    return s;
}

pali_status json_print(char **out, json_t *root) {
    char *text = NULL;
    *out = NULL;
    for (int digits = 15; root && digits <= 17; digits += 2) { /* 1e-06 rather than 9.9999999999999995e-07, if that is the same number */
        free(text);
        text = json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION((size_t)digits));
        json_t *back = text ? json_loads(text, 0, NULL) : NULL;
        bool same = json_equal(root, back);
        json_decref(back);
        if (same) break;
    }
    json_decref(root);
    if (text) *out = mem_copy_string(text);
    free(text);
    return *out ? PALI_OK : status_no_memory(1);
}

/* The field, or NULL if absent or null. */
static const json_t *field(const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    return json_is_null(value) ? NULL : value;
}

static pali_status wrong(const char *name, const char *key, const char *expected) {
    return status_fail(PALI_ERR_FORMAT, "%s: %s: expected %s", name, key, expected);
}

pali_status json_get_size(const json_t *object, const char *key, size_t *out, size_t min, size_t max, const char *name) {
    const json_t *value = field(object, key);
    if (!value) return PALI_OK;
    if (!json_is_integer(value)) return wrong(name, key, "a whole number");
    json_int_t number = json_integer_value(value);
    if (number < 0 || (uint64_t)number < min || (uint64_t)number > max)
        return status_fail(PALI_ERR_FORMAT, "%s: %s: %" JSON_INTEGER_FORMAT " is not between %zu and %zu", name, key,
                           number, min, max);
    *out = (size_t)number;
    return PALI_OK;
}

pali_status json_get_float(const json_t *object, const char *key, float *out, double min, double max, const char *name) {
    const json_t *value = field(object, key);
    if (!value) return PALI_OK;
    if (!json_is_number(value)) return wrong(name, key, "a number");
    double number = json_number_value(value);
    if (!(number >= min && number <= max))
        return status_fail(PALI_ERR_FORMAT, "%s: %s: %g is not between %g and %g", name, key, number, min, max);
    *out = (float)number;
    return PALI_OK;
}

pali_status json_get_bool(const json_t *object, const char *key, bool *out, const char *name) {
    const json_t *value = field(object, key);
    if (!value) return PALI_OK;
    if (!json_is_boolean(value)) return wrong(name, key, "true or false");
    *out = json_is_true(value);
    return PALI_OK;
}

pali_status json_get_string(const json_t *object, const char *key, const char **out, const char *name) {
    const json_t *value = field(object, key);
    if (!value) return PALI_OK;
    if (!json_is_string(value)) return wrong(name, key, "a string");
    *out = json_string_value(value);
    return PALI_OK;
}

pali_status json_get_object(const json_t *object, const char *key, const json_t **out, const char *name) {
    const json_t *value = field(object, key);
    *out = NULL;
    if (!value) return PALI_OK;
    if (!json_is_object(value)) return wrong(name, key, "an object");
    *out = value;
    return PALI_OK;
}
