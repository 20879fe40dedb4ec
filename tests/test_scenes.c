/* test_scenes.c: the generator of tools/scenes: what it says about a picture is what the picture shows, every row keeps to the
 * grammar and answers truly, and a picture depends on its split, seed and number only. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "rows.h"
#include "sprite.h"
#include "truth.h"

#define SIDE 128u
#define SCENES 150u /* of each level */

static atlas g_atlas;

static scene_rules rules_of(unsigned level) {
    return (scene_rules){.atlas = &g_atlas, .side = SIDE, .level = level, .n_kinds = NAMES_KINDS, .words = -1};
}

static scene scene_of(unsigned level, unsigned split, uint32_t seed, uint32_t number) {
    const scene_rules rules = rules_of(level);
    rng r = rng_start(rng_key(split, seed, number));
    scene s;
    assert_true(scene_make(&s, &rules, &r));
    return s;
}

/* ---- Names ---- */

static void names_are_distinct(void **state) {
    (void)state;
    thing all[THING_NUMBERS];
    unsigned n = 0;
    for (unsigned i = 0; i < NAMES_KINDS + NAMES_NOVEL_KINDS; i++) all[n++] = (thing){.class = THING_EMOJI, .kind = i};
    for (unsigned i = 0; i < NAMES_SHAPES * NAMES_COLOURS; i++) all[n++] = (thing){.class = THING_SHAPE, .kind = i / NAMES_COLOURS, .colour = i % NAMES_COLOURS};
    all[n++] = (thing){.class = THING_WORD, .word = "HAT"};
    assert_int_equal(n, THING_NUMBERS);
    for (unsigned i = 0; i < n; i++) {
        char name[NAMES_TEXT], other[NAMES_TEXT];
        thing parsed;
        assert_int_equal(thing_number(&all[i]), i);
        thing_name(name, &all[i]);
        assert_true(strlen(name) + 1 < NAMES_TEXT);
        assert_true(thing_parse(&parsed, name) && thing_same(&parsed, &all[i]));
        for (unsigned j = 0; j < i; j++)
            for (unsigned l = 0; l < NAMES_LANGUAGES; l++) {
                thing_caption(name, &all[i], (names_language)l);
                thing_caption(other, &all[j], (names_language)l);
                assert_string_not_equal(name, other);
            }
    }
    thing parsed;
    assert_false(thing_parse(&parsed, "") || thing_parse(&parsed, "cats") || thing_parse(&parsed, "red cat") || thing_parse(&parsed, "red  circle"));
}

static void captions_agree_in_gender(void **state) {
    (void)state;
    static const struct {
        unsigned kind, colour;
        const char *name[NAMES_LANGUAGES];
    } k_cases[] = {{0, 0, {"red circle", "círculo rojo", "cercle rouge"}},      {3, 2, {"yellow star", "estrella amarilla", "étoile jaune"}},
                   {3, 3, {"green star", "estrella verde", "étoile verte"}},    {5, 5, {"purple cross", "cruz morada", "croix violette"}},
                   {4, 4, {"blue heart", "corazón azul", "cœur bleu"}},         {1, 7, {"brown square", "cuadrado marrón", "carré marron"}}};
    for (size_t i = 0; i < sizeof k_cases / sizeof *k_cases; i++)
        for (unsigned l = 0; l < NAMES_LANGUAGES; l++) {
            const thing t = {.class = THING_SHAPE, .kind = k_cases[i].kind, .colour = k_cases[i].colour};
            char name[NAMES_TEXT];
            thing_caption(name, &t, (names_language)l);
            assert_string_equal(name, k_cases[i].name[l]);
        }
}

/* ---- Streams ---- */

static int by_value(const void *a, const void *b) {
    const uint64_t p = *(const uint64_t *)a, q = *(const uint64_t *)b;
    return p < q ? -1 : p > q;
}

