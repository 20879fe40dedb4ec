/* test_resize.c: resizing gives Pillow's bytes: the vectors of spec inference 13, and hashes of Pillow's results for all
 * filters and for sizes around the rule of the pass order (tests/golden/images/resize.txt). */
#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "input/resize.h"

#define MIN_CASES 130u

static const char *const k_levels[] = {"ref", "max"};

static uint64_t fnv1a(const void *data, size_t n) {
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++) h = (h ^ ((const uint8_t *)data)[i]) * 0x100000001b3u;
    return h;
}

static void *allocate(size_t n, size_t size) {
    void *block = malloc(n * size);
    assert_non_null(block);
    return block;
}

/* The picture of the specification's vectors: channels (7x + 3y), (x*x + 5y), x*y, all mod 256. */
static uint8_t *formula_picture(size_t width, size_t height) {
    uint8_t *rgb = allocate(width * height, 3);
    for (size_t y = 0; y < height; y++) {
        for (size_t x = 0; x < width; x++) {
            uint8_t *p = rgb + 3 * (y * width + x);
            p[0] = (uint8_t)(7 * x + 3 * y);
            p[1] = (uint8_t)(x * x + 5 * y);
            p[2] = (uint8_t)(x * y);
        }
    }
    return rgb;
}

static size_t sum_of_resize(const uint8_t *rgb, size_t in_w, size_t in_h, size_t out_w, size_t out_h) {
    uint8_t *out = allocate(out_w * out_h, 3);
    size_t sum = 0;
    assert_int_equal(resize_u8(out, out_w, out_h, rgb, in_w, in_h, 3, RESIZE_BICUBIC), PALI_OK);
    for (size_t i = 0; i < out_w * out_h * 3; i++) sum += out[i];
    free(out);
    return sum;
}

