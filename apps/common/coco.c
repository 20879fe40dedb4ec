/* coco.c: see coco.h. A scanner finds the elements of the three lists, jansson reads each of them. */
#include "common/coco.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- Finding the elements ---- */

typedef struct scan {
    const char *at, *end, *begin, *name;
    fault *f;
} scan;

static bool scan_fail(const scan *s, const char *expected) {
    return fault_set(s->f, "%s: byte %zu: %s expected", s->name, (size_t)(s->at - s->begin), expected);
}

static void skip_blanks(scan *s) {
    while (s->at < s->end && (*s->at == ' ' || *s->at == '\n' || *s->at == '\r' || *s->at == '\t')) s->at++;
}

static bool take(scan *s, char c) {
    skip_blanks(s);
    if (s->at == s->end || *s->at != c) return false;
    s->at++;
    return true;
}

/* Past a string whose first quote is taken. */
static bool skip_string(scan *s) {
    for (; s->at < s->end; s->at++) {
        if (*s->at == '\\' && s->end - s->at > 1)
            s->at++;
        else if (*s->at == '"') {
            s->at++;
            return true;
        }
    }
    return scan_fail(s, "the end of a string");
}

/* Past a value. Brackets are counted; whether they match and what is between them is for whoever reads the value. */
static bool skip_value(scan *s) {
    size_t depth = 0;
    skip_blanks(s);
    const char *begin = s->at;
    while (s->at < s->end) {
        const char c = *s->at;
        if (depth == 0 && s->at > begin && (c == ',' || c == ']' || c == '}')) return true;
        s->at++;
        if (c == '"' && !skip_string(s)) return false;
        if (c == '[' || c == '{') depth++;
        if ((c == ']' || c == '}') && depth-- <= 1) return depth == 0 || scan_fail(s, "a value");
    }
    return scan_fail(s, "the end of a value");
}

typedef bool (*element_fn)(void *context, const char *text, size_t n_bytes, fault *f);

/* Calls fn for each element of the list that begins here. */
static bool each_element(scan *s, element_fn fn, void *context) {
    if (!take(s, '[')) return scan_fail(s, "a list");
    if (take(s, ']')) return true;
    do {
        skip_blanks(s);
        const char *text = s->at;
        if (!skip_value(s) || !fn(context, text, (size_t)(s->at - text), s->f)) return false;
    } while (take(s, ','));
    return take(s, ']') || scan_fail(s, "',' or ']'");
}

typedef struct list {
    const char *key;
    element_fn fn;
    void *context;
    bool found;
} list;

/* Goes through the file's one object; each list must be there once. */
static bool each_list(scan *s, list *lists, size_t n) {
    if (!take(s, '{')) return scan_fail(s, "an object");
    do {
        if (!take(s, '"')) return scan_fail(s, "a key");
        const char *key = s->at;
        if (!skip_string(s)) return false;
        const size_t n_key = (size_t)(s->at - key) - 1;
        list *found = NULL;
        for (size_t i = 0; i < n; i++)
            if (strlen(lists[i].key) == n_key && !memcmp(lists[i].key, key, n_key)) found = &lists[i];
        if (!take(s, ':')) return scan_fail(s, "':'");
        if (found && found->found) return fault_set(s->f, "%s: %s: comes twice", s->name, found->key);
        if (!(found ? each_element(s, found->fn, found->context) : skip_value(s))) return false;
        if (found) found->found = true;
    } while (take(s, ','));
    if (!take(s, '}')) return scan_fail(s, "',' or '}'");
    for (size_t i = 0; i < n; i++)
        if (!lists[i].found) return fault_set(s->f, "%s: no \"%s\"", s->name, lists[i].key);
    return true;
}

/* ---- Reading them ---- */

typedef struct builder {
    coco_set *set;
    const char *name;
    size_t picture_capacity, category_capacity, annotation_capacity;
} builder;

/* The block, or a larger one, with room for one more element; NULL: no memory. */
static void *grown(void *block, size_t n, size_t *capacity, size_t size, fault *f) {
    if (n < *capacity) return block;
    const size_t more = *capacity ? 2 * *capacity : 64;
    void *larger = realloc(block, more * size);
    if (larger)
        *capacity = more;
    else
        (void)fault_set(f, "out of memory");
    return larger;
}

static json_t *parse(const builder *b, const char *what, size_t index, const char *text, size_t n_bytes, fault *f) {
    json_error_t error;
    json_t *json = json_loadb(text, n_bytes, JSON_REJECT_DUPLICATES, &error);
    if (!json) (void)fault_set(f, "%s: %s[%zu]: %s", b->name, what, index, error.text);
    return json;
}

