/* inspect_adapter.h: what `inspect` says of a LoRA adapter. */
#ifndef PALI_CLI_INSPECT_ADAPTER_H
#define PALI_CLI_INSPECT_ADAPTER_H

#include <jansson.h>

#include "cli.h"

void inspect_adapter_print(FILE *out, const pali_adapter_info *a);
/* The fields that only adapters have; NULL: out of memory. */
json_t *inspect_adapter_json(const pali_adapter_info *a);

#endif