static void test_spec_grey(void **state) {
    (void)state;
    static const uint8_t src[20] = {0, 50, 100, 200, 255, 10, 20, 30, 40, 50, 255, 0, 255, 0, 255, 1, 2, 3, 5, 8};
    static const struct {
        size_t width, height, first, count; /* compared: `count` values from `first` on */
        resize_filter filter;
        uint8_t expected[10];
    } cases[] = {
        {3, 2, 0, 6, RESIZE_BICUBIC, {32, 80, 147, 70, 60, 68}},
        {3, 2, 0, 6, RESIZE_BILINEAR, {36, 81, 140, 65, 66, 72}},
        {2, 4, 0, 8, RESIZE_BICUBIC, {43, 197, 19, 41, 142, 142, 2, 6}},
        {2, 4, 0, 8, RESIZE_BILINEAR, {52, 188, 20, 40, 139, 139, 2, 5}},
        {5, 2, 0, 10, RESIZE_BICUBIC, {35, 32, 90, 110, 170, 119, 1, 118, 0, 117}},
        {5, 2, 0, 10, RESIZE_BILINEAR, {41, 30, 92, 103, 167, 111, 4, 115, 8, 120}},
        {8, 6, 0, 8, RESIZE_BICUBIC, {0, 17, 55, 85, 135, 205, 251, 255}},
        {8, 6, 0, 8, RESIZE_BILINEAR, {0, 22, 53, 84, 131, 194, 231, 255}},
        {8, 6, 24, 8, RESIZE_BICUBIC, {240, 134, 5, 186, 186, 5, 135, 242}},
        {8, 6, 24, 8, RESIZE_BILINEAR, {214, 121, 17, 150, 151, 20, 127, 221}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t out[48];
        assert_int_equal(resize_u8(out, cases[i].width, cases[i].height, src, 5, 4, 1, cases[i].filter), PALI_OK);
        assert_memory_equal(out + cases[i].first, cases[i].expected, cases[i].count);
    }
}

static void assert_pixel(const uint8_t *p, uint8_t r, uint8_t g, uint8_t b) {
    const uint8_t expected[3] = {r, g, b};
    assert_memory_equal(p, expected, 3);
}

static void test_spec_rgb(void **state) {
    (void)state;
    uint8_t *rgb = formula_picture(64, 48), *out = allocate(224 * 224, 3);
    assert_int_equal(resize_u8(out, 14, 14, rgb, 64, 48, 3, RESIZE_BICUBIC), PALI_OK);
    assert_pixel(out, 17, 10, 3);
    assert_pixel(out + 3 * (7 * 14 + 7), 55, 119, 94);
    assert_pixel(out + 3 * (13 * 14 + 13), 52, 159, 128);
    assert_int_equal(resize_u8(out, 224, 224, rgb, 64, 48, 3, RESIZE_BICUBIC), PALI_OK);
    assert_pixel(out, 0, 0, 0);
    assert_pixel(out + 3 * (100 * 224 + 50), 161, 42, 37);
    assert_pixel(out + 3 * (223 * 224 + 223), 71, 95, 157);
    assert_int_equal(sum_of_resize(rgb, 64, 48, 14, 14), 73556);
    assert_int_equal(sum_of_resize(rgb, 64, 48, 224, 224), 18789631);

    /* Vertical first: horizontal first would give 53439 and 293898. */
    uint8_t *narrow = formula_picture(6, 48), *tall = allocate(64 * 192, 3);
    assert_int_equal(sum_of_resize(narrow, 6, 48, 14, 14), 53437);
    for (size_t i = 0; i < 4; i++) memcpy(tall + i * 64 * 48 * 3, rgb, 64 * 48 * 3);
    assert_int_equal(sum_of_resize(tall, 64, 192, 56, 14), 293840);
    free(tall);
    free(narrow);
    free(out);
    free(rgb);
}

static void test_spec_float(void **state) {
    (void)state;
    static const float src[6] = {-1.0f, 0.5f, 1.0f, 0.25f, -0.75f, 0.0f};
    static const float expected[15] = {-1.0f,   -0.4f, 0.5f,  0.8f,   1.0f,   -0.375f, -0.275f, -0.125f,
                                       0.25f, 0.5f,  0.25f, -0.15f, -0.75f, -0.3f,   0.0f};
    float out[15];
    assert_int_equal(resize_f32(out, 5, 3, src, 3, 2, RESIZE_BILINEAR), PALI_OK);
    for (size_t i = 0; i < 15; i++) assert_float_equal(out[i], expected[i], 1e-6f); /* the vector is printed in decimals */
}

/* libm may differ in the last bit from the reference's, but not so that 22 fraction bits or a float show it. */
static void test_reference_cases(void **state) {
    (void)state;
    FILE *list = fopen(PALI_TEST_DATA "/images/resize.txt", "r");
    assert_non_null(list);
    size_t n = 0;
    for (char line[256]; fgets(line, sizeof line, list);) {
        size_t in_w, in_h, w, h;
        unsigned code;
        uint64_t expected, expected_float;
        if (line[0] == '#') continue;
        assert_int_equal(sscanf(line, "%zu %zu %zu %zu %u %" SCNx64 " %" SCNx64, &in_w, &in_h, &w, &h, &code, &expected,
                                &expected_float),
                         7);
        uint8_t *rgb = formula_picture(in_w, in_h), *out = allocate(w * h, 3);
        float *plane = allocate(in_w * in_h, sizeof *plane), *out_plane = allocate(w * h, sizeof *out_plane);
        for (size_t level = 0; level < 2; level++) {
            setenv("PALI_CPU", k_levels[level], 1);
            assert_int_equal(resize_u8(out, w, h, rgb, in_w, in_h, 3, (resize_filter)code), PALI_OK);
            if (fnv1a(out, w * h * 3) != expected) fail_msg("PALI_CPU=%s: %s", k_levels[level], line);
        }
        for (size_t i = 0; i < in_w * in_h; i++) plane[i] = ((float)rgb[3 * i + 1] - 100.0f) / 7.0f;
        assert_int_equal(resize_f32(out_plane, w, h, plane, in_w, in_h, (resize_filter)code), PALI_OK);
        if (fnv1a(out_plane, w * h * sizeof *out_plane) != expected_float) fail_msg("float: %s", line);
        free(out_plane);
        free(plane);
        free(out);
        free(rgb);
        n++;
    }
    fclose(list);
    assert_true(n >= MIN_CASES);
}

/* Channels are independent: any number of them gives what one alone gives. */
static void test_channels(void **state) {
    (void)state;
    enum { W = 37, H = 29, OUT_W = 11, OUT_H = 50 };
    uint8_t *rgb = formula_picture(W, H), mixed[W * H * 4], single[W * H], out[OUT_W * OUT_H * 4], out_single[OUT_W * OUT_H];
    for (size_t channels = 1; channels <= 4; channels++) {
        for (size_t i = 0; i < (size_t)W * H; i++) {
            for (size_t c = 0; c < channels; c++) mixed[i * channels + c] = (uint8_t)(rgb[3 * i + c % 3] ^ (c * 85));
        }
        assert_int_equal(resize_u8(out, OUT_W, OUT_H, mixed, W, H, channels, RESIZE_LANCZOS), PALI_OK);
        for (size_t c = 0; c < channels; c++) {
            for (size_t i = 0; i < (size_t)W * H; i++) single[i] = mixed[i * channels + c];
            assert_int_equal(resize_u8(out_single, OUT_W, OUT_H, single, W, H, 1, RESIZE_LANCZOS), PALI_OK);
            for (size_t i = 0; i < (size_t)OUT_W * OUT_H; i++) assert_int_equal(out[i * channels + c], out_single[i]);
        }
    }
    free(rgb);
}

static void test_to_pixels(void **state) {
    (void)state;
    image img = {16, 16, formula_picture(16, 16)};
    float *pixels = allocate(3 * 16 * 16, sizeof *pixels);
    assert_int_equal(resize_to_pixels(pixels, 16, &img, RESIZE_BICUBIC), PALI_OK); /* no resize: values come straight */
    for (size_t c = 0; c < 3; c++) {
        for (size_t i = 0; i < 256; i++) {
            const float v = (float)(img.rgb[3 * i + c] * 0.00392156862745098); /* the reference rescales in double */
            assert_true(pixels[c * 256 + i] == (v - 0.5f) / 0.5f);
        }
    }
    free(pixels);
    free(img.rgb);
}

/* torch.nn.functional.interpolate (2.15.0) of the same f32 picture, bilinear, align_corners false: TensorFlow's arithmetic. */
static void test_big_vision(void **state) {
    (void)state;
    static const struct {
        size_t in_w, in_h, out_w, out_h;
        double plain[20], antialiased[20];
    } k_cases[] = {
        {7, 5, 3, 3,
         {41.1111, 103.3333, 159.5556, 94.3333, 176.0, 81.0, 111.7778, 70.6666, 80.4444},
         {47.4082, 112.5882, 145.1633, 106.3492, 139.8431, 140.254, 130.2653, 90.8235, 109.898}},
        {3, 2, 5, 4, /* enlarged: both are the same */
         {31.0, 33.8, 38.0, 50.6, 59.0, 34.25, 37.55, 42.5, 55.85, 64.75, 40.75, 45.05, 51.5, 66.35, 76.25, 44.0, 48.8, 56.0, 71.6, 82.0},
         {31.0, 33.8, 38.0, 50.6, 59.0, 34.25, 37.55, 42.5, 55.85, 64.75, 40.75, 45.05, 51.5, 66.35, 76.25, 44.0, 48.8, 56.0, 71.6, 82.0}},
        {9, 4, 4, 4,
         {35.375, 89.625, 183.625, 157.375, 51.5, 117.0, 222.25, 111.25, 93.625, 170.375, 62.875, 187.125, 161.75, 25.75, 153.5, 129.0},
         {39.6, 94.0, 134.9756, 138.8, 56.7429, 121.2683, 173.7073, 92.5714, 99.8857, 168.2927, 132.2927, 167.4286, 169.0286, 85.2195, 141.8537, 158.5714}},
    };
    for (size_t c = 0; c < sizeof k_cases / sizeof *k_cases; c++) {
        const size_t w = k_cases[c].in_w, h = k_cases[c].in_h, n = k_cases[c].out_w * k_cases[c].out_h;
        uint8_t in[3 * 64], out[3 * 20];
        for (size_t i = 0; i < w * h; i++) /* the other channels: the same backwards, and one value */
            in[3 * i] = in[3 * (w * h - 1 - i) + 1] = (uint8_t)(7 * (i % w) * (i % w) + 13 * (i / w) * (i / w) + 5 * (i % w) * (i / w) + 31), in[3 * i + 2] = 7;
        for (int aa = 0; aa < 2; aa++) {
            assert_int_equal(resize_u8(out, k_cases[c].out_w, k_cases[c].out_h, in, w, h, 3, aa ? RESIZE_BV_AA : RESIZE_BV), PALI_OK);
            for (size_t i = 0; i < n; i++) { /* the table is rounded to 4 digits: a value just below a whole number is that number */
                const double expected = floor((aa ? k_cases[c].antialiased : k_cases[c].plain)[i] + 1e-3);
                if (out[3 * i] != expected) fail_msg("case %zu, antialias %d: value %zu is %u, expected %g", c, aa, i, out[3 * i], expected);
                assert_int_equal(out[3 * (n - 1 - i) + 1], out[3 * i]);
                assert_int_equal(out[3 * i + 2], 7);
            }
        }
    }
    uint8_t dot = 200, large[6 * 5];
    assert_int_equal(resize_u8(large, 6, 5, &dot, 1, 1, 1, RESIZE_BV), PALI_OK);
    for (size_t i = 0; i < sizeof large; i++) assert_int_equal(large[i], 200);
    assert_int_equal(resize_u8(&dot, 1, 1, large, 6, 5, 1, RESIZE_BV_AA), PALI_OK);
    assert_int_equal(dot, 200);
    assert_int_equal(resize_u8(&dot, 0, 1, large, 6, 5, 1, RESIZE_BV_AA), PALI_ERR_ARGUMENT);
}

static void test_errors(void **state) {
    (void)state;
    uint8_t src[12] = {0}, out[48];
    assert_int_equal(resize_u8(out, 0, 2, src, 2, 2, 3, RESIZE_BICUBIC), PALI_ERR_ARGUMENT);
    assert_int_equal(resize_u8(out, 2, 2, src, 2, 0, 3, RESIZE_BICUBIC), PALI_ERR_ARGUMENT);
    assert_int_equal(resize_u8(out, 2, 2, src, 2, 2, 5, RESIZE_BICUBIC), PALI_ERR_ARGUMENT);
    assert_int_equal(resize_u8(out, 2, 2, src, 2, 2, 3, (resize_filter)6), PALI_ERR_ARGUMENT);
    size_t k = 1;
    for (; k < 50; k++) {
        mem_fail_after(k);
        pali_status s = resize_u8(out, 4, 4, src, 2, 2, 3, RESIZE_BICUBIC);
        mem_fail_after(0);
        if (s == PALI_OK) break;
        assert_int_equal(s, PALI_ERR_MEMORY);
    }
    assert_in_range(k, 5, 49);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_spec_grey),       cmocka_unit_test(test_spec_rgb), cmocka_unit_test(test_spec_float),
        cmocka_unit_test(test_reference_cases), cmocka_unit_test(test_channels), cmocka_unit_test(test_to_pixels),
        cmocka_unit_test(test_big_vision),      cmocka_unit_test(test_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
