/* token_class.h: what a token is to an answer with boxes, found by the token's text and never by its number: the alphabet
 * of the parser (locate.c) and of the grammar (grammar.c).
 *
 * Classes are bits. A location or segmentation token has that bit alone; the end token too; what has no text of its own
 * (special tokens, rows of the table without a piece) has none; all others say what their text holds. */
#ifndef PALI_INFER_TOKEN_CLASS_H
#define PALI_INFER_TOKEN_CLASS_H

#include "input/tokenizer.h"

enum {
    TOKEN_LOC = 1,       /* <loc0000> to <loc1023> */
    TOKEN_SEG = 2,       /* <seg000> to <seg127> */
    TOKEN_END = 4,       /* <eos> */
    TOKEN_SEMICOLON = 8, /* ";" is in it: where a label ends */
    TOKEN_TEXT = 16,     /* something that is no white space stands in it, before any ";" */
    TOKEN_BLANK = 32,    /* there is white space in it */
    TOKEN_CONTROL = 64,  /* there is a control character in it, such as a newline */
    TOKEN_TAIL = 128     /* something that is no white space stands behind a ";" */
};

/* White space of ASCII. */
static inline bool token_blank_char(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

unsigned token_class(const tokenizer *t, int32_t id);

#endif
