/* test_loader.c: rows made ready on a thread: the order of the order, pictures as the plain functions make them, bad rows left out,
 * features remembered in memory and on disk, crops and flips that depend on seed, epoch and row alone. */
#include <dirent.h>
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
#include "golden.h"
#include "model/model.h"
#include "train/loader.h"

#define R 28u
#define N_ROWS 7u
#define N_FLOATS 6u

static const char *const k_pictures[] = {"alpha.png", "gray.png", "landscape.jpg", "tall.png"};
static char g_dir[] = "/tmp/pali-loader-XXXXXX";
static char g_path[64], g_broken[64], g_cache_dir[64];
static tokenizer *g_tokenizer;

typedef struct fixture {
    dataset data;
    order order;
    sample_rules rules;
    loader_options options;
    size_t n_reports;
    char last[512];
} fixture;

static void on_bad(void *user, const char *message) {
    fixture *f = user;
    f->n_reports++;
    (void)snprintf(f->last, sizeof f->last, "%s", message);
}

static const char *picture_of(size_t row) {
    return k_pictures[row % 4];
}

/* Row i has one picture, or two if i is 3, prefix "a" i times, suffix "b". Row `broken` has one that cannot be decoded. */
static void rows_write(size_t n, size_t broken) {
    char text[8192];
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        char picture[600], twice[1300];
        (void)snprintf(picture, sizeof picture, "\"%s/images/%s\"", GOLDEN_DIR, picture_of(i));
        if (i == broken) (void)snprintf(picture, sizeof picture, "\"broken.png\"");
        (void)snprintf(twice, sizeof twice, i == 3 ? "[%s, %s]" : "%s", picture, picture);
        at += (size_t)snprintf(text + at, sizeof text - at, "{\"image\": %s, \"prefix\": \"%.*s\", \"suffix\": \"b\"}\n", twice, (int)i, "aaaaaaaa");
        assert_true(at < sizeof text);
    }
    assert_int_equal(file_write_atomic(g_path, text, at), PALI_OK);
}

static void fixture_open(fixture *f, size_t n, size_t broken, size_t batch_size) {
    *f = (fixture){0};
    rows_write(n, broken);
    if (dataset_open(&f->data, g_path, 2, on_bad, f) != PALI_OK) fail_msg("%s", status_message());
    assert_int_equal(order_init(&f->order, f->data.n, batch_size, 1, 42, true), PALI_OK);
    f->rules = (sample_rules){.tokenizer = g_tokenizer, .image_token = 1473, .bos_token = 2, .eos_token = 1, .n_image_ids = 16};
    f->options = (loader_options){.data = &f->data, .order = &f->order, .rules = &f->rules, .image_size = R, .filter = RESIZE_BICUBIC};
}

static void fixture_close(fixture *f) {
    order_free(&f->order);
    dataset_close(&f->data);
}

static loader *open_loader(const fixture *f) {
    loader *l;
    if (loader_open(&l, &f->options) != PALI_OK) fail_msg("%s", status_message());
    return l;
}

static void next(loader *l, loader_batch *b) {
    if (loader_next(l, b, NULL) != PALI_OK) fail_msg("%s", status_message());
}

static int group_setup(void **state) {
    (void)state;
    if (!mkdtemp(g_dir) || tokenizer_load(&g_tokenizer, GOLDEN_DIR "/pg1-f32/tokenizer.json") != PALI_OK) return 1;
    (void)snprintf(g_path, sizeof g_path, "%s/rows.jsonl", g_dir);
    (void)snprintf(g_broken, sizeof g_broken, "%s/broken.png", g_dir);
    (void)snprintf(g_cache_dir, sizeof g_cache_dir, "%s/features", g_dir);
    return file_write_atomic(g_broken, "no picture", 10) != PALI_OK;
}

static int group_teardown(void **state) {
    (void)state;
    tokenizer_free(g_tokenizer);
    unlink(g_path);
    unlink(g_broken);
    return rmdir(g_dir);
}

