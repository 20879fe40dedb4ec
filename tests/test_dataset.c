/* test_dataset.c: rows of JSONL files; bad ones are reported with their line and left out within a budget. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/mem.h"
#include "train/dataset.h"

#define GOOD "{\"image\": \"a.png\", \"prefix\": \"p\", \"suffix\": \"s\"}\n"

static char g_dir[] = "/tmp/pali-dataset-XXXXXX";
static char g_path[64];

typedef struct reports {
    size_t n;
    char last[512];
} reports;

static void on_bad(void *user, const char *message) {
    reports *r = user;
    r->n++;
    (void)snprintf(r->last, sizeof r->last, "%s", message);
}

static char *in_dir(const char *name) {
    char *path = file_join(g_dir, name);
    assert_non_null(path);
    return path;
}

static void write_in_dir(const char *name, const void *bytes, size_t n) {
    char *path = in_dir(name);
    assert_int_equal(file_write_atomic(path, bytes, n), PALI_OK);
    mem_free(path);
}

static int group_setup(void **state) {
    (void)state;
    if (!mkdtemp(g_dir)) return 1;
    (void)snprintf(g_path, sizeof g_path, "%s/rows.jsonl", g_dir);
    write_in_dir("a.png", "x", 1);
    write_in_dir("b.png", "x", 1);
    char *sub = in_dir("sub");
    const int made = mkdir(sub, 0700);
    mem_free(sub);
    return made;
}

static int group_teardown(void **state) {
    (void)state;
    static const char *const k_names[] = {"rows.jsonl", "a.png", "b.png"};
    for (size_t i = 0; i < 3; i++) {
        char *path = in_dir(k_names[i]);
        unlink(path);
        mem_free(path);
    }
    char *sub = in_dir("sub");
    rmdir(sub);
    mem_free(sub);
    return rmdir(g_dir);
}

static pali_status open_bytes(dataset *d, const char *bytes, size_t n, size_t max_bad, reports *r) {
    *r = (reports){0};
    write_in_dir("rows.jsonl", bytes, n);
    return dataset_open(d, g_path, max_bad, on_bad, r);
}

static pali_status open_text(dataset *d, const char *text, size_t max_bad, reports *r) {
    return open_bytes(d, text, strlen(text), max_bad, r);
}

static void rows_come_as_they_are_written(void **state) {
    (void)state;
    /* A byte order mark, blank lines, Windows' line ends, unknown keys, and no newline at the end. */
    static const char k_text[] = "\xef\xbb\xbf{\"image\": \"a.png\", \"prefix\": \"caption en\", \"suffix\": \"caf\\u00e9\", \"more\": [1]}\r\n"
                                 "\n  \t\r\n"
                                 "{\"id\": \"second\", \"images\": [\"a.png\", \"sub/../b.png\"], \"prefix\": \"\", \"suffix\": \"\"}\n"
                                 "{\"image\": [\"b.png\"], \"prefix\": \"x\", \"suffix\": \"y\"}";
    dataset d;
    dataset_row row;
    reports r;
    char path[80];
    assert_int_equal(open_text(&d, k_text, DATASET_BAD_DEFAULT, &r), PALI_OK);
    assert_int_equal(d.n, 3);
    assert_int_equal(d.n_bad, 0);
    assert_int_equal(dataset_row_read(&row, &d, 1), PALI_OK); /* in any order */
    assert_string_equal(row.id, "second");
    assert_int_equal(row.line, 4);
    assert_int_equal(row.n_images, 2);
    (void)snprintf(path, sizeof path, "%s/sub/../b.png", g_dir);
    assert_string_equal(row.images[1], path);
    assert_int_equal(row.n_prefix + row.n_suffix, 0);
    dataset_row_free(&row);
    assert_int_equal(dataset_row_read(&row, &d, 0), PALI_OK);
    assert_string_equal(row.prefix, "caption en");
    assert_string_equal(row.suffix, "caf\xc3\xa9");
    assert_int_equal(row.n_suffix, 5);
    assert_null(row.id);
    dataset_row_free(&row);
    assert_int_equal(dataset_row_read(&row, &d, 2), PALI_OK);
    assert_int_equal(row.line, 5);
    dataset_row_free(&row);
    dataset_close(&d);
}

