#include "judge.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "truthfile.h"

/* What is being looked at: a row, its picture and what was answered. */
typedef struct asked {
    const char *prompt, *expected, *kind;
    const char *text;              /* of the answer; NULL: it was an error */
    const json_t *objects;         /* a list, or NULL */
    const truth_picture *truth;
    size_t number;
} asked;

/* Boxes of all pictures. */
typedef struct boxes {
    detection_list objects, answers;
} boxes;

static void share_add(judge_share *s, bool right) {
    s->n++;
    s->right += right;
}

static bool answered(const asked *a) {
    return a->text && !strcmp(a->text, a->expected);
}

/* ---- Boxes ---- */

/* Whether "detect a ; b" or "segment a" asks for it. */
static bool is_asked(const char *prompt, const thing *what) {
    char name[NAMES_TEXT];
    thing_name(name, what);
    const size_t n = strlen(name);
    for (const char *at = strchr(prompt, ' '); at; at = strstr(at + 1, " ; ")) {
        if (!strncmp(at, " ; ", 3)) at += 2;
        if (!strncmp(at + 1, name, n) && (at[1 + n] == 0 || !strncmp(at + 1 + n, " ; ", 3))) return true;
    }
    return false;
}

/* False: no box, or one without area. */
static bool object_box(double box[4], const json_t *object) {
    const json_t *list = json_object_get(object, "box");
    for (size_t i = 0; i < 4; i++) {
        if (!json_is_number(json_array_get(list, i))) return false;
        box[i] = json_number_value(json_array_get(list, i));
    }
    return json_is_true(json_object_get(object, "valid"));
}

static bool judge_detect(boxes *b, const asked *a) {
    for (size_t i = 0; i < a->truth->n; i++) {
        const truth_object *o = &a->truth->object[i];
        detection_box box = {.picture = a->number, .class = thing_number(&o->what)};
        memcpy(box.box, o->box, sizeof box.box);
        if (is_asked(a->prompt, &o->what) && !detection_add(&b->objects, &box)) return false;
    }
    for (size_t i = 0; i < json_array_size(a->objects); i++) {
        const json_t *object = json_array_get(a->objects, i);
        const char *label = json_string_value(json_object_get(object, "label"));
        detection_box box = {.picture = a->number, .score = json_number_value(json_object_get(object, "score"))};
        thing what;
        if (!label || !thing_parse(&what, label) || !object_box(box.box, object)) continue; /* of no class */
        box.class = thing_number(&what);
        if (!detection_add(&b->answers, &box)) return false;
    }
    return true;
}

/* ---- Masks ---- */

static double mask_iou(const uint8_t *a, const uint8_t *b, size_t n) {
    size_t both = 0, any = 0;
    for (size_t i = 0; i < n; i++) {
        both += a[i] && b[i];
        any += a[i] || b[i];
    }
    return any ? (double)both / (double)any : 0;
}

/* Pixels whose middle is in the box. */
static uint8_t *mask_of_box(const double box[4], int32_t side) {
    uint8_t *mask = calloc((size_t)side, (size_t)side);
    for (int32_t y = 0; mask && y < side; y++)
        for (int32_t x = 0; x < side; x++)
            mask[(ptrdiff_t)y * side + x] = x + 0.5 > box[0] && x + 0.5 < box[2] && y + 0.5 > box[1] && y + 0.5 < box[3];
    return mask;
}

/* IoU of the first object's mask, or box, with the one asked for; negative: out of memory, or the truth is no mask. */
static double answer_iou(const asked *a, const truth_object *o) {
    const json_t *first = json_array_get(a->objects, 0), *mask = json_object_get(first, "mask"), *size = json_object_get(mask, "size");
    const char *counts = json_string_value(json_object_get(mask, "counts"));
    const int32_t side = a->truth->side;
    double box[4], iou = -1;
    uint8_t *found = NULL, *boxed = NULL, *truth;
    if (!object_box(box, first)) return 0;
    const bool fits = json_integer_value(json_array_get(size, 0)) == side && json_integer_value(json_array_get(size, 1)) == side;
    if (counts && (!fits || pali_mask_from_rle(counts, side, side, &found) != PALI_OK)) return 0;
    if (!found) boxed = mask_of_box(box, side);
    if ((found || boxed) && pali_mask_from_rle(o->mask, side, side, &truth) == PALI_OK) {
        iou = mask_iou(found ? found : boxed, truth, (size_t)side * (size_t)side);
        pali_free(truth);
    }
    pali_free(found);
    free(boxed);
    return iou;
}

static bool judge_segment(judge *j, const asked *a) {
    for (size_t i = 0; i < a->truth->n; i++) {
        if (!is_asked(a->prompt, &a->truth->object[i].what)) continue;
        const double iou = answer_iou(a, &a->truth->object[i]);
        if (iou < 0) return false;
        j->n_segments++;
        j->segment_iou += (iou - j->segment_iou) / (double)j->n_segments;
        return true;
    }
    return false;
}

/* ---- Rows ---- */

static bool has_word(const truth_picture *p) {
    for (size_t i = 0; i < p->n; i++)
        if (p->object[i].what.class == THING_WORD) return true;
    return false;
}

