#include "truth.h"

#include "paligemma.h"

static bool text_write(FILE *out, const char *key, const char *text) {
    return (text ? fprintf(out, ",\"%s\":\"%s\"", key, text) : fprintf(out, ",\"%s\":null", key)) > 0;
}

/* The alphabet of run lengths is '0' to 'o', which holds the backslash. */
static bool mask_write(FILE *out, const char *counts) {
    bool fine = fputs(",\"mask\":\"", out) != EOF;
    for (; *counts && fine; counts++) fine = (*counts != '\\' || fputc('\\', out) != EOF) && fputc(*counts, out) != EOF;
    return fine && fputc('"', out) != EOF;
}

static bool object_write(FILE *out, const scene_object *o, unsigned side) {
    static const char *const k_class[] = {"emoji", "shape", "word"};
    const thing *t = &o->what;
    char name[NAMES_TEXT], *counts;
    thing_name(name, t);
    if (pali_mask_to_rle(o->mask, (int32_t)side, (int32_t)side, 128, &counts) != PALI_OK) return false;
    bool fine = fprintf(out, "{\"class\":\"%s\"", k_class[t->class]) > 0 && text_write(out, "name", name);
    fine = fine && text_write(out, "colour", t->class == THING_SHAPE ? names_colours[t->colour].name[NAMES_EN] : NULL);
    fine = fine && text_write(out, "word", t->class == THING_WORD ? t->word : NULL);
    fine = fine && fprintf(out, ",\"box\":[%u,%u,%u,%u],\"loc\":[%u,%u,%u,%u]", o->box[0], o->box[1], o->box[2], o->box[3], o->loc[0], o->loc[1], o->loc[2], o->loc[3]) > 0;
    fine = fine && mask_write(out, counts) && fputc('}', out) != EOF;
    pali_free(counts);
    return fine;
}

bool truth_write(FILE *out, const char *image, const scene *s) {
    bool fine = fprintf(out, "{\"image\":\"%s\",\"side\":%u,\"objects\":[", image, s->side) > 0;
    for (unsigned i = 0; i < s->n && fine; i++) fine = (i == 0 || fputc(',', out) != EOF) && object_write(out, &s->object[i], s->side);
    return fine && fputs("]}\n", out) != EOF;
}
