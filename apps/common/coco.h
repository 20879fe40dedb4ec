/* coco.h: COCO's annotation files: pictures, categories, and the objects of each picture.
 *
 *   {"images": [{"id", "file_name", "width", "height"}], "categories": [{"id", "name"}],
 *    "annotations": [{"id", "image_id", "category_id", "bbox": [x, y, w, h], "iscrowd", "segmentation"}], ...}
 *
 * Such a file may have a million annotations. It stays as text, and of an annotation there is only where it lies until its picture
 * is worked on; so it takes little more memory than its size. */
#ifndef PALI_COMMON_COCO_H
#define PALI_COMMON_COCO_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "common/fault.h"

#define COCO_MAX_SIDE 1000000
#define COCO_MAX_PIXELS 178956970 /* of a picture, as the library's pictures */

typedef struct coco_category {
    int64_t id;
    char *name;
} coco_category;

typedef struct coco_picture {
    int64_t id;
    char *file_name;
    size_t width, height;
    size_t first, n; /* its annotations: first to first + n - 1 */
} coco_picture;

/* An annotation's text. */
typedef struct coco_place {
    const char *text;
    size_t n_bytes, picture;
} coco_place;

typedef struct coco_id {
    int64_t id;
    size_t index;
} coco_id;

typedef struct coco_set {
    coco_category *categories;
    coco_picture *pictures;
    coco_id *category_ids, *picture_ids; /* the same by id */
    coco_place *annotations; /* by picture, of one picture in the file's order */
    size_t n_categories, n_pictures, n_annotations;
    size_t n_strays;         /* annotations of pictures that are not there; they are in no list */
} coco_set;

/* `bytes` must stay; `name` is the file's, for messages. */
bool coco_parse(coco_set *out, const char *bytes, size_t n_bytes, const char *name, fault *f);
void coco_free(coco_set *s);

typedef struct coco_object {
    json_t *json;
    int64_t id;                 /* for messages; 0 if it has none */
    size_t category;            /* index */
    double x0, y0, x1, y1;      /* in pixels, x0 < x1 and y0 < y1, inside the picture */
    bool crowd;
    const json_t *segmentation; /* NULL: none; what encloses it */
} coco_object;

/* Annotation `index` of the list. False: it is no object with a box, the fault says why. coco_object_free in either case. */
bool coco_object_read(coco_object *out, const coco_set *s, size_t index, fault *f);
void coco_object_free(coco_object *o);

#endif