static bool integer(const json_t *object, const char *key, int64_t *out) {
    const json_t *value = json_object_get(object, key);
    *out = json_integer_value(value);
    return json_is_integer(value);
}

static char *text_of(const json_t *object, const char *key) {
    const char *text = json_string_value(json_object_get(object, key));
    return text && *text ? strdup(text) : NULL;
}

static bool category_add(void *context, const char *text, size_t n_bytes, fault *f) {
    builder *b = context;
    coco_set *s = b->set;
    coco_category *room = grown(s->categories, s->n_categories, &b->category_capacity, sizeof *room, f);
    if (!room) return false;
    s->categories = room;
    json_t *json = parse(b, "categories", s->n_categories, text, n_bytes, f);
    if (!json) return false;
    coco_category c = {0};
    bool fine = integer(json, "id", &c.id) && (c.name = text_of(json, "name"));
    json_decref(json);
    if (!fine) return fault_set(f, "%s: categories[%zu]: an id and a name expected", b->name, s->n_categories);
    s->categories[s->n_categories++] = c;
    /* What separates the objects of an answer cannot be in a label. */
    return !strpbrk(c.name, ";<>\n") || fault_set(f, "%s: categories: name \"%s\": a label has no ';', '<', '>' or line break", b->name, c.name);
}

static bool picture_add(void *context, const char *text, size_t n_bytes, fault *f) {
    builder *b = context;
    coco_set *s = b->set;
    int64_t width = 0, height = 0;
    coco_picture *room = grown(s->pictures, s->n_pictures, &b->picture_capacity, sizeof *room, f);
    if (!room) return false;
    s->pictures = room;
    json_t *json = parse(b, "images", s->n_pictures, text, n_bytes, f);
    if (!json) return false;
    coco_picture p = {0};
    bool fine = integer(json, "id", &p.id) && integer(json, "width", &width) && integer(json, "height", &height) && (p.file_name = text_of(json, "file_name"));
    json_decref(json);
    if (!fine) return fault_set(f, "%s: images[%zu]: an id, width, height and file_name expected", b->name, s->n_pictures);
    p.width = (size_t)width;
    p.height = (size_t)height;
    s->pictures[s->n_pictures++] = p;
    if (width >= 1 && height >= 1 && width <= COCO_MAX_SIDE && height <= COCO_MAX_SIDE && width * height <= COCO_MAX_PIXELS) return true;
    return fault_set(f, "%s: images: id %lld: sides of 1 to %d and at most %d pixels expected", b->name, (long long)p.id, COCO_MAX_SIDE, COCO_MAX_PIXELS);
}

static bool annotation_add(void *context, const char *text, size_t n_bytes, fault *f) {
    builder *b = context;
    coco_set *s = b->set;
    coco_place *room = grown(s->annotations, s->n_annotations, &b->annotation_capacity, sizeof *room, f);
    if (!room) return false;
    s->annotations = room;
    s->annotations[s->n_annotations++] = (coco_place){.text = text, .n_bytes = n_bytes};
    return true;
}

/* ---- Putting annotations to their pictures ---- */

static int by_id(const void *a, const void *b) {
    const int64_t x = ((const coco_id *)a)->id, y = ((const coco_id *)b)->id;
    return x < y ? -1 : x > y;
}

static bool ids_sort(coco_id *ids, size_t n, const char *name, const char *what, fault *f) {
    qsort(ids, n, sizeof *ids, by_id);
    for (size_t i = 1; i < n; i++)
        if (ids[i].id == ids[i - 1].id) return fault_set(f, "%s: %s: id %lld comes twice", name, what, (long long)ids[i].id);
    return true;
}

static bool ids_make(coco_set *s, const char *name, fault *f) {
    s->picture_ids = malloc((s->n_pictures + 1) * sizeof *s->picture_ids);
    s->category_ids = malloc((s->n_categories + 1) * sizeof *s->category_ids);
    if (!s->picture_ids || !s->category_ids) return fault_set(f, "out of memory");
    for (size_t i = 0; i < s->n_pictures; i++) s->picture_ids[i] = (coco_id){s->pictures[i].id, i};
    for (size_t i = 0; i < s->n_categories; i++) s->category_ids[i] = (coco_id){s->categories[i].id, i};
    return ids_sort(s->picture_ids, s->n_pictures, name, "images", f) && ids_sort(s->category_ids, s->n_categories, name, "categories", f);
}

/* The element with the id that is field `key`; false: there is none. */
static bool id_find(size_t *index, const coco_id *ids, size_t n, const json_t *json, const char *key) {
    coco_id wanted = {0};
    if (!integer(json, key, &wanted.id)) return false;
    const coco_id *found = bsearch(&wanted, ids, n, sizeof wanted, by_id);
    if (found) *index = found->index;
    return found;
}

