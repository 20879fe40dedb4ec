/* config_json.h: the hyper-parameters as Transformers' config.json, and its preprocessor_config.json. */
#ifndef PALI_MODEL_CONFIG_JSON_H
#define PALI_MODEL_CONFIG_JSON_H

#include "io/json.h"
#include "model/config.h"

/* A config.json of the model with weights of `dtype` ("bfloat16"), mem_free it. `source`: the file that it was read from, of
 * which everything is kept but what is no longer so: type, quantization, tied or not, sizes that the tensors corrected, what was
 * switched off, ids. NULL: a new one with every field that any version needs. `quantization`: an object to put into it, taken over
 * also when this fails; NULL: none. */
pali_status config_json_text(char **out, const config *c, const char *dtype, const char *source, json_t *quantization);
/* A new preprocessor_config.json, mem_free it. */
pali_status config_json_preprocessor(char **out, const config *c);

#endif
