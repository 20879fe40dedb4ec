/* prompt.h: the model input (spec inference 4.5): N image ids per picture, bos, tokens of prompt + "\n" in one go. */
#ifndef PALI_INPUT_PROMPT_H
#define PALI_INPUT_PROMPT_H

#include "input/tokenizer.h"

#define PROMPT_MAX_BYTES ((size_t)4 << 20)

/* *out_ids (mem_free). image_token and bos come from the config or, where the tokenizer has them, from it. */
pali_status prompt_compose(int32_t **out_ids, size_t *out_n, const tokenizer *t, int32_t image_token, int32_t bos_token,
                           size_t n_image_ids, const char *prompt, size_t n_bytes);

#endif
