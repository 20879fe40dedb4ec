#include "infer/token_class.h"

#include <string.h>

#define MARK "\xe2\x96\x81" /* U+2581, a space inside pieces */

static unsigned text_class(const char *text, size_t n) {
    unsigned class = 0;
    for (size_t i = 0; i < n; i++) {
        if (n - i >= 3 && memcmp(text + i, MARK, 3) == 0) {
            class |= TOKEN_BLANK;
            i += 2;
        } else if (token_blank_char(text[i])) {
            class |= TOKEN_BLANK;
        } else if (class & TOKEN_SEMICOLON) {
            class |= TOKEN_TAIL;
        } else {
            class |= text[i] == ';' ? TOKEN_SEMICOLON : TOKEN_TEXT;
        }
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f) class |= TOKEN_CONTROL;
    }
    return class;
}

unsigned token_class(const tokenizer *t, int32_t id) {
    const char *piece = tokenizer_piece(t, id);
    int byte = tokenizer_byte(t, id);
    if (!piece) return 0;
    if (tokenizer_loc_index(t, id) >= 0) return TOKEN_LOC;
    if (tokenizer_seg_code(t, id) >= 0) return TOKEN_SEG;
    if (strcmp(piece, "<eos>") == 0) return TOKEN_END;
    if (tokenizer_is_special(t, id)) return 0;
    if (byte >= 0) return text_class(&(char){(char)byte}, 1);
    return text_class(piece, strlen(piece));
}