/* Finds each annotation's picture; those of none are dropped and counted. */
static bool annotations_place(builder *b, fault *f) {
    coco_set *s = b->set;
    size_t kept = 0;
    for (size_t i = 0; i < s->n_annotations; i++) {
        coco_place place = s->annotations[i];
        json_t *json = parse(b, "annotations", i, place.text, place.n_bytes, f);
        if (!json) return false;
        const bool found = id_find(&place.picture, s->picture_ids, s->n_pictures, json, "image_id");
        json_decref(json);
        if (!found) continue;
        s->annotations[kept++] = place;
        s->pictures[place.picture].n++;
    }
    s->n_strays = s->n_annotations - kept;
    s->n_annotations = kept;
    return true;
}

/* By picture, otherwise in the file's order. */
static bool annotations_sort(coco_set *s, fault *f) {
    coco_place *sorted = malloc((s->n_annotations + 1) * sizeof *sorted);
    size_t *next = malloc((s->n_pictures + 1) * sizeof *next), at = 0;
    const bool fine = sorted && next;
    for (size_t i = 0; fine && i < s->n_pictures; i++) {
        next[i] = s->pictures[i].first = at;
        at += s->pictures[i].n;
    }
    for (size_t i = 0; fine && i < s->n_annotations; i++) sorted[next[s->annotations[i].picture]++] = s->annotations[i];
    free(next);
    if (!fine) {
        free(sorted);
        return fault_set(f, "out of memory");
    }
    free(s->annotations);
    s->annotations = sorted;
    return true;
}

bool coco_parse(coco_set *out, const char *bytes, size_t n_bytes, const char *name, fault *f) {
    *out = (coco_set){0};
    builder b = {.set = out, .name = name};
    scan s = {.at = bytes, .end = bytes + n_bytes, .begin = bytes, .name = name, .f = f};
    list lists[] = {{.key = "images", .fn = picture_add, .context = &b},
                    {.key = "categories", .fn = category_add, .context = &b},
                    {.key = "annotations", .fn = annotation_add, .context = &b}};
    const bool fine = each_list(&s, lists, sizeof lists / sizeof *lists) && ids_make(out, name, f) && annotations_place(&b, f) && annotations_sort(out, f);
    if (!fine) coco_free(out);
    return fine;
}

void coco_free(coco_set *s) {
    for (size_t i = 0; i < s->n_categories; i++) free(s->categories[i].name);
    for (size_t i = 0; i < s->n_pictures; i++) free(s->pictures[i].file_name);
    free(s->categories);
    free(s->pictures);
    free(s->category_ids);
    free(s->picture_ids);
    free(s->annotations);
    *s = (coco_set){0};
}

/* ---- One object ---- */

static double within(double v, size_t side) {
    return v < 0 ? 0 : v > (double)side ? (double)side : v;
}

static bool box_read(coco_object *o, const coco_picture *p) {
    const json_t *box = json_object_get(o->json, "bbox");
    double v[4];
    if (json_array_size(box) != 4) return false;
    for (size_t i = 0; i < 4; i++) {
        if (!json_is_number(json_array_get(box, i))) return false;
        v[i] = json_number_value(json_array_get(box, i));
    }
    o->x0 = within(v[0], p->width);
    o->y0 = within(v[1], p->height);
    o->x1 = within(v[0] + v[2], p->width);
    o->y1 = within(v[1] + v[3], p->height);
    return true;
}

bool coco_object_read(coco_object *out, const coco_set *s, size_t index, fault *f) {
    const coco_place *place = &s->annotations[index];
    const json_t *crowd;
    json_error_t error;
    *out = (coco_object){.json = json_loadb(place->text, place->n_bytes, 0, &error)};
    (void)integer(out->json, "id", &out->id);
    if (!out->json) return fault_set(f, "out of memory"); /* it has been read before */
    if (!id_find(&out->category, s->category_ids, s->n_categories, out->json, "category_id")) return fault_set(f, "category_id: that of a category expected");
    if (!box_read(out, &s->pictures[place->picture])) return fault_set(f, "bbox: x, y, width and height expected");
    if (!(out->x1 > out->x0 && out->y1 > out->y0)) return fault_set(f, "bbox: no area inside the picture");
    crowd = json_object_get(out->json, "iscrowd");
    out->crowd = json_is_true(crowd) || json_integer_value(crowd) != 0;
    out->segmentation = json_object_get(out->json, "segmentation");
    return true;
}

void coco_object_free(coco_object *o) {
    json_decref(o->json);
    *o = (coco_object){0};
}