/* ---- Batches ---- */

static void assert_item(const loader_item *item) {
    char path[600];
    image full;
    uint8_t rgb[R * R * 3];
    (void)snprintf(path, sizeof path, "%s/images/%s", GOLDEN_DIR, picture_of(item->row));
    assert_int_equal(image_load(&full, path), PALI_OK);
    assert_int_equal(resize_u8(rgb, R, R, full.rgb, full.width, full.height, 3, RESIZE_BICUBIC), PALI_OK);
    static float direct[3 * R * R], later[3 * R * R];
    assert_int_equal(resize_to_pixels(direct, R, &full, RESIZE_BICUBIC), PALI_OK);
    image_free(&full);
    assert_int_equal(item->n_pictures, item->row == 3 ? 2 : 1);
    for (size_t i = 0; i < item->n_pictures; i++) {
        assert_null(item->pictures[i].features);
        assert_int_equal(item->pictures[i].rgb.width, R);
        assert_true(hash_same(item->pictures[i].key, item->pictures[0].key)); /* row 3 has one twice */
        assert_memory_equal(item->pictures[i].rgb.rgb, rgb, sizeof rgb);
        assert_int_equal(resize_to_pixels(later, R, &item->pictures[i].rgb, RESIZE_BICUBIC), PALI_OK);
        assert_memory_equal(later, direct, sizeof direct);
    }
    sample expected;
    const sample_rules rules = {.tokenizer = g_tokenizer, .image_token = 1473, .bos_token = 2, .eos_token = 1, .n_image_ids = 16};
    assert_int_equal(sample_make(&expected, &rules, item->n_pictures, "aaaaaaaa", item->row, "b", 1), PALI_OK);
    assert_int_equal(item->text.n, expected.n);
    assert_int_equal(item->text.n_prefix, expected.n_prefix);
    assert_memory_equal(item->text.ids, expected.ids, expected.n * sizeof *expected.ids);
    sample_free(&expected);
}

static void batches_follow_the_order(void **state) {
    (void)state;
    fixture f;
    order expected;
    loader_batch b;
    fixture_open(&f, N_ROWS, N_ROWS, 3);
    loader *l = open_loader(&f);
    assert_int_equal(order_init(&expected, N_ROWS, 3, 1, 42, true), PALI_OK);
    for (uint64_t epoch = 0; epoch < 5; epoch++) { /* more rows than the queue has places */
        order_begin_epoch(&expected, epoch);
        for (size_t micro = 0; micro < 3; micro++) {
            size_t n;
            const uint32_t *rows = order_micro(&expected, micro, &n);
            next(l, &b);
            assert_int_equal(b.epoch, epoch);
            assert_int_equal(b.micro, micro);
            assert_int_equal(b.n, n);
            for (size_t i = 0; i < n; i++) {
                assert_int_equal(b.items[i].row, rows[i]);
                assert_item(&b.items[i]);
            }
            loader_batch_free(&b);
        }
    }
    loader_close(l);
    order_free(&expected);
    fixture_close(&f);
}

static void a_run_is_taken_up_anywhere(void **state) {
    (void)state;
    fixture f, g;
    loader_batch a, b;
    fixture_open(&f, N_ROWS, N_ROWS, 2);
    fixture_open(&g, N_ROWS, N_ROWS, 2);
    g.options.epoch = 1;
    g.options.micro = 2;
    loader *straight = open_loader(&f), *resumed = open_loader(&g);
    for (size_t i = 0; i < 4 + 2; i++) {
        next(straight, &a);
        loader_batch_free(&a);
    }
    for (size_t i = 0; i < 6; i++) {
        next(straight, &a);
        next(resumed, &b);
        assert_int_equal(a.epoch, b.epoch);
        assert_int_equal(a.micro, b.micro);
        assert_int_equal(a.n, b.n);
        for (size_t k = 0; k < a.n; k++) assert_int_equal(a.items[k].row, b.items[k].row);
        loader_batch_free(&a);
        loader_batch_free(&b);
    }
    loader_close(straight);
    loader_close(resumed);
    fixture_close(&f);
    fixture_close(&g);
}

