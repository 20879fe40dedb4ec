/* adapter_files.h: trained adapters as PEFT saves and loads them (spec training 5.2): adapter_config.json with the fields that every
 * version knows, adapter_model.safetensors, and a card. */
#ifndef PALI_TRAIN_ADAPTER_FILES_H
#define PALI_TRAIN_ADAPTER_FILES_H

#include "base/dir.h"
#include "train/lora.h"

/* base_name: what the adapter is for, a path or a name on the hub. */
pali_status adapter_files_write(const dir_out *dir, const lora_training *t, const lora_options *o, const char *base_name);

#endif
