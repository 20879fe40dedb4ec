/* answer.c: see answer.h. */
#include "answer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"

static void put(answer *a, int32_t id) {
    assert_true(a->n < sizeof a->ids / sizeof *a->ids);
    a->ids[a->n++] = id;
}

static void put_number(answer *a, const tokenizer *t, const char *kind, const char *digits) {
    char piece[32];
    (void)snprintf(piece, sizeof piece, "<%s%s>", kind, digits);
    int32_t id = tokenizer_find(t, piece);
    if (id < 0) fail_msg("the tokenizer has no %s", piece);
    put(a, id);
}

static void put_text(answer *a, const tokenizer *t, const char *text, size_t n) {
    int32_t *ids;
    size_t n_ids;
    assert_int_equal(tokenizer_encode(t, text, n, TOKENIZER_SPECIAL, &ids, &n_ids), PALI_OK);
    for (size_t i = 0; i < n_ids; i++) put(a, ids[i]);
    mem_free(ids);
}

answer answer_of(const tokenizer *t, const char *text) {
    answer a = {.n = 0};
    char digits[8];
    while (*text) {
        size_t n = strcspn(text, "{[%#");
        char *end = NULL;
        if (n) {
            put_text(&a, t, text, n);
            text += n;
        } else if (*text == '{') {
            for (text++; *text != '}'; text = end) {
                (void)snprintf(digits, sizeof digits, "%04lu", strtoul(text, &end, 10) % 10000);
                put_number(&a, t, "loc", digits);
            }
            text++;
        } else if (*text == '[') {
            unsigned long n_codes = strtoul(text + 1, &end, 10);
            for (unsigned long i = 0; i < n_codes; i++) {
                (void)snprintf(digits, sizeof digits, "%03lu", i % 1000);
                put_number(&a, t, "seg", digits);
            }
            text = end + 1;
        } else if (*text == '%') {
            put_number(&a, t, "0x", (char[]){text[1], text[2], 0});
            text += 3;
        } else {
            put(&a, (int32_t)strtol(text + 1, &end, 10));
            text = end;
        }
    }
    return a;
}
