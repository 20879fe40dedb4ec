/* tokenizer_save.h: a tokenizer as files, from which tokenizer_load makes the same one again. */
#ifndef PALI_INPUT_TOKENIZER_SAVE_H
#define PALI_INPUT_TOKENIZER_SAVE_H

#include "input/tokenizer.h"
#include "io/gguf_write.h"

/* Values of a GGUF file. */
pali_status tokenizer_save_gguf(const tokenizer *t, gguf_writer *w);
/* tokenizer.json, into an open file. */
pali_status tokenizer_save_json(const tokenizer *t, file_out *file);
/* The text of the tokenizer_config.json that goes with it, mem_free it. */
pali_status tokenizer_save_config(char **out, const tokenizer *t);

#endif
