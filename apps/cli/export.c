#include "export.h"

#include <stdlib.h>
#include <string.h>

#include "common/outfile.h"

struct export_set {
    const char *format;
    json_t *pictures;   /* [{"path", "width", "height", "stem", "objects": [...]}] */
    json_t *by_path;    /* path: index of the picture */
    json_t *by_stem;    /* YOLO: name of the text file: path */
    json_t *categories; /* label: index, in order of appearance */
};

export_set *export_new(const char *format) {
    export_set *x = calloc(1, sizeof *x);
    if (!x) return NULL;
    *x = (export_set){format, json_array(), json_object(), json_object(), json_object()};
    bool ok = x->pictures && x->by_path && x->by_stem && x->categories;
    if (ok && json_object_set_new(x->by_stem, "classes", json_string("the list of classes")) == 0) return x;
    export_free(x);
    return NULL;
}

void export_free(export_set *x) {
    if (!x) return;
    json_decref(x->pictures);
    json_decref(x->by_path);
    json_decref(x->by_stem);
    json_decref(x->categories);
    free(x);
}

static const char *label_of(const json_t *object) {
    const char *label = json_string_value(json_object_get(object, "label"));
    return label && *label ? label : "object";
}

static bool is_valid(const json_t *object) {
    return json_is_true(json_object_get(object, "valid"));
}

/* x0, y0, x1, y1 */
static void box_of(const json_t *object, double box[4]) {
    for (size_t k = 0; k < 4; k++) box[k] = json_number_value(json_array_get(json_object_get(object, "box"), k));
}

static double side_of(const json_t *picture, const char *name) {
    return json_number_value(json_object_get(picture, name));
}

/* The picture's record, made if it is new; NULL: fault. */
static json_t *picture_find(export_set *x, const char *path, const json_t *answer, fault *f) {
    json_t *name = report_text(path, strlen(path));
    const char *key = json_string_value(name), *slash = key ? strrchr(key, '/') : NULL, *base = slash ? slash + 1 : key;
    json_t *known = key ? json_object_get(x->by_path, key) : NULL, *picture = NULL;
    if (known) picture = json_array_get(x->pictures, (size_t)json_integer_value(known));
    if (!known && key) {
        const char *dot = strrchr(base, '.'), *other;
        json_t *stem = json_stringn(base, dot && dot > base ? (size_t)(dot - base) : strlen(base));
        const json_t *size = json_array_get(json_object_get(answer, "images"), 0);
        if (!strcmp(x->format, "yolo") && stem && (other = json_string_value(json_object_get(x->by_stem, json_string_value(stem))))) {
            (void)fault_set(f, "%s: yolo: %s would have the same text file: pictures of different names expected", path, other);
            json_decref(stem);
            json_decref(name);
            return NULL;
        }
        picture = json_pack("{s:O, s:O, s:O, s:o, s:[]}", "path", name, "width", json_object_get(size, "width"), "height",
                            json_object_get(size, "height"), "stem", stem, "objects");
        bool ok = picture && json_object_set_new(x->by_path, key, json_integer((json_int_t)json_array_size(x->pictures))) == 0 &&
                  json_object_set(x->by_stem, json_string_value(json_object_get(picture, "stem")), name) == 0;
        if (!ok || json_array_append(x->pictures, picture) != 0) ok = false;
        json_decref(picture);
        if (!ok) picture = NULL;
    }
    json_decref(name);
    if (!picture) (void)fault_set(f, "export: out of memory");
    return picture;
}

bool export_add(export_set *x, const char *path, const json_t *answer, fault *f) {
    json_t *picture = picture_find(x, path, answer, f);
    if (!picture) return false;
    size_t index;
    json_t *object;
    json_array_foreach(json_object_get(answer, "objects"), index, object) {
        const char *label = label_of(object);
        bool ok = json_object_get(x->categories, label) ||
                  json_object_set_new(x->categories, label, json_integer((json_int_t)json_object_size(x->categories))) == 0;
        if (!ok || json_array_append(json_object_get(picture, "objects"), object) != 0) return fault_set(f, "export: out of memory");
    }
    return true;
}

