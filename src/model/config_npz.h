/* config_npz.h: the config of a big_vision file, which has none: sizes from the shapes of its arrays, and what they do not tell
 * from the released model that has these sizes, or else from a config.json (spec inference 1.1, 3.4): our own files of other
 * sizes have its text as an array of bytes. */
#ifndef PALI_MODEL_CONFIG_NPZ_H
#define PALI_MODEL_CONFIG_NPZ_H

#include "model/weights.h"

#define CONFIG_NPZ_ARRAY "config.json"

/* `path` is for messages. For a model that is none of the released ones, the array CONFIG_NPZ_ARRAY is read or, if there is none,
 * `config_path`; sizes in it must be those of the arrays. Without either, Gemma 1 has its defaults; Gemma 2, whose logit scale
 * nothing else tells, is an error. */
pali_status config_npz_read(config *out, weights *w, const char *path, const char *config_path);

#endif
