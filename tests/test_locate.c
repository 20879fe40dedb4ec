/* test_locate.c: answers to objects: well-formed ones, everything that models do wrong (spec inference 6.3), scores, pixels of
 * both conventions, and what --nms and --min-score leave out.
 * Each answer is read with the tiny tokenizer and, where it is at hand, with Gemma's own. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "answer.h"
#include "base/mem.h"
#include "golden.h"
#include "infer/locate.h"
#include "model/box.h"

static tokenizer *g_tiny, *g_real; /* g_real NULL: not here */

static int group_setup(void **state) {
    (void)state;
    g_real = golden_gemma_tokenizer();
    return tokenizer_load(&g_tiny, PALI_TEST_DATA "/models/pg1-f32/tokenizer.json") == PALI_OK ? 0 : -1;
}

static int group_teardown(void **state) {
    (void)state;
    tokenizer_free(g_real);
    tokenizer_free(g_tiny);
    return 0;
}

/* Objects in short: label(y0,x0,y1,x1), "-" for no label, S with codes, ! without an area; a final ~ if there are stray
 * tokens. */
static void describe(char *out, size_t cap, const objects *o) {
    size_t n = 0;
    out[0] = 0;
    for (size_t i = 0; i < o->n; i++) {
        const object *x = &o->items[i];
        const int32_t whole[4] = {0};
        n += (size_t)snprintf(out + n, cap - n, "%s%s(%d,%d,%d,%d)%s%s", i ? " " : "", x->label ? x->label : "-", x->loc[0], x->loc[1], x->loc[2],
                              x->loc[3], x->has_seg ? "S" : "", box_valid(x->loc, whole, PALI_BOX_1024) ? "" : "!");
        assert_true(n < cap);
        for (int32_t k = 0; k < LOCATE_CODES; k++) assert_int_equal(x->seg[k], x->has_seg ? k : 0);
    }
    if (o->n_stray) (void)snprintf(out + n, cap - n, "%s~", n ? " " : "");
}