static void streams_never_begin_alike(void **state) {
    (void)state;
    enum { PARTS = 16 };
    static const uint32_t k_ends[PARTS] = {0, 1, 2, 3, 7, 100, 255, 256, 65535, 65536, 99999, 1u << 20, 1u << 24, (1u << 24) + 1, RNG_SEED_LIMIT - 2, RNG_SEED_LIMIT - 1};
    static uint64_t k_first[4 * PARTS * PARTS];
    size_t n = 0;
    for (unsigned split = 0; split < 4; split++)
        for (unsigned i = 0; i < PARTS; i++)
            for (unsigned j = 0; j < PARTS; j++) k_first[n++] = rng_start(rng_key(split, k_ends[i], k_ends[j])).s[0];
    qsort(k_first, n, sizeof *k_first, by_value);
    for (size_t i = 1; i < n; i++) assert_true(k_first[i - 1] != k_first[i]);
}

static void a_picture_depends_on_split_seed_and_number(void **state) {
    (void)state;
    scene first = scene_of(4, 0, 5, 17);
    static const uint32_t k_others[][3] = {{0, 5, 17}, {1, 5, 17}, {2, 5, 17}, {3, 5, 17}, {0, 6, 17}, {0, 5, 18}};
    for (size_t i = 0; i < sizeof k_others / sizeof *k_others; i++) {
        scene s = scene_of(4, k_others[i][0], k_others[i][1], k_others[i][2]);
        const bool same = !memcmp(first.rgb, s.rgb, 3 * SIDE * SIDE);
        assert_int_equal(same, i == 0);
        scene_free(&s);
    }
    scene_free(&first);
}

/* ---- Pictures ---- */

static void emoji_are_distinct(void **state) {
    (void)state;
    for (unsigned i = 0; i < NAMES_KINDS + NAMES_NOVEL_KINDS; i++)
        for (unsigned j = 0; j < i; j++) {
            const atlas_picture *p = &g_atlas.emoji[i][0], *q = &g_atlas.emoji[j][0];
            if (p->width == q->width && p->height == q->height) assert_memory_not_equal(p->data, q->data, (size_t)p->stride * (size_t)p->height);
        }
}

/* The ink is the bounding box of what is more than half covered, and as large as asked for. */
static void sprites_have_the_size_asked_for(void **state) {
    (void)state;
    static const thing k_things[] = {{.class = THING_EMOJI, .kind = 3}, {.class = THING_EMOJI, .kind = 33}, {.class = THING_SHAPE, .kind = 0}, {.class = THING_SHAPE, .kind = 5}, {.class = THING_WORD, .word = "HIT"}};
    rng r = rng_start(1);
    for (size_t i = 0; i < 40; i++) {
        const thing *what = &k_things[i % 5];
        const sprite_style style = {.size_px = 20 + (double)i, .aspect = 1, .mirrored = i % 2};
        sprite s;
        assert_true(sprite_draw(&s, &g_atlas, what, &style, &r));
        int ink[4] = {s.width, s.height, 0, 0};
        uint64_t sum = 0;
        for (int y = 0; y < s.height; y++)
            for (int x = 0; x < s.width; x++) {
                const uint8_t alpha = s.data[(ptrdiff_t)y * s.stride + 4 * x + 3];
                sum += alpha;
                if (alpha < 128) continue;
                ink[0] = x < ink[0] ? x : ink[0];
                ink[1] = y < ink[1] ? y : ink[1];
                ink[2] = x >= ink[2] ? x + 1 : ink[2];
                ink[3] = y >= ink[3] ? y + 1 : ink[3];
            }
        assert_memory_equal(ink, s.ink, sizeof ink);
        assert_true(sum == s.n_alpha);
        const int w = ink[2] - ink[0], h = ink[3] - ink[1], longer = w > h ? w : h;
        if (what->class == THING_WORD)
            assert_true(h >= (int)style.size_px - 1); /* letters, and a rim or plate around them */
        else
            assert_true(abs(longer - (int)style.size_px) <= 2 + (int)fmax(1.5, 0.05 * style.size_px)); /* a pixel at each edge, and the outline */
        sprite_free(&s);
    }
}