/* Pixels inside a mask, -1 if there is none or it cannot be read. */
static double mask_area(const json_t *mask) {
    int32_t height = (int32_t)json_integer_value(json_array_get(json_object_get(mask, "size"), 0));
    int32_t width = (int32_t)json_integer_value(json_array_get(json_object_get(mask, "size"), 1));
    const char *counts = json_string_value(json_object_get(mask, "counts"));
    uint8_t *bytes = NULL;
    if (!counts || pali_mask_from_rle(counts, width, height, &bytes) != PALI_OK) return -1;
    double area = 0;
    for (size_t i = 0; i < (size_t)width * (size_t)height; i++) area += bytes[i] != 0;
    pali_free(bytes);
    return area;
}

static json_t *coco_annotation(const export_set *x, size_t picture, size_t id, const json_t *object) {
    double box[4];
    box_of(object, box);
    json_t *mask = json_object_get(object, "mask");
    double area = mask_area(mask);
    bool has_mask = area >= 0;
    json_t *annotation =
        json_pack("{s:I, s:I, s:I, s:[f, f, f, f], s:f, s:i}", "id", (json_int_t)id, "image_id", (json_int_t)picture + 1, "category_id",
                  json_integer_value(json_object_get(x->categories, label_of(object))) + 1, "bbox", box[0], box[1], box[2] - box[0],
                  box[3] - box[1], "area", has_mask ? area : (box[2] - box[0]) * (box[3] - box[1]), "iscrowd", 0);
    json_t *score = json_object_get(object, "score");
    bool ok = annotation && (!json_is_number(score) || json_object_set(annotation, "score", score) == 0);
    if (ok && has_mask) ok = json_object_set(annotation, "segmentation", mask) == 0;
    if (ok) return annotation;
    json_decref(annotation);
    return NULL;
}

/* Appends to an array; false if that or making the value failed. */
static bool append(json_t *array, json_t *value) {
    return json_array_append_new(array, value) == 0;
}

/* Ids count from 1, as in COCO's own files. */
static char *make_coco(const export_set *x) {
    json_t *pictures = json_array(), *annotations = json_array(), *categories = json_array(), *picture, *object, *id;
    size_t i, k;
    const char *label;
    bool ok = pictures && annotations && categories;
    json_array_foreach(x->pictures, i, picture) {
        ok = ok &&
             append(pictures, json_pack("{s:I, s:O, s:O, s:O}", "id", (json_int_t)i + 1, "file_name", json_object_get(picture, "path"),
                                        "width", json_object_get(picture, "width"), "height", json_object_get(picture, "height")));
        json_array_foreach(json_object_get(picture, "objects"), k, object) {
            if (ok && is_valid(object)) ok = append(annotations, coco_annotation(x, i, json_array_size(annotations) + 1, object));
        }
    }
    json_object_foreach(x->categories, label, id) {
        ok = ok && append(categories, json_pack("{s:I, s:s, s:s}", "id", json_integer_value(id) + 1, "name", label, "supercategory", ""));
    }
    char version[64];
    (void)snprintf(version, sizeof version, "paligemma %s", pali_version());
    json_t *all = json_pack("{s:{s:s}, s:o, s:o, s:o}", "info", "description", version, "images", pictures, "annotations", annotations,
                            "categories", categories);
    char *text = all && ok ? json_dumps(all, JSON_COMPACT | JSON_REAL_PRECISION(REPORT_DIGITS)) : NULL;
    json_decref(all);
    return text;
}

/* A field of RFC 4180. */
static void put_field(FILE *out, const char *text) {
    if (!strpbrk(text, ",\"\r\n")) {
        fputs(text, out);
        return;
    }
    fputc('"', out);
    for (; *text; text++) {
        if (*text == '"') fputc('"', out);
        fputc(*text, out);
    }
    fputc('"', out);
}