static const struct {
    const char *answer, *objects;
} k_answers[] = {
    /* as they should be */
    {"", ""},
    {"<eos>", ""},
    {"{1 2 3 4} cat", "cat(1,2,3,4)"},
    {"{1 2 3 4} cat<eos>", "cat(1,2,3,4)"},
    {"{1 2 3 4} cat ; {5 6 7 8} dog<eos>", "cat(1,2,3,4) dog(5,6,7,8)"},
    {"{1 2 3 4} cat ; {1 2 3 4} cat", "cat(1,2,3,4) cat(1,2,3,4)"},
    {"{0 0 1023 1023} the cat", "the cat(0,0,1023,1023)"},
    {"{0 0 1 1} dog", "dog(0,0,1,1)"},
    {"{1 2 3 4}[16] cat", "cat(1,2,3,4)S"},
    {"{1 2 3 4}[16] cat ; {5 6 7 8}[16] dog", "cat(1,2,3,4)S dog(5,6,7,8)S"},
    {"{1 2 3 4}[16] cat ; {5 6 7 8} dog", "cat(1,2,3,4)S dog(5,6,7,8)"},
    {"{1 2 3 4}[16]<eos>", "-(1,2,3,4)S"}, /* referring segmentation */
    {"{1 2 3 4}[16] ; {5 6 7 8}[16]", "-(1,2,3,4)S -(5,6,7,8)S"},
    {"{1 2 3 4} \xc3\xa9\xe6\x97\xa5", "\xc3\xa9\xe6\x97\xa5(1,2,3,4)"},
    {"{1 2 3 4} Cat 7", "Cat 7(1,2,3,4)"},
    {"{1 2 3 4} \xf0\x9f\x90\x88", "\xf0\x9f\x90\x88(1,2,3,4)"},
    /* no box at all */
    {"the cat", "~"},
    {"no cat ; no dog", "~"},
    {" ; ; ", ""},
    {"[16]", "~"},
    {"[16] cat", "~"},
    /* separators */
    {"{1 2 3 4}cat;{5 6 7 8}dog", "cat(1,2,3,4) dog(5,6,7,8)"},
    {"{1 2 3 4} cat; {5 6 7 8} dog", "cat(1,2,3,4) dog(5,6,7,8)"},
    {"{1 2 3 4} cat ;{5 6 7 8} dog", "cat(1,2,3,4) dog(5,6,7,8)"},
    {"{1 2 3 4} cat {5 6 7 8} dog", "cat(1,2,3,4) dog(5,6,7,8)"},
    {"{1 2 3 4} cat{5 6 7 8} dog", "cat(1,2,3,4) dog(5,6,7,8)"},
    {"{1 2 3 4}{5 6 7 8} dog", "-(1,2,3,4) dog(5,6,7,8)"},
    {"{1 2 3 4} ; {5 6 7 8} dog", "-(1,2,3,4) dog(5,6,7,8)"},
    {"{1 2 3 4} cat ; ; {5 6 7 8} dog ;", "cat(1,2,3,4) dog(5,6,7,8)"},
    {" ; {1 2 3 4} cat ; ", "cat(1,2,3,4)"},
    {"{1 2 3 4} cat<eos>{5 6 7 8} dog", "cat(1,2,3,4) dog(5,6,7,8)"},
    {"{1 2 3 4} cat%3B{5 6 7 8} dog", "cat(1,2,3,4) dog(5,6,7,8)"},
    {"{1 2 3 4}[16] cat{5 6 7 8}[16] dog", "cat(1,2,3,4)S dog(5,6,7,8)S"},
    /* not four locations */
    {"{1} cat", "~"},
    {"{1 2} cat", "~"},
    {"{1 2 3} cat", "~"},
    {"{1 2 3}[16] cat", "~"},
    {"{1 2 3} cat ; {5 6 7 8} dog", "dog(5,6,7,8) ~"},
    {"{5 6 7 8} dog ; {1 2 3} cat", "dog(5,6,7,8) ~"},
    {"{5 6 7 8} dog {1}", "dog(5,6,7,8) ~"},
    {"{1 2 3 4 5} cat", "-(1,2,3,4) ~"},
    {"{1 2 3 4 5 6 7} cat", "-(1,2,3,4) ~"},
    {"{1 2 3 4 5 6 7 8} cat", "-(1,2,3,4) cat(5,6,7,8)"},
    {"{1 2} {3 4} cat", "~"},
    {"{1 2}x{3 4} cat", "~"},
    {"{1 2}<eos>{3 4} cat", "~"},
    {"{1 2}[16]{3 4} cat", "~"},
    /* not sixteen codes */
    {"{1 2 3 4}[1] cat", "cat(1,2,3,4) ~"},
    {"{1 2 3 4}[15] cat ; {5 6 7 8}[16] dog", "cat(1,2,3,4) dog(5,6,7,8)S ~"},
    {"{1 2 3 4}[17] cat", "cat(1,2,3,4)S ~"},
    {"{1 2 3 4}[32] cat", "cat(1,2,3,4)S ~"},
    {"{1 2 3 4}[15]", "-(1,2,3,4) ~"},
    {"{1 2 3 4}[8] [8] cat", "cat(1,2,3,4) ~"},
    {"{1 2 3 4}[8]{5 6 7 8}[8] cat", "-(1,2,3,4) cat(5,6,7,8) ~"},
    {"{1 2 3 4}[8]{9}[7] cat", "-(1,2,3,4) ~"},
    /* codes elsewhere */
    {"[16]{1 2 3 4} cat", "cat(1,2,3,4) ~"},
    {"{1 2 3 4} [16] cat", "cat(1,2,3,4)S"},
    {"{1 2 3 4}\n[16]\ncat", "cat(1,2,3,4)S"},
    {"{1 2 3 4} cat [16]", "cat(1,2,3,4) ~"},
    {"{1 2 3 4} cat [16] dog ; {5 6 7 8} dog", "cat(1,2,3,4) dog(5,6,7,8) ~"},
    {"{1 2 3 4};[16] cat", "-(1,2,3,4) ~"},
    /* boxes without an area */
    {"{3 2 3 4} cat", "cat(3,2,3,4)!"},
    {"{1 4 3 4} cat", "cat(1,4,3,4)!"},
    {"{3 2 1 4} cat ; {5 6 7 8} dog", "cat(3,2,1,4)! dog(5,6,7,8)"},
    {"{1 4 3 2}[16] cat", "cat(1,4,3,2)S!"},
    {"{0 0 0 0} cat", "cat(0,0,0,0)!"},
    /* text where none belongs */
    {"i see {1 2 3 4} cat", "cat(1,2,3,4) ~"},
    {"cat ; {1 2 3 4} dog", "dog(1,2,3,4) ~"},
    {"{1 2 3 4} cat ; dog", "cat(1,2,3,4) ~"},
    {"{1 2 3 4} cat ; dog {5 6 7 8} dog", "cat(1,2,3,4) dog(5,6,7,8) ~"},
    {"{1 2 3 4} cat<eos>dog", "cat(1,2,3,4) ~"},
    {"<eos>{1 2 3 4} cat", "cat(1,2,3,4)"},
    /* labels */
    {"{1 2 3 4}", "-(1,2,3,4)"},
    {"{1 2 3 4} ", "-(1,2,3,4)"},
    {"{1 2 3 4}\n", "-(1,2,3,4)"},
    {"{1 2 3 4}   cat  \n", "cat(1,2,3,4)"},
    {"{1 2 3 4} the  red cat ; ", "the  red cat(1,2,3,4)"},
    {"{1 2 3 4}\ncat\ndog\n", "cat\ndog(1,2,3,4)"},
    {"{1 2 3 4}\tcat", "cat(1,2,3,4)"},
    {"{1 2 3 4} a < b > c", "a < b > c(1,2,3,4)"},
    {"{1 2 3 4} <loc12> <loc1024> <seg128> <seg5>", "<loc12> <loc1024> <seg128> <seg5>(1,2,3,4)"},
    {"{1 2 3 4} cat<pad>dog", "catdog(1,2,3,4)"},
    {"{1 2 3 4}<bos> cat<image>", "cat(1,2,3,4)"},
    {"<bos>{1 2 3 4} cat<unk>", "cat(1,2,3,4)"},
    {"{1 2 3 4} t-shirt?", "t-shirt?(1,2,3,4)"},
    {"{1 2 3 4} %C3%A9", "\xc3\xa9(1,2,3,4)"},
    {"{1 2 3 4} %FFa", "\xef\xbf\xbd" "a(1,2,3,4)"},
    {"{1 2 3 4}%E6%97;%A5", "\xef\xbf\xbd\xef\xbf\xbd(1,2,3,4) ~"},
    {"{1 2 3 4} %1B%5B31m", "\x1b[31m(1,2,3,4)"},
    {"{1 2 3 4}#-1 cat#999999999", "cat(1,2,3,4)"},
};