static void check_object(const scene *s, const scene_object *o) {
    unsigned box[4] = {SIDE, SIDE, 0, 0};
    for (unsigned y = 0; y < SIDE; y++)
        for (unsigned x = 0; x < SIDE; x++) {
            const uint8_t m = o->mask[y * SIDE + x];
            assert_true(m == 0 || m == 255);
            if (!m) continue;
            box[0] = x < box[0] ? x : box[0];
            box[1] = y < box[1] ? y : box[1];
            box[2] = x >= box[2] ? x + 1 : box[2];
            box[3] = y >= box[3] ? y + 1 : box[3];
        }
    assert_memory_equal(box, o->box, sizeof box);
    assert_true(box[0] < box[2] && box[1] < box[3]);
    for (unsigned k = 0; k < 4; k++) {
        const unsigned at = box[k == 0 ? 1 : k == 1 ? 0 : k == 2 ? 3 : 2]; /* y0 x0 y1 x1 */
        assert_int_equal(o->loc[k], scene_snap(at, s->side));
    }
    assert_true(o->loc[0] < o->loc[2] && o->loc[1] < o->loc[3]);
}

static void boxes_and_masks_are_those_of_what_is_seen(void **state) {
    (void)state;
    unsigned n_of[SCENE_OBJECTS + 1] = {0};
    for (unsigned level = 1; level <= SCENE_LEVELS; level++)
        for (uint32_t i = 0; i < SCENES; i++) {
            scene s = scene_of(level, 0, 1, i);
            assert_in_range(s.n, 1, level);
            n_of[s.n]++;
            for (unsigned k = 0; k < s.n; k++) {
                check_object(&s, &s.object[k]);
                if (k == 0) continue;
                const double apart = (s.object[k].box[0] + s.object[k].box[2] - (double)s.object[k - 1].box[0] - s.object[k - 1].box[2]) / 2;
                assert_true(apart >= SCENE_APART * SIDE); /* from left to right */
                for (size_t p = 0; p < SIDE * SIDE; p++) assert_false(s.object[k].mask[p] && s.object[k - 1].mask[p]);
            }
            scene_free(&s);
        }
    for (unsigned n = 1; n <= SCENE_OBJECTS; n++) assert_true(n_of[n] >= SCENES / 10);
}

/* Where the ground is plain the picture itself shows where the object is. */
static void the_only_object_is_where_the_picture_differs(void **state) {
    (void)state;
    unsigned n = 0;
    for (uint32_t i = 0; i < SCENES; i++) {
        scene s = scene_of(1, 0, 2, i);
        const scene_object *o = &s.object[0];
        const uint8_t *ground = s.rgb;
        unsigned box[4] = {SIDE, SIDE, 0, 0};
        if (o->box[0] < 4 && o->box[1] < 4) ground = s.rgb + 3 * (SIDE * SIDE - 1); /* the other corner */
        for (unsigned y = 0; y < SIDE; y++)
            for (unsigned x = 0; x < SIDE; x++) {
                if (!memcmp(ground, s.rgb + 3 * (y * SIDE + x), 3)) continue;
                box[0] = x < box[0] ? x : box[0];
                box[1] = y < box[1] ? y : box[1];
                box[2] = x >= box[2] ? x + 1 : box[2];
                box[3] = y >= box[3] ? y + 1 : box[3];
            }
        /* What is less than half covered reaches further: the points of stars by two pixels, the glow of a candle by four. A
         * white emoji on white can hide, shapes and words cannot. */
        const unsigned beyond = o->what.class == THING_EMOJI ? 4 : 2;
        for (unsigned k = 0; k < 2; k++) assert_true(box[k] + beyond >= o->box[k] && box[k + 2] <= o->box[k + 2] + beyond);
        if (o->what.class != THING_EMOJI)
            for (unsigned k = 0; k < 2; k++) assert_true(box[k] <= o->box[k] && box[k + 2] >= o->box[k + 2]);
        n += o->what.class != THING_EMOJI;
        scene_free(&s);
    }
    assert_true(n > SCENES / 5);
}