static void a_broken_picture_is_left_out(void **state) {
    (void)state;
    fixture f;
    loader_batch b;
    size_t n = 0;
    fixture_open(&f, N_ROWS, 5, 2);
    loader *l = open_loader(&f);
    for (size_t i = 0; i < 4 * 4; i++) { /* four epochs */
        next(l, &b);
        n += b.n;
        for (size_t k = 0; k < b.n; k++) assert_int_not_equal(b.items[k].row, 5);
        loader_batch_free(&b);
    }
    assert_int_equal(n, 4 * (N_ROWS - 1));
    assert_int_equal(f.n_reports, 1);
    assert_int_equal(f.data.n_bad, 1);
    assert_non_null(strstr(f.last, "rows.jsonl:6: "));
    assert_non_null(strstr(f.last, "broken.png"));
    loader_close(l);
    fixture_close(&f);
}

static void a_budget_and_an_empty_epoch_end_it(void **state) {
    (void)state;
    fixture f;
    loader_batch b;
    /* All is well when the file is opened; then the one picture goes. */
    for (size_t max_bad = 0; max_bad < 2; max_bad++) {
        fixture_open(&f, 1, 0, 1);
        f.data.max_bad = max_bad;
        loader *l = open_loader(&f);
        assert_int_equal(loader_next(l, &b, NULL), PALI_ERR_FORMAT);
        assert_non_null(strstr(status_message(), max_bad ? "not one of 1 rows could be loaded" : "1 bad rows, more than the 0 allowed"));
        assert_non_null(strstr(status_message(), "rows.jsonl:1: "));
        assert_null(b.items);
        loader_close(l);
        fixture_close(&f);
    }
}

static void it_stops_when_told(void **state) {
    (void)state;
    fixture f;
    loader_batch b;
    atomic_int cancel = 1;
    fixture_open(&f, N_ROWS, N_ROWS, 2);
    loader_close(open_loader(&f)); /* at once */
    order_begin_epoch(&f.order, 0);
    loader *l = open_loader(&f);
    assert_int_equal(loader_next(l, &b, &cancel), PALI_ERR_CANCELLED);
    loader_close(l); /* with what is in the queue */
    f.options.micro = f.order.n_micro;
    assert_int_equal(loader_open(&l, &f.options), PALI_ERR_ARGUMENT);
    fixture_close(&f);
}

/* ---- Features ---- */

static void dir_remove(void) {
    DIR *dir = opendir(g_cache_dir);
    if (!dir) return;
    for (struct dirent *e; (e = readdir(dir));) {
        char *path = file_join(g_cache_dir, e->d_name);
        if (e->d_name[0] != '.') unlink(path);
        mem_free(path);
    }
    closedir(dir);
    assert_int_equal(rmdir(g_cache_dir), 0);
}

static size_t dir_count(char path[512]) {
    DIR *dir = opendir(g_cache_dir);
    size_t n = 0;
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir));)
        if (e->d_name[0] != '.') {
            (void)snprintf(path, 512, "%s/%s", g_cache_dir, e->d_name);
            n++;
        }
    closedir(dir);
    return n;
}

static size_t g_warnings;

static void count_warning(void *user, const char *message) {
    (void)user;
    assert_non_null(strstr(message, "features are no longer written: "));
    assert_non_null(strstr(message, g_cache_dir));
    g_warnings++;
}

static feature_cache *new_cache(size_t n_pictures, const char *dir, uint64_t fingerprint) {
    feature_cache *c;
    const feature_cache_options o = {N_FLOATS, n_pictures * N_FLOATS * sizeof(float), dir, (hash_key){{fingerprint, 5}}, count_warning, NULL};
    g_warnings = 0;
    if (feature_cache_new(&c, &o) != PALI_OK) fail_msg("%s", status_message());
    return c;
}

