/* locate.h: from an answer's tokens to the objects it names (spec inference 6.1 - 6.3).
 *
 *   tokens      <loc0256> <loc0000> <loc0767> <loc0511> [16 x <segNNN>] _red _car _; ...
 *   object      loc = y0 x0 y1 x1                        seg             label "red car"
 *
 * The parser reads ids, not text, so text that only looks like a location is none. What models do wrong is taken in its
 * stride: see locate.c. */
#ifndef PALI_INFER_LOCATE_H
#define PALI_INFER_LOCATE_H

#include "input/tokenizer.h"

#define LOCATE_CODES 16

typedef struct object {
    char *label;      /* NUL-terminated, without white space at its ends; NULL: none */
    size_t n_label;
    int32_t loc[4];   /* y0, x0, y1, x1 in 0..1023 */
    bool has_seg;
    int32_t seg[LOCATE_CODES]; /* 0..127; zeros without has_seg */
    double score;     /* 0 without log-probabilities */
    size_t first, n;  /* the tokens it came from: from the first location to the end of the label */
} object;

struct pali_objects {
    object *items;    /* [n] in the order of the answer */
    size_t n, cap;
    size_t n_stray;   /* tokens with a meaning that are in no object */
    int32_t width, height; /* of the picture, pixels; these three are for the reader of boxes */
    pali_box_convention convention;
};
typedef struct pali_objects objects;

/* Objects of tokens [n]; logprobs [n] may be NULL. objects_free *out. */
pali_status locate(objects **out, const tokenizer *t, const int32_t *tokens, const float *logprobs, size_t n);
void objects_free(objects *o);

/* Drops objects with a score below min_score; and of two with the same label whose boxes have an intersection over union
 * of at least nms_iou, the one with the lower score, the later one if the scores are equal. 0 turns either off. The time is
 * that of the square of their number. */
pali_status objects_drop(objects *o, double min_score, double nms_iou);

#endif