static void locations_are_snapped(void **state) {
    (void)state;
    static const unsigned k_sides[] = {64, 100, 112, 128, 224, 1000};
    assert_int_equal(scene_snap(0, 128), 0);
    assert_int_equal(scene_snap(1, 128), 16); /* 8: halves go up */
    assert_int_equal(scene_snap(2, 128), 16);
    assert_int_equal(scene_snap(126, 128), 1008);
    assert_int_equal(scene_snap(127, 128), 1023);
    assert_int_equal(scene_snap(128, 128), 1023);
    for (size_t i = 0; i < sizeof k_sides / sizeof *k_sides; i++)
        for (unsigned at = 0; at <= k_sides[i]; at++) {
            const double nearest = floor(at * 64.0 / k_sides[i] + 0.5) * 16;
            assert_int_equal(scene_snap(at, k_sides[i]), nearest >= 1024 ? 1023 : (unsigned)nearest);
        }
}

/* ---- Rows ---- */

/* Goes along a text. */
static bool takes(const char **at, const char *piece) {
    const size_t n = strlen(piece);
    if (strncmp(*at, piece, n) != 0) return false;
    *at += n;
    return true;
}

/* The longest name of a thing. */
static bool takes_thing(const char **at, thing *t) {
    for (size_t n = strcspn(*at, ";?<"); n > 0; n--) {
        char name[NAMES_TEXT];
        if (n >= sizeof name) continue;
        memcpy(name, *at, n);
        name[n] = 0;
        if (thing_parse(t, name)) return *at += n, true;
    }
    return false;
}

static void check_caption(const rows_row *row, const scene *s, names_language language) {
    const char *at = row->suffix;
    for (unsigned i = 0; i < s->n; i++) {
        char name[NAMES_TEXT], joint[16];
        (void)snprintf(joint, sizeof joint, i + 1 < s->n ? ", " : " %s ", names_and[language]);
        thing_caption(name, &s->object[i].what, language);
        assert_true((i == 0 || takes(&at, joint)) && takes(&at, name));
    }
    assert_int_equal(*at, 0);
}

/* Prefix "detect a ; b"; suffix: every object with one of these names, from left to right, and nothing else. */
static void check_detect(const rows_row *row, const scene *s) {
    thing asked[SCENE_OBJECTS + 1];
    unsigned n = 0;
    const char *at = row->prefix;
    assert_true(takes(&at, "detect "));
    do {
        assert_true(n <= SCENE_OBJECTS && takes_thing(&at, &asked[n]));
        for (unsigned i = 0; i < n; i++) assert_false(thing_same(&asked[i], &asked[n]));
        n++;
    } while (takes(&at, " ; "));
    assert_int_equal(*at, 0);
    at = row->suffix;
    for (unsigned i = 0; i < s->n; i++) {
        bool wanted = false;
        char object[NAMES_TEXT + 64];
        thing found;
        for (unsigned k = 0; k < n; k++) wanted |= thing_same(&asked[k], &s->object[i].what);
        if (!wanted) continue;
        if (at != row->suffix) assert_true(takes(&at, " ; "));
        (void)snprintf(object, sizeof object, "<loc%04u><loc%04u><loc%04u><loc%04u> ", s->object[i].loc[0], s->object[i].loc[1], s->object[i].loc[2], s->object[i].loc[3]);
        assert_true(takes(&at, object) && takes_thing(&at, &found) && thing_same(&found, &s->object[i].what));
    }
    assert_int_equal(*at, 0);
    assert_int_equal(!row->suffix[0], !strcmp(row->kind, "absent"));
}

static unsigned count_named(const scene *s, const char *name) {
    unsigned n = 0;
    for (unsigned i = 0; i < s->n; i++) {
        char other[NAMES_TEXT];
        thing_name(other, &s->object[i].what);
        n += !strcmp(name, other);
    }
    return n;
}

/* The place of the only object of that name. */
static unsigned place_named(const scene *s, const char *name) {
    unsigned at = s->n;
    assert_int_equal(count_named(s, name), 1);
    for (unsigned i = 0; i < s->n; i++) {
        char other[NAMES_TEXT];
        thing_name(other, &s->object[i].what);
        if (!strcmp(name, other)) at = i;
    }
    return at;
}