static void put_csv(FILE *out, const export_set *x) {
    json_t *picture, *object;
    size_t i, k;
    fputs("image,width,height,label,score,x0,y0,x1,y1,valid\r\n", out);
    json_array_foreach(x->pictures, i, picture) {
        json_array_foreach(json_object_get(picture, "objects"), k, object) {
            double box[4];
            const char *label = json_string_value(json_object_get(object, "label"));
            box_of(object, box);
            put_field(out, json_string_value(json_object_get(picture, "path")));
            fprintf(out, ",%.0f,%.0f,", side_of(picture, "width"), side_of(picture, "height"));
            put_field(out, label ? label : "");
            const json_t *score = json_object_get(object, "score");
            fputc(',', out);
            if (json_is_number(score)) fprintf(out, "%.6g", json_number_value(score));
            fprintf(out, ",%.*g,%.*g,%.*g,%.*g,%d\r\n", REPORT_DIGITS, box[0], REPORT_DIGITS, box[1], REPORT_DIGITS, box[2],
                    REPORT_DIGITS, box[3], is_valid(object));
        }
    }
}

/* class, then centre and size as fractions of the sides. */
static void put_yolo_picture(FILE *out, const export_set *x, const json_t *picture) {
    size_t k;
    json_t *object;
    double w = side_of(picture, "width"), h = side_of(picture, "height");
    json_array_foreach(json_object_get(picture, "objects"), k, object) {
        double box[4];
        box_of(object, box);
        if (!is_valid(object)) continue;
        fprintf(out, "%d %.6f %.6f %.6f %.6f\n", (int)json_integer_value(json_object_get(x->categories, label_of(object))),
                (box[0] + box[2]) / 2 / w, (box[1] + box[3]) / 2 / h, (box[2] - box[0]) / w, (box[3] - box[1]) / h);
    }
}

/* A line for each class; a line break in a label would shift the others. */
static void put_yolo_classes(FILE *out, const export_set *x) {
    const char *label;
    json_t *id;
    json_object_foreach(x->categories, label, id) {
        for (const char *p = label; *p; p++) fputc(*p == '\n' || *p == '\r' ? ' ' : *p, out);
        fputc('\n', out);
    }
}

/* Ends a stream of open_memstream: its text if all went into it, else NULL. */
static char *finish(FILE *out, char **text) {
    bool ok = out && !ferror(out);
    if (out) ok = fclose(out) == 0 && ok;
    if (ok) return *text;
    free(*text);
    return NULL;
}

/* Writes a text and frees it; NULL is "out of memory". path NULL or "-": the output of the command. */
static int write_text(cli *c, const char *path, char *text) {
    fault f;
    if (!text) return cli_fail(c, "export: out of memory");
    int code = CLI_OK;
    if (!path || !strcmp(path, "-")) code = cli_write(c, text, strlen(text));
    else if (!outfile_write(path, &(outfile_piece){text, strlen(text)}, 1, &f)) code = cli_fail_fault(c, &f);
    free(text);
    return code;
}

static int write_yolo(cli *c, const export_set *x, const char *directory) {
    char path[4096], *text = NULL;
    size_t n_bytes = 0, i;
    json_t *picture;
    int code = CLI_OK;
    json_array_foreach(x->pictures, i, picture) {
        if (code) break;
        int n = snprintf(path, sizeof path, "%s/%s.txt", directory, json_string_value(json_object_get(picture, "stem")));
        if (n >= (int)sizeof path) return cli_fail(c, "%s: name too long", directory);
        FILE *out = open_memstream(&text, &n_bytes);
        if (out) put_yolo_picture(out, x, picture);
        code = write_text(c, path, finish(out, &text));
    }
    if (code) return code;
    if (snprintf(path, sizeof path, "%s/classes.txt", directory) >= (int)sizeof path) return cli_fail(c, "%s: name too long", directory);
    FILE *out = open_memstream(&text, &n_bytes);
    if (out) put_yolo_classes(out, x);
    return write_text(c, path, finish(out, &text));
}

int export_write(cli *c, const export_set *x) {
    if (!strcmp(x->format, "yolo")) return write_yolo(c, x, c->args.output);
    if (!strcmp(x->format, "coco")) return write_text(c, c->args.output, make_coco(x));
    char *text = NULL;
    size_t n_bytes = 0;
    FILE *out = open_memstream(&text, &n_bytes);
    if (out) put_csv(out, x);
    return write_text(c, c->args.output, finish(out, &text));
}