static void bad_rows_are_named_and_left_out(void **state) {
    (void)state;
    static const struct {
        const char *line, *message;
    } k_rows[] = {
        {"{", "rows.jsonl:2: line 1, column 1: "},
        {"[]", "rows.jsonl:2: expected an object"},
        {"{\"prefix\": \"\", \"suffix\": \"\"}", "rows.jsonl:2: no \"image\""},
        {"{\"image\": \"a.png\", \"suffix\": \"\"}", "rows.jsonl:2: no \"prefix\""},
        {"{\"image\": \"a.png\", \"prefix\": \"\"}", "rows.jsonl:2: no \"suffix\""},
        {"{\"image\": \"a.png\", \"prefix\": \"\", \"suffix\": null}", "rows.jsonl:2: suffix: expected a string"},
        {"{\"image\": \"a.png\", \"prefix\": \"\", \"suffix\": []}", "rows.jsonl:2: suffix: 0 texts"},
        {"{\"image\": \"a.png\", \"prefix\": \"\", \"suffix\": [\"\", 1]}", "rows.jsonl:2: suffix[1]: expected a string"},
        {"{\"image\": \"a.png\", \"prefix\": \"\", \"suffix\": [[\"a\"]]}", "rows.jsonl:2: suffix[0]: expected a string"},
        {"{\"image\": \"a.png\", \"prefix\": 3, \"suffix\": \"\"}", "rows.jsonl:2: prefix: expected a string"},
        {"{\"image\": 7, \"prefix\": \"\", \"suffix\": \"\"}", "rows.jsonl:2: image: expected the name of a file"},
        {"{\"image\": \"\", \"prefix\": \"\", \"suffix\": \"\"}", "rows.jsonl:2: image: expected the name of a file"},
        {"{\"image\": [], \"prefix\": \"\", \"suffix\": \"\"}", "rows.jsonl:2: 0 images"},
        {"{\"image\": [\"a.png\", null], \"prefix\": \"\", \"suffix\": \"\"}", "rows.jsonl:2: image: expected the name of a file"},
        {"{\"image\": \"a.png\", \"images\": [\"a.png\"], \"prefix\": \"\", \"suffix\": \"\"}", "rows.jsonl:2: both"},
        {"{\"image\": \"none.png\", \"prefix\": \"\", \"suffix\": \"\"}", "none.png: No such file"},
        {"{\"image\": \"sub\", \"prefix\": \"\", \"suffix\": \"\"}", "sub: not a regular file"},
        {"{\"image\": \"a.png\", \"prefix\": \"\\u0000\", \"suffix\": \"\"}", "rows.jsonl:2: line 1"},
        {"{\"image\": \"a.png\", \"prefix\": \"\xff\", \"suffix\": \"\"}", "rows.jsonl:2: line 1"},
        {"{\"image\": \"a.png\", \"prefix\": \"\", \"suffix\": \"\", \"suffix\": \"\"}", "rows.jsonl:2: line 1"},
        {"{\"image\": \"a.png\", \"prefix\": \"\", \"suffix\": \"\", \"id\": 3}", "rows.jsonl:2: id: expected a string"},
        {"{\"image\": \"a.png\", \"prefix\": \"\", \"suffix\": \"\"} x", "rows.jsonl:2: line 1"},
    };
    for (size_t i = 0; i < sizeof k_rows / sizeof *k_rows; i++) {
        dataset d;
        reports r;
        char text[512];
        (void)snprintf(text, sizeof text, GOOD "%s\n" GOOD, k_rows[i].line);
        if (open_text(&d, text, DATASET_BAD_DEFAULT, &r) != PALI_OK) fail_msg("%s: %s", k_rows[i].line, status_message());
        assert_int_equal(d.n, 2);
        assert_int_equal(d.n_bad, 1);
        assert_int_equal(r.n, 1);
        if (!strstr(r.last, k_rows[i].message)) fail_msg("%s: '%s', not '%s'", k_rows[i].line, r.last, k_rows[i].message);
        dataset_close(&d);
        assert_int_equal(open_text(&d, text, 0, &r), PALI_ERR_FORMAT); /* nothing is put up with */
        assert_non_null(strstr(status_message(), "1 bad rows, more than the 0 allowed"));
        assert_non_null(strstr(status_message(), k_rows[i].message));
        dataset_close(&d);
    }
}