static void check_is_object(const scene *s, unsigned i, const char *answer) {
    char name[NAMES_TEXT];
    thing_name(name, &s->object[i].what);
    assert_string_equal(answer, s->object[i].what.class == THING_WORD ? s->object[i].what.word : name);
}

static void check_count(const scene *s, const char *plural, const char *answer) {
    unsigned n = 0;
    for (unsigned i = 0; i < s->n; i++) {
        char other[NAMES_TEXT];
        thing_plural(other, &s->object[i].what);
        n += !strcmp(other, plural);
    }
    assert_true(strlen(answer) == 1 && answer[0] == (char)('0' + n));
}

/* The answer once more, by what the question says. yes_no counts these answers. */
static void check_answer(const rows_row *row, const scene *s, unsigned yes_no[2]) {
    const char *q = row->prefix, *answer = row->suffix;
    char a[NAMES_TEXT], b[NAMES_TEXT], side[8];
    assert_true(takes(&q, "answer en "));
    assert_true(*answer && strcspn(answer, " ") + 1 > 1);
    if (!strcmp(answer, "yes") || !strcmp(answer, "no")) yes_no[*answer == 'y']++;
    if (!strcmp(q, "what is on the left?") || !strcmp(q, "what is in the picture?")) {
        check_is_object(s, 0, answer);
        assert_int_equal(s->n > 1, q[8] == 'o');
    } else if (!strcmp(q, "what is on the right?")) {
        check_is_object(s, s->n - 1, answer);
    } else if (!strcmp(q, "how many objects are there?")) {
        assert_true(strlen(answer) == 1 && answer[0] == (char)('0' + s->n));
    } else if (sscanf(q, "how many %47[a-z ] are there?", a) == 1) {
        assert_non_null(strstr(a, " are there"));
        *strstr(a, " are there") = 0;
        check_count(s, a, answer);
    } else if (!strcmp(q, "what word is written?")) {
        assert_string_equal(answer, s->object[place_named(s, "word")].what.word);
    } else if (sscanf(q, "what colour is the %47[a-z]?", a) == 1 || sscanf(q, "what shape is %47[a-z]?", b) == 1) {
        const bool colour = q[5] == 'c';
        char name[NAMES_TEXT + sizeof row->suffix];
        (void)snprintf(name, sizeof name, "%.60s %.60s", colour ? answer : b, colour ? a : answer);
        (void)place_named(s, name);
    } else if (sscanf(q, "is there a%*[n ]%47[a-z ]?", a) == 1 && (takes(&q, "is there an ") || takes(&q, "is there a "))) {
        assert_int_equal(strchr("aeiou", *q) != NULL, q[-2] == 'n');
        (void)snprintf(a, sizeof a, "%.*s", (int)strcspn(q, "?"), q);
        assert_string_equal(answer, count_named(s, a) ? "yes" : "no");
    } else if (sscanf(q, "what is %5[a-z] of the %47[a-z ]?", side, a) == 2) {
        const bool left = !strcmp(side, "left");
        assert_int_equal(place_named(s, a), left ? 1 : s->n - 2);
        check_is_object(s, left ? 0 : s->n - 1, answer);
    } else {
        const char *middle = strstr(q, " left of the "), *end = strchr(q, '?');
        const bool left = middle != NULL;
        if (!middle) middle = strstr(q, " right of the ");
        assert_true(takes(&q, "is the ") && middle && end && !end[1]);
        (void)snprintf(a, sizeof a, "%.*s", (int)(middle - q), q);
        middle += strlen(left ? " left of the " : " right of the ");
        (void)snprintf(b, sizeof b, "%.*s", (int)(end - middle), middle);
        assert_string_equal(answer, (place_named(s, a) < place_named(s, b)) == left ? "yes" : "no");
    }
}

