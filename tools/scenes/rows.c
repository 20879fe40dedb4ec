#include "rows.h"

#include <math.h>
#include <stdarg.h>
#include <string.h>

/* Shares of rows that ask for what is absent. In training they are rare: where each row counts alike, an answer of one token has the
 * weight of one of twenty, and a model that is not certain of what comes first would rather say nothing. */
typedef struct absences {
    double detect, segment, ocr; /* ocr and segment: also of the pictures in which nothing can be read or segmented */
} absences;

static const absences k_in_training = {.detect = 0.04, .segment = 0.01, .ocr = 0.03}, k_in_judging = {.detect = 0.2, .segment = 0.08, .ocr = 0.08};

const char *const rows_task_names[ROWS_TASKS] = {"caption", "detect", "answer", "segment", "ocr", "order"};
const char *const rows_sheet_names[ROWS_SHEETS] = {"caption-en", "caption-es", "caption-fr", "answer", "detect", "segment", "ocr"};

/* ---- Text ---- */

/* Appends; what does not fit is cut off, which the sizes in rows.h rule out. */
#if defined(__GNUC__)
__attribute__((format(printf, 3, 4)))
#endif
static void add(char *text, size_t size, const char *format, ...) {
    const size_t n = strlen(text);
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text + n, size - n, format, args);
    va_end(args);
}

#define ADD(array, ...) add(array, sizeof(array), __VA_ARGS__)

static rows_row row_start(const char *prefix, const char *kind) {
    rows_row row = {.kind = kind};
    ADD(row.prefix, "%s", prefix);
    return row;
}

/* ---- The tasks ---- */

void rows_caption(rows_row *row, const scene *s, names_language language) {
    *row = row_start("caption ", names_code[language]);
    ADD(row->prefix, "%s", names_code[language]);
    for (unsigned i = 0; i < s->n; i++) {
        char name[NAMES_TEXT];
        thing_caption(name, &s->object[i].what, language);
        if (i > 0 && i + 1 == s->n)
            ADD(row->suffix, " %s ", names_and[language]);
        else if (i > 0)
            ADD(row->suffix, ", ");
        ADD(row->suffix, "%s", name);
    }
}

bool rows_answer(rows_row *row, const scene *s, const rows_rules *rules, question_kind kind, rng *r) {
    question q;
    if (!question_make(&q, kind, s, rules->scene, r)) return false;
    *row = row_start("answer en ", question_names[kind]);
    ADD(row->prefix, "%s", q.text);
    ADD(row->suffix, "%s", q.answer);
    return true;
}

static void add_locations(rows_row *row, const scene_object *o) {
    for (unsigned i = 0; i < 4; i++) ADD(row->suffix, "<loc%04u>", o->loc[i]);
}

/* Of the mask within the snapped box, which is what the codes will be stretched over. */
static bool add_codes(rows_row *row, const scene_object *o, unsigned side, const pali_mask_codec *codec) {
    int32_t codes[PALI_MASK_CODES];
    double box_frac[4];
    for (unsigned i = 0; i < 4; i++) box_frac[i] = o->loc[i] / 1024.0;
    if (pali_mask_codec_encode(codec, o->mask, (int32_t)side, (int32_t)side, 0, box_frac, codes) != PALI_OK) return false;
    for (unsigned i = 0; i < PALI_MASK_CODES; i++) ADD(row->suffix, "<seg%03d>", (int)codes[i]);
    return true;
}

static void shuffle(thing *list, unsigned n, rng *r) {
    for (unsigned i = n; i > 1; i--) {
        const unsigned j = rng_below(r, i);
        const thing t = list[i - 1];
        list[i - 1] = list[j];
        list[j] = t;
    }
}

static bool listed(const thing *list, unsigned n, const thing *t) {
    for (unsigned i = 0; i < n; i++)
        if (thing_same(&list[i], t)) return true;
    return false;
}

/* The different things of a scene, in random order. */
static unsigned things_of(thing list[SCENE_OBJECTS + 1], const scene *s, rng *r) {
    unsigned n = 0;
    for (unsigned i = 0; i < s->n; i++)
        if (!listed(list, n, &s->object[i].what)) list[n++] = s->object[i].what;
    shuffle(list, n, r);
    return n;
}

