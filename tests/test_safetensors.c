/* test_safetensors.c: what a header says is checked against the file before anybody uses it; likewise the index of shards. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "io/safetensors.h"
#include "io/shards.h"

/* A file of the given header and n_data bytes 0, 1, 2, ... in a block of exactly its size. */
static uint8_t *file_make(size_t *n_bytes, const char *header, size_t n_data) {
    size_t n = strlen(header);
    uint8_t *bytes = malloc(8 + n + n_data);
    assert_non_null(bytes);
    for (size_t i = 0; i < 8; i++) bytes[i] = (uint8_t)(n >> 8 * i);
    memcpy(bytes + 8, header, n);
    for (size_t i = 0; i < n_data; i++) bytes[8 + n + i] = (uint8_t)i;
    *n_bytes = 8 + n + n_data;
    return bytes;
}

static const char k_good[] = "{\"__metadata__\":{\"format\":\"pt\"},"
                             "\"b\":{\"dtype\":\"F32\",\"shape\":[1,2],\"data_offsets\":[12,20]},"
                             "\"a\":{\"dtype\":\"BF16\",\"shape\":[3,2],\"data_offsets\":[0,12]},"
                             "\"scalar\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[20,28]},"
                             "\"none\":{\"dtype\":\"F16\",\"shape\":[0,7],\"data_offsets\":[28,28]}}   ";

static void reads_a_valid_file(void **state) {
    (void)state;
    size_t n;
    uint8_t *bytes = file_make(&n, k_good, 28);
    safetensors st;
    assert_int_equal(safetensors_parse(&st, bytes, n, "f"), PALI_OK);
    assert_int_equal(st.n_tensors, 4);
    const st_tensor *a = &st.tensors[0], *b = &st.tensors[1], *scalar = &st.tensors[2], *none = &st.tensors[3];
    assert_string_equal(a->name, "a");
    assert_int_equal(a->dtype, ST_BF16);
    assert_int_equal(a->n_dims, 2);
    assert_int_equal(a->dims[0], 3);
    assert_int_equal(a->dims[1], 2);
    assert_int_equal(a->n_bytes, 12);
    assert_ptr_equal(a->data, bytes + n - 28);
    assert_string_equal(b->name, "b");
    assert_int_equal(b->data[0], 12);
    assert_string_equal(scalar->name, "scalar");
    assert_int_equal(scalar->n_dims, 0);
    assert_int_equal(scalar->n_bytes, 8);
    assert_string_equal(none->name, "none");
    assert_int_equal(none->n_bytes, 0);
    assert_string_equal(safetensors_dtype_name(a->dtype), "BF16");
    safetensors_close(&st);
    free(bytes);
}

static void refuses_every_truncation(void **state) {
    (void)state;
    size_t n;
    uint8_t *bytes = file_make(&n, k_good, 28);
    for (size_t cut = 0; cut < n; cut++) {
        uint8_t *part = malloc(cut ? cut : 1);
        safetensors st;
        assert_non_null(part);
        memcpy(part, bytes, cut);
        assert_int_equal(safetensors_parse(&st, part, cut, "cut"), PALI_ERR_FORMAT);
        assert_non_null(strstr(status_message(), "cut: "));
        free(part);
    }
    free(bytes);
}

#define T(dtype, shape, offsets) "{\"t\":{\"dtype\":" dtype ",\"shape\":" shape ",\"data_offsets\":" offsets "}}"

