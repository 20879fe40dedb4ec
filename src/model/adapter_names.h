/* adapter_names.h: what PEFT calls the tensors of a LoRA adapter: base_model.model. + the module's name in the version of Transformers
 * that trained it + an ending that says what the tensor is to the module (spec inference 9). */
#ifndef PALI_MODEL_ADAPTER_NAMES_H
#define PALI_MODEL_ADAPTER_NAMES_H

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"

#define ADAPTER_MODULE_MAX 512u

/* A table's factors are transposed and the other way round, since a row of it is an input (PEFT: result += A[:, id]^T B^T). BASE:
 * the base's own parameter, saved with a targeted table; VALUE: one that the adapter brings whole, or a bias that was trained. */
typedef enum adapter_slot {
    ADAPTER_A, ADAPTER_B, ADAPTER_BIAS, ADAPTER_TABLE_A, ADAPTER_TABLE_B, ADAPTER_VALUE, ADAPTER_BASE, ADAPTER_N_SLOTS
} adapter_slot;

typedef struct adapter_name {
    char module[ADAPTER_MODULE_MAX];
    adapter_slot slot;
    const char *tensor; /* ".weight" or ".bias": what the parameter is called that it belongs to; static */
} adapter_name;

/* false: PEFT gives no tensor such a name. */
bool adapter_name_read(adapter_name *out, const char *file_name);
/* Adds the last part of the module's name to a list "q_proj,v_proj" unless it is there; NULL is the empty list. */
pali_status adapter_target_add(char **targets, const char *module);

#endif
