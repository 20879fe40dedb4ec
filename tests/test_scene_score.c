/* test_scene_score.c: the figures of tools/scenes' scorer for answers made by hand; the expected values are worked out in the
 * comments beside them. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "judge.h"

static char g_dir[] = "/tmp/test_scene_score_XXXXXX";

static const char *const k_files[] = {"truth", "caption-en", "caption-es", "caption-fr", "answer", "detect", "segment", "ocr"};

static void in_dir(char path[128], bool answers, const char *name) {
    (void)snprintf(path, 128, "%s%s/%s.jsonl", g_dir, answers ? "/answers" : "", name);
}

static void file_write(bool answers, const char *name, const char *text) {
    char path[128];
    in_dir(path, answers, name);
    FILE *out = fopen(path, "w");
    assert_non_null(out);
    assert_true(fputs(text, out) >= 0);
    assert_int_equal(fclose(out), 0);
}

static int clear(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof k_files / sizeof *k_files; i++)
        for (int answers = 0; answers < 2; answers++) {
            char path[128];
            in_dir(path, answers, k_files[i]);
            (void)unlink(path);
        }
    return 0;
}

static judge run(void) {
    char answers[64];
    judge j;
    fault f;
    (void)snprintf(answers, sizeof answers, "%s/answers", g_dir);
    if (!judge_run(&j, g_dir, answers, &f)) fail_msg("%s", f.text);
    return j;
}

static void refuse(const char *expected) {
    char answers[64];
    judge j;
    fault f;
    (void)snprintf(answers, sizeof answers, "%s/answers", g_dir);
    assert_false(judge_run(&j, g_dir, answers, &f));
    if (!strstr(f.text, expected)) fail_msg("%s: expected %s", f.text, expected);
}

static void assert_near(double found, double expected) {
    if (!(fabs(found - expected) < 1e-9)) fail_msg("%.12f: expected %.12f", found, expected); /* sums of a few doubles */
}

#define ROW(image, prompt, suffix, kind) "{\"image\":\"" image "\",\"prompt\":\"" prompt "\",\"suffix\":\"" suffix "\",\"kind\":\"" kind "\"}\n"
#define TEXT(text) "{\"text\":\"" text "\",\"objects\":[]}\n"
#define OBJECT(name, box, mask) "{\"class\":\"emoji\",\"name\":\"" name "\",\"box\":" box ",\"mask\":\"" mask "\"}"
#define PICTURE(image, objects) "{\"image\":\"" image "\",\"side\":8,\"objects\":[" objects "]}\n"
#define FOUND(label, score, box) "{\"label\":\"" label "\",\"score\":" score ",\"box\":" box ",\"mask\":null,\"valid\":true}"
#define ANSWER(text, objects) "{\"text\":\"" text "\",\"objects\":[" objects "]}\n"

/* Columns 2 to 5, rows 2 to 5 of 8 x 8, down the columns: 18 outside, 4 inside, 4 outside ... as COCO writes them. */
static char g_square[64];

static void square_make(void) {
    uint8_t mask[64] = {0};
    char *counts;
    for (unsigned y = 2; y < 6; y++)
        for (unsigned x = 2; x < 6; x++) mask[8 * y + x] = 255;
    assert_int_equal(pali_mask_to_rle(mask, 8, 8, 128, &counts), PALI_OK);
    (void)snprintf(g_square, sizeof g_square, "%s", counts);
    pali_free(counts);
}

