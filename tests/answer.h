/* answer.h: answers written in short, for tests: {1 2 3 4} are location tokens, [16] the codes 0 to 15, %3B a byte piece, #5
 * the id 5; the rest is text with special tokens. Functions fail the running cmocka test. */
#ifndef PALI_TESTS_ANSWER_H
#define PALI_TESTS_ANSWER_H

#include "input/tokenizer.h"

typedef struct answer {
    int32_t ids[512];
    size_t n;
} answer;

answer answer_of(const tokenizer *t, const char *text);

#endif