static void test_answers(void **state) {
    (void)state;
    const tokenizer *const both[] = {g_tiny, g_real};
    assert_true(sizeof k_answers / sizeof *k_answers >= 60);
    for (size_t i = 0; i < sizeof k_answers / sizeof *k_answers; i++) {
        for (size_t j = 0; j < 2 && both[j]; j++) {
            answer a = answer_of(both[j], k_answers[i].answer);
            int32_t *exact = mem_alloc(a.n, sizeof *exact); /* so that a sanitizer sees a read past the end */
            objects *o;
            char got[256];
            memcpy(exact, a.ids, a.n * sizeof *exact);
            assert_int_equal(locate(&o, both[j], exact, NULL, a.n), PALI_OK);
            describe(got, sizeof got, o);
            if (strcmp(got, k_answers[i].objects) != 0)
                fail_msg("'%s': '%s', not '%s'%s", k_answers[i].answer, got, k_answers[i].objects, j ? " (Gemma's tokenizer)" : "");
            objects_free(o);
            mem_free(exact);
        }
    }
}

/* A label with a NUL is longer than its C string. */
static void test_nul(void **state) {
    (void)state;
    answer a = answer_of(g_tiny, "{1 2 3 4} a%00b");
    objects *o;
    assert_int_equal(locate(&o, g_tiny, a.ids, NULL, a.n), PALI_OK);
    assert_int_equal(o->n, 1);
    assert_int_equal(o->items[0].n_label, 3);
    assert_memory_equal(o->items[0].label, "a\0b", 4);
    objects_free(o);
}

/* ---- Scores ---- */