static void texts_are_compared(void **state) {
    (void)state;
    file_write(false, "truth", PICTURE("a", OBJECT("cat", "[0,0,4,4]", "")) PICTURE("b", OBJECT("word", "[0,0,4,4]", "")) PICTURE("c", OBJECT("dog", "[0,0,4,4]", "")));
    file_write(false, "caption-en", ROW("a", "caption en", "cat", "en") ROW("b", "caption en", "the word HAT", "en") ROW("c", "caption en", "dog", "en"));
    file_write(true, "caption-en", TEXT("cat") TEXT("the word HAT") TEXT("dog ")); /* a blank too many */
    file_write(false, "answer", ROW("a", "q", "1", "count") ROW("b", "q", "yes", "present") ROW("c", "q", "no", "present"));
    file_write(true, "answer", TEXT("1") "{\"error\":\"too large\"}\n" TEXT("no"));
    file_write(false, "ocr", ROW("a", "ocr", "", "absent") ROW("b", "ocr", "HAT", "present") ROW("c", "ocr", "", "absent"));
    file_write(true, "ocr", TEXT("") TEXT("HAT") TEXT("O"));
    const judge j = run();
    assert_int_equal(j.caption[NAMES_EN].right, 2);
    assert_int_equal(j.caption[NAMES_EN].n, 3);
    assert_int_equal(j.wordless[NAMES_EN].right, 1);
    assert_int_equal(j.wordless[NAMES_EN].n, 2);
    assert_int_equal(j.caption[NAMES_ES].n, 0);
    assert_true(j.has[SHEET_CAPTION_EN] && !j.has[SHEET_CAPTION_ES] && !j.has[SHEET_DETECT]);
    assert_int_equal(judge_answers(&j).right, 2);
    assert_int_equal(judge_answers(&j).n, 3);
    assert_int_equal(j.answer[QUESTION_COUNT].right, 1);
    assert_int_equal(j.answer[QUESTION_PRESENT].right, 1);
    assert_int_equal(j.answer[QUESTION_PRESENT].n, 2);
    assert_int_equal(j.n_errors, 1);
    assert_int_equal(j.ocr.right, 1);
    assert_int_equal(j.ocr.n, 1);
    assert_int_equal(j.present[SHEET_OCR].right, 1);
    assert_int_equal(j.present[SHEET_OCR].n, 2);
}

static void boxes_are_measured(void **state) {
    (void)state;
    /* Two cats in a, of which the first has a box of 4 x 4; a dog in b and a pig that nobody asks for; nothing asked for is in c. */
    file_write(false, "truth", PICTURE("a", OBJECT("cat", "[0,0,4,4]", "") "," OBJECT("cat", "[4,4,8,8]", "")) PICTURE("b", OBJECT("dog", "[0,0,8,8]", "") "," OBJECT("pig", "[0,0,2,2]", ""))
                                   PICTURE("c", OBJECT("owl", "[0,0,4,4]", "")));
    file_write(false, "detect", ROW("a", "detect cat ; key", "-", "some") ROW("b", "detect dog", "-", "some") ROW("c", "detect cat", "", "absent"));
    /* a: a cat of 4 x 3 (IoU 12/16), the same cat again and less surely, which is one too many, and the other exactly. b: a dog of 6 x 8
     * (IoU 3/4), something that is no name, a box without area, a pig: not asked for. c: a cat, as sure as the second of a. */
    file_write(true, "detect",
               ANSWER("x", FOUND("cat", "0.9", "[0,0,4,3]") "," FOUND("cat", "0.8", "[0,0,4,4]") "," FOUND("cat", "0.7", "[4,4,8,8]"))
                   ANSWER("x", FOUND("dog", "0.5", "[0,0,6,8]") "," FOUND("unicorn", "1", "[0,0,8,8]") ",{\"label\":\"dog\",\"score\":1,\"box\":[3,3,3,3],\"valid\":false}," FOUND("pig", "0.5", "[0,0,2,2]"))
                       ANSWER("x", FOUND("cat", "0.8", "[0,0,4,4]")));
    const judge j = run();
    assert_int_equal(j.detect.n_objects, 3);
    assert_int_equal(j.detect.n_classes, 2);
    assert_int_equal(j.detect.n_answers, 6); /* the unicorn and the empty box are of no class */
    assert_int_equal(j.detect.n_matched, 3);
    assert_near(j.detect.mean_iou, (0.75 + 1 + 0.75) / 3);
    /* Cats: right, wrong, wrong, right: precision 1 up to recall 1/2, where 51 of the 101 recalls lie, then 2/4. Dogs: 1. */
    assert_near(j.detect.ap50, ((51 + 50 * 0.5) / 101 + 1) / 2);
    double sum = 0;
    for (unsigned c = 0; c < THING_CLASSES; c++) sum += j.detect_of[c].ap50 * (double)j.detect_of[c].n_classes;
    assert_near(sum / (double)j.detect.n_classes, j.detect.ap50);
    assert_int_equal(j.present[SHEET_DETECT].right, 1);
    assert_int_equal(j.present[SHEET_DETECT].n, 1);
}

