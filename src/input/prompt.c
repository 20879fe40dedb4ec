#include "input/prompt.h"

#include <string.h>

#include "base/mem.h"

pali_status prompt_compose(int32_t **out_ids, size_t *out_n, const tokenizer *t, int32_t image_token, int32_t bos_token, size_t n_image_ids,
                           const char *prompt, size_t n_bytes) {
    int32_t *text_ids, *ids;
    size_t n_text, n;
    *out_ids = NULL;
    if (n_bytes > PROMPT_MAX_BYTES) return status_fail(PALI_ERR_LIMIT, "prompt: %zu bytes, more than the limit of %zu", n_bytes, PROMPT_MAX_BYTES);
    char *line = mem_alloc(n_bytes + 1, 1);
    if (!line) return status_no_memory(n_bytes + 1);
    memcpy(line, prompt, n_bytes);
    line[n_bytes] = '\n'; /* one text: newlines at the end of the prompt join with this one, as in the reference */
    pali_status s = tokenizer_encode(t, line, n_bytes + 1, 0, &text_ids, &n_text);
    mem_free(line);
    if (s != PALI_OK) return status_prefix(s, "prompt");
    n = n_image_ids + 1 + n_text;
    ids = mem_alloc(n, sizeof *ids);
    if (!ids) {
        mem_free(text_ids);
        return status_no_memory(n * sizeof *ids);
    }
    for (size_t i = 0; i < n_image_ids; i++) ids[i] = image_token;
    ids[n_image_ids] = bos_token;
    memcpy(ids + n_image_ids + 1, text_ids, n_text * sizeof *ids);
    mem_free(text_ids);
    *out_ids = ids;
    *out_n = n;
    return PALI_OK;
}