static void features_of(float *out, uint64_t i) {
    for (size_t k = 0; k < N_FLOATS; k++) out[k] = (float)(i * N_FLOATS + k);
}

/* Which of the keys {i, 1} for i < n are there; each with its own features. */
static size_t found(feature_cache *c, uint64_t n) {
    size_t count = 0;
    for (uint64_t i = 0; i < n; i++) {
        float room[N_FLOATS], expected[N_FLOATS];
        const float *features = feature_cache_find(c, (hash_key){{i, 1}}, room);
        features_of(expected, i);
        if (features) assert_memory_equal(features, expected, sizeof expected);
        count += features != NULL;
    }
    return count;
}

static void put(feature_cache *c, uint64_t from, uint64_t to) {
    float features[N_FLOATS];
    for (uint64_t i = from; i < to; i++) {
        features_of(features, i);
        feature_cache_put(c, (hash_key){{i, 1}}, features);
    }
}

static void features_stay_in_memory(void **state) {
    (void)state;
    feature_cache *c = new_cache(1000, NULL, 1);
    assert_int_equal(found(c, 3), 0);
    put(c, 0, 900); /* more than the first table holds */
    put(c, 0, 10);  /* again: nothing new */
    assert_int_equal(found(c, 1000), 900);
    put(c, 900, 1200);
    assert_int_equal(found(c, 1200), 1000); /* what came first stays */
    feature_cache_free(c);
    c = new_cache(0, NULL, 1);
    put(c, 0, 2);
    assert_int_equal(found(c, 2), 0);
    feature_cache_free(c);
}

static void features_are_found_again_on_disk(void **state) {
    (void)state;
    char path[512];
    feature_cache *c = new_cache(1, g_cache_dir, 1);
    put(c, 0, 3);
    assert_int_equal(found(c, 4), 3); /* one of them in memory */
    feature_cache_free(c);
    c = new_cache(0, g_cache_dir, 1);
    assert_int_equal(found(c, 4), 3);
    feature_cache_free(c);
    c = new_cache(0, g_cache_dir, 2); /* other weights */
    assert_int_equal(found(c, 4), 0);
    feature_cache_free(c);
    assert_int_equal(dir_count(path), 3);
    dir_remove();
}

static void a_damaged_file_is_no_file(void **state) {
    (void)state;
    char path[512], *bytes;
    size_t n;
    feature_cache *c = new_cache(0, g_cache_dir, 1);
    put(c, 0, 1);
    assert_int_equal(dir_count(path), 1);
    assert_int_equal(file_read(&bytes, &n, path, 1000), PALI_OK);
    for (size_t i = 0; i <= n; i++) { /* each byte changed; and one less */
        if (i < n) bytes[i] ^= 0x10;
        assert_int_equal(file_write_atomic(path, bytes, i < n ? n : n - 1), PALI_OK);
        assert_int_equal(found(c, 1), 0);
        if (i < n) bytes[i] ^= 0x10;
    }
    put(c, 0, 1); /* is written anew */
    assert_int_equal(found(c, 1), 1);
    mem_free(bytes);
    feature_cache_free(c);
    dir_remove();
}

static void a_directory_that_fails_is_told_once(void **state) {
    (void)state;
    feature_cache *c;
    feature_cache_options o = {.n_floats = N_FLOATS, .dir = g_path}; /* a file */
    assert_int_equal(feature_cache_new(&c, &o), PALI_ERR_IO);
    o.dir = "/nonexistent/features";
    assert_int_equal(feature_cache_new(&c, &o), PALI_ERR_IO);
    c = new_cache(4, g_cache_dir, 1);
    dir_remove();
    put(c, 0, 3);
    assert_int_equal(g_warnings, 1);
    assert_int_equal(found(c, 3), 3); /* in memory */
    feature_cache_free(c);
}

