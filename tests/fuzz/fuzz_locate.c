/* Any sequence of tokens of a small vocabulary, known and unknown ids, as an answer: objects whose parts are in range, in order
 * and made of their own tokens; and what the grammar of constrained answers takes of it has nothing malformed. The first two
 * bytes choose min_score and nms_iou, each further byte a token. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "infer/grammar.h"
#include "infer/locate.h"

#define N_MAX 4096
#define VOCAB 512

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* 0-63 locations, 64-127 codes, then special tokens, pieces of text, and all bytes from 256 on. */
static tokenizer *make(void) {
    static char json[32768];
    static const char *const k_pieces[] = {"<eos>", "<pad>", ";", "\\u2581;", "\\u2581", "\\u2581cat", "a", "s;", ";b", "\\n", "\\u2581\\u2581",
                                           "<loc12>", "<loc1024>", "<seg128>", "<", "\\u00e9"};
    tokenizer *t;
    size_t at = (size_t)snprintf(json, sizeof json, "{\"added_tokens\":[{\"id\":128,\"content\":\"<eos>\",\"special\":true},"
                                                    "{\"id\":129,\"content\":\"<pad>\",\"special\":true}],"
                                                    "\"model\":{\"type\":\"BPE\",\"byte_fallback\":true,\"vocab\":{\"<loc0000>\":0");
    for (unsigned i = 1; i < 64; i++) at += (size_t)snprintf(json + at, sizeof json - at, ",\"<loc%04u>\":%u", i * 1023 / 63, i);
    for (unsigned i = 0; i < 64; i++) at += (size_t)snprintf(json + at, sizeof json - at, ",\"<seg%03u>\":%u", i * 127 / 63, 64 + i);
    for (unsigned i = 0; i < sizeof k_pieces / sizeof *k_pieces; i++)
        at += (size_t)snprintf(json + at, sizeof json - at, ",\"%s\":%u", k_pieces[i], 128 + i);
    for (unsigned b = 0; b < 256; b++) at += (size_t)snprintf(json + at, sizeof json - at, ",\"<0x%02X>\":%u", b, VOCAB / 2 + b);
    (void)snprintf(json + at, sizeof json - at, "},\"merges\":[]}}");
    if (tokenizer_parse(&t, (const uint8_t *)json, strlen(json), "built-in") != PALI_OK) abort();
    return t;
}

/* Bytes reach the ids worth reaching: most are tokens, the last few choose among the byte pieces and unknown ids. */
static int32_t token_of(const uint8_t *data, size_t i) {
    if (data[i] < 144) return data[i];
    return data[i] < 240 ? VOCAB / 2 + (data[i] * 7 + (int32_t)i) % 256 : (data[i] - 248) * 1000003;
}

static void check(const pali_objects *o, const int32_t *tokens, size_t n) {
    size_t at = 0;
    if (pali_objects_stray_count(o) > n) abort();
    for (size_t i = 0; i < pali_objects_count(o); i++) {
        pali_object x = {.struct_size = sizeof x};
        if (pali_objects_get(o, i, &x) != PALI_OK) abort();
        if (x.first_token < at || x.n_tokens < 4 || x.n_tokens > n - x.first_token) abort();
        at = x.first_token + x.n_tokens;
        for (size_t k = 0; k < 4; k++)
            if (x.loc[k] < 0 || x.loc[k] > 1023 || tokens[x.first_token + k] > 63) abort();
        for (size_t k = 0; k < 16; k++)
            if (x.seg[k] < 0 || x.seg[k] > 127) abort();
        if (!(x.score >= 0 && x.score <= 1)) abort();
        if (x.valid != (x.loc[2] > x.loc[0] && x.loc[3] > x.loc[1])) abort();
        if (!x.label) continue;
        if (x.n_label_bytes == 0 || x.label[x.n_label_bytes] != 0 || x.label[0] == ' ' || x.label[x.n_label_bytes - 1] == ' ') abort();
        if (memchr(x.label, ';', x.n_label_bytes)) abort();
    }
}

/* The longest beginning that is a whole answer to the grammar. */
static void check_grammar(const tokenizer *t, const grammar *g, pali_constraint c, const int32_t *tokens, size_t n) {
    grammar_state s = {0};
    size_t whole = 0;
    for (size_t i = 0; i < n && grammar_take(g, c, &s, tokens[i]); i++)
        if (grammar_complete(c, &s)) whole = i + 1;
    pali_objects *o;
    if (pali_objects_find(&o, t, tokens, NULL, whole, 640, 480, NULL) != PALI_OK || pali_objects_stray_count(o)) abort();
    for (size_t i = 0; i < pali_objects_count(o); i++) {
        pali_object x = {.struct_size = sizeof x};
        if (pali_objects_get(o, i, &x) != PALI_OK || !x.valid || x.has_seg != (c == PALI_CONSTRAIN_SEGMENT)) abort();
        if (c == PALI_CONSTRAIN_DETECT && !x.label) abort();
    }
    pali_objects_free(o);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static tokenizer *t;
    static grammar g;
    static int32_t tokens[N_MAX];
    static float logprobs[N_MAX];
    pali_locate_options options;
    pali_objects *all, *some;
    if (!t) {
        t = make();
        if (grammar_init(&g, t, VOCAB) != PALI_OK) abort();
    }
    if (size < 2 || size > N_MAX) return 0;
    size_t n = size - 2;
    for (size_t i = 0; i < n; i++) {
        tokens[i] = token_of(data + 2, i);
        logprobs[i] = -(float)(data[2 + i] * 37 % 101) / 50;
    }
    pali_locate_options_init(&options);
    if (pali_objects_find(&all, t, tokens, logprobs, n, 640, 480, &options) != PALI_OK) abort();
    check(all, tokens, n);
    options.min_score = data[0] / 255.0;
    options.nms_iou = data[1] / 255.0;
    if (pali_objects_find(&some, t, tokens, logprobs, n, 640, 480, &options) != PALI_OK) abort();
    check(some, tokens, n);
    if (pali_objects_count(some) > pali_objects_count(all)) abort();
    pali_objects_free(all);
    pali_objects_free(some);
    check_grammar(t, &g, PALI_CONSTRAIN_DETECT, tokens, n);
    check_grammar(t, &g, PALI_CONSTRAIN_SEGMENT, tokens, n);
    return 0;
}
