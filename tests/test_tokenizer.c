/* test_tokenizer.c: the tokenizers against the reference's (tools/make_tokenizer_goldens.py), the policy for special tokens,
 * streaming, long texts, and files that are not what they claim.
 *
 * The real Gemma tokenizer is not committed: its directory is PALI_TOKENIZER_DIR, or ../shared/tokenizer beside the
 * repository. Without it those tests say that they were skipped. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/file.h"
#include "base/mem.h"
#include "input/prompt.h"
#include "input/tokenizer.h"

#define DATA PALI_TEST_DATA "/tokenizer/"

static tokenizer *g_real; /* NULL: not here */
static tokenizer *g_tiny;

static int group_setup(void **state) {
    (void)state;
    const char *dir = getenv("PALI_TOKENIZER_DIR");
    char *path = file_join(dir ? dir : PALI_TEST_SOURCE "/../shared/tokenizer", "tokenizer.json");
    if (file_exists(path)) assert_int_equal(tokenizer_load(&g_real, path), PALI_OK);
    if (!g_real) printf("%s is not here: tests with the real tokenizer are skipped (set PALI_TOKENIZER_DIR)\n", path);
    mem_free(path);
    assert_int_equal(tokenizer_load(&g_tiny, PALI_TEST_DATA "/models/pg1-f32/tokenizer.json"), PALI_OK);
    return 0;
}

static int group_teardown(void **state) {
    (void)state;
    tokenizer_free(g_real);
    tokenizer_free(g_tiny);
    return 0;
}

/* ---- Goldens ---- */

static void assert_ids(const tokenizer *t, const char *text, size_t n, const json_t *want) {
    int32_t *ids;
    size_t n_ids;
    if (tokenizer_encode(t, text, n, 0, &ids, &n_ids) != PALI_OK) fail_msg("%s", status_message());
    bool same = n_ids == json_array_size(want);
    for (size_t i = 0; same && i < n_ids; i++) same = ids[i] == (int32_t)json_integer_value(json_array_get(want, i));
    if (!same) {
        char *list = json_dumps(want, JSON_COMPACT);
        fail_msg("'%s': %zu ids, not %s", text, n_ids, list);
    }
    mem_free(ids);
}

/* Decoding, at once and streamed; streamed pieces must each be whole characters. */
static void assert_text(const tokenizer *t, const json_t *list, const char *want, size_t n_want) {
    size_t n = json_array_size(list), n_text, n_streamed = 0;
    int32_t *ids = mem_alloc(n, sizeof *ids);
    char *text, *streamed = mem_alloc(n_want + 1, 1);
    token_stream s;
    for (size_t i = 0; i < n; i++) ids[i] = (int32_t)json_integer_value(json_array_get(list, i));
    assert_int_equal(tokenizer_decode(t, ids, n, &text, &n_text), PALI_OK);
    if (n_text != n_want || memcmp(text, want, n_want) != 0) fail_msg("decoded '%s', not '%s'", text, want);
    token_stream_init(&s, t);
    for (size_t i = 0; i <= n; i++) {
        const char *part;
        size_t m;
        assert_int_equal(i < n ? token_stream_push(&s, ids[i], &part, &m) : token_stream_finish(&s, &part, &m), PALI_OK);
        if (m) assert_true(((unsigned char)part[0] & 0xc0) != 0x80); /* begins with a character */
        assert_true(n_streamed + m <= n_want);
        memcpy(streamed + n_streamed, part, m);
        n_streamed += m;
    }
    assert_int_equal(n_streamed, n_want);
    assert_memory_equal(streamed, want, n_want);
    token_stream_free(&s);
    mem_free(streamed);
    mem_free(text);
    mem_free(ids);
}

/* Calls check with each line of a golden file; returns how many there were. */
static size_t each_line(const char *path, void (*check)(const json_t *row)) {
    char line[16384];
    size_t n = 0;
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        json_t *row = json_loads(line, JSON_ALLOW_NUL, NULL);
        assert_non_null(row);
        check(row);
        json_decref(row);
        n++;
    }
    fclose(f);
    return n;
}

static void gemma_row(const json_t *row) {
    const json_t *text = json_array_get(row, 0), *ids = json_array_get(row, 1), *decoded = json_array_get(row, 2);
    assert_ids(g_real, json_string_value(text), json_string_length(text), ids);
    if (json_is_null(decoded)) decoded = text;
    assert_text(g_real, ids, json_string_value(decoded), json_string_length(decoded));
}

static void test_gemma(void **state) {
    (void)state;
    if (!g_real) skip();
    assert_true(each_line(DATA "gemma.jsonl", gemma_row) >= 2000);
}