static void the_loader_finds_features(void **state) {
    (void)state;
    fixture f;
    loader_batch b;
    feature_cache *c = new_cache(2, g_cache_dir, 1); /* of four pictures */
    fixture_open(&f, N_ROWS, N_ROWS, N_ROWS);
    f.options.cache = c;
    loader *l = open_loader(&f);
    bool all = false;
    for (size_t epoch = 0; epoch < 6 && !all; epoch++) { /* rows in the queue were made before the features were there */
        next(l, &b);
        all = true;
        for (size_t i = 0; i < b.n; i++) {
            for (size_t k = 0; k < b.items[i].n_pictures; k++) {
                const loader_picture *p = &b.items[i].pictures[k];
                float features[N_FLOATS];
                const uint64_t number = b.items[i].row % 4;
                features_of(features, number);
                if (p->features) {
                    assert_null(p->rgb.rgb);
                    assert_memory_equal(p->features, features, sizeof features);
                } else {
                    all = false;
                    assert_non_null(p->rgb.rgb);
                    feature_cache_put(c, p->key, features);
                }
            }
        }
        loader_batch_free(&b);
    }
    assert_true(all);
    f.options.augment.flip = true;
    loader *none;
    assert_int_equal(loader_open(&none, &f.options), PALI_ERR_ARGUMENT);
    loader_close(l);
    feature_cache_free(c);
    fixture_close(&f);
    dir_remove();
}

static hash_key fingerprint(const model *m, int resample) {
    hash_key key;
    assert_int_equal(feature_fingerprint(&key, kernels_get(CPU_REF), &m->vit, resample), PALI_OK);
    return key;
}

static bool same(hash_key a, hash_key b) {
    return !memcmp(&a, &b, sizeof a);
}

static void a_fingerprint_tells_towers_apart(void **state) {
    (void)state;
    const model_options bf16 = {.dtype = PALI_DTYPE_BF16, .n_threads = 1}, stored = {.n_threads = 1};
    model *a, *b, *c;
    assert_int_equal(model_load(&a, GOLDEN_DIR "/pg1-f32", &stored), PALI_OK);
    assert_int_equal(model_load(&b, GOLDEN_DIR "/pg1-f32", &bf16), PALI_OK);
    assert_int_equal(model_load(&c, GOLDEN_DIR "/pg2-f32", &stored), PALI_OK);
    assert_true(same(fingerprint(a, 3), fingerprint(a, 3)));
    assert_false(same(fingerprint(a, 3), fingerprint(a, 2)));
    assert_false(same(fingerprint(a, 3), fingerprint(b, 3)));
    assert_false(same(fingerprint(a, 3), fingerprint(c, 3)));
    model_free(a);
    model_free(b);
    model_free(c);
}

/* ---- Crops and flips ---- */

static void boxes_are_mirrored(void **state) {
    (void)state;
    static const struct {
        const char *text, *mirrored;
    } k_texts[] = {
        {"<loc0010><loc0000><loc0020><loc1023> cat", "<loc0010><loc0000><loc0020><loc1023> cat"},
        {"<loc0010><loc0100><loc0020><loc0300> cat ; <loc0001><loc0002><loc0003><loc0004>", "<loc0010><loc0723><loc0020><loc0923> cat ; <loc0001><loc1019><loc0003><loc1021>"},
        {"<loc0001><loc0002><loc0003><loc0004><loc0001><loc0002><loc0003><loc0004>", "<loc0001><loc1019><loc0003><loc1021><loc0001><loc1019><loc0003><loc1021>"},
        {"<loc1024><loc0002><loc0003><loc0004>", "<loc1024><loc0002><loc0003><loc0004>"}, /* three tokens and a text */
        {"<loc0001><loc0002><loc0003><loc000", "<loc0001><loc0002><loc0003><loc000"},
        {"<lo <loc", "<lo <loc"},
        {"", ""},
    };
    for (size_t i = 0; i < sizeof k_texts / sizeof *k_texts; i++) {
        char text[128];
        (void)snprintf(text, sizeof text, "%s", k_texts[i].text);
        augment_mirror_text(text);
        assert_string_equal(text, k_texts[i].mirrored);
    }
}

