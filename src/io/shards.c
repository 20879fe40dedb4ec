#include "io/shards.h"

#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "io/json.h"

static bool name_is_plain(const char *name) {
    return *name && !strchr(name, '/') && !strchr(name, '\\') && strcmp(name, "..") != 0 && strcmp(name, ".") != 0;
}

/* Neighbours in the map mostly share a shard, so the search begins at the last one. */
static bool names_have(const shards *s, const char *name) {
    for (size_t i = s->n; i > 0; i--)
        if (strcmp(s->names[i - 1], name) == 0) return true;
    return false;
}

static pali_status map_read(shards *s, const json_t *map, const char *file) {
    const char *tensor;
    json_t *value;
    if (!json_is_object(map)) return status_fail(PALI_ERR_FORMAT, "%s: weight_map: expected an object", file);
    if (json_object_size(map) > SHARDS_MAX_TENSORS)
        return status_fail(PALI_ERR_LIMIT, "%s: weight_map: more than %u tensors", file, SHARDS_MAX_TENSORS);
    s->names = mem_calloc(SHARDS_MAX_FILES, sizeof *s->names);
    if (!s->names) return status_no_memory(SHARDS_MAX_FILES * sizeof *s->names);
    json_object_foreach((json_t *)(uintptr_t)map, tensor, value) {
        const char *name = json_string_value(value);
        if (!name) return status_fail(PALI_ERR_FORMAT, "%s: weight_map: %s: expected a file name", file, tensor);
        if (!name_is_plain(name))
            return status_fail(PALI_ERR_FORMAT, "%s: weight_map: %s: '%s' is not the name of a file in the same directory",
                               file, tensor, name);
        if (names_have(s, name)) continue;
        if (s->n == SHARDS_MAX_FILES)
            return status_fail(PALI_ERR_LIMIT, "%s: weight_map: more than %u files", file, SHARDS_MAX_FILES);
        size_t n = strlen(name) + 1;
        char *copy = mem_alloc(n, 1);
        if (!copy) return status_no_memory(n);
        s->names[s->n++] = memcpy(copy, name, n);
    }
    if (!s->n) return status_fail(PALI_ERR_FORMAT, "%s: weight_map: names no file", file);
    return PALI_OK;
}

pali_status shards_parse(shards *out, const char *json, size_t n_bytes, const char *name) {
    json_t *root;
    *out = (shards){0};
    STATUS_TRY(json_parse(&root, json, n_bytes, name));
    pali_status s = map_read(out, json_object_get(root, "weight_map"), name);
    json_decref(root);
    if (s != PALI_OK) shards_free(out);
    return s;
}

pali_status shards_load(shards *out, const char *path) {
    char *text;
    size_t n;
    *out = (shards){0};
    STATUS_TRY(file_read(&text, &n, path, JSON_MAX_FILE_BYTES));
    pali_status s = shards_parse(out, text, n, path);
    mem_free(text);
    return s;
}

void shards_free(shards *s) {
    for (size_t i = 0; i < s->n; i++) mem_free(s->names[i]);
    mem_free(s->names);
    *s = (shards){0};
}
