#include "detection.h"

#include <math.h>
#include <stdlib.h>

#define RECALLS 101

double detection_iou(const double a[4], const double b[4]) {
    const double w = fmin(a[2], b[2]) - fmax(a[0], b[0]), h = fmin(a[3], b[3]) - fmax(a[1], b[1]);
    if (w <= 0 || h <= 0) return 0;
    return w * h / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - w * h);
}

bool detection_add(detection_list *list, const detection_box *box) {
    if (list->n == list->capacity) {
        const size_t capacity = list->capacity ? 2 * list->capacity : 256;
        detection_box *grown = realloc(list->items, capacity * sizeof *grown);
        if (!grown) return false;
        list->items = grown;
        list->capacity = capacity;
    }
    list->items[list->n] = *box;
    list->items[list->n].order = list->n;
    list->n++;
    return true;
}

void detection_free(detection_list *list) {
    free(list->items);
    *list = (detection_list){0};
}

static int sign(double d) {
    return (d > 0) - (d < 0);
}

/* By class and picture. */
static int by_place(const void *a, const void *b) {
    const detection_box *p = a, *q = b;
    if (p->class != q->class) return p->class < q->class ? -1 : 1;
    return p->picture == q->picture ? 0 : p->picture < q->picture ? -1 : 1;
}

/* By class, the surest first. */
static int by_score(const void *a, const void *b) {
    const detection_box *p = a, *q = b;
    if (p->class != q->class) return p->class < q->class ? -1 : 1;
    return p->score != q->score ? sign(q->score - p->score) : p->order < q->order ? -1 : 1;
}

/* Takes the free object that overlaps the answer most. */
static void match(detection_box *answer, detection_list *objects) {
    detection_box *best = NULL;
    answer->iou = 0;
    detection_box *first = objects->n ? bsearch(answer, objects->items, objects->n, sizeof *first, by_place) : NULL;
    if (!first) return;
    while (first > objects->items && by_place(first - 1, answer) == 0) first--;
    for (detection_box *o = first; o < objects->items + objects->n && by_place(o, answer) == 0; o++) {
        const double iou = detection_iou(o->box, answer->box);
        if (o->taken || !(iou >= DETECTION_IOU) || iou <= answer->iou) continue; /* boxes beyond all sizes have an IoU that is no number */
        answer->iou = iou;
        best = o;
    }
    if (best) best->taken = true;
}

/* answers: n > 0 of one class, the surest first. precision has room for n. */
static double average_precision(const detection_box *answers, size_t n, size_t n_objects, double *precision) {
    size_t n_true = 0;
    for (size_t i = 0; i < n; i++) {
        n_true += answers[i].iou > 0;
        precision[i] = (double)n_true / (double)(i + 1);
    }
    for (size_t i = n; i > 1; i--) precision[i - 2] = fmax(precision[i - 2], precision[i - 1]);
    double sum = 0;
    size_t at = 0;
    n_true = answers[0].iou > 0; /* of answers 0 .. at */
    for (size_t r = 0; r < RECALLS; r++) {
        while (at < n && (RECALLS - 1) * n_true < r * n_objects)
            if (++at < n) n_true += answers[at].iou > 0;
        if (at < n) sum += precision[at];
    }
    return sum / RECALLS;
}

/* The boxes of one class: they lie side by side. */
static detection_list class_of(const detection_list *list, unsigned class) {
    size_t from = 0, to;
    while (from < list->n && list->items[from].class < class) from++;
    for (to = from; to < list->n && list->items[to].class == class; to++) list->items[to].taken = false;
    return (detection_list){.items = list->items + from, .n = to - from};
}

bool detection_measure(detection_figures *out, detection_list *objects, detection_list *answers, unsigned first, unsigned end) {
    double *precision = malloc((answers->n + 1) * sizeof *precision), iou = 0, ap = 0;
    *out = (detection_figures){0};
    if (!precision) return false;
    if (objects->n) qsort(objects->items, objects->n, sizeof *objects->items, by_place);
    if (answers->n) qsort(answers->items, answers->n, sizeof *answers->items, by_score);
    for (unsigned c = first; c < end; c++) {
        detection_list there = objects->n ? class_of(objects, c) : *objects, found = answers->n ? class_of(answers, c) : *answers;
        for (size_t i = 0; i < found.n; i++) {
            match(&found.items[i], &there);
            out->n_matched += found.items[i].iou > 0;
            iou += found.items[i].iou;
        }
        out->n_objects += there.n;
        out->n_answers += found.n;
        out->n_classes += there.n > 0;
        if (there.n && found.n) ap += average_precision(found.items, found.n, there.n, precision);
    }
    out->ap50 = out->n_classes ? ap / (double)out->n_classes : 0;
    out->mean_iou = out->n_matched ? iou / (double)out->n_matched : 0;
    free(precision);
    return true;
}