static size_t flips(const char *prefix, const char *suffix) {
    const augment_options o = {.flip = true, .crop = AUGMENT_RANDOM, .seed = 1};
    size_t n = 0;
    for (size_t row = 0; row < 400; row++) n += augment_draw(&o, row % 3, row, prefix, suffix).flip;
    return n;
}

static void only_texts_that_bear_it_are_flipped(void **state) {
    (void)state;
    static const char *const k_never[] = {"the Left one", "rightmost", "a bright day", "<loc0001>", "<loc0001><loc0002><loc0003><loc0004><seg000>"};
    for (size_t i = 0; i < sizeof k_never / sizeof *k_never; i++) {
        assert_int_equal(flips(k_never[i], "x"), 0);
        assert_int_equal(flips("x", k_never[i]), 0);
    }
    /* 400 coins: 200 and four standard deviations of 10 */
    assert_in_range(flips("detect cat", "<loc0001><loc0002><loc0003><loc0004> cat"), 160, 240);
    assert_in_range(flips("caption en", "a house"), 160, 240);
}

static void draws_depend_on_nothing_else(void **state) {
    (void)state;
    const augment_options o = {.flip = true, .crop = AUGMENT_INCEPTION, .seed = 3}, other = {.flip = true, .crop = AUGMENT_INCEPTION, .seed = 4};
    const augment a = augment_draw(&o, 1, 2, "p", "s"), again = augment_draw(&o, 1, 2, "p", "s");
    assert_memory_equal(&a.r, &again.r, sizeof a.r);
    const augment differing[] = {augment_draw(&o, 2, 2, "p", "s"), augment_draw(&o, 1, 3, "p", "s"), augment_draw(&other, 1, 2, "p", "s"),
                                 augment_draw(&o, 2, 1, "p", "s")};
    for (size_t i = 0; i < 4; i++) assert_memory_not_equal(&a.r, &differing[i].r, sizeof a.r);
    assert_int_equal(a.crop, AUGMENT_INCEPTION);
    assert_int_equal(augment_draw(&o, 1, 2, "p", "<loc0001><loc0002><loc0003><loc0004>").crop, AUGMENT_WHOLE); /* boxes could be cut */
}

static image picture(size_t width, size_t height) {
    image img = {.width = width, .height = height, .rgb = mem_alloc(width * height, 3)};
    assert_non_null(img.rgb);
    for (size_t y = 0; y < height; y++)
        for (size_t x = 0; x < width; x++) {
            uint8_t *p = img.rgb + (y * width + x) * 3;
            p[0] = (uint8_t)(255 * x / width);
            p[1] = (uint8_t)(255 * y / height);
            p[2] = (uint8_t)(x * y);
        }
    return img;
}

/* Whether the item's picture is that of landscape.jpg mirrored; it is one or the other. */
static bool is_mirrored(const image *rgb) {
    image full, expected;
    augment a = {0};
    assert_int_equal(image_load(&full, GOLDEN_DIR "/images/landscape.jpg"), PALI_OK);
    assert_int_equal(augment_picture(&expected, &a, &full, R, RESIZE_BICUBIC), PALI_OK);
    const bool plain = !memcmp(rgb->rgb, expected.rgb, R * R * 3);
    image_free(&expected);
    a.flip = true;
    assert_int_equal(augment_picture(&expected, &a, &full, R, RESIZE_BICUBIC), PALI_OK);
    const bool mirrored = !memcmp(rgb->rgb, expected.rgb, R * R * 3);
    image_free(&expected);
    image_free(&full);
    assert_true(plain != mirrored);
    return mirrored;
}

