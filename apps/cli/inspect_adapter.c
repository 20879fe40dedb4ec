#include "inspect_adapter.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "report.h"

/* What an update of this rank is multiplied with. */
static double scale_of(const pali_adapter_info *a, int32_t rank) {
    return rank ? a->alpha / (a->rslora ? sqrt(rank) : rank) : 0;
}

void inspect_adapter_print(FILE *out, const pali_adapter_info *a) {
    fprintf(out, "parameters  %" PRIu64 "\n", a->n_parameters);
    fprintf(out, "made for    %s\n", a->base_model && *a->base_model ? a->base_model : "unknown");
    if (a->rank_min < a->rank_max) {
        fprintf(out, "rank        %d to %d, alpha %g%s\n", a->rank_min, a->rank_max, a->alpha, a->rslora ? ", rslora" : "");
    } else if (a->rank_max) {
        fprintf(out, "rank        %d, alpha %g%s: scale %g\n", a->rank_max, a->alpha, a->rslora ? ", rslora" : "", scale_of(a, a->rank_max));
    }
    fprintf(out, "changes     %zu matrices%s%s%s, %zu tensors replaced; in the %s\n", a->n_updated, *a->targets ? " (" : "", a->targets, *a->targets ? ")" : "",
            a->n_replaced, a->touches_vision ? a->touches_text ? "vision tower or projector and the text model" : "vision tower or projector" : "text model");
}

static json_t *targets_json(const char *targets) {
    json_t *array = json_array();
    for (const char *p = targets; array && *p; p += *p == ',') {
        size_t n = strcspn(p, ",");
        if (json_array_append_new(array, report_text(p, n)) != 0) {
            json_decref(array);
            return NULL;
        }
        p += n;
    }
    return array;
}

json_t *inspect_adapter_json(const pali_adapter_info *a) {
    return json_pack("{s:I, s:o, s:i, s:i, s:f, s:b, s:o, s:I, s:I, s:b, s:b}", "parameters", (json_int_t)a->n_parameters, "base_model",
                     a->base_model ? report_text(a->base_model, strlen(a->base_model)) : json_null(), "rank_min", (int)a->rank_min, "rank", (int)a->rank_max,
                     "alpha", a->alpha, "rslora", a->rslora, "targets", targets_json(a->targets), "updated", (json_int_t)a->n_updated, "replaced",
                     (json_int_t)a->n_replaced, "touches_vision", a->touches_vision, "touches_text", a->touches_text);
}
