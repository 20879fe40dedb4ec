/* config_npz.h: the config of a big_vision file, which has none: sizes from the shapes of its arrays, and what they do not tell
 * from the released model that has these sizes, or else from a config.json (spec inference 1.1, 3.4). */
#ifndef PALI_MODEL_CONFIG_NPZ_H
#define PALI_MODEL_CONFIG_NPZ_H

#include "model/weights.h"

/* `path` is for messages. For a model that is none of the released ones, `config_path` is read, whose sizes must be those of the
 * arrays; NULL: what Gemma has by default, the logit scale from the head dim. */
pali_status config_npz_read(config *out, const weights *w, const char *path, const char *config_path);

#endif