static void refuses_malformed_headers(void **state) {
    (void)state;
    static const struct {
        const char *header, *message;
    } k_bad[] = {
        {"", "f: line"},
        {"[]", "expected an object"},
        {"{\"t\":", "f: line"},
        {"{} x", "f: line"},
        {"{\"t\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},\"t\":{\"dtype\":\"U8\",\"shape\":[1],\"data_"
         "offsets\":[1,2]}}",
         "duplicate"},
        {"{\"t\":7}", "t: dtype"},
        {T("7", "[1]", "[0,1]"), "t: dtype"},
        {T("\"F31\"", "[1]", "[0,4]"), "t: unknown dtype 'F31'"},
        {T("\"U8\"", "1", "[0,1]"), "t: shape"},
        {T("\"U8\"", "[1,1,1,1,1,1,1,1,1]", "[0,1]"), "t: shape"},
        {T("\"U8\"", "[-1]", "[0,1]"), "t: shape"},
        {T("\"U8\"", "[1.0]", "[0,1]"), "t: shape"},
        {T("\"U8\"", "[9223372036854775807,9223372036854775807]", "[0,1]"), "t: shape: size overflows"},
        {T("\"F32\"", "[4611686018427387904]", "[0,4]"),
         "t: shape: size overflows"},                                /* 2^62 elements: the bytes overflow */
        {T("\"U8\"", "[18446744073709551617]", "[0,1]"), "f: line"}, /* would be 1 modulo 2^64 */
        {T("\"U8\"", "[4]", "[0]"), "t: data_offsets"},
        {T("\"U8\"", "[4]", "[0,4,8]"), "t: data_offsets"},
        {T("\"U8\"", "[4]", "{}"), "t: data_offsets"},
        {T("\"U8\"", "[4]", "[\"0\",\"4\"]"), "t: data_offsets"},
        {T("\"U8\"", "[4]", "[8,4]"), "t: data_offsets"},
        {T("\"U8\"", "[4]", "[-4,0]"), "t: data_offsets"},
        {T("\"U8\"", "[20]", "[0,20]"), "t: ends at byte 20"},
        {T("\"U8\"", "[1]", "[9223372036854775806,9223372036854775807]"), "t: ends at byte"},
        {T("\"U8\"", "[4]", "[0,5]"), "t: 5 bytes of data, but dtype and shape need 4"},
        {T("\"F32\"", "[2]", "[0,4]"), "t: 4 bytes of data, but dtype and shape need 8"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_"
         "offsets\":[3,7]}}",
         "a and b overlap"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_"
         "offsets\":[0,4]}}",
         "overlap"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":[0,8]},\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_"
         "offsets\":[2,4]}}",
         "a and b overlap"},
    };
    for (size_t i = 0; i < sizeof k_bad / sizeof k_bad[0]; i++) {
        size_t n;
        uint8_t *bytes = file_make(&n, k_bad[i].header, 16);
        safetensors st;
        assert_int_equal(safetensors_parse(&st, bytes, n, "f"), PALI_ERR_FORMAT);
        if (!strstr(status_message(), k_bad[i].message))
            fail_msg("%s: '%s' lacks '%s'", k_bad[i].header, status_message(), k_bad[i].message);
        assert_null(st.tensors);
        free(bytes);
    }
}

static void refuses_nesting_without_end(void **state) {
    (void)state;
    size_t n = 1 << 20, n_bytes;
    char *header = malloc(n + 1);
    assert_non_null(header);
    memset(header, '[', n);
    header[n] = 0;
    uint8_t *bytes = file_make(&n_bytes, header, 0);
    safetensors st;
    assert_int_equal(safetensors_parse(&st, bytes, n_bytes, "deep"), PALI_ERR_FORMAT);
    free(bytes);
    free(header);
}

/* A sparse file whose header length is true but beyond the limit, and one whose length is a lie. */
static void refuses_huge_headers(void **state) {
    (void)state;
    char path[] = "/tmp/test_safetensors_XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    uint64_t n = SAFETENSORS_MAX_HEADER + 1u;
    assert_int_equal(write(fd, &n, sizeof n), sizeof n);
    assert_int_equal(ftruncate(fd, (off_t)(sizeof n + n)), 0);
    safetensors st;
    assert_int_equal(safetensors_open(&st, path), PALI_ERR_LIMIT);
    assert_non_null(strstr(status_message(), path));
    assert_int_equal(ftruncate(fd, 64), 0);
    assert_int_equal(safetensors_open(&st, path), PALI_ERR_FORMAT);
    assert_non_null(strstr(status_message(), "but the file has 64"));
    n = UINT64_MAX;
    assert_int_equal(pwrite(fd, &n, sizeof n, 0), sizeof n);
    assert_int_equal(safetensors_open(&st, path), PALI_ERR_FORMAT);
    assert_int_equal(ftruncate(fd, 0), 0);
    assert_int_equal(safetensors_open(&st, path), PALI_ERR_FORMAT);
    close(fd);
    unlink(path);
    assert_int_equal(safetensors_open(&st, path), PALI_ERR_IO);
    assert_non_null(strstr(status_message(), path));
}

static void survives_lack_of_memory(void **state) {
    (void)state;
    size_t n;
    uint8_t *bytes = file_make(&n, k_good, 28);
    safetensors st;
    mem_fail_after(1);
    assert_int_equal(safetensors_parse(&st, bytes, n, "f"), PALI_ERR_MEMORY);
    mem_fail_after(0);
    free(bytes);
}