void rows_detect(rows_row *row, const scene *s, const rows_rules *rules, bool all, double absent, rng *r) {
    thing list[SCENE_OBJECTS + 1];
    unsigned n = things_of(list, s, r);
    const bool none = !all && rng_chance(r, absent), mixed = !all && !none && (n == 1 || rng_chance(r, 0.15));
    if (none) n = 0;
    if (!all && n > 1) n = 1 + rng_below(r, n);
    if (none || mixed) list[n++] = scene_absent(s, rules->scene, r);
    shuffle(list, n, r);
    *row = row_start("detect", none ? "absent" : all ? "all" : "some");
    for (unsigned i = 0; i < n; i++) {
        char name[NAMES_TEXT];
        thing_name(name, &list[i]);
        ADD(row->prefix, "%s %s", i ? " ;" : "", name);
    }
    for (unsigned i = 0; i < s->n; i++) {
        char name[NAMES_TEXT];
        if (!listed(list, n, &s->object[i].what)) continue;
        thing_name(name, &s->object[i].what);
        if (row->suffix[0]) ADD(row->suffix, " ; ");
        add_locations(row, &s->object[i]);
        ADD(row->suffix, " %s", name);
    }
}

/* What is there once and no word. */
static unsigned segmentable(unsigned found[SCENE_OBJECTS], const scene *s) {
    unsigned n = 0;
    for (unsigned i = 0; i < s->n; i++)
        if (s->object[i].what.class != THING_WORD && scene_count(s, &s->object[i].what, NULL) == 1) found[n++] = i;
    return n;
}

bool rows_segment(rows_row *row, const scene *s, const rows_rules *rules, double absent, rng *r) {
    unsigned found[SCENE_OBJECTS];
    const unsigned n = segmentable(found, s);
    char name[NAMES_TEXT];
    const bool none = n == 0 || rng_chance(r, absent);
    const scene_object *o = &s->object[none ? 0 : found[rng_below(r, n)]];
    const thing what = none ? scene_absent(s, rules->scene, r) : o->what;
    thing_name(name, &what);
    *row = row_start("segment ", none ? "absent" : "present");
    ADD(row->prefix, "%s", name);
    if (none) return true;
    add_locations(row, o);
    const bool fine = !rules->codec || add_codes(row, o, s->side, rules->codec);
    ADD(row->suffix, " %s", name);
    return fine;
}

void rows_ocr(rows_row *row, const scene *s) {
    *row = row_start("ocr", "present");
    for (unsigned i = 0; i < s->n; i++)
        if (s->object[i].what.class == THING_WORD) ADD(row->suffix, "%s%s", row->suffix[0] ? " " : "", s->object[i].what.word);
    if (!row->suffix[0]) row->kind = "absent";
}

/* ---- Lines for training ---- */

/* Nothing in our texts needs an escape. */
bool rows_write(FILE *out, const char *image, const rows_row *row) {
    return fprintf(out, "{\"image\":\"%s\",\"prefix\":\"%s\",\"suffix\":\"%s\"}\n", image, row->prefix, row->suffix) > 0;
}

static unsigned amount(double expected, rng *r) {
    const double whole = floor(expected);
    return (unsigned)whole + rng_chance(r, expected - whole);
}

/* Questions in random order, each kind at most once. */
typedef struct asking {
    question_kind left[QUESTION_KINDS];
    unsigned n;
} asking;

static asking asking_start(void) {
    asking a = {.n = QUESTION_KINDS};
    for (unsigned i = 0; i < a.n; i++) a.left[i] = (question_kind)i;
    return a;
}

/* False: no kind is left. Some can always be asked at first. */
static bool asking_next(rows_row *row, asking *a, const scene *s, const rows_rules *rules, rng *r) {
    while (a->n > 0) {
        const unsigned i = rng_below(r, a->n);
        const question_kind kind = a->left[i];
        a->left[i] = a->left[--a->n];
        if (rows_answer(row, s, rules, kind, r)) return true;
    }
    return false;
}