static void an_answer_takes_the_object_it_overlaps_most(void **state) {
    (void)state;
    file_write(false, "truth", PICTURE("a", OBJECT("cat", "[0,0,8,6]", "") "," OBJECT("cat", "[0,0,8,8]", "")));
    file_write(false, "detect", ROW("a", "detect cat", "-", "all"));
    file_write(true, "detect", ANSWER("x", FOUND("cat", "0.5", "[0,0,8,7]") "," FOUND("cat", "0.9", "[0,0,8,8]")));
    const judge j = run();
    assert_int_equal(j.detect.n_matched, 2);
    assert_near(j.detect.mean_iou, (1 + 48.0 / 56) / 2); /* the surer one first: it takes the whole, and 6 rows of 7 are left */
    assert_near(j.detect.ap50, 1);
}

static void overlap_of_less_than_half_is_none(void **state) {
    (void)state;
    const double whole[4] = {0, 0, 8, 8}, half[4] = {0, 0, 8, 4}, less[4] = {0, 0, 7.9, 4}, beside[4] = {8, 0, 9, 8}, inverted[4] = {6, 6, 2, 2};
    assert_near(detection_iou(whole, half), 0.5);
    assert_near(detection_iou(whole, less), 7.9 / 16);
    assert_near(detection_iou(whole, beside), 0);
    assert_near(detection_iou(whole, inverted), 0);
    file_write(false, "truth", PICTURE("a", OBJECT("cat", "[0,0,8,8]", "")) PICTURE("b", OBJECT("cat", "[0,0,8,8]", "")));
    file_write(false, "detect", ROW("a", "detect cat", "-", "all") ROW("b", "detect cat", "-", "all"));
    file_write(true, "detect", ANSWER("x", FOUND("cat", "0.9", "[0,0,7.9,4]")) ANSWER("x", FOUND("cat", "0.5", "[0,0,8,4]")));
    const judge j = run();
    assert_int_equal(j.detect.n_matched, 1);
    /* Wrong, right: recall 1/2 with precision 1/2, never more. */
    assert_near(j.detect.ap50, 51 * 0.5 / 101);
}

static void masks_are_measured(void **state) {
    (void)state;
    char truth[1024], answers[2048];
    square_make();
    (void)snprintf(truth, sizeof truth,
                   PICTURE("a", OBJECT("cat", "[2,2,6,6]", "%s")) PICTURE("b", OBJECT("cat", "[2,2,6,6]", "%s")) PICTURE("c", OBJECT("cat", "[2,2,6,6]", "%s")) PICTURE("d", OBJECT("cat", "[2,2,6,6]", "%s")),
                   g_square, g_square, g_square, g_square);
    file_write(false, "truth", truth);
    file_write(false, "segment", ROW("a", "segment cat", "-", "present") ROW("b", "segment cat", "-", "present") ROW("c", "segment cat", "-", "present") ROW("d", "segment dog", "", "absent"));
    /* a: the mask itself, whatever the box says; b: no mask: rows 2 to 7 and columns 2 to 3 of the box, 8 of 8 + 4 + 8 pixels; c: nothing; d: nothing, rightly. */
    (void)snprintf(answers, sizeof answers,
                   "{\"text\":\"x\",\"objects\":[{\"label\":\"cat\",\"box\":[0,0,1,1],\"valid\":true,\"mask\":{\"size\":[8,8],\"counts\":\"%s\"}}]}\n" ANSWER("x", FOUND("cat", "1", "[2,2,4,8]")) TEXT("") TEXT(""), g_square);
    file_write(true, "segment", answers);
    const judge j = run();
    assert_int_equal(j.n_segments, 3);
    assert_near(j.segment_iou, (1 + 8.0 / 20 + 0) / 3);
    assert_int_equal(j.present[SHEET_SEGMENT].right, 0);
    assert_int_equal(j.present[SHEET_SEGMENT].n, 1);
}

