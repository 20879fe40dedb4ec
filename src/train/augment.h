/* augment.h: random crops and flips of training pictures (spec training 8.4). No published recipe flips.
 *
 *   inception   a part of 50 to 100 % of the area, 3:4 to 4:3 wide, stretched to R x R
 *   random      a square of 7/8 of the shorter side, to R x R by areas
 *   flip        left and right swapped in every second row, boxes of the text with the picture
 *
 * What is drawn depends on the seed, the epoch and the row, and on nothing that came before. Text that knows where things are
 * limits it: with location tokens there is no crop; with segmentation tokens, whose codes cannot be mirrored, or the words left or
 * right (English only, inside words too), no flip. */
#ifndef PALI_TRAIN_AUGMENT_H
#define PALI_TRAIN_AUGMENT_H

#include <stdbool.h>

#include "base/rng.h"
#include "base/status.h"
#include "input/resize.h"

typedef enum augment_crop { AUGMENT_WHOLE, AUGMENT_INCEPTION, AUGMENT_RANDOM } augment_crop;

typedef struct augment_options {
    augment_crop crop;
    bool flip;
    uint64_t seed;
} augment_options;

/* A list of "ic" (inception), "rc" (random) and "flip", big_vision's names as far as it has them; NULL: none. The seed stays. */
pali_status augment_options_parse(augment_options *o, const char *list);
static inline bool augment_any(const augment_options *o) {
    return o->crop != AUGMENT_WHOLE || o->flip;
}

/* What happens to one row in one epoch. */
typedef struct augment {
    augment_crop crop;
    bool flip; /* its pictures and its texts */
    rng r;
} augment;

augment augment_draw(const augment_options *o, uint64_t epoch, size_t row, const char *prefix, const char *suffix);
/* out [size, size] (image_free) from the next picture of the row. */
pali_status augment_picture(image *out, augment *a, const image *in, size_t size, resize_filter filter);
/* The boxes of a text mirrored, in place. */
void augment_mirror_text(char *text);

#endif
