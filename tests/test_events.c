/* test_events.c: TensorBoard event files: the bytes of spec training 7 (TensorFlow's and PyTorch's own), and a file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/mem.h"
#include "train/events.h"

static void checksums(void **state) {
    (void)state;
    assert_int_equal(events_crc32c("123456789", 9), 0xe3069283u);
    assert_int_equal(events_masked_crc("123456789", 9), 0xc78ab0e5u);
    assert_int_equal(events_crc32c("", 0), 0);
}

static void bytes_are(uint8_t *got, size_t n, const char *hex) {
    char text[1024] = "";
    assert_non_null(got);
    assert_true(2 * n < sizeof text);
    for (size_t i = 0; i < n; i++) (void)snprintf(text + 2 * i, 3, "%02x", got[i]);
    assert_string_equal(text, hex);
    mem_free(got);
}

static void records(void **state) {
    (void)state;
    size_t n = 0;
    uint8_t *version = events_encode_version(&n, 1700000000.5);
    bytes_are(version, n, "1800000000000000a37f4b220900002040fc54d9411a0d627261696e2e4576656e743a322b353110");
    uint8_t *scalar = events_encode_scalar(&n, 1700000001.0, 100, "train/loss", 2.5f);
    bytes_are(scalar, n, "200000000000000029eda9500900004040fc54d94110642a130a110a0a747261696e2f6c6f737315000020407fc0c6fd");
    uint8_t *text = events_encode_text(&n, 0, 0, "args/text_summary", "{}");
    assert_non_null(text);
    /* Frame of 12, wall time of 9; then the summary, its key and length first. */
    static const char k_body[] = "0a2b0a11617267732f746578745f73756d6d617279420c080712041202080142027b7d4a080a060a0474657874";
    uint8_t *body = mem_alloc(n, 1);
    assert_non_null(body);
    assert_int_equal(text[21], 0x2a);
    assert_int_equal(text[22], (sizeof k_body - 1) / 2);
    memcpy(body, text + 23, n - 23 - 4);
    bytes_are(body, n - 23 - 4, k_body);
    mem_free(text);
}

/* A long text: lengths of two and three bytes; and what is too long. */
static void limits(void **state) {
    (void)state;
    size_t n = 0;
    char *long_text = mem_calloc(EVENTS_MAX_TEXT + 2, 1), tag[EVENTS_MAX_TAG + 2];
    assert_non_null(long_text);
    memset(long_text, 'a', EVENTS_MAX_TEXT);
    memset(tag, 't', sizeof tag - 1);
    tag[sizeof tag - 1] = 0;
    assert_null(events_encode_scalar(&n, 0, 1, tag, 1));
    assert_null(events_encode_text(&n, 0, 1, tag, "x"));
    tag[EVENTS_MAX_TAG] = 0;
    uint8_t *record = events_encode_text(&n, 0, INT64_MAX, tag, long_text);
    assert_non_null(record);
    uint64_t length;
    uint32_t crc;
    memcpy(&length, record, 8);
    assert_int_equal(length, n - 16);
    memcpy(&crc, record + n - 4, 4);
    assert_int_equal(crc, events_masked_crc(record + 12, n - 16));
    mem_free(record);
    long_text[EVENTS_MAX_TEXT] = 'a';
    assert_null(events_encode_text(&n, 0, 1, "tag", long_text));
    mem_free(long_text);
}

static void a_file(void **state) {
    (void)state;
    char root[] = "/tmp/paligemma-events-XXXXXX", dir[128];
    assert_non_null(mkdtemp(root));
    (void)snprintf(dir, sizeof dir, "%s/runs/one", root);
    events first, second, closed = {0};
    assert_int_equal(events_open(&first, dir), PALI_OK);
    assert_int_equal(events_open(&second, dir), PALI_OK); /* the same second and process: another name */
    assert_string_not_equal(first.path, second.path);
    assert_int_equal(events_scalar(&first, 1, "train/loss", 3), PALI_OK);
    assert_int_equal(events_text(&first, 0, "args/text_summary", "{}"), PALI_OK);
    assert_int_equal(events_scalar(&closed, 1, "train/loss", 3), PALI_OK);
    char *data, path[sizeof dir + 4];
    size_t n, n_records = 0;
    assert_int_equal(file_read(&data, &n, first.path, 4096), PALI_OK);
    for (size_t at = 0; at < n; n_records++) {
        uint64_t length;
        memcpy(&length, data + at, 8);
        at += (size_t)length + 16;
        assert_true(at <= n);
    }
    assert_int_equal(n_records, 3);
    mem_free(data);
    /* What cannot be. */
    events bad;
    (void)snprintf(path, sizeof path, "%s/x", first.path);
    assert_int_equal(events_open(&bad, path), PALI_ERR_IO);
    assert_null(bad.path);
    assert_int_equal(events_open(&bad, ""), PALI_ERR_ARGUMENT);
    assert_int_equal(unlink(first.path), 0);
    assert_int_equal(unlink(second.path), 0);
    events_close(&first);
    events_close(&second);
    assert_int_equal(rmdir(dir), 0);
    (void)snprintf(dir, sizeof dir, "%s/runs", root);
    assert_int_equal(rmdir(dir), 0);
    assert_int_equal(rmdir(root), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(checksums), cmocka_unit_test(records), cmocka_unit_test(limits), cmocka_unit_test(a_file)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
