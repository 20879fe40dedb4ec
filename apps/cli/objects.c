#include "objects.h"

static json_t *object_json(const pali_object *o) {
    json_t *label = o->label ? report_text(o->label, o->n_label_bytes) : json_null();
    return json_pack("{s:o, s:o, s:[f, f, f, f], s:f, s:o, s:n, s:b}", "label", label, "loc", report_ids(o->loc, 4), "box", o->box[0],
                     o->box[1], o->box[2], o->box[3], "score", o->score, "seg", o->has_seg ? report_ids(o->seg, 16) : json_null(), "mask",
                     "valid", o->valid);
}

json_t *objects_json(const pali_objects *objects) {
    json_t *array = json_array();
    for (size_t i = 0; i < pali_objects_count(objects) && array; i++) {
        pali_object o = {.struct_size = sizeof o};
        json_t *object = pali_objects_get(objects, i, &o) == PALI_OK ? object_json(&o) : NULL;
        if (json_array_append_new(array, object) != 0) {
            json_decref(array);
            return NULL;
        }
    }
    return array;
}