static void check_segment(const rows_row *row, const scene *s) {
    const char *at = row->prefix;
    thing asked, found;
    unsigned i = 0;
    assert_true(takes(&at, "segment ") && takes_thing(&at, &asked) && !*at);
    assert_int_equal(scene_count(s, &asked, &i), row->suffix[0] ? 1 : 0);
    if (!row->suffix[0]) return;
    char box[64];
    at = row->suffix;
    (void)snprintf(box, sizeof box, "<loc%04u><loc%04u><loc%04u><loc%04u>", s->object[i].loc[0], s->object[i].loc[1], s->object[i].loc[2], s->object[i].loc[3]);
    assert_true(takes(&at, box));
    for (unsigned k = 0; k < PALI_MASK_CODES; k++) {
        unsigned code;
        assert_int_equal(sscanf(at, "<seg%3u>", &code), 1);
        assert_true(code < 128 && takes(&at, "<seg") && strspn(at, "0123456789") == 3);
        at += 4;
    }
    assert_true(takes(&at, " ") && takes_thing(&at, &found) && thing_same(&found, &asked) && !*at);
}

static void every_row_keeps_to_the_grammar_and_is_true(void **state) {
    (void)state;
    const scene_rules shown = rules_of(4);
    const rows_rules rules = {.scene = &shown};
    unsigned n_asked[QUESTION_KINDS] = {0}, yes_no[2] = {0}, n_empty = 0;
    rng r = rng_start(3);
    for (uint32_t i = 0; i < 2 * SCENES; i++) {
        scene s = scene_of(1 + i % SCENE_LEVELS, 0, 3, i);
        rows_row row;
        for (unsigned l = 0; l < NAMES_LANGUAGES; l++) {
            rows_caption(&row, &s, (names_language)l);
            check_caption(&row, &s, (names_language)l);
        }
        for (unsigned k = 0; k < QUESTION_KINDS; k++)
            if (rows_answer(&row, &s, &rules, (question_kind)k, &r)) {
                check_answer(&row, &s, yes_no);
                assert_string_equal(row.kind, question_names[k]);
                n_asked[k]++;
            }
        for (unsigned k = 0; k < 4; k++) {
            rows_detect(&row, &s, &rules, k % 2, 0.2, &r);
            check_detect(&row, &s);
            n_empty += !row.suffix[0];
        }
        rows_ocr(&row, &s);
        const char *at = row.suffix;
        for (unsigned k = 0; k < s.n; k++)
            if (s.object[k].what.class == THING_WORD) assert_true((at == row.suffix || takes(&at, " ")) && takes(&at, s.object[k].what.word));
        assert_int_equal(*at, 0);
        scene_free(&s);
    }
    /* Everything is asked at times, and neither answer is a good guess. */
    for (unsigned k = 0; k < QUESTION_KINDS; k++) assert_true(n_asked[k] > 10);
    const double share = yes_no[1] / (double)(yes_no[0] + yes_no[1]);
    assert_true(share > 0.4 && share < 0.6); /* about 350 throws of a coin: 3.7 deviations */
    assert_true(n_empty > 8 * SCENES * 0.05 && n_empty < 8 * SCENES * 0.15);
}

static void segment_rows_hold_the_codes_of_the_mask(void **state) {
    (void)state;
    const scene_rules shown = rules_of(3);
    rows_rules rules = {.scene = &shown};
    pali_mask_codec *codec;
    rng r = rng_start(4);
    unsigned n_absent = 0;
    assert_int_equal(pali_mask_codec_load(&codec, PALI_TEST_SOURCE "/tests/golden/codec/narrow.npz"), PALI_OK);
    rules.codec = codec;
    for (uint32_t i = 0; i < 60; i++) {
        scene s = scene_of(3, 0, 4, i);
        rows_row row;
        assert_true(rows_segment(&row, &s, &rules, 0.08, &r));
        check_segment(&row, &s);
        n_absent += !row.suffix[0];
        scene_free(&s);
    }
    assert_in_range(n_absent, 1, 30); /* also where every object is a word or there twice */
    pali_mask_codec_free(codec);
}

/* ---- Lines ---- */

/* Reads lines of JSON and returns how many there are. */
static size_t check_lines(char *text, const char *const *keys, size_t n_keys) {
    size_t n = 0;
    for (char *save, *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save), n++) {
        json_error_t where;
        json_t *object = json_loads(line, JSON_REJECT_DUPLICATES, &where);
        if (!object) fail_msg("%s: %s", line, where.text);
        for (size_t i = 0; i < n_keys; i++) assert_non_null(json_object_get(object, keys[i]));
        json_decref(object);
    }
    return n;
}

