/* detection.h: how well boxes are found.
 *
 * Average precision at IoU 0.5 as COCO computes it: per class, answers of all pictures in order of falling confidence, each
 * taking the free object of its picture that it overlaps most (at least by one half); precision made to fall monotonically and
 * read at the 101 recalls 0, 0.01 ... 1; the mean over the classes of which there is an object. Objects are those asked for. An
 * answer under a name that nobody asked for, or of which the picture has none, counts against that class. */
#ifndef SCENES_DETECTION_H
#define SCENES_DETECTION_H

#include <stdbool.h>
#include <stddef.h>

#define DETECTION_IOU 0.5

typedef struct detection_box {
    size_t picture;
    unsigned class;
    double box[4];  /* x0, y0, x1, y1 */
    double score;   /* of answers */
    double iou;     /* of answers, after detection_measure: with the object taken, 0: none */
    size_t order;   /* of answers: as they were added; decides between equal scores */
    bool taken;     /* of objects */
} detection_box;

typedef struct detection_list {
    detection_box *items;
    size_t n, capacity;
} detection_list;

typedef struct detection_figures {
    double ap50;     /* 0 if there is no object */
    double mean_iou; /* of the answers that took an object */
    size_t n_objects, n_answers, n_matched, n_classes;
} detection_figures;

double detection_iou(const double a[4], const double b[4]);
bool detection_add(detection_list *list, const detection_box *box); /* False: out of memory */
/* Of the classes from `first` to before `end`. Sorts both lists. False: out of memory. */
bool detection_measure(detection_figures *out, detection_list *objects, detection_list *answers, unsigned first, unsigned end);
void detection_free(detection_list *list);

#endif
