/* judge.h: the answers of `paligemma run --batch SHEET.jsonl --json` against what is in the pictures.
 *
 * Texts are right when they are equal to the expected one, byte for byte. A mask is the first object's, or its box if it has
 * none; its IoU is taken in pixels of the picture, 0 where there is no object, and the mean is over pictures. Where what was
 * asked for is absent, anything but an empty text is a false positive. A line with an error is a wrong answer. */
#ifndef SCENES_JUDGE_H
#define SCENES_JUDGE_H

#include "detection.h"
#include "rows.h"

typedef struct judge_share {
    size_t right, n;
} judge_share;

typedef struct judge {
    bool has[ROWS_SHEETS];
    size_t n_errors;
    judge_share caption[NAMES_LANGUAGES], wordless[NAMES_LANGUAGES]; /* the second: of pictures without a printed word */
    judge_share answer[QUESTION_KINDS], ocr;
    judge_share present[ROWS_SHEETS];                                /* right: false positives; n: absent things asked for */
    detection_figures detect, detect_of[THING_CLASSES];              /* of all, and of emoji, shapes and words alone */
    double segment_iou;                                              /* the mean */
    size_t n_segments;
} judge;

/* Reads dir/SHEET.jsonl, answers/SHEET.jsonl and dir/truth.jsonl of each sheet that has answers. */
bool judge_run(judge *j, const char *dir, const char *answers, fault *f);

judge_share judge_answers(const judge *j); /* all kinds */

#endif