static void boxes_and_pictures_flip_together(void **state) {
    (void)state;
    static const char k_row[] = "{\"image\": \"" GOLDEN_DIR "/images/landscape.jpg\", \"prefix\": \"detect cat\", \"suffix\": \"<loc0001><loc0002><loc0003><loc0004> cat\"}\n";
    static const char *const k_suffixes[] = {"<loc0001><loc0002><loc0003><loc0004> cat", "<loc0001><loc1019><loc0003><loc1021> cat"};
    char rows[8 * sizeof k_row];
    fixture f;
    size_t n_flips = 0;
    fixture_open(&f, N_ROWS, N_ROWS, 2); /* its rules */
    fixture_close(&f);
    for (size_t i = 0; i < 8; i++) memcpy(rows + i * (sizeof k_row - 1), k_row, sizeof k_row);
    assert_int_equal(file_write_atomic(g_path, rows, 8 * (sizeof k_row - 1)), PALI_OK);
    assert_int_equal(dataset_open(&f.data, g_path, 0, NULL, NULL), PALI_OK);
    assert_int_equal(order_init(&f.order, 8, 8, 1, 1, true), PALI_OK);
    f.options.augment = (augment_options){.flip = true, .crop = AUGMENT_INCEPTION, .seed = 7}; /* no crop: there are boxes */
    loader *l = open_loader(&f);
    for (size_t epoch = 0; epoch < 2; epoch++) {
        loader_batch b;
        next(l, &b);
        assert_int_equal(b.n, 8);
        for (size_t i = 0; i < b.n; i++) {
            const loader_item *item = &b.items[i];
            const bool flipped = is_mirrored(&item->pictures[0].rgb);
            sample expected;
            assert_int_equal(sample_make(&expected, &f.rules, 1, "detect cat", 10, k_suffixes[flipped], strlen(k_suffixes[flipped])), PALI_OK);
            assert_int_equal(item->text.n, expected.n);
            assert_memory_equal(item->text.ids, expected.ids, expected.n * sizeof *expected.ids);
            sample_free(&expected);
            n_flips += flipped;
        }
        loader_batch_free(&b);
    }
    assert_in_range(n_flips, 1, 15); /* of 16 coins; the seed is fixed */
    loader_close(l);
    fixture_close(&f);
}

static void a_flip_mirrors_every_row(void **state) {
    (void)state;
    image in = picture(31, 17), plain, mirrored;
    augment a = {0}, f = {.flip = true};
    assert_int_equal(augment_picture(&plain, &a, &in, R, RESIZE_BICUBIC), PALI_OK);
    assert_int_equal(augment_picture(&mirrored, &f, &in, R, RESIZE_BICUBIC), PALI_OK);
    for (size_t y = 0; y < R; y++)
        for (size_t x = 0; x < R; x++) assert_memory_equal(plain.rgb + (y * R + x) * 3, mirrored.rgb + (y * R + R - 1 - x) * 3, 3);
    image_free(&in);
    image_free(&plain);
    image_free(&mirrored);
}