static void runs_row(const json_t *row) {
    const json_t *text = json_array_get(row, 1);
    assert_text(g_real, json_array_get(row, 0), json_string_value(text), json_string_length(text));
}

static void test_byte_runs(void **state) {
    (void)state;
    if (!g_real) skip();
    assert_true(each_line(DATA "runs.jsonl", runs_row) >= 200);
}

static tokenizer *g_spm;

static void spm_row(const json_t *row) {
    const json_t *text = json_array_get(row, 0);
    assert_ids(g_spm, json_string_value(text), json_string_length(text), json_array_get(row, 1));
}

static void test_sentencepiece(void **state) {
    (void)state;
    assert_int_equal(tokenizer_load(&g_spm, DATA "spm.model"), PALI_OK);
    assert_true(each_line(DATA "spm.jsonl", spm_row) >= 500);
    tokenizer_free(g_spm);
}

/* ---- Policy ---- */

static size_t count_id(const tokenizer *t, const char *text, uint32_t flags, int32_t wanted) {
    int32_t *ids;
    size_t n, found = 0;
    assert_int_equal(tokenizer_encode(t, text, strlen(text), flags, &ids, &n), PALI_OK);
    for (size_t i = 0; i < n; i++) found += ids[i] == wanted;
    mem_free(ids);
    return found;
}

static void test_special_tokens_stay_text(void **state) {
    (void)state;
    int32_t bos = tokenizer_find(g_tiny, "<bos>"), image = tokenizer_find(g_tiny, "<image>"), loc = tokenizer_find(g_tiny, "<loc0003>");
    assert_true(bos >= 0 && image >= 0 && loc >= 0);
    assert_int_equal(count_id(g_tiny, "a<bos>b<image>", 0, bos), 0);
    assert_int_equal(count_id(g_tiny, "a<bos>b<image>", 0, image), 0);
    assert_int_equal(count_id(g_tiny, "a<bos>b<image>", TOKENIZER_SPECIAL, bos), 1);
    assert_int_equal(count_id(g_tiny, "a<bos>b<image><image>", TOKENIZER_SPECIAL, image), 2);
    assert_int_equal(count_id(g_tiny, "x<loc0003><loc0003>", 0, loc), 2); /* what a user may write */
    assert_true(tokenizer_is_special(g_tiny, bos) && !tokenizer_is_special(g_tiny, loc));
    assert_int_equal(tokenizer_find(g_tiny, "<loc9999>"), -1);
    assert_null(tokenizer_piece(g_tiny, -1));
    assert_null(tokenizer_piece(g_tiny, INT32_MAX));
}

static void test_prompt(void **state) {
    (void)state;
    int32_t *ids, *text_ids;
    size_t n, n_text;
    assert_int_equal(prompt_compose(&ids, &n, g_tiny, 7, 2, 3, "cat\n", 4), PALI_OK);
    assert_int_equal(tokenizer_encode(g_tiny, "cat\n\n", 5, 0, &text_ids, &n_text), PALI_OK); /* newlines join */
    assert_int_equal(n, 4 + n_text);
    assert_int_equal(ids[0], 7);
    assert_int_equal(ids[2], 7);
    assert_int_equal(ids[3], 2);
    assert_memory_equal(ids + 4, text_ids, n_text * sizeof *ids);
    mem_free(ids);
    mem_free(text_ids);
    assert_int_equal(prompt_compose(&ids, &n, g_tiny, 7, 2, 0, "\xff", 1), PALI_ERR_FORMAT);
    assert_non_null(strstr(status_message(), "prompt"));
}

/* A megabyte of one letter is the worst case of merging without a heap; it must simply finish. */
static void test_long_text(void **state) {
    (void)state;
    const tokenizer *t = g_real ? g_real : g_tiny;
    size_t n = 1 << 20, n_ids, n_text;
    char *text = malloc(n), *decoded;
    int32_t *ids;
    assert_non_null(text);
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < n; i++) text[i] = pass ? "the cat \n"[i % 9] : 'a';
        assert_int_equal(tokenizer_encode(t, text, n, 0, &ids, &n_ids), PALI_OK);
        assert_int_equal(tokenizer_decode(t, ids, n_ids, &decoded, &n_text), PALI_OK);
        assert_int_equal(n_text, n);
        assert_memory_equal(decoded, text, n);
        mem_free(ids);
        mem_free(decoded);
    }
    free(text);
}

