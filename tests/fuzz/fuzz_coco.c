/* fuzz_coco.c: any bytes as a COCO annotation file. What is accepted has its annotations in order, with boxes inside their pictures. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/coco.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    coco_set s;
    fault f = {{0}};
    if (!coco_parse(&s, (const char *)data, size, "coco.json", &f)) {
        if (!strlen(f.text)) abort();
        return 0;
    }
    size_t n = 0;
    for (size_t i = 0; i < s.n_pictures; i++) {
        const coco_picture *p = &s.pictures[i];
        if (p->first != n) abort();
        n += p->n;
        for (size_t k = 0; k < p->n; k++) {
            coco_object o;
            if (coco_object_read(&o, &s, p->first + k, &f)) {
                if (o.category >= s.n_categories) abort();
                if (!(o.x0 >= 0 && o.x0 < o.x1 && o.x1 <= (double)p->width && o.y0 >= 0 && o.y0 < o.y1 && o.y1 <= (double)p->height)) abort();
            }
            coco_object_free(&o);
        }
    }
    if (n != s.n_annotations) abort();
    coco_free(&s);
    return 0;
}
