/* cocorows.h: annotated pictures as rows of training data (spec training 8.2, 8.3).
 *
 *   detect    prefix "detect cat ; dog"     suffix "<loc0170><loc0256><loc0682><loc0767> cat ; <loc...> dog"
 *   segment   prefix "segment cat"          suffix "<loc...><loc...><loc...><loc...><seg000>...16 codes... cat"
 *
 * Locations are y0 x0 y1 x1. Objects stand in the file's order. */
#ifndef PALI_CLI_COCOROWS_H
#define PALI_CLI_COCOROWS_H

#include <stdio.h>

#include "common/coco.h"
#include "paligemma.h"

typedef enum cocorows_ask {
    COCOROWS_ALL,     /* for every category of the file: a row a picture, with an empty suffix where there is nothing */
    COCOROWS_PRESENT, /* for those that are in the picture: a row a picture, none where there is nothing */
    COCOROWS_EACH     /* for one category that is in the picture: a row for each of them */
} cocorows_ask;

typedef struct cocorows {
    const coco_set *set;
    const pali_mask_codec *codec; /* NULL: detect */
    cocorows_ask ask;
    bool by_1024, crowds;         /* locations are floor(v * 1024), not round(v * 1023); objects that are crowds are kept */
    FILE *out;
    uint8_t *mask;                /* grows */
    size_t mask_capacity;
    size_t n_rows, n_objects, n_crowds, n_bad; /* crowds and bad ones are left out */
    fault first_bad;
} cocorows;

/* Writes the rows of a picture, whose file is called `path`. False: nothing more can be done. */
bool cocorows_add(cocorows *r, size_t picture, const char *path, fault *f);
void cocorows_free(cocorows *r);

#endif