/* Each of the suffixes in turn, in an order that is the row's, the seed's and the cycle's own. */
static void suffixes_take_turns(void **state) {
    (void)state;
    enum { N = 6, CYCLES = 40 };
    static const char k_line[] = "{\"image\": \"a.png\", \"prefix\": \"\", \"suffix\": [\"\", \"a\", \"bb\", \"ccc\", \"dddd\", \"eeeee\"]}";
    dataset_row row;
    size_t n_first[N] = {0}, n_other_row = 0, n_other_seed = 0, n_other_cycle = 0;
    char last[N] = {0};
    if (dataset_row_parse(&row, k_line, strlen(k_line), ".", "row") != PALI_OK) fail_msg("%s", status_message());
    assert_int_equal(row.n_suffix, N - 1); /* the longest, as long as none is drawn */
    for (uint64_t epoch = 0, seen = 0; epoch < N * CYCLES; epoch++) {
        dataset_row_draw(&row, 7, epoch, 3);
        const size_t drawn = row.n_suffix;
        assert_int_equal(strlen(row.suffix), drawn);
        n_other_cycle += last[epoch % N] != (char)drawn;
        last[epoch % N] = (char)drawn;
        n_first[drawn] += epoch % N == 0;
        seen |= (uint64_t)1 << drawn;
        if (epoch % N == N - 1) {
            assert_int_equal(seen, (1 << N) - 1);
            seen = 0;
        }
        dataset_row_draw(&row, 7, epoch, 4);
        n_other_row += row.n_suffix != drawn;
        dataset_row_draw(&row, 8, epoch, 3);
        n_other_seed += row.n_suffix != drawn;
        dataset_row_draw(&row, 7, epoch, 3); /* nothing is remembered */
        assert_int_equal(row.n_suffix, drawn);
    }
    for (size_t i = 0; i < N; i++) assert_true(n_first[i] > 0);
    assert_true(n_other_row > 100 && n_other_seed > 100 && n_other_cycle > 100); /* of 240; 200 on average */
    dataset_row_free(&row);
}

static void files_without_a_good_row_are_errors(void **state) {
    (void)state;
    static const struct {
        const char *text, *message;
    } k_files[] = {{"", "no rows"}, {"\n \n\r\n", "no rows"}, {"\xef\xbb\xbf", "no rows"}, {"x\ny\n", "2 rows and none of them good"}};
    dataset d;
    reports r;
    for (size_t i = 0; i < sizeof k_files / sizeof *k_files; i++) {
        assert_int_equal(open_text(&d, k_files[i].text, DATASET_BAD_DEFAULT, &r), PALI_ERR_FORMAT);
        if (!strstr(status_message(), k_files[i].message)) fail_msg("'%s', not '%s'", status_message(), k_files[i].message);
        dataset_close(&d);
    }
    assert_int_equal(dataset_open(&d, "/nonexistent/rows.jsonl", 0, NULL, NULL), PALI_ERR_IO);
    dataset_close(&d);
    assert_int_equal(dataset_open(&d, g_dir, 0, NULL, NULL), PALI_ERR_IO);
    dataset_close(&d);
}

/* n good rows and n_bad bad ones. */
static char *many_rows(size_t n, size_t n_bad) {
    char *text = malloc(n * strlen(GOOD) + 2 * n_bad + 1), *at = text;
    assert_non_null(text);
    for (size_t i = 0; i < n; i++, at += strlen(GOOD)) memcpy(at, GOOD, strlen(GOOD));
    for (size_t i = 0; i < n_bad; i++, at += 2) memcpy(at, "x\n", 2);
    *at = 0;
    return text;
}

