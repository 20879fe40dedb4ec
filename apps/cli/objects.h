/* objects.h: the objects of an answer with what became of their masks, as JSON and as a table. */
#ifndef PALI_CLI_OBJECTS_H
#define PALI_CLI_OBJECTS_H

#include "report.h"

typedef struct found_mask {
    char *rle;     /* COCO's string, of values of at least FOUND_MASK_THRESHOLD (pali_free); NULL: no mask */
    double share;  /* of the picture, 0 to 1 */
} found_mask;

#define FOUND_MASK_THRESHOLD 128

typedef struct found {
    pali_objects *objects;
    found_mask *masks;      /* [n] */
    size_t n;
    int32_t width, height;  /* of the picture */
    bool has_scores;        /* log-probabilities were there to make them of */
} found;

void found_free(found *f);

/* The array "objects" of the contract. */
json_t *found_json(const found *f);
/* A table for people: number, label, score, box, mask. Labels are made printable. */
int found_print(cli *c, const found *f);

#endif