/* Of the tiny tokenizer's tokens: where an object begins, how many it has, and which of them are its label. */
static const struct {
    const char *answer;
    size_t first, n, label, n_label;
} k_scores[] = {
    {"{1 2 3 4} cat", 0, 5, 4, 1},
    {"{1 2 3 4} cat dog ;", 0, 6, 4, 2},
    {"{1 2 3 4} the cat", 0, 7, 5, 2},      /* the space before "the" is not part of a trimmed label */
    {"{1 2 3 4}   cat   ;", 0, 6, 5, 1},    /* "__" "_cat" "__" "_;" */
    {"{1 2 3 4}cat ; {5 6 7 8} dog", 0, 5, 4, 1},
    {"x ; {1 2 3 4} dog", 3, 5, 7, 1},
    {"{1 2 3 4}[16] cat", 0, 21, 20, 1},    /* codes do not count */
    {"{1 2 3 4}[3] cat", 0, 8, 7, 1},
    {"{1 2 3 4}", 0, 4, 0, 0},
    {"{1 2 3 4}[16]", 0, 20, 0, 0},
    {"{1 2 3 4} cat<pad>dog<pad>", 0, 7, 4, 3}, /* what stands inside counts */
    {"{1 2 3 4}%C3%A9", 0, 6, 4, 2},
};

static void test_scores(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof k_scores / sizeof *k_scores; i++) {
        answer a = answer_of(g_tiny, k_scores[i].answer);
        float logprobs[64];
        objects *o;
        assert_true(a.n <= 64);
        for (size_t j = 0; j < a.n; j++) logprobs[j] = -0.01f * (float)(j * j + 1);
        assert_int_equal(locate(&o, g_tiny, a.ids, logprobs, a.n), PALI_OK);
        assert_true(o->n >= 1);
        const object *x = &o->items[0];
        if (x->first != k_scores[i].first || x->n != k_scores[i].n)
            fail_msg("'%s': tokens %zu + %zu, not %zu + %zu", k_scores[i].answer, x->first, x->n, k_scores[i].first, k_scores[i].n);
        double product = 1, box = 1;
        for (size_t j = 0; j < 4; j++) box *= exp((double)logprobs[x->first + j]);
        for (size_t j = 0; j < k_scores[i].n_label; j++) product *= exp((double)logprobs[k_scores[i].label + j]);
        double want = pow(box, 0.25) * product;
        /* The same sum in double by another way: a few units in the last place. */
        if (!(fabs(x->score - want) <= 1e-14 * want)) fail_msg("'%s': score %.17g, not %.17g", k_scores[i].answer, x->score, want);
        objects_free(o);
        assert_int_equal(locate(&o, g_tiny, a.ids, NULL, a.n), PALI_OK);
        assert_true(o->items[0].score == 0);
        objects_free(o);
    }
}

/* ---- What is left out ---- */

typedef struct scored {
    const char *label; /* NULL: none */
    int32_t loc[4];
    double score;
} scored;

#define LISTED_MAX 6

