#include "model/adapter_names.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"

#define PREFIX "base_model.model."

/* The first that fits. */
static const struct {
    const char *ending;
    adapter_slot slot;
    const char *tensor;
} k_endings[] = {
    {".lora_A.weight", ADAPTER_A, ".weight"},
    {".lora_B.weight", ADAPTER_B, ".weight"},
    {".lora_B.bias", ADAPTER_BIAS, ".weight"},
    {".lora_embedding_A", ADAPTER_TABLE_A, ".weight"},
    {".lora_embedding_B", ADAPTER_TABLE_B, ".weight"},
    {".base_layer.weight", ADAPTER_BASE, ".weight"},
    {".base_layer.bias", ADAPTER_VALUE, ".bias"},
    {".weight", ADAPTER_VALUE, ".weight"},
    {".bias", ADAPTER_VALUE, ".bias"},
};

bool adapter_name_read(adapter_name *out, const char *file_name) {
    const char *key = strncmp(file_name, PREFIX, strlen(PREFIX)) == 0 ? file_name + strlen(PREFIX) : file_name;
    size_t i = 0, n = strlen(key), n_ending = 0;
    for (; i < sizeof k_endings / sizeof *k_endings; i++) {
        n_ending = strlen(k_endings[i].ending);
        if (n > n_ending && strcmp(key + n - n_ending, k_endings[i].ending) == 0) break;
    }
    if (i == sizeof k_endings / sizeof *k_endings || n - n_ending >= sizeof out->module) return false;
    memcpy(out->module, key, n - n_ending);
    out->module[n - n_ending] = 0;
    out->slot = k_endings[i].slot;
    out->tensor = k_endings[i].tensor;
    return true;
}

pali_status adapter_target_add(char **targets, const char *module) {
    const char *dot = strrchr(module, '.'), *name = dot ? dot + 1 : module;
    size_t n = strlen(name), length = *targets ? strlen(*targets) : 0;
    for (const char *p = *targets; p; p = strchr(p, ',')) {
        p += *p == ',';
        if (strncmp(p, name, n) == 0 && (p[n] == ',' || !p[n])) return PALI_OK;
    }
    char *grown = mem_alloc(length + n + 2, 1);
    if (!grown) return status_no_memory(length + n + 2);
    (void)snprintf(grown, length + n + 2, "%s%s%s", length ? *targets : "", length ? "," : "", name);
    mem_free(*targets);
    *targets = grown;
    return PALI_OK;
}