static void lists_shards_once(void **state) {
    (void)state;
    static const char json[] = "{\"metadata\":{\"total_size\":12},\"weight_map\":{\"a\":\"one.safetensors\",\"b\":\"two."
                               "safetensors\",\"c\":\"one.safetensors\"}}";
    shards s;
    assert_int_equal(shards_parse(&s, json, sizeof json - 1, "index"), PALI_OK);
    assert_int_equal(s.n, 2);
    assert_string_equal(s.names[0], "one.safetensors");
    assert_string_equal(s.names[1], "two.safetensors");
    shards_free(&s);
    for (size_t k = 1; k <= 3; k++) {
        mem_fail_after(k);
        assert_int_equal(shards_parse(&s, json, sizeof json - 1, "index"), PALI_ERR_MEMORY);
    }
    mem_fail_after(0);
}

static void refuses_malformed_indexes(void **state) {
    (void)state;
    static const struct {
        const char *json, *message;
    } k_bad[] = {
        {"", "index: line"},
        {"[]", "weight_map: expected an object"},
        {"{}", "weight_map: expected an object"},
        {"{\"weight_map\":{}}", "weight_map: names no file"},
        {"{\"weight_map\":[\"a\"]}", "weight_map: expected an object"},
        {"{\"weight_map\":{\"t\":1}}", "t: expected a file name"},
        {"{\"weight_map\":{\"t\":\"\"}}", "t: '' is not"},
        {"{\"weight_map\":{\"t\":\"..\"}}", "t: '..' is not"},
        {"{\"weight_map\":{\"t\":\"../x.safetensors\"}}", "t: '../x.safetensors' is not"},
        {"{\"weight_map\":{\"t\":\"/etc/passwd\"}}", "t: '/etc/passwd' is not"},
        {"{\"weight_map\":{\"t\":\"sub/x.safetensors\"}}", "t: 'sub/x.safetensors' is not"},
        {"{\"weight_map\":{\"t\":\"..\\\\x.safetensors\"}}", "is not"},
        {"{\"weight_map\":{\"t\":\"x\\u0000y\"}}", "index: line"},
        {"{\"weight_map\":{\"t\":\"x\",\"t\":\"y\"}}", "duplicate"},
    };
    for (size_t i = 0; i < sizeof k_bad / sizeof k_bad[0]; i++) {
        shards s;
        assert_int_equal(shards_parse(&s, k_bad[i].json, strlen(k_bad[i].json), "index"), PALI_ERR_FORMAT);
        if (!strstr(status_message(), k_bad[i].message))
            fail_msg("%s: '%s' lacks '%s'", k_bad[i].json, status_message(), k_bad[i].message);
    }
}

/* n tensors, each in a shard of its own (or all in one). */
static pali_status index_of(size_t n, bool own_shards) {
    size_t cap = 64 * n + 64, at;
    char *json = malloc(cap);
    shards s;
    assert_non_null(json);
    at = (size_t)snprintf(json, cap, "{\"weight_map\":{");
    for (size_t i = 0; i < n; i++)
        at += (size_t)snprintf(json + at, cap - at, "%s\"t%zu\":\"s%zu\"", i ? "," : "", i, own_shards ? i : 0);
    at += (size_t)snprintf(json + at, cap - at, "}}");
    pali_status status = shards_parse(&s, json, at, "index");
    if (status == PALI_OK) assert_int_equal(s.n, own_shards ? n : 1);
    shards_free(&s);
    free(json);
    return status;
}

static void bounds_files_and_tensors(void **state) {
    (void)state;
    assert_int_equal(index_of(SHARDS_MAX_FILES, true), PALI_OK);
    assert_int_equal(index_of(SHARDS_MAX_FILES + 1, true), PALI_ERR_LIMIT);
    assert_int_equal(index_of(SHARDS_MAX_TENSORS, false), PALI_OK);
    assert_int_equal(index_of(SHARDS_MAX_TENSORS + 1, false), PALI_ERR_LIMIT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_a_valid_file),        cmocka_unit_test(refuses_every_truncation),
        cmocka_unit_test(refuses_malformed_headers), cmocka_unit_test(refuses_nesting_without_end),
        cmocka_unit_test(refuses_huge_headers),      cmocka_unit_test(survives_lack_of_memory),
        cmocka_unit_test(lists_shards_once),         cmocka_unit_test(refuses_malformed_indexes),
        cmocka_unit_test(bounds_files_and_tensors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