static const struct {
    const char *what;
    double min_score, iou;
    scored list[LISTED_MAX];
    size_t n;
    const char *kept; /* their numbers */
} k_drops[] = {
    {"off", 0, 0, {{"a", {0, 0, 9, 9}, 0.1}, {"a", {0, 0, 9, 9}, 0.2}}, 2, "01"},
    {"nothing there", 0.5, 0.5, {{0}}, 0, ""},
    {"the same box", 0, 0.5, {{"a", {0, 0, 9, 9}, 0.1}, {"a", {0, 0, 9, 9}, 0.2}}, 2, "1"},
    {"the better one first", 0, 0.5, {{"a", {0, 0, 9, 9}, 0.2}, {"a", {0, 0, 9, 9}, 0.1}}, 2, "0"},
    {"a tie: the first", 0, 0.5, {{"a", {0, 0, 9, 9}, 0.2}, {"a", {0, 0, 9, 9}, 0.2}, {"a", {0, 0, 9, 9}, 0.2}}, 3, "0"},
    {"other labels", 0, 0.5, {{"a", {0, 0, 9, 9}, 0.1}, {"b", {0, 0, 9, 9}, 0.2}, {NULL, {0, 0, 9, 9}, 0.3}}, 3, "012"},
    {"a label that begins alike", 0, 0.5, {{"a", {0, 0, 9, 9}, 0.1}, {"ab", {0, 0, 9, 9}, 0.2}}, 2, "01"},
    {"no labels", 0, 0.5, {{NULL, {0, 0, 9, 9}, 0.1}, {NULL, {0, 0, 9, 9}, 0.2}}, 2, "1"},
    {"half, at least half", 0, 0.5, {{"a", {0, 0, 10, 10}, 0.3}, {"a", {0, 0, 10, 5}, 0.2}}, 2, "0"},
    {"half, more than half", 0, 0.500001, {{"a", {0, 0, 10, 10}, 0.3}, {"a", {0, 0, 10, 5}, 0.2}}, 2, "01"},
    {"a third", 0, 1.0 / 3, {{"a", {0, 0, 10, 10}, 0.3}, {"a", {0, 5, 10, 15}, 0.2}}, 2, "0"},
    {"only what is equal", 0, 1, {{"a", {0, 0, 1000, 1000}, 0.3}, {"a", {0, 0, 1000, 999}, 0.2}, {"a", {0, 0, 1000, 1000}, 0.1}}, 3, "01"},
    {"side by side", 0, 1e-9, {{"a", {0, 0, 10, 10}, 0.3}, {"a", {0, 10, 10, 20}, 0.2}}, 2, "01"},
    {"one pixel", 0, 1e-9, {{"a", {0, 0, 10, 10}, 0.3}, {"a", {9, 9, 20, 20}, 0.2}}, 2, "0"},
    {"apart", 0, 1e-9, {{"a", {0, 0, 10, 10}, 0.3}, {"a", {50, 50, 60, 60}, 0.2}}, 2, "01"},
    {"the dropped one drops nothing", 0, 0.4, {{"a", {0, 0, 10, 10}, 0.3}, {"a", {0, 4, 10, 14}, 0.2}, {"a", {0, 8, 10, 18}, 0.1}}, 3, "02"},
    {"no areas", 0, 0.5, {{"a", {5, 5, 5, 5}, 0.3}, {"a", {5, 5, 5, 5}, 0.2}, {"a", {9, 0, 0, 9}, 0.1}, {"a", {0, 0, 9, 9}, 0.1}}, 4, "0123"},
    {"doubtful", 0.2, 0, {{"a", {0, 0, 9, 9}, 0.1}, {"a", {0, 0, 9, 9}, 0.2}, {"b", {0, 0, 9, 9}, 0.9}}, 3, "12"},
    {"all doubtful", 0.95, 0, {{"a", {0, 0, 9, 9}, 0.1}, {"a", {0, 0, 9, 9}, 0.2}}, 2, ""},
    {"both", 0.15, 0.5, {{"a", {0, 0, 9, 9}, 0.1}, {"a", {0, 0, 9, 9}, 0.2}, {"a", {0, 0, 9, 9}, 0.3}}, 3, "2"},
    {"no number", 0.1, 0.5, {{"a", {0, 0, 9, 9}, (double)NAN}, {"a", {0, 0, 9, 9}, 0.2}}, 2, "1"},
};

static void test_drops(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof k_drops / sizeof *k_drops; i++) {
        char kept[LISTED_MAX + 1] = "";
        objects *o = mem_calloc(1, sizeof *o);
        o->items = mem_calloc(LISTED_MAX, sizeof *o->items);
        for (o->n = 0; o->n < k_drops[i].n; o->n++) {
            const scored *from = &k_drops[i].list[o->n];
            object *to = &o->items[o->n];
            *to = (object){.score = from->score, .first = o->n};
            memcpy(to->loc, from->loc, sizeof to->loc);
            if (!from->label) continue;
            to->n_label = strlen(from->label);
            to->label = mem_alloc(to->n_label + 1, 1);
            memcpy(to->label, from->label, to->n_label + 1);
        }
        assert_int_equal(objects_drop(o, k_drops[i].min_score, k_drops[i].iou), PALI_OK);
        for (size_t j = 0; j < o->n; j++) kept[j] = (char)('0' + o->items[j].first);
        if (strcmp(kept, k_drops[i].kept) != 0) fail_msg("%s: kept %s, not %s", k_drops[i].what, kept, k_drops[i].kept);
        objects_free(o);
    }
}

/* ---- Pixels ---- */

