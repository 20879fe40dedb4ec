#include "truthfile.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "scene.h"

/* ---- Lines ---- */

bool jsonl_open(jsonl *l, const char *dir, const char *name, fault *f) {
    const size_t n = strlen(dir) + strlen(name) + 8;
    *l = (jsonl){.path = malloc(n)};
    f->text[0] = 0;
    if (!l->path) return fault_set(f, "out of memory");
    (void)snprintf(l->path, n, "%s/%s.jsonl", dir, name);
    l->in = fopen(l->path, "r");
    return l->in || (errno != ENOENT && fault_set(f, "%s: %s", l->path, strerror(errno)));
}

void jsonl_close(jsonl *l) {
    if (l->in) (void)fclose(l->in);
    free(l->path);
    free(l->line);
    *l = (jsonl){0};
}

json_t *jsonl_next(jsonl *l, fault *f) {
    json_error_t where;
    f->text[0] = 0;
    const ssize_t n = getline(&l->line, &l->capacity, l->in);
    if (n < 0) {
        if (!feof(l->in)) (void)fault_set(f, "%s: %s", l->path, strerror(errno));
        return NULL;
    }
    l->number++;
    json_t *object = json_loadb(l->line, (size_t)n, 0, &where);
    if (!json_is_object(object)) {
        json_decref(object);
        object = NULL;
        (void)fault_set(f, "%s:%zu: an object of JSON expected", l->path, l->number);
    }
    return object;
}

const char *jsonl_text(const jsonl *l, const json_t *object, const char *key, fault *f) {
    const char *text = json_string_value(json_object_get(object, key));
    if (!text) (void)fault_set(f, "%s:%zu: %s: a string expected", l->path, l->number, key);
    return text;
}

/* ---- The truth ---- */

static bool object_read(truth_object *o, const json_t *json, const jsonl *l, fault *f) {
    const char *name = jsonl_text(l, json, "name", f);
    const json_t *box = json_object_get(json, "box");
    o->mask = jsonl_text(l, json, "mask", f);
    if (!name || !o->mask) return false;
    if (!thing_parse(&o->what, name)) return fault_set(f, "%s:%zu: name: unknown \"%.40s\"", l->path, l->number, name);
    for (size_t i = 0; i < 4; i++) {
        const json_t *value = json_array_get(box, i);
        if (!json_is_number(value)) return fault_set(f, "%s:%zu: box: four numbers expected", l->path, l->number);
        o->box[i] = json_number_value(value);
    }
    return true;
}

static bool picture_read(truth_picture *p, const jsonl *l, fault *f) {
    const json_t *list = json_object_get(p->json, "objects"), *side = json_object_get(p->json, "side");
    const size_t n = json_array_size(list);
    p->image = jsonl_text(l, p->json, "image", f);
    if (!p->image) return false;
    if (json_integer_value(side) < 1 || json_integer_value(side) > SCENE_SIDE_MAX) return fault_set(f, "%s:%zu: side: 1 to %u expected", l->path, l->number, SCENE_SIDE_MAX);
    if (n < 1 || n > TRUTH_OBJECTS) return fault_set(f, "%s:%zu: objects: a list of 1 to %u expected", l->path, l->number, TRUTH_OBJECTS);
    p->side = (int32_t)json_integer_value(side);
    for (p->n = 0; p->n < n; p->n++)
        if (!object_read(&p->object[p->n], json_array_get(list, p->n), l, f)) return false;
    return true;
}

void truth_picture_free(truth_picture *p) {
    json_decref(p->json);
    *p = (truth_picture){0};
}

bool truth_seek(truth_picture *p, jsonl *truth, const char *image, fault *f) {
    while (!p->json || strcmp(p->image, image) != 0) {
        truth_picture_free(p);
        p->json = jsonl_next(truth, f);
        if (!p->json) return f->text[0] ? false : fault_set(f, "%s: no picture %s, or not in this order", truth->path, image);
        if (!picture_read(p, truth, f)) return false;
    }
    return true;
}