static bool judge_row(judge *j, boxes *b, rows_sheet sheet, const asked *a, fault *f) {
    unsigned kind = 0;
    if (sheet <= SHEET_CAPTION_FR) {
        share_add(&j->caption[sheet], answered(a));
        if (!has_word(a->truth)) share_add(&j->wordless[sheet], answered(a));
        return true;
    }
    if (sheet == SHEET_ANSWER) {
        while (kind < QUESTION_KINDS && strcmp(a->kind, question_names[kind]) != 0) kind++;
        if (kind == QUESTION_KINDS) return fault_set(f, "kind: unknown \"%.40s\"", a->kind);
        share_add(&j->answer[kind], answered(a));
        return true;
    }
    if (!strcmp(a->kind, "absent")) share_add(&j->present[sheet], a->text && *a->text);
    if (sheet == SHEET_DETECT) return judge_detect(b, a) || fault_set(f, "out of memory");
    if (!strcmp(a->kind, "absent")) return true;
    if (sheet == SHEET_SEGMENT) return judge_segment(j, a) || fault_set(f, "\"%.60s\": no mask of that in the truth", a->prompt);
    share_add(&j->ocr, answered(a));
    return true;
}

/* ---- Files ---- */

static bool row_read(asked *a, const jsonl *rows, const json_t *row, const char **image, fault *f) {
    return (a->prompt = jsonl_text(rows, row, "prompt", f)) && (a->expected = jsonl_text(rows, row, "suffix", f)) && (a->kind = jsonl_text(rows, row, "kind", f)) &&
           (*image = jsonl_text(rows, row, "image", f));
}

typedef struct sheet_files {
    jsonl rows, answers, truth;
    truth_picture picture;
} sheet_files;

static bool pair_judge(judge *j, boxes *b, rows_sheet sheet, sheet_files *s, const json_t *row, const json_t *answer, fault *f) {
    const char *image;
    fault why;
    asked a = {.text = json_string_value(json_object_get(answer, "text")), .objects = json_object_get(answer, "objects"), .truth = &s->picture, .number = s->rows.number};
    if (!row_read(&a, &s->rows, row, &image, f) || !truth_seek(&s->picture, &s->truth, image, f)) return false;
    if (!a.text && !json_object_get(answer, "error")) return fault_set(f, "%s:%zu: \"text\" or \"error\" expected", s->answers.path, s->answers.number);
    j->n_errors += a.text == NULL;
    return judge_row(j, b, sheet, &a, &why) || fault_set(f, "%s:%zu: %.900s", s->rows.path, s->rows.number, why.text);
}

static bool sheet_judge(judge *j, boxes *b, rows_sheet sheet, sheet_files *s, fault *f) {
    bool fine = true, more = true;
    while (fine && more) {
        fault at_row, at_answer;
        json_t *row = jsonl_next(&s->rows, &at_row), *answer = jsonl_next(&s->answers, &at_answer);
        more = row && answer;
        if (more)
            fine = pair_judge(j, b, sheet, s, row, answer, f);
        else if (at_row.text[0] || at_answer.text[0])
            fine = fault_set(f, "%s", at_row.text[0] ? at_row.text : at_answer.text);
        else if (row || answer)
            fine = fault_set(f, "%s: %s answers than rows", s->answers.path, row ? "fewer" : "more");
        json_decref(row);
        json_decref(answer);
    }
    return fine;
}

/* A sheet without answers is left out. */
static bool sheet_run(judge *j, boxes *b, rows_sheet sheet, const char *dir, const char *answers, fault *f) {
    const char *name = rows_sheet_names[sheet];
    sheet_files s = {0};
    bool fine = jsonl_open(&s.answers, answers, name, f);
    if (fine) {
        fine = jsonl_open(&s.rows, dir, name, f) && jsonl_open(&s.truth, dir, "truth", f);
        if (!fine && !f->text[0]) (void)fault_set(f, "%s: no such file", s.truth.path ? s.truth.path : s.rows.path);
        fine = fine && sheet_judge(j, b, sheet, &s, f);
        j->has[sheet] = true;
    } else {
        fine = !f->text[0];
    }
    truth_picture_free(&s.picture);
    jsonl_close(&s.rows);
    jsonl_close(&s.answers);
    jsonl_close(&s.truth);
    return fine;
}

bool judge_run(judge *j, const char *dir, const char *answers, fault *f) {
    boxes b = {0};
    bool fine = true, any = false;
    *j = (judge){0};
    for (unsigned i = 0; i < ROWS_SHEETS && fine; i++) {
        fine = sheet_run(j, &b, (rows_sheet)i, dir, answers, f);
        any |= j->has[i];
    }
    if (fine && !any) fine = fault_set(f, "%s: no answers: caption-en.jsonl and the like expected", answers);
    if (fine) fine = detection_measure(&j->detect, &b.objects, &b.answers, 0, THING_NUMBERS) || fault_set(f, "out of memory");
    for (unsigned c = 0; c < THING_CLASSES && fine; c++)
        fine = detection_measure(&j->detect_of[c], &b.objects, &b.answers, thing_first((thing_class)c), thing_first((thing_class)(c + 1))) || fault_set(f, "out of memory");
    detection_free(&b.objects);
    detection_free(&b.answers);
    return fine;
}

judge_share judge_answers(const judge *j) {
    judge_share all = {0};
    for (unsigned i = 0; i < QUESTION_KINDS; i++) {
        all.right += j->answer[i].right;
        all.n += j->answer[i].n;
    }
    return all;
}