static const struct {
    int32_t loc[4], width, height;
    pali_box_convention convention;
    int32_t whole[4];
    bool valid;
} k_boxes[] = {
    {{0, 0, 1023, 1023}, 640, 480, PALI_BOX_1024, {0, 0, 639, 480}, true},  /* 639.375, 479.53 */
    {{0, 0, 1023, 1023}, 640, 480, PALI_BOX_1023, {0, 0, 640, 480}, true},
    {{256, 128, 768, 896}, 640, 480, PALI_BOX_1024, {80, 120, 560, 360}, true},
    {{256, 128, 768, 896}, 640, 480, PALI_BOX_1023, {80, 120, 560, 360}, true}, /* 80.08, 120.12, 560.55, 360.35 */
    {{1, 1, 1000, 1000}, 1023, 1023, PALI_BOX_1023, {1, 1, 1000, 1000}, true},
    {{0, 512, 512, 1023}, 3, 5, PALI_BOX_1024, {2, 0, 3, 2}, true},         /* 1.5 -> 2, 2.5 -> 2 */
    {{0, 512, 512, 1023}, 1, 7, PALI_BOX_1024, {0, 0, 1, 4}, true},         /* 0.5 -> 0, 3.5 -> 4 */
    {{0, 0, 1, 1}, 640, 480, PALI_BOX_1024, {0, 0, 1, 0}, true},            /* thin, but not without an area */
    {{0, 0, 1, 1}, 640, 480, PALI_BOX_1023, {0, 0, 0, 0}, false},           /* the evaluator wants whole pixels */
    {{0, 0, 2, 2}, 640, 640, PALI_BOX_1023, {0, 0, 1, 1}, true},
    {{0, 2, 2, 3}, 640, 640, PALI_BOX_1023, {1, 0, 1, 1}, false},
    {{5, 5, 5, 9}, 4096, 4096, PALI_BOX_1024, {20, 20, 36, 20}, false},
    {{9, 5, 5, 9}, 4096, 4096, PALI_BOX_1023, {20, 36, 36, 20}, false},
    {{0, 0, 1023, 1023}, 1, 1, PALI_BOX_1024, {0, 0, 1, 1}, true},
    {{0, 0, 1023, 1023}, INT32_MAX, INT32_MAX, PALI_BOX_1023, {0, 0, INT32_MAX, INT32_MAX}, true},
};

static void test_boxes(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof k_boxes / sizeof *k_boxes; i++) {
        const int32_t *loc = k_boxes[i].loc;
        double box[4], scale = k_boxes[i].convention == PALI_BOX_1023 ? 1023 : 1024;
        int32_t whole[4];
        box_pixels(box, whole, loc, k_boxes[i].width, k_boxes[i].height, k_boxes[i].convention);
        if (memcmp(whole, k_boxes[i].whole, sizeof whole) != 0)
            fail_msg("box %zu: %d %d %d %d", i, (int)whole[0], (int)whole[1], (int)whole[2], (int)whole[3]);
        assert_true(box[0] == loc[1] / scale * k_boxes[i].width && box[1] == loc[0] / scale * k_boxes[i].height);
        assert_true(box[2] == loc[3] / scale * k_boxes[i].width && box[3] == loc[2] / scale * k_boxes[i].height);
        assert_int_equal(box_valid(loc, whole, k_boxes[i].convention), k_boxes[i].valid);
    }
}

/* ---- The public functions ---- */

