/* json.h: typed, bounded access to JSON documents (jansson parses them). Every error names the file and the field. */
#ifndef PALI_IO_JSON_H
#define PALI_IO_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"

#define JSON_MAX_FILE_BYTES ((size_t)64 << 20)

/* `name` stands for the document in messages. Duplicate keys are refused. Free with json_decref. */
pali_status json_parse(json_t **out, const char *text, size_t n_bytes, const char *name);
pali_status json_read(json_t **out, const char *path);
/* A document as text, indented, numbers with no more digits than they need; mem_free it. Takes over `root`, NULL being lack of
 * memory. */
pali_status json_print(char **out, json_t *root);

/* Field `key` of `object` into *out, which keeps its value (the default) if the field is absent or null. The wrong type or a
 * value outside [min, max] is an error. */
pali_status json_get_size(const json_t *object, const char *key, size_t *out, size_t min, size_t max, const char *name);
pali_status json_get_float(const json_t *object, const char *key, float *out, double min, double max, const char *name);
pali_status json_get_bool(const json_t *object, const char *key, bool *out, const char *name);
/* *out points into the document. */
pali_status json_get_string(const json_t *object, const char *key, const char **out, const char *name);
/* NULL if absent or null. */
pali_status json_get_object(const json_t *object, const char *key, const json_t **out, const char *name);

#endif
