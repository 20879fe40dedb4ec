/* Any bytes as text for a small fixed tokenizer with merges, added pieces and byte fallback: an error, or ids that decode to
 * the very text. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "input/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Pieces a, b, c, aa, ab, U+2581 and all bytes. */
static tokenizer *make(void) {
    static char json[16384];
    tokenizer *t;
    size_t at = (size_t)snprintf(json, sizeof json,
                                 "{\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"\\u2581\"},"
                                 "\"added_tokens\":[{\"id\":300,\"content\":\"<eos>\",\"special\":true},{\"id\":301,\"content\":\"bab\",\"special\":false}],"
                                 "\"model\":{\"type\":\"BPE\",\"byte_fallback\":true,\"vocab\":{\"a\":256,\"b\":257,\"c\":258,\"aa\":259,\"ab\":260,\"aab\":261,\"\\u2581\":262");
    for (unsigned b = 0; b < 256; b++) at += (size_t)snprintf(json + at, sizeof json - at, ",\"<0x%02X>\":%u", b, b);
    (void)snprintf(json + at, sizeof json - at, "},\"merges\":[\"a b\",\"a a\",\"a ab\"]}}");
    if (tokenizer_parse(&t, (const uint8_t *)json, strlen(json), "built-in") != PALI_OK) abort();
    return t;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static tokenizer *t;
    int32_t *ids;
    char *text;
    size_t n, n_text;
    if (!t) t = make();
    if (tokenizer_encode(t, (const char *)data, size, 0, &ids, &n) != PALI_OK) return 0;
    if (tokenizer_decode(t, ids, n, &text, &n_text) != PALI_OK) abort();
    /* U+2581 in the text cannot be told from a space afterwards. */
    bool mark = false;
    for (size_t i = 0; i + 3 <= size; i++) mark |= memcmp(data + i, "\xe2\x96\x81", 3) == 0;
    if (!mark && (n_text != size || memcmp(text, data, size) != 0)) abort();
    mem_free(text);
    mem_free(ids);
    return 0;
}
