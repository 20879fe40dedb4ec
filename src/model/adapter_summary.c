#include "model/adapter_summary.h"

#include <string.h>

#include "base/mem.h"
#include "model/adapter_names.h"

static pali_status entry_count(adapter_summary *s, const weights_entry *e) {
    adapter_name name;
    if (spec_is_computed(e->name)) return PALI_OK;
    if (!adapter_name_read(&name, e->file_name) || !e->n_dims)
        return status_fail(PALI_ERR_FORMAT, "%s: %s: not a name that PEFT gives the tensors of a LoRA adapter", e->file, e->file_name);
    bool vision = strncmp(e->name, "vision_tower.", 13) == 0 || strncmp(e->name, "multi_modal_projector.", 22) == 0;
    *(vision ? &s->touches_vision : &s->touches_text) = true;
    if (name.slot != ADAPTER_BASE) s->n_parameters += weights_n_elements(e);
    s->n_replaced += name.slot == ADAPTER_VALUE || name.slot == ADAPTER_BASE;
    if (name.slot != ADAPTER_A && name.slot != ADAPTER_TABLE_A) return PALI_OK;
    if (e->dims[0] < 1 || e->dims[0] > ADAPTER_MAX_RANK)
        return status_fail(PALI_ERR_LIMIT, "%s: %s: rank %zu: expected 1 to %u", e->file, e->file_name, e->dims[0], ADAPTER_MAX_RANK);
    if (!s->n_updated++ || e->dims[0] < s->rank_min) s->rank_min = e->dims[0];
    if (e->dims[0] > s->rank_max) s->rank_max = e->dims[0];
    return adapter_target_add(&s->targets, name.module);
}

pali_status adapter_summary_make(adapter_summary *out, const char *config_path, const weights *w) {
    for (size_t i = 0; i < w->n_entries; i++) STATUS_TRY(entry_count(out, &w->entries[i]));
    if (!out->targets && !(out->targets = mem_copy_string(""))) return status_no_memory(1);
    return adapter_config_load(&out->cfg, config_path);
}

void adapter_summary_free(adapter_summary *s) {
    adapter_config_free(&s->cfg);
    mem_free(s->targets);
    *s = (adapter_summary){0};
}