static void files_that_do_not_fit_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *truth, *rows, *answers, *message;
    } k_cases[] = {
        {PICTURE("a", OBJECT("cat", "[0,0,4,4]", "")), ROW("a", "ocr", "HAT", "present"), "", "fewer answers than rows"},
        {PICTURE("a", OBJECT("cat", "[0,0,4,4]", "")), ROW("a", "ocr", "HAT", "present"), TEXT("") TEXT(""), "more answers than rows"},
        {PICTURE("a", OBJECT("cat", "[0,0,4,4]", "")), ROW("b", "ocr", "HAT", "present"), TEXT(""), "truth.jsonl: no picture b"},
        {PICTURE("a", OBJECT("cat", "[0,0,4,4]", "")), ROW("a", "ocr", "HAT", "present"), "{}\n", "answers/ocr.jsonl:1: \"text\" or \"error\" expected"},
        {PICTURE("a", OBJECT("cat", "[0,0,4,4]", "")), ROW("a", "ocr", "HAT", "present"), "[\n", "answers/ocr.jsonl:1: an object of JSON expected"},
        {PICTURE("a", OBJECT("cat", "[0,0,4,4]", "")), "{\"image\":\"a\"}\n", TEXT(""), "ocr.jsonl:1: prompt: a string expected"},
        {PICTURE("a", OBJECT("cat", "[0,0,4]", "")), ROW("a", "ocr", "HAT", "present"), TEXT(""), "truth.jsonl:1: box: four numbers expected"},
        {PICTURE("a", OBJECT("unicorn", "[0,0,4,4]", "")), ROW("a", "ocr", "HAT", "present"), TEXT(""), "truth.jsonl:1: name: unknown \"unicorn\""},
        {PICTURE("a", ""), ROW("a", "ocr", "HAT", "present"), TEXT(""), "truth.jsonl:1: objects: a list of 1 to"},
        {"{\"image\":\"a\",\"side\":1000000,\"objects\":[]}\n", ROW("a", "ocr", "HAT", "present"), TEXT(""), "truth.jsonl:1: side: 1 to"},
        {"\n", ROW("a", "ocr", "HAT", "present"), TEXT(""), "truth.jsonl:1: an object of JSON expected"},
    };
    for (size_t i = 0; i < sizeof k_cases / sizeof *k_cases; i++) {
        file_write(false, "truth", k_cases[i].truth);
        file_write(false, "ocr", k_cases[i].rows);
        file_write(true, "ocr", k_cases[i].answers);
        refuse(k_cases[i].message);
    }
    (void)clear(NULL);
    refuse("no answers");
    file_write(true, "ocr", TEXT(""));
    refuse("ocr.jsonl: no such file");
    file_write(false, "ocr", ROW("a", "ocr", "HAT", "present"));
    refuse("truth.jsonl: no such file");
    file_write(false, "truth", PICTURE("a", OBJECT("cat", "[0,0,4,4]", "")));
    file_write(false, "answer", ROW("a", "q", "1", "odd"));
    file_write(true, "answer", TEXT(""));
    refuse("answer.jsonl:1: kind: unknown \"odd\"");
    (void)clear(NULL);
    file_write(false, "truth", PICTURE("a", OBJECT("cat", "[0,0,4,4]", "!")));
    file_write(false, "segment", ROW("a", "segment cat", "-", "present"));
    file_write(true, "segment", ANSWER("x", FOUND("cat", "1", "[0,0,4,4]")));
    refuse("no mask of that in the truth");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(texts_are_compared, clear),
        cmocka_unit_test_teardown(boxes_are_measured, clear),
        cmocka_unit_test_teardown(an_answer_takes_the_object_it_overlaps_most, clear),
        cmocka_unit_test_teardown(overlap_of_less_than_half_is_none, clear),
        cmocka_unit_test_teardown(masks_are_measured, clear),
        cmocka_unit_test_teardown(files_that_do_not_fit_are_refused, clear),
    };
    char answers[64];
    if (!mkdtemp(g_dir)) return 1;
    (void)snprintf(answers, sizeof answers, "%s/answers", g_dir);
    if (mkdir(answers, 0700) != 0) return 1;
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    (void)rmdir(answers);
    (void)rmdir(g_dir);
    return failed;
}
