/* tokenizer_save.h: a tokenizer as values of a GGUF file, from which tokenizer_load makes the same one again. */
#ifndef PALI_INPUT_TOKENIZER_SAVE_H
#define PALI_INPUT_TOKENIZER_SAVE_H

#include "input/tokenizer.h"
#include "io/gguf_write.h"

pali_status tokenizer_save_gguf(const tokenizer *t, gguf_writer *w);

#endif
