/* config_gguf.h: the hyper-parameters as values of a GGUF file (spec inference 8.4). The text model has the keys of "gemma" and
 * "gemma2", the tower those of vision files ("clip.vision."), so that tools which know either find what they look for; what
 * nobody has a key for begins with "paligemma.". */
#ifndef PALI_MODEL_CONFIG_GGUF_H
#define PALI_MODEL_CONFIG_GGUF_H

#include "io/gguf_write.h"
#include "model/config.h"
#include "model/weights.h"

/* Errors name the file and the key. The table's rows, if no key tells them, are those of the tensor. */
pali_status config_gguf_read(config *out, const weights_values *values, const weights *w);
void config_gguf_write(const config *c, gguf_writer *w);

#endif
