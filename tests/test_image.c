/* test_image.c: the picture zoo of tests/golden/images decodes and resizes to the very bytes of the reference; malformed
 * and cut files and lack of memory give errors and leave nothing behind. tools/make_image_goldens.py makes the files. */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/mem.h"
#include "input/exif.h"
#include "input/image.h"
#include "input/resize.h"

#define IMAGES PALI_TEST_DATA "/images/"
#define N_SIZES 3u
#define MIN_PICTURES 100u /* the zoo has more; fewer means that the manifest was not read */
#define MIN_MALFORMED 45u

static const size_t k_sizes[N_SIZES] = {28, 56, 224};

typedef struct picture {
    char name[80];
    size_t width, height;
    uint64_t rgb, resized[N_SIZES];
    uint8_t *bytes;
    size_t n_bytes;
} picture;

static uint64_t fnv1a(const uint8_t *bytes, size_t n) {
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++) h = (h ^ bytes[i]) * 0x100000001b3u;
    return h;
}

/* An exact-size block, so that a sanitizer sees a read past its end. */
static uint8_t *read_exact(const char *path, size_t *n) {
    char *text;
    if (file_read(&text, n, path, (size_t)1 << 20) != PALI_OK) fail_msg("%s", status_message());
    uint8_t *bytes = malloc(*n ? *n : 1);
    assert_non_null(bytes);
    memcpy(bytes, text, *n);
    mem_free(text);
    return bytes;
}

static FILE *open_list(const char *path) {
    FILE *list = fopen(path, "r");
    if (!list) fail_msg("%s cannot be opened", path);
    return list;
}

/* The next line that is not a comment. */
static bool next_line(FILE *list, char *line, int n) {
    do {
        if (!fgets(line, n, list)) return false;
    } while (line[0] == '#');
    return true;
}

static bool next_picture(FILE *list, picture *p) {
    char line[256], path[512];
    if (!next_line(list, line, sizeof line)) return false;
    assert_int_equal(sscanf(line, "%79s %zu %zu %" SCNx64 " %" SCNx64 " %" SCNx64 " %" SCNx64, p->name, &p->width, &p->height,
                            &p->rgb, &p->resized[0], &p->resized[1], &p->resized[2]),
                     7);
    (void)snprintf(path, sizeof path, IMAGES "%s", p->name);
    p->bytes = read_exact(path, &p->n_bytes);
    return true;
}

static void check_resized(const picture *p, const image *img) {
    for (size_t i = 0; i < N_SIZES; i++) {
        const size_t n = k_sizes[i];
        uint8_t *resized = malloc(n * n * 3);
        assert_non_null(resized);
        assert_int_equal(resize_u8(resized, n, n, img->rgb, img->width, img->height, 3, RESIZE_BICUBIC), PALI_OK);
        if (fnv1a(resized, n * n * 3) != p->resized[i]) fail_msg("%s: the resize to %zu differs", p->name, n);
        free(resized);
    }
}

static void test_zoo(void **state) {
    (void)state;
    FILE *list = open_list(IMAGES "manifest.txt");
    size_t n = 0;
    for (picture p; next_picture(list, &p); n++) {
        image img;
        if (image_decode(&img, p.bytes, p.n_bytes, p.name) != PALI_OK) fail_msg("%s", status_message());
        if (img.width != p.width || img.height != p.height) {
            fail_msg("%s: %zu x %zu, expected %zu x %zu", p.name, img.width, img.height, p.width, p.height);
        }
        if (fnv1a(img.rgb, 3 * img.width * img.height) != p.rgb) fail_msg("%s: pixels differ", p.name);
        check_resized(&p, &img);
        image_free(&img);
        free(p.bytes);
    }
    fclose(list);
    assert_true(n >= MIN_PICTURES);
}

static void test_load(void **state) {
    (void)state;
    image img;
    assert_int_equal(image_load(&img, IMAGES "exif_6.jpg"), PALI_OK);
    assert_int_equal(img.width, 14); /* stored 21 x 14, turned */
    assert_int_equal(img.height, 21);
    image_free(&img);
    assert_int_equal(image_load(&img, IMAGES "not there.jpg"), PALI_ERR_IO);
    assert_null(img.rgb);
    assert_non_null(strstr(status_message(), "not there.jpg"));
}