static void lines_are_json(void **state) {
    (void)state;
    static const char *const k_row[] = {"image", "prefix", "suffix"}, *const k_judge[] = {"image", "prompt", "prefix", "suffix", "kind"}, *const k_truth[] = {"image", "side", "objects"};
    const scene_rules shown = rules_of(4);
    const rows_rules rules = {.scene = &shown, .expected = {2, 2, 2, 0, 1}, .language = {true, true, true}};
    char *texts[3] = {NULL};
    size_t sizes[3];
    FILE *out[3];
    rng r = rng_start(5);
    for (unsigned i = 0; i < 3; i++) assert_non_null(out[i] = open_memstream(&texts[i], &sizes[i]));
    FILE *sheets[ROWS_SHEETS];
    for (unsigned i = 0; i < ROWS_SHEETS; i++) sheets[i] = out[1];
    for (uint32_t i = 0; i < 100; i++) {
        scene s = scene_of(4, 0, 5, i);
        assert_true(rows_train(out[0], "a.jpg", &s, &rules, &r) && rows_judge(sheets, "a.jpg", &s, &rules, &r) && truth_write(out[2], "a.jpg", &s));
        scene_free(&s);
    }
    for (unsigned i = 0; i < 3; i++) assert_int_equal(fclose(out[i]), 0);
    assert_in_range(check_lines(texts[0], k_row, 3), 600, 700);
    assert_in_range(check_lines(texts[1], k_judge, 5), 600, 700);
    assert_int_equal(check_lines(texts[2], k_truth, 3), 100);
    for (unsigned i = 0; i < 3; i++) free(texts[i]);
}

/* One question a scene at most, true, and never with "right". */
static void order_is_asked_with_left(void **state) {
    (void)state;
    const scene_rules shown = rules_of(3);
    const rows_rules rules = {.scene = &shown, .expected = {[ROWS_ORDER] = 1}};
    unsigned yes_no[2] = {0};
    rng r = rng_start(6);
    for (uint32_t i = 0; i < 2 * SCENES; i++) {
        scene s = scene_of(3, 0, 6, i);
        char *text = NULL;
        size_t size;
        rows_row row = {0};
        FILE *out = open_memstream(&text, &size);
        assert_true(out && rows_train(out, "a.jpg", &s, &rules, &r));
        assert_int_equal(fclose(out), 0);
        if (sscanf(text, "{\"image\":\"a.jpg\",\"prefix\":\"%100[^\"]\",\"suffix\":\"%3[a-z]\"}", row.prefix, row.suffix) == 2) {
            check_answer(&row, &s, yes_no);
            assert_non_null(strstr(row.prefix, " left of "));
        } else {
            assert_int_equal(size, 0); /* fewer than two things of names of their own */
        }
        assert_true(!*text || strchr(text, '\n') == text + size - 1);
        free(text);
        scene_free(&s);
    }
    assert_true(yes_no[0] > 30 && yes_no[1] > 30);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_distinct),
        cmocka_unit_test(captions_agree_in_gender),
        cmocka_unit_test(streams_never_begin_alike),
        cmocka_unit_test(a_picture_depends_on_split_seed_and_number),
        cmocka_unit_test(emoji_are_distinct),
        cmocka_unit_test(sprites_have_the_size_asked_for),
        cmocka_unit_test(boxes_and_masks_are_those_of_what_is_seen),
        cmocka_unit_test(the_only_object_is_where_the_picture_differs),
        cmocka_unit_test(locations_are_snapped),
        cmocka_unit_test(every_row_keeps_to_the_grammar_and_is_true),
        cmocka_unit_test(segment_rows_hold_the_codes_of_the_mask),
        cmocka_unit_test(lines_are_json),
        cmocka_unit_test(order_is_asked_with_left),
    };
    fault f;
    if (!atlas_make(&g_atlas, &f)) {
        atlas_free(&g_atlas);
        return printf("SKIPPED: %s\n", f.text), 77;
    }
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    atlas_free(&g_atlas);
    return failed;
}
