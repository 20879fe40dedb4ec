/* Any bytes as a tokenizer file of either format; what loads must encode and decode without harm. */
#include "base/mem.h"
#include "input/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char k_text[] = "the cat <loc0001> <bos>\n\n  \xe7\x8c\xab \xf0\x9f\x98\x80 ab";
    tokenizer *t;
    int32_t *ids;
    char *text;
    size_t n, n_text;
    if (tokenizer_parse(&t, data, size, "fuzz") != PALI_OK) return 0;
    if (tokenizer_encode(t, k_text, sizeof k_text, TOKENIZER_SPECIAL, &ids, &n) == PALI_OK) {
        if (tokenizer_decode(t, ids, n, &text, &n_text) == PALI_OK) mem_free(text);
        mem_free(ids);
    }
    tokenizer_free(t);
    return 0;
}
