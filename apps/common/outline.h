/* outline.h: a soft mask as closed curves. Painting needs nothing else of a mask, so that a hundred of them take kilobytes
 * where their pixels would take gigabytes, and a vector format gets vectors. */
#ifndef PALI_COMMON_OUTLINE_H
#define PALI_COMMON_OUTLINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct outline {
    float *xy;        /* [n_points, 2] pixels; the corner of the first pixel is 0, 0 */
    size_t *ends;     /* [n_curves] where a curve ends in xy; each is closed, holes included: fill them even-odd */
    size_t n_points, n_curves;
} outline;

/* Where mask [height, width] crosses 127.5, with straight lines between the pixels' centres and beyond the border 0, less
 * the points that lie within `tolerance` pixels of a line between others. A mask that is nowhere 128 gives no curve. A mask
 * like noise is traced at a lower resolution: at most OUTLINE_MAX_POINTS points. False: no memory. */
#define OUTLINE_MAX_POINTS ((size_t)1 << 19)
bool outline_trace(outline *out, const uint8_t *mask, int32_t width, int32_t height, double tolerance);
void outline_free(outline *o);

#endif