/* Red and green tell which part of the picture was taken. */
static void crops_are_as_large_as_they_say(void **state) {
    (void)state;
    image in = picture(400, 300), out;
    double x_least = 1, x_most = 0;
    for (size_t row = 0; row < 200; row++) {
        for (unsigned crop = AUGMENT_INCEPTION; crop <= AUGMENT_RANDOM; crop++) {
            const augment_options o = {.crop = (augment_crop)crop, .seed = 9};
            augment a = augment_draw(&o, 0, row, "p", "s");
            assert_int_equal(augment_picture(&out, &a, &in, 64, RESIZE_BILINEAR), PALI_OK);
            const uint8_t *last = out.rgb + (64 * 64 - 1) * 3;
            /* From the middle of the first pixel to that of the last: 63/64 of the part. */
            const double w = (last[0] - out.rgb[0]) / 255.0 * 64 / 63, h = (last[1] - out.rgb[1]) / 255.0 * 64 / 63;
            if (crop == AUGMENT_RANDOM) {
                assert_true(w > 0.875 * 0.75 - 0.02 && w < 0.875 * 0.75 + 0.02 && h > 0.875 - 0.02 && h < 0.875 + 0.02); /* two levels of 255 each, and the pixel */
            } else {
                const double aspect = w * 400 / (h * 300);
                assert_true(w * h > 0.48 && w * h <= 1.03 && aspect > 0.72 && aspect < 1.37);
                x_least = out.rgb[0] / 255.0 < x_least ? out.rgb[0] / 255.0 : x_least;
                x_most = last[0] / 255.0 > x_most ? last[0] / 255.0 : x_most;
            }
            image_free(&out);
        }
    }
    assert_true(x_least < 0.03 && x_most > 0.97); /* of 200, some reach the sides */
    image_free(&in);
    /* Pictures of no shape that could be cropped. */
    static const size_t k_sizes[][2] = {{1, 1}, {1, 1000}, {1000, 1}, {2, 2}};
    for (size_t i = 0; i < 4; i++) {
        in = picture(k_sizes[i][0], k_sizes[i][1]);
        for (unsigned crop = AUGMENT_INCEPTION; crop <= AUGMENT_RANDOM; crop++) {
            augment a = {.crop = (augment_crop)crop};
            rng_seed(&a.r, i);
            assert_int_equal(augment_picture(&out, &a, &in, R, RESIZE_BICUBIC), PALI_OK);
            image_free(&out);
        }
        image_free(&in);
    }
}

static void augmentations_have_names(void **state) {
    (void)state;
    static const struct {
        const char *list;
        augment_crop crop;
        bool flip, fine;
    } k_lists[] = {{NULL, AUGMENT_WHOLE, false, true},        {"ic", AUGMENT_INCEPTION, false, true}, {"flip,rc", AUGMENT_RANDOM, true, true},
                   {"flip,flip", AUGMENT_WHOLE, true, true},  {"ic,rc", 0, false, false},             {"", 0, false, false},
                   {"ic,", 0, false, false},                  {"i", 0, false, false},                 {"icc", 0, false, false}};
    for (size_t i = 0; i < sizeof k_lists / sizeof *k_lists; i++) {
        augment_options o = {0};
        assert_int_equal(augment_options_parse(&o, k_lists[i].list), k_lists[i].fine ? PALI_OK : PALI_ERR_ARGUMENT);
        if (k_lists[i].fine) assert_true(o.crop == k_lists[i].crop && o.flip == k_lists[i].flip && augment_any(&o) == (i > 0));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batches_follow_the_order),          cmocka_unit_test(a_run_is_taken_up_anywhere),
        cmocka_unit_test(a_broken_picture_is_left_out),      cmocka_unit_test(a_budget_and_an_empty_epoch_end_it),
        cmocka_unit_test(it_stops_when_told),                cmocka_unit_test(features_stay_in_memory),
        cmocka_unit_test(features_are_found_again_on_disk),  cmocka_unit_test(a_damaged_file_is_no_file),
        cmocka_unit_test(a_directory_that_fails_is_told_once), cmocka_unit_test(the_loader_finds_features),
        cmocka_unit_test(a_fingerprint_tells_towers_apart),  cmocka_unit_test(boxes_are_mirrored),
        cmocka_unit_test(only_texts_that_bear_it_are_flipped), cmocka_unit_test(draws_depend_on_nothing_else),
        cmocka_unit_test(boxes_and_pictures_flip_together),  cmocka_unit_test(augmentations_have_names),
        cmocka_unit_test(a_flip_mirrors_every_row),          cmocka_unit_test(crops_are_as_large_as_they_say),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
