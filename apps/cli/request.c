#include "request.h"

#include <string.h>

bool request_parse(request *r, const input_text *line, char *error, size_t n_error) {
    json_error_t where;
    memset(r, 0, sizeof *r);
    r->object = json_loadb(line->bytes, line->n_bytes, JSON_REJECT_DUPLICATES, &where);
    if (!r->object) return (void)snprintf(error, n_error, "request: %s", where.text), false;
    r->prompt = json_string_value(json_object_get(r->object, "prompt"));
    if (!r->prompt && !json_object_get(r->object, "prompt")) r->prompt = json_string_value(json_object_get(r->object, "prefix"));
    if (!r->prompt) return (void)snprintf(error, n_error, "request: prompt: a string expected"), false;
    const json_t *image = json_object_get(r->object, "image");
    size_t n = json_is_array(image) ? json_array_size(image) : 1;
    if (n < 1 || n > REQUEST_MAX_IMAGES) {
        return (void)snprintf(error, n_error, "request: image: 1 to %d pictures expected", REQUEST_MAX_IMAGES), false;
    }
    for (; r->n_paths < n; r->n_paths++) {
        r->paths[r->n_paths] = json_string_value(json_is_array(image) ? json_array_get(image, r->n_paths) : image);
        if (!r->paths[r->n_paths]) return (void)snprintf(error, n_error, "request: image: a file name or a list of them expected"), false;
    }
    return true;
}