static void test_public(void **state) {
    (void)state;
    answer a = answer_of(g_tiny, "so {1 2 3 4}[16] cat ; {512 0 1023 512} dog");
    float logprobs[64];
    pali_objects *o;
    pali_object x = {.struct_size = sizeof x};
    pali_locate_options options;
    for (size_t i = 0; i < a.n; i++) logprobs[i] = -0.125f;
    logprobs[a.n - 1] = -3;
    assert_int_equal(pali_objects_find(&o, g_tiny, a.ids, logprobs, a.n, 640, 480, NULL), PALI_OK);
    assert_int_equal(pali_objects_count(o), 2);
    assert_int_equal(pali_objects_stray_count(o), 2);
    assert_int_equal(pali_objects_get(o, 0, &x), PALI_OK);
    assert_true(x.has_seg == 1 && x.seg[15] == 15 && x.valid == 1 && x.n_label_bytes == 3 && x.loc[0] == 1 && x.loc[3] == 4);
    assert_string_equal(x.label, "cat");
    assert_true(fabs(x.score - exp(-0.25)) < 1e-15);
    assert_int_equal(a.ids[x.first_token], tokenizer_find(g_tiny, "<loc0001>"));
    assert_int_equal(x.n_tokens, 21);
    assert_int_equal(pali_objects_get(o, 1, &x), PALI_OK);
    assert_true(!x.has_seg && x.box[0] == 0 && x.box[1] == 240 && x.box[2] == 320 && x.box[3] == 1023.0 / 1024 * 480);
    assert_true(x.box_px[3] == 480 && x.box_px[2] == 320);
    assert_int_equal(pali_objects_get(o, 2, &x), PALI_ERR_ARGUMENT);
    assert_int_equal(pali_objects_get(NULL, 0, &x), PALI_ERR_ARGUMENT);
    assert_int_equal(pali_objects_get(o, 0, NULL), PALI_ERR_ARGUMENT);
    pali_objects_free(o);

    pali_locate_options_init(&options);
    options.min_score = 0.5;
    options.convention = PALI_BOX_1023;
    assert_int_equal(pali_objects_find(&o, g_tiny, a.ids, logprobs, a.n, 640, 480, &options), PALI_OK);
    assert_int_equal(pali_objects_count(o), 1);
    assert_int_equal(pali_objects_get(o, 0, &x), PALI_OK);
    assert_true(x.box[2] == 4 / 1023.0 * 640 && x.box_px[2] == 2 && x.box_px[0] == 1);
    pali_objects_free(o);

    pali_locate_options wrong[5] = {options, options, options, options, options};
    wrong[0].min_score = 1.5;
    wrong[1].nms_iou = -0.1;
    wrong[2].nms_iou = (double)NAN;
    wrong[3].convention = (pali_box_convention)2;
    wrong[4].struct_size = 0;
    for (size_t i = 0; i < 5; i++) {
        o = (pali_objects *)&a;
        assert_int_equal(pali_objects_find(&o, g_tiny, a.ids, logprobs, a.n, 640, 480, &wrong[i]), PALI_ERR_ARGUMENT);
        assert_null(o);
    }
    assert_int_equal(pali_objects_find(NULL, g_tiny, a.ids, logprobs, a.n, 640, 480, NULL), PALI_ERR_ARGUMENT);
    assert_int_equal(pali_objects_find(&o, NULL, a.ids, logprobs, a.n, 640, 480, NULL), PALI_ERR_ARGUMENT);
    assert_int_equal(pali_objects_find(&o, g_tiny, NULL, logprobs, 1, 640, 480, NULL), PALI_ERR_ARGUMENT);
    assert_int_equal(pali_objects_find(&o, g_tiny, a.ids, NULL, a.n, 640, 480, &options), PALI_ERR_ARGUMENT); /* scores of what? */
    assert_int_equal(pali_objects_find(&o, g_tiny, a.ids, logprobs, a.n, 0, 480, NULL), PALI_ERR_ARGUMENT);
    assert_int_equal(pali_objects_find(&o, g_tiny, a.ids, logprobs, a.n, 640, -1, NULL), PALI_ERR_ARGUMENT);
    assert_int_equal(pali_objects_find(&o, g_tiny, a.ids, logprobs, (size_t)1 << 40, 640, 480, NULL), PALI_ERR_LIMIT);
    assert_int_equal(pali_objects_find(&o, g_tiny, NULL, NULL, 0, 640, 480, NULL), PALI_OK);
    assert_int_equal(pali_objects_count(o), 0);
    pali_objects_free(o);
    pali_objects_free(NULL);
    assert_int_equal(pali_objects_count(NULL), 0);
    assert_int_equal(pali_objects_stray_count(NULL), 0);
}

/* Every allocation fails once. */
static void test_no_memory(void **state) {
    (void)state;
    answer a = answer_of(g_tiny, "{1 2 3 4} cat {1 2 3 4} cat {1 2 3 4}{1 2 3 4}{1 2 3 4}{1 2 3 4}{1 2 3 4}{1 2 3 4}{1 2 3 4} \xc3\xaf");
    float logprobs[128] = {0};
    pali_locate_options options;
    pali_locate_options_init(&options);
    options.nms_iou = 0.5;
    size_t k = 1;
    for (pali_status s = PALI_ERR_MEMORY; s != PALI_OK; k++) {
        pali_objects *o;
        mem_fail_after(k);
        s = pali_objects_find(&o, g_tiny, a.ids, logprobs, a.n, 640, 480, &options);
        mem_fail_after(0);
        if (s == PALI_OK) {
            assert_int_equal(pali_objects_count(o), 3);
        } else {
            assert_int_equal(s, PALI_ERR_MEMORY);
            assert_null(o);
        }
        pali_objects_free(o);
        assert_true(k < 100);
    }
    assert_true(k > 5);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers), cmocka_unit_test(test_nul),    cmocka_unit_test(test_scores),    cmocka_unit_test(test_drops),
        cmocka_unit_test(test_boxes),   cmocka_unit_test(test_public), cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