static void test_empty_and_invalid(void **state) {
    (void)state;
    static const char *const k_bad[] = {"\x80", "a\xc3", "\xed\xa0\x80", "\xf5\x80\x80\x80", "\xc0\xaf", "\xf0\x82\x82\xac"};
    int32_t *ids;
    size_t n;
    assert_int_equal(tokenizer_encode(g_tiny, "", 0, 0, &ids, &n), PALI_OK);
    assert_int_equal(n, 0);
    mem_free(ids);
    for (size_t i = 0; i < sizeof k_bad / sizeof k_bad[0]; i++) assert_int_equal(tokenizer_encode(g_tiny, k_bad[i], strlen(k_bad[i]), 0, &ids, &n), PALI_ERR_FORMAT);
    assert_int_equal(tokenizer_encode(g_tiny, "a\0b", 3, 0, &ids, &n), PALI_OK); /* NUL is a character like any other */
    assert_int_equal(n, 3);
    mem_free(ids);
}

/* ---- Files ---- */

static pali_status parse(const char *json) {
    tokenizer *t;
    pali_status s = tokenizer_parse(&t, (const uint8_t *)json, strlen(json), "test.json");
    tokenizer_free(t);
    return s;
}

static void test_files(void **state) {
    (void)state;
    static const struct {
        const char *json;
        pali_status status;
        const char *says;
    } k_files[] = {
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[\"a b\"]}}", PALI_OK, ""},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"\\u00e9\\ud83d\\ude00\":1},\"merges\":[]}}", PALI_OK, ""},
        {"{\"model\":{\"type\":\"BPE\",\"merges\":[]}}", PALI_ERR_FORMAT, "model.vocab: missing"},
        {"{\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"a\":0}}}", PALI_ERR_UNSUPPORTED, "model.type"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":-1}}}", PALI_ERR_FORMAT, "token id"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":99999999}}}", PALI_ERR_FORMAT, "too large"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"ab\"]}}", PALI_ERR_FORMAT, "two pieces"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[[\"a\"]]}}", PALI_ERR_FORMAT, "expected ','"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"dropout\":0.1}}", PALI_ERR_UNSUPPORTED, "dropout"},
        {"{\"normalizer\":{\"type\":\"NFKC\"},\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0}}}", PALI_ERR_UNSUPPORTED, "normalizer"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0}}", PALI_ERR_FORMAT, "expected '}'"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\\ud800\":0}}}", PALI_ERR_FORMAT, "escape"},
        {"{\"added_tokens\":[{\"id\":0}],\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0}}}", PALI_ERR_FORMAT, "content missing"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0}}} x", PALI_ERR_FORMAT, "after the end"},
        {"{}", PALI_ERR_FORMAT, "model.vocab"},
        {"", PALI_ERR_FORMAT, "no pieces"},
        {"version https://git-lfs.github.com/spec/v1", PALI_ERR_FORMAT, "test.json"},
        {"\x0a\x7f", PALI_ERR_FORMAT, "past the end"},
    };
    for (size_t i = 0; i < sizeof k_files / sizeof k_files[0]; i++) {
        pali_status s = parse(k_files[i].json);
        if (s != k_files[i].status || (s != PALI_OK && !strstr(status_message(), k_files[i].says)))
            fail_msg("%s: status %d, '%s'", k_files[i].json, (int)s, status_message());
    }
    char deep[4096] = "{\"x\":";
    memset(deep + 5, '[', 4000);
    assert_int_equal(parse(deep), PALI_ERR_FORMAT);
    assert_non_null(strstr(status_message(), "deep"));
}

static void test_lack_of_memory(void **state) {
    (void)state;
    char *bytes;
    size_t n, k = 1;
    assert_int_equal(file_read(&bytes, &n, DATA "spm.model", 1 << 24), PALI_OK);
    for (bool done = false; !done; k++) {
        tokenizer *t;
        int32_t *ids = NULL;
        size_t n_ids;
        mem_fail_after(k);
        pali_status s = tokenizer_parse(&t, (const uint8_t *)bytes, n, "spm.model");
        if (s == PALI_OK) s = tokenizer_encode(t, "the cat \xe7\x8c\xab", 11, 0, &ids, &n_ids);
        done = s == PALI_OK;
        mem_fail_after(0);
        if (!done) assert_int_equal(s, PALI_ERR_MEMORY);
        mem_free(ids);
        tokenizer_free(t);
    }
    assert_true(k > 5);
    mem_free(bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gemma),          cmocka_unit_test(test_byte_runs), cmocka_unit_test(test_sentencepiece),
        cmocka_unit_test(test_special_tokens_stay_text), cmocka_unit_test(test_prompt), cmocka_unit_test(test_long_text),
        cmocka_unit_test(test_empty_and_invalid), cmocka_unit_test(test_files), cmocka_unit_test(test_lack_of_memory),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
