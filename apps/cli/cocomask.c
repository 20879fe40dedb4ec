#include "cocomask.h"

#include <stdlib.h>
#include <string.h>

#include "common/polygon.h"
#include "paligemma.h"

static bool add_polygon(uint8_t *mask, const json_t *list, const coco_picture *p, fault *f) {
    const size_t n = json_array_size(list);
    double *xy = malloc((n + 1) * sizeof *xy);
    if (!xy) return fault_set(f, "out of memory");
    bool fine = n % 2 == 0 && n > 0;
    for (size_t i = 0; i < n && fine; i++) {
        const json_t *value = json_array_get(list, i);
        fine = json_is_number(value);
        xy[i] = json_number_value(value);
    }
    if (fine)
        fine = polygon_fill(mask, p->width, p->height, xy, n / 2, f);
    else
        (void)fault_set(f, "segmentation: polygon: pairs of numbers expected");
    free(xy);
    return fine;
}

/* Runs of zeros and ones in turn, down the columns. */
static bool add_runs(uint8_t *mask, const json_t *list, const coco_picture *p, fault *f) {
    const uint64_t n_pixels = (uint64_t)p->width * p->height;
    uint64_t at = 0;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *value = json_array_get(list, i);
        const int64_t n = json_integer_value(value);
        if (!json_is_integer(value) || n < 0 || (uint64_t)n > n_pixels - at) return fault_set(f, "segmentation: counts[%zu]: a run inside the picture expected", i);
        if (i % 2) polygon_fill_columns(mask, p->width, p->height, at, at + (uint64_t)n);
        at += (uint64_t)n;
    }
    return at == n_pixels || fault_set(f, "segmentation: counts: runs for %llu pixels of %llu", (unsigned long long)at, (unsigned long long)n_pixels);
}

static bool add_string(uint8_t *mask, const char *counts, const coco_picture *p, fault *f) {
    uint8_t *decoded;
    if (pali_mask_from_rle(counts, (int32_t)p->width, (int32_t)p->height, &decoded) != PALI_OK) return fault_set(f, "segmentation: counts: %s", pali_last_error());
    memcpy(mask, decoded, p->width * p->height);
    pali_free(decoded);
    return true;
}

static bool add_counts(uint8_t *mask, const json_t *rle, const coco_picture *p, fault *f) {
    const json_t *size = json_object_get(rle, "size"), *counts = json_object_get(rle, "counts");
    if (json_array_size(size) != 2 || json_integer_value(json_array_get(size, 0)) != (json_int_t)p->height ||
        json_integer_value(json_array_get(size, 1)) != (json_int_t)p->width)
        return fault_set(f, "segmentation: size: [%zu, %zu], the picture's, expected", p->height, p->width);
    if (json_is_string(counts)) return add_string(mask, json_string_value(counts), p, f);
    return json_is_array(counts) ? add_runs(mask, counts, p, f) : fault_set(f, "segmentation: counts: run lengths expected");
}

bool cocomask_make(uint8_t *mask, const coco_object *o, const coco_picture *p, fault *f) {
    const json_t *s = o->segmentation;
    memset(mask, 0, p->width * p->height);
    if (json_is_object(s)) {
        if (!add_counts(mask, s, p, f)) return false;
    } else {
        if (!json_array_size(s)) return fault_set(f, "segmentation: polygons or run lengths expected");
        for (size_t i = 0; i < json_array_size(s); i++)
            if (!add_polygon(mask, json_array_get(s, i), p, f)) return false;
    }
    return memchr(mask, 255, p->width * p->height) || fault_set(f, "segmentation: no pixel inside");
}
