#include "objects.h"

#include <stdlib.h>
#include <string.h>

#include <glib.h>

#include "common/label.h"

#define LABEL_COLUMNS_MAX 40

void found_free(found *f) {
    for (size_t i = 0; f->masks && i < f->n; i++) pali_free(f->masks[i].rle);
    free(f->masks);
    pali_objects_free(f->objects);
    *f = (found){0};
}

static json_t *mask_json(const found *f, size_t index) {
    const char *rle = f->masks[index].rle;
    return rle ? json_pack("{s:[i, i], s:s}", "size", (int)f->height, (int)f->width, "counts", rle) : json_null();
}

static json_t *object_json(const found *f, size_t index, const pali_object *o) {
    json_t *label = o->label ? report_text(o->label, o->n_label_bytes) : json_null();
    return json_pack("{s:o, s:o, s:[f, f, f, f], s:o, s:o, s:o, s:b}", "label", label, "loc", report_ids(o->loc, 4), "box", o->box[0],
                     o->box[1], o->box[2], o->box[3], "score", f->has_scores ? json_real(o->score) : json_null(), "seg",
                     o->has_seg ? report_ids(o->seg, 16) : json_null(), "mask", mask_json(f, index), "valid", o->valid);
}

json_t *found_json(const found *f) {
    json_t *array = json_array();
    for (size_t i = 0; i < f->n && array; i++) {
        pali_object o = {.struct_size = sizeof o};
        json_t *object = pali_objects_get(f->objects, i, &o) == PALI_OK ? object_json(f, i, &o) : NULL;
        if (json_array_append_new(array, object) != 0) {
            json_decref(array);
            return NULL;
        }
    }
    return array;
}

/* Columns of a terminal that the character takes. */
static size_t columns_of(gunichar ch) {
    return g_unichar_iszerowidth(ch) ? 0 : g_unichar_iswide(ch) ? 2 : 1;
}

/* Ends the label with an ellipsis where it would take more than LABEL_COLUMNS_MAX columns (label_clean left room for one); returns
 * its columns. */
static size_t shorten(char *label) {
    size_t columns = 0, n_kept = 0, kept_columns = 0;
    for (char *p = label; *p; p = g_utf8_next_char(p)) {
        size_t n = columns_of(g_utf8_get_char(p));
        if (columns + n > LABEL_COLUMNS_MAX) {
            (void)strcpy(label + n_kept, "\xe2\x80\xa6");
            return kept_columns + 1;
        }
        columns += n;
        if (columns < LABEL_COLUMNS_MAX) {
            n_kept = (size_t)(g_utf8_next_char(p) - label);
            kept_columns = columns;
        }
    }
    return columns;
}

static const char *mask_text(char text[32], const found *f, size_t index, const pali_object *o) {
    if (!o->valid) return "no area";
    if (!f->masks[index].rle) return o->has_seg ? "not decoded" : "";
    (void)snprintf(text, 32, "%.1f %%", 100 * f->masks[index].share);
    return text;
}

/* Prints a row for each object, or only measures: *label_columns becomes the widest label. */
static int rows(cli *c, const found *f, bool print, size_t *label_columns) {
    int code = CLI_OK;
    for (size_t i = 0; i < f->n && !code; i++) {
        pali_object o = {.struct_size = sizeof o};
        pali_status status = pali_objects_get(f->objects, i, &o);
        if (status != PALI_OK) return cli_fail_library(c, status, c->command->name);
        char *label = label_clean(o.label ? o.label : "-", o.label ? o.n_label_bytes : 1), numbers[160], mask[32];
        if (!label) return cli_fail(c, "%s: out of memory", c->command->name);
        size_t columns = shorten(label);
        if (print) {
            int n_numbers = snprintf(numbers, sizeof numbers, "%3zu  ", i);
            code = cli_write(c, numbers, (size_t)n_numbers);
            if (!code) code = cli_write(c, label, strlen(label));
            char score[16] = "-";
            if (f->has_scores) (void)snprintf(score, sizeof score, "%.2f", o.score);
            n_numbers = snprintf(numbers, sizeof numbers, "%*s  %5s %8.1f %8.1f %8.1f %8.1f  %s\n", (int)(*label_columns - columns), "",
                                 score, o.box[0], o.box[1], o.box[2], o.box[3], mask_text(mask, f, i, &o));
            while (numbers[n_numbers - 2] == ' ') numbers[--n_numbers - 1] = '\n';
            if (!code) code = cli_write(c, numbers, (size_t)n_numbers);
        } else if (columns > *label_columns) {
            *label_columns = columns;
        }
        free(label);
    }
    return code;
}

int found_print(cli *c, const found *f) {
    size_t label_columns = strlen("label");
    char head[160];
    int code = rows(c, f, false, &label_columns);
    if (code || !f->n) return code;
    int n = snprintf(head, sizeof head, "%3s  %-*s  %5s %8s %8s %8s %8s  mask\n", "#", (int)label_columns, "label", "score", "x0", "y0",
                     "x1", "y1");
    code = cli_write(c, head, (size_t)n);
    return code ? code : rows(c, f, true, &label_columns);
}