static bool train_captions(FILE *out, const char *image, const scene *s, const rows_rules *rules, unsigned n, rng *r) {
    names_language list[NAMES_LANGUAGES];
    unsigned n_languages = 0;
    rows_row row;
    for (unsigned i = 0; i < NAMES_LANGUAGES; i++)
        if (rules->language[i]) list[n_languages++] = (names_language)i;
    for (; n > 0 && n_languages > 0; n--) {
        const unsigned i = rng_below(r, n_languages);
        rows_caption(&row, s, list[i]);
        if (!rows_write(out, image, &row)) return false;
        list[i] = list[--n_languages];
    }
    return true;
}

/* Asking for everything teaches most. */
static bool train_detections(FILE *out, const char *image, const scene *s, const rows_rules *rules, unsigned n, rng *r) {
    rows_row row;
    for (unsigned i = 0; i < n; i++) {
        rows_detect(&row, s, rules, i == 0 && rng_chance(r, n == 1 ? 0.5 : 0.9), k_in_training.detect, r);
        if (!rows_write(out, image, &row)) return false;
    }
    return true;
}

/* Which of two things is further left: while "left" and "right" are asked alike, neither the place of one thing nor the question's words
 * say anything by themselves, and nothing is learned. Here it is asked with "left" alone. */
static bool order_ask(rows_row *row, const scene *s, const rows_rules *rules, rng *r) {
    for (unsigned tries = 0; tries < 8; tries++) /* the two things may be drawn as one */
        if (rows_answer(row, s, rules, QUESTION_LEFT, r)) return true;
    return false;
}

bool rows_train(FILE *out, const char *image, const scene *s, const rows_rules *rules, rng *r) {
    unsigned n[ROWS_TASKS];
    rows_row row;
    asking a = asking_start();
    for (unsigned i = 0; i < ROWS_TASKS; i++) n[i] = amount(rules->expected[i], r);
    bool fine = train_captions(out, image, s, rules, n[ROWS_CAPTION], r) && train_detections(out, image, s, rules, n[ROWS_DETECT], r);
    for (unsigned i = 0; i < n[ROWS_ANSWER] && fine && asking_next(&row, &a, s, rules, r); i++) fine = rows_write(out, image, &row);
    for (unsigned i = 0; i < n[ROWS_ORDER] && fine; i++)
        if (order_ask(&row, s, rules, r)) fine = rows_write(out, image, &row);
    for (unsigned i = 0, found[SCENE_OBJECTS]; i < n[ROWS_SEGMENT] && rules->codec && fine; i++)
        if (segmentable(found, s) || rng_chance(r, k_in_training.segment)) fine = rows_segment(&row, s, rules, k_in_training.segment, r) && rows_write(out, image, &row);
    rows_ocr(&row, s);
    for (unsigned i = 0; i < n[ROWS_OCR] && fine; i++)
        if (row.suffix[0] || rng_chance(r, k_in_training.ocr)) fine = rows_write(out, image, &row);
    return fine;
}

/* ---- Lines for judging ---- */

static bool judge_write(FILE *out, const char *image, const rows_row *row) {
    return fprintf(out, "{\"image\":\"%s\",\"prompt\":\"%s\",\"prefix\":\"%s\",\"suffix\":\"%s\",\"kind\":\"%s\"}\n", image, row->prefix, row->prefix, row->suffix,
                   row->kind) > 0;
}

bool rows_judge(FILE *const sheets[ROWS_SHEETS], const char *image, const scene *s, const rows_rules *rules, rng *r) {
    rows_row row;
    asking a = asking_start();
    bool fine = true;
    for (unsigned i = 0; i < NAMES_LANGUAGES && fine; i++) {
        rows_caption(&row, s, (names_language)i);
        fine = judge_write(sheets[SHEET_CAPTION_EN + i], image, &row);
    }
    fine = fine && asking_next(&row, &a, s, rules, r) && judge_write(sheets[SHEET_ANSWER], image, &row);
    rows_detect(&row, s, rules, rng_chance(r, 0.5), k_in_judging.detect, r);
    fine = fine && judge_write(sheets[SHEET_DETECT], image, &row);
    fine = fine && rows_segment(&row, s, rules, k_in_judging.segment, r) && judge_write(sheets[SHEET_SEGMENT], image, &row);
    rows_ocr(&row, s);
    return fine && ((!row.suffix[0] && !rng_chance(r, k_in_judging.ocr)) || judge_write(sheets[SHEET_OCR], image, &row));
}
