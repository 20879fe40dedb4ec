/* rows.h: a scene as rows of training data, {"image", "prefix", "suffix"}, in PaliGemma's prompt grammar:
 *
 *   caption en          cat, red circle and the word HAT              all objects from left to right
 *   answer en what colour is the circle?      red
 *   detect cat ; dog    <loc0160><loc0256><loc0688><loc0768> cat       y0 x0 y1 x1, from left to right whatever the order asked
 *   segment cat         the same, 16 tokens <seg000> before the name   only what is there once
 *   ocr                 HAT                                           several words from left to right
 *
 * What is absent has an empty suffix. */
#ifndef SCENES_ROWS_H
#define SCENES_ROWS_H

#include <stdio.h>

#include "paligemma.h"
#include "question.h"

typedef enum rows_task { ROWS_CAPTION, ROWS_DETECT, ROWS_ANSWER, ROWS_SEGMENT, ROWS_OCR, ROWS_ORDER, ROWS_TASKS } rows_task;

extern const char *const rows_task_names[ROWS_TASKS];

typedef struct rows_rules {
    const scene_rules *scene;
    double expected[ROWS_TASKS];         /* rows a picture; fractions by chance */
    bool language[NAMES_LANGUAGES];
    const pali_mask_codec *codec;        /* NULL: no segment rows for training */
} rows_rules;

/* One row without its picture. */
typedef struct rows_row {
    char prefix[QUESTION_TEXT + 16], suffix[640];
    const char *kind;                    /* what it tests, for tables: "en", "colour", "absent" ... */
} rows_row;

void rows_caption(rows_row *row, const scene *s, names_language language);
/* False: nothing of that kind can be asked. */
bool rows_answer(rows_row *row, const scene *s, const rows_rules *rules, question_kind kind, rng *r);
/* all: every thing of the scene is asked for; otherwise some, one absent among them at times, or, as a share `absent` of them, only what is absent. */
void rows_detect(rows_row *row, const scene *s, const rows_rules *rules, bool all, double absent, rng *r);
/* absent: the share that asks for what is not there, although something is. False: the codec failed. */
bool rows_segment(rows_row *row, const scene *s, const rows_rules *rules, double absent, rng *r);
void rows_ocr(rows_row *row, const scene *s);

/* A line of JSONL for training. */
bool rows_write(FILE *out, const char *image, const rows_row *row);
/* The training rows of a scene, by chance. */
bool rows_train(FILE *out, const char *image, const scene *s, const rows_rules *rules, rng *r);

/* ---- For judging: a file a task, at most a row a picture ---- */

typedef enum rows_sheet { SHEET_CAPTION_EN, SHEET_CAPTION_ES, SHEET_CAPTION_FR, SHEET_ANSWER, SHEET_DETECT, SHEET_SEGMENT, SHEET_OCR, ROWS_SHEETS } rows_sheet;

extern const char *const rows_sheet_names[ROWS_SHEETS]; /* "caption-en" and so on */

/* The rows of a scene: the prefix also as "prompt", as `paligemma run --batch` reads it, and the row's kind. Without a codec
 * the suffixes of segment rows lack the mask's tokens: masks are judged by the truth. */
bool rows_judge(FILE *const sheets[ROWS_SHEETS], const char *image, const scene *s, const rows_rules *rules, rng *r);

#endif