static void the_budget_is_a_share_and_a_few(void **state) {
    (void)state;
    static const struct {
        size_t n, n_bad;
        bool fine;
    } k_files[] = {{1, 10, true}, {1, 11, false}, {180, 20, true}, {180, 21, false}};
    dataset d;
    reports r;
    for (size_t i = 0; i < sizeof k_files / sizeof *k_files; i++) {
        char *text = many_rows(k_files[i].n, k_files[i].n_bad);
        assert_int_equal(open_text(&d, text, DATASET_BAD_DEFAULT, &r), k_files[i].fine ? PALI_OK : PALI_ERR_FORMAT);
        assert_int_equal(r.n, k_files[i].n_bad);
        dataset_close(&d);
        free(text);
    }
}

static void rows_that_turn_bad_later_count_once(void **state) {
    (void)state;
    dataset d;
    reports r;
    assert_int_equal(open_text(&d, GOOD GOOD GOOD "x\n", 2, &r), PALI_OK);
    assert_int_equal(dataset_row_bad(&d, 1, "no picture"), PALI_OK);
    assert_int_equal(dataset_row_bad(&d, 1, "no picture"), PALI_OK);
    assert_int_equal(d.n_bad, 2);
    assert_int_equal(r.n, 2);
    assert_string_equal(r.last, "no picture");
    assert_int_equal(dataset_row_bad(&d, 2, "no picture either"), PALI_ERR_FORMAT);
    assert_non_null(strstr(status_message(), "3 bad rows, more than the 2 allowed; the last one: no picture either"));
    dataset_close(&d);
}

static void a_line_has_a_limit(void **state) {
    (void)state;
    const size_t n = DATASET_MAX_LINE_BYTES + 1;
    char *text = malloc(2 * strlen(GOOD) + n + 1), *at = text;
    dataset d;
    dataset_row row;
    reports r;
    assert_non_null(text);
    memcpy(at, GOOD, strlen(GOOD));
    at += strlen(GOOD);
    memset(at, 'x', n);
    at[n] = '\n';
    memcpy(at + n + 1, GOOD, strlen(GOOD));
    assert_int_equal(open_bytes(&d, text, 2 * strlen(GOOD) + n + 1, DATASET_BAD_DEFAULT, &r), PALI_OK);
    assert_int_equal(d.n, 2);
    assert_non_null(strstr(r.last, "rows.jsonl:2: 4194305 bytes, more than the limit"));
    assert_int_equal(dataset_row_read(&row, &d, 1), PALI_OK);
    assert_int_equal(row.line, 3);
    dataset_row_free(&row);
    dataset_close(&d);
    free(text);
}

static void a_file_that_shrank_is_an_error(void **state) {
    (void)state;
    dataset d;
    dataset_row row;
    reports r;
    assert_int_equal(open_text(&d, GOOD GOOD, 0, &r), PALI_OK);
    assert_int_equal(truncate(g_path, (off_t)strlen(GOOD) + 3), 0);
    assert_int_equal(dataset_row_read(&row, &d, 0), PALI_OK);
    dataset_row_free(&row);
    assert_int_equal(dataset_row_read(&row, &d, 1), PALI_ERR_IO);
    dataset_row_free(&row);
    dataset_close(&d);
}

static void a_failed_allocation_is_not_a_bad_row(void **state) {
    (void)state;
    dataset d;
    reports r;
    size_t n = 0;
    write_in_dir("rows.jsonl", GOOD "x\n" GOOD, 2 * strlen(GOOD) + 2);
    for (pali_status s = PALI_ERR_MEMORY; s != PALI_OK; n++) {
        r = (reports){0};
        mem_fail_after(n + 1);
        s = dataset_open(&d, g_path, DATASET_BAD_DEFAULT, on_bad, &r);
        mem_fail_after(0);
        assert_true(s == PALI_OK || s == PALI_ERR_MEMORY);
        assert_true(r.n <= 1);
        dataset_close(&d);
    }
    assert_true(n > 8);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_come_as_they_are_written),      cmocka_unit_test(bad_rows_are_named_and_left_out),
        cmocka_unit_test(files_without_a_good_row_are_errors), cmocka_unit_test(the_budget_is_a_share_and_a_few),
        cmocka_unit_test(suffixes_take_turns),
        cmocka_unit_test(rows_that_turn_bad_later_count_once), cmocka_unit_test(a_line_has_a_limit),
        cmocka_unit_test(a_file_that_shrank_is_an_error),     cmocka_unit_test(a_failed_allocation_is_not_a_bad_row),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
