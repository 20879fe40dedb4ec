/* truthfile.h: truth.jsonl, read back; and the lines of JSONL files. */
#ifndef SCENES_TRUTHFILE_H
#define SCENES_TRUTHFILE_H

#include <jansson.h>
#include <stdio.h>

#include "common/fault.h"
#include "names.h"

typedef struct jsonl {
    FILE *in;
    char *path, *line;
    size_t capacity, number; /* of the line read last, from 1 */
} jsonl;

/* False without a fault in it (the text is empty): there is no such file. */
bool jsonl_open(jsonl *l, const char *dir, const char *name, fault *f);
void jsonl_close(jsonl *l);
/* The next line's object, which the caller releases; NULL: the end, or a fault, whose text is empty at the end. */
json_t *jsonl_next(jsonl *l, fault *f);
/* A text of an object of the line; NULL: a fault. */
const char *jsonl_text(const jsonl *l, const json_t *object, const char *key, fault *f);

typedef struct truth_object {
    thing what;
    double box[4];     /* x0, y0, x1, y1 in pixels */
    const char *mask;  /* COCO's run lengths */
} truth_object;

#define TRUTH_OBJECTS 64u

/* What is in one picture. */
typedef struct truth_picture {
    json_t *json;      /* owns the rest */
    const char *image;
    int32_t side;
    size_t n;
    truth_object object[TRUTH_OBJECTS];
} truth_picture;

/* The picture of that name, which comes behind the one that *p holds (nothing at first). */
bool truth_seek(truth_picture *p, jsonl *truth, const char *image, fault *f);
void truth_picture_free(truth_picture *p);

#endif
