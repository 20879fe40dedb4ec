/* adapter_summary.h: what an adapter's directory says of itself, without the model that it is for. */
#ifndef PALI_MODEL_ADAPTER_SUMMARY_H
#define PALI_MODEL_ADAPTER_SUMMARY_H

#include "model/adapter_config.h"
#include "model/weights.h"

/* Fields as in adapter. */
typedef struct adapter_summary {
    adapter_config cfg;
    size_t n_updated, n_replaced, rank_min, rank_max;
    uint64_t n_parameters;
    char *targets;
    bool touches_vision, touches_text;
} adapter_summary;

/* Of the entries of its file. What there is when it fails stays in *out, zeros before. */
pali_status adapter_summary_make(adapter_summary *out, const char *config_path, const weights *w);
void adapter_summary_free(adapter_summary *s);

#endif
