#include "report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

json_t *report_text(const char *bytes, size_t n_bytes) {
    json_t *value = json_stringn(bytes, n_bytes);
    if (value) return value;
    char *plain = malloc(n_bytes + 1);
    if (!plain) return NULL;
    for (size_t i = 0; i < n_bytes; i++) plain[i] = (unsigned char)bytes[i] < 0x80 ? bytes[i] : '?';
    value = json_stringn(plain, n_bytes);
    free(plain);
    return value;
}

/* Appends value to array; both are gone if that fails. */
static json_t *append(json_t *array, json_t *value) {
    if (array && json_array_append_new(array, value) == 0) return array;
    json_decref(array);
    return NULL;
}

json_t *report_ids(const int32_t *ids, size_t n) {
    json_t *array = json_array();
    for (size_t i = 0; i < n && array; i++) array = append(array, json_integer(ids[i]));
    return array;
}

/* The number of 9 digits nearest to a float, which brings it back exactly. */
static double nine_digits(float value) {
    char text[32];
    (void)snprintf(text, sizeof text, "%.9g", (double)value);
    return strtod(text, NULL);
}

json_t *report_floats(const float *values, size_t n) {
    json_t *array = json_array();
    for (size_t i = 0; i < n && array; i++) array = append(array, json_real(nine_digits(values[i])));
    return array;
}

json_t *report_ms(double ms) {
    return json_real(round(ms * 1e3) / 1e3);
}

bool report_is_finite(const pali_result *result) {
    for (size_t i = 0; i < pali_result_count(result); i++) {
        pali_sequence s = {.struct_size = sizeof s};
        if (pali_result_get(result, i, &s) != PALI_OK || !isfinite(s.score)) return false;
        for (size_t j = 0; j < s.n_tokens; j++) {
            if (!isfinite(s.logprobs[j])) return false;
        }
    }
    return true;
}

int report_print(cli *c, json_t *object) {
    if (!object) return cli_fail(c, "%s: JSON: out of memory", c->command->name);
    char *line = json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(REPORT_DIGITS));
    json_decref(object);
    if (!line) return cli_fail(c, "%s: JSON: out of memory", c->command->name);
    int code = cli_write_text(c, line, strlen(line)); /* \u001b is JSON, too */
    if (!code) code = cli_write(c, "\n", 1);
    free(line);
    return code;
}