static void test_malformed(void **state) {
    (void)state;
    static const struct {
        const char *kind;
        pali_status status;
    } kinds[] = {{"format", PALI_ERR_FORMAT}, {"limit", PALI_ERR_LIMIT}, {"unsupported", PALI_ERR_UNSUPPORTED}};
    FILE *list = open_list(IMAGES "malformed.txt");
    size_t n = 0;
    for (char line[256]; next_line(list, line, sizeof line); n++) {
        char name[80], kind[20], path[512];
        assert_int_equal(sscanf(line, "%79s %19s", name, kind), 2);
        (void)snprintf(path, sizeof path, IMAGES "malformed/%s", name);
        size_t n_bytes, k = 0;
        uint8_t *bytes = read_exact(path, &n_bytes);
        image img;
        pali_status s = image_decode(&img, bytes, n_bytes, name);
        while (strcmp(kinds[k].kind, kind) != 0) k++;
        if (s != kinds[k].status) fail_msg("%s: status %d (%s), expected a %s error", name, (int)s, status_message(), kind);
        if (strncmp(status_message(), name, strlen(name)) != 0) fail_msg("%s: not named in: %s", name, status_message());
        assert_null(img.rgb);
        free(bytes);
    }
    fclose(list);
    assert_true(n >= MIN_MALFORMED);
}

/* A file cut anywhere is refused, or nothing that matters was cut. Plain PNM can end inside its last number, unnoticed. */
static void test_cut(void **state) {
    (void)state;
    FILE *list = open_list(IMAGES "manifest.txt");
    for (picture p; next_picture(list, &p);) {
        const bool is_plain = p.bytes[0] == 'P' && (p.bytes[1] == '2' || p.bytes[1] == '3');
        for (size_t n = 0; n < p.n_bytes; n += 1 + p.n_bytes / 61) {
            uint8_t *cut = malloc(n ? n : 1);
            assert_non_null(cut);
            memcpy(cut, p.bytes, n);
            image img;
            if (image_decode(&img, cut, n, p.name) == PALI_OK) {
                const bool is_same = fnv1a(img.rgb, 3 * img.width * img.height) == p.rgb;
                if (!is_plain && !is_same) fail_msg("%s: cut to %zu bytes: accepted", p.name, n);
                image_free(&img);
            } else {
                assert_null(img.rgb);
            }
            free(cut);
        }
        free(p.bytes);
    }
    fclose(list);
}

/* Every single allocation fails once; the sanitizers see what is left behind. */
static void test_no_memory(void **state) {
    (void)state;
    FILE *list = open_list(IMAGES "manifest.txt");
    for (picture p; next_picture(list, &p);) {
        for (size_t k = 1;; k++) {
            image img;
            mem_fail_after(k);
            pali_status s = image_decode(&img, p.bytes, p.n_bytes, p.name);
            mem_fail_after(0);
            if (s == PALI_OK) {
                if (fnv1a(img.rgb, 3 * img.width * img.height) != p.rgb) fail_msg("%s: allocation %zu failed unnoticed", p.name, k);
                image_free(&img);
                break;
            }
            if (s != PALI_ERR_MEMORY) fail_msg("%s: allocation %zu: status %d: %s", p.name, k, (int)s, status_message());
            assert_true(k < 200);
        }
        free(p.bytes);
    }
    fclose(list);
}

static void test_exif(void **state) {
    (void)state;
    /* Little endian, one entry: tag 0x0112, SHORT, one value, 6. */
    static const uint8_t block[] = "II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0";
    uint8_t bytes[6 + sizeof block - 1];
    memcpy(bytes, "Exif\0\0", 6);
    memcpy(bytes + 6, block, sizeof block - 1);
    assert_int_equal(exif_orientation(bytes, sizeof bytes), 6);
    for (size_t n = 0; n < 6 + 22; n++) assert_int_equal(exif_orientation(bytes, n), 0); /* the entry is cut */
    bytes[6 + 4] = 0xff;                                                                  /* directory beyond the block */
    assert_int_equal(exif_orientation(bytes, sizeof bytes), 0);

    static const char xmp[] = "tiff:Orientation tiff:Orientation=\"x\" <tiff:Orientation>8</tiff:Orientation>";
    assert_int_equal(exif_xmp_orientation((const uint8_t *)xmp, sizeof xmp - 1), 8);
    assert_int_equal(exif_xmp_orientation((const uint8_t *)xmp, 40), 0);
    assert_int_equal(exif_xmp_orientation((const uint8_t *)xmp, 0), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_zoo), cmocka_unit_test(test_load),      cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_cut), cmocka_unit_test(test_no_memory), cmocka_unit_test(test_exif),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
