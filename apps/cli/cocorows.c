#include "cocorows.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cocomask.h"

#define LOC_LENGTH 9u /* <loc0000> */
#define SEG_LENGTH 8u /* <seg000> */
#define TOKENS_SIZE (4 * LOC_LENGTH + PALI_MASK_CODES * SEG_LENGTH + 1)

typedef struct located {
    size_t category;
    char tokens[TOKENS_SIZE];
} located;

/* ---- An object ---- */

static unsigned location(const cocorows *r, double frac) {
    return (unsigned)(r->by_1024 ? fmin(floor(frac * 1024), 1023) : rint(frac * 1023)); /* rint: half to even, as the recipe */
}

static bool mask_codes(cocorows *r, int32_t codes[PALI_MASK_CODES], const coco_object *o, const coco_picture *p, const double box_frac[4], fault *f) {
    const size_t n = p->width * p->height;
    if (n > r->mask_capacity) {
        free(r->mask);
        r->mask = malloc(n);
        r->mask_capacity = r->mask ? n : 0;
        if (!r->mask) return fault_set(f, "no memory for a mask of %zu pixels", n);
    }
    if (!cocomask_make(r->mask, o, p, f)) return false;
    return pali_mask_codec_encode(r->codec, r->mask, (int32_t)p->width, (int32_t)p->height, 0, box_frac, codes) == PALI_OK || fault_set(f, "%s", pali_last_error());
}

static bool tokens_make(cocorows *r, located *out, const coco_object *o, const coco_picture *p, fault *f) {
    const double w = (double)p->width, h = (double)p->height, box_frac[4] = {o->y0 / h, o->x0 / w, o->y1 / h, o->x1 / w};
    int32_t codes[PALI_MASK_CODES];
    char *at = out->tokens;
    out->category = o->category;
    /* The remainders change nothing; they tell the compiler how long the text is. */
    for (size_t i = 0; i < 4; i++, at += LOC_LENGTH) (void)snprintf(at, LOC_LENGTH + 1, "<loc%04u>", location(r, box_frac[i]) % 10000);
    if (!r->codec) return true;
    if (!mask_codes(r, codes, o, p, box_frac, f)) return false;
    for (size_t i = 0; i < PALI_MASK_CODES; i++, at += SEG_LENGTH) (void)snprintf(at, SEG_LENGTH + 1, "<seg%03u>", (unsigned)codes[i] % 1000);
    return true;
}

static bool object_bad(cocorows *r, const coco_object *o, const fault *why) {
    if (!r->n_bad++) (void)fault_set(&r->first_bad, "annotation %lld: %.900s", (long long)o->id, why->text);
    return false;
}

/* False: left out, and counted. */
static bool object_take(cocorows *r, located *out, size_t annotation, const coco_picture *p) {
    coco_object o;
    fault why;
    bool fine = coco_object_read(&o, r->set, annotation, &why);
    if (fine && o.crowd && !r->crowds) {
        r->n_crowds++;
        fine = false;
    } else if (!fine || !tokens_make(r, out, &o, p, &why)) {
        fine = object_bad(r, &o, &why);
    }
    coco_object_free(&o);
    return fine;
}

/* ---- Rows ---- */

/* The text of a memory stream, which it closes; NULL: no memory. */
static char *memory_text(FILE *out, char **text) {
    if (fclose(out) == 0) return *text;
    free(*text);
    return NULL;
}

/* Objects of the category, or of all if it is the number of categories. */
static char *suffix_text(const cocorows *r, const located *objects, size_t n, size_t category) {
    char *text = NULL;
    size_t n_text = 0, n_written = 0;
    FILE *out = open_memstream(&text, &n_text);
    if (!out) return NULL;
    for (size_t i = 0; i < n; i++)
        if (category == r->set->n_categories || objects[i].category == category)
            (void)fprintf(out, "%s%s %s", n_written++ ? " ; " : "", objects[i].tokens, r->set->categories[objects[i].category].name);
    return memory_text(out, &text);
}

static char *prefix_text(const cocorows *r, const bool *asked) {
    char *text = NULL;
    size_t n_text = 0, n_written = 0;
    FILE *out = open_memstream(&text, &n_text);
    if (!out) return NULL;
    (void)fputs(r->codec ? "segment" : "detect", out);
    for (size_t i = 0; i < r->set->n_categories; i++)
        if (asked[i]) (void)fprintf(out, "%s %s", n_written++ ? " ;" : "", r->set->categories[i].name);
    return memory_text(out, &text);
}

static bool row_write(cocorows *r, const char *path, const coco_picture *p, const bool *asked, const located *objects, size_t n, size_t category, fault *f) {
    char *prefix = prefix_text(r, asked), *suffix = suffix_text(r, objects, n, category), id[24];
    (void)snprintf(id, sizeof id, "%lld", (long long)p->id);
    json_t *row = prefix && suffix ? json_pack("{s:s, s:s, s:s, s:s}", "image", path, "prefix", prefix, "suffix", suffix, "id", id) : NULL;
    const bool fine = row && json_dumpf(row, r->out, JSON_COMPACT) == 0 && fputc('\n', r->out) != EOF;
    json_decref(row);
    free(prefix);
    free(suffix);
    r->n_rows += fine;
    return fine || fault_set(f, "%s: cannot write its row: out of memory, or a name that is not UTF-8", path);
}

static bool rows_write(cocorows *r, const char *path, const coco_picture *p, const located *objects, size_t n, bool *asked, fault *f) {
    const size_t n_categories = r->set->n_categories;
    for (size_t i = 0; i < n; i++) asked[objects[i].category] = true;
    if (r->ask != COCOROWS_EACH) {
        if (r->ask == COCOROWS_ALL) memset(asked, true, n_categories * sizeof *asked);
        return (r->ask == COCOROWS_PRESENT && n == 0) || row_write(r, path, p, asked, objects, n, n_categories, f);
    }
    bool fine = true, *one = calloc(n_categories + 1, sizeof *one);
    if (!one) return fault_set(f, "out of memory");
    for (size_t i = 0; i < n_categories && fine; i++) {
        if (!asked[i]) continue;
        one[i] = true;
        fine = row_write(r, path, p, one, objects, n, i, f);
        one[i] = false;
    }
    free(one);
    return fine;
}

bool cocorows_add(cocorows *r, size_t picture, const char *path, fault *f) {
    const coco_picture *p = &r->set->pictures[picture];
    located *objects = malloc((p->n + 1) * sizeof *objects);
    bool *asked = calloc(r->set->n_categories + 1, sizeof *asked);
    size_t n = 0;
    bool fine = objects && asked;
    for (size_t i = 0; fine && i < p->n; i++) n += object_take(r, &objects[n], p->first + i, p);
    fine = fine ? rows_write(r, path, p, objects, n, asked, f) : fault_set(f, "out of memory");
    r->n_objects += fine ? n : 0;
    free(objects);
    free(asked);
    return fine;
}

void cocorows_free(cocorows *r) {
    free(r->mask);
    r->mask = NULL;
    r->mask_capacity = 0;
}
