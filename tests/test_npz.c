/* test_npz.c: archives of numpy (tools/make_npz_goldens.py) are read as numpy meant them; whatever a directory, a local header,
 * an npy header or a deflated stream claims is checked before anybody uses it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/halffloat.h"
#include "base/mem.h"
#include "io/npz.h"
#include "zip.h"

#define GOLDEN PALI_TEST_DATA "/npz/"

static void patch(uint8_t *at, uint64_t x, size_t n) {
    for (size_t i = 0; i < n; i++, x >>= 8) at[i] = (uint8_t)x;
}

#define DICT(descr, shape) "{'descr': '" descr "', 'fortran_order': False, 'shape': " shape ", }\n"

/* Two stored arrays: "a", f32 [2], and "b", u8 [3]. */
static zip two_arrays(bool zip64) {
    static const float a[] = {1.5f, -2.0f};
    zip z = {.zip64 = zip64};
    bytes first = npy_make(DICT("<f4", "(2,)"), a, sizeof a), second = npy_make(DICT("|u1", "(3,)"), "xyz", 3);
    zip_add(&z, "a.npy", first.data, first.n);
    zip_add(&z, "b.npy", second.data, second.n);
    free(first.data);
    free(second.data);
    return z;
}

/* Parses an exact-size copy, so that a sanitizer sees a read past the end. */
static pali_status parse(npz *out, uint8_t **copy, const uint8_t *data, size_t n) {
    *copy = malloc(n ? n : 1);
    assert_non_null(*copy);
    if (n) memcpy(*copy, data, n);
    return npz_parse(out, *copy, n, "f");
}

static void expect_refused(const uint8_t *data, size_t n, const char *message) {
    npz z;
    uint8_t *copy;
    assert_int_not_equal(parse(&z, &copy, data, n), PALI_OK);
    if (!strstr(status_message(), message)) fail_msg("'%s' does not hold '%s'", status_message(), message);
    assert_ptr_equal(strstr(status_message(), "f: "), status_message());
    free(copy);
}

/* ---- What numpy writes ---- */

static float element(const npz_array *a, size_t i) {
    const uint8_t *p = a->data;
    float f;
    int32_t i32;
    uint16_t u16;
    double d;
    int64_t i64;
    switch (a->array.dtype) {
    case NPY_F32: memcpy(&f, p + 4 * i, 4); return f;
    case NPY_BF16: memcpy(&u16, p + 2 * i, 2); return half_from_bf16(u16);
    case NPY_F16: memcpy(&u16, p + 2 * i, 2); return half_from_f16(u16);
    case NPY_I32: memcpy(&i32, p + 4 * i, 4); return (float)i32;
    case NPY_F64: memcpy(&d, p + 8 * i, 8); return (float)d;
    case NPY_I64: memcpy(&i64, p + 8 * i, 8); return (float)i64;
    case NPY_I8:
    case NPY_U8: return (float)p[i];
    default: fail_msg("dtype %s", npy_dtype_name(a->array.dtype)); return 0;
    }
}

static void reads_what_numpy_writes(void **state) {
    (void)state;
    static const struct {
        const char *name;
        npy_dtype dtype;
        size_t n_dims, dims[3], n;
        float number; /* of the formula */
    } k_arrays[] = {
        {"params/f32", NPY_F32, 3, {2, 3, 4}, 24, 0}, {"params/f16", NPY_F16, 1, {5}, 5, 1}, {"params/bf16", NPY_BF16, 2, {3, 2}, 6, 2},
        {"i32", NPY_I32, 2, {4, 1}, 4, 3},            {"i8", NPY_I8, 1, {7}, 7, 4},          {"u8", NPY_U8, 1, {7}, 7, 5},
        {"f64", NPY_F64, 1, {2}, 2, 6},               {"i64", NPY_I64, 1, {2}, 2, 7},        {"scalar", NPY_F32, 0, {0}, 1, 10},
        {"empty", NPY_F32, 2, {0, 5}, 0, 0},
    };
    static const char *const k_files[] = {GOLDEN "stored.npz", GOLDEN "deflated.npz"};
    for (size_t file = 0; file < 2; file++) {
        npz z;
        assert_int_equal(npz_open(&z, k_files[file]), PALI_OK);
        assert_int_equal(z.n_arrays, 13); /* README is no array */
        for (size_t i = 0; i < sizeof k_arrays / sizeof k_arrays[0]; i++) {
            npz_array *a = npz_find(&z, k_arrays[i].name);
            assert_non_null(a);
            assert_int_equal(a->array.dtype, k_arrays[i].dtype);
            assert_int_equal(a->array.n_dims, k_arrays[i].n_dims);
            for (size_t d = 0; d < k_arrays[i].n_dims; d++) assert_int_equal(a->array.dims[d], k_arrays[i].dims[d]);
            assert_false(a->array.fortran_order);
            assert_int_equal(a->deflated, file);
            assert_true((a->data == NULL) == (file == 1)); /* nothing is inflated before somebody asks */
            assert_int_equal(npz_load(&z, a), PALI_OK);
            assert_int_equal(npz_check(&z, a), PALI_OK);
            if (file == 0) assert_true(a->data > z.map.data && a->data + a->array.n_bytes < z.map.data + z.map.n_bytes); /* no copy */
            for (size_t k = 0; k < k_arrays[i].n; k++) assert_true(element(a, k) == (float)k * 3 + k_arrays[i].number);
        }
        npz_array *fortran = npz_find(&z, "fortran"), *text = npz_find(&z, "text"), *boolean = npz_find(&z, "bool");
        assert_true(fortran->array.fortran_order);
        assert_int_equal(npz_load(&z, fortran), PALI_OK);
        assert_true(element(fortran, 1) == 4 * 3 + 9); /* [1, 0] of [3, 4] */
        assert_int_equal(text->array.dtype, NPY_OTHER);
        assert_int_equal(boolean->array.dtype, NPY_BOOL);
        assert_int_equal(npz_load(&z, boolean), PALI_OK);
        assert_memory_equal(boolean->data, "\1\0\1", 3);
        assert_null(npz_find(&z, "README"));
        assert_null(npz_find(&z, "params"));
        assert_int_equal(z.n_inflated > 0, file);
        npz_close(&z);
    }
}

static void reads_zip64_comments_and_nothing(void **state) {
    (void)state;
    for (int zip64 = 0; zip64 < 2; zip64++) {
        zip z = two_arrays(zip64);
        zip_finish(&z, "PK\5\6 is not where it ends");
        npz n;
        uint8_t *copy;
        assert_int_equal(parse(&n, &copy, z.file.data, z.file.n), PALI_OK);
        assert_int_equal(n.n_arrays, 2);
        assert_string_equal(n.arrays[0].name, "a");
        assert_memory_equal(n.arrays[1].data, "xyz", 3);
        npz_close(&n);
        free(copy);
        zip_free(&z);
    }
    zip none = {0};
    npz n;
    zip_finish(&none, "");
    assert_int_equal(npz_parse(&n, none.file.data, none.file.n, "f"), PALI_OK);
    assert_int_equal(n.n_arrays, 0);
    assert_null(npz_find(&n, "a"));
    npz_close(&n);
    zip_free(&none);
    assert_int_equal(npz_open(&n, "/nonexistent/x.npz"), PALI_ERR_IO);
}

/* ---- Hostile archives ---- */

static void refuses_every_truncation(void **state) {
    (void)state;
    for (int zip64 = 0; zip64 < 2; zip64++) {
        zip z = two_arrays(zip64);
        zip_finish(&z, "");
        for (size_t cut = 0; cut < z.file.n; cut++) expect_refused(z.file.data, cut, "");
        zip_free(&z);
    }
}

static void refuses_lying_directories(void **state) {
    (void)state;
    enum where { LOCAL, MEMBER, CENTRAL, END, END64, LOCATOR };
    static const struct {
        bool zip64;
        enum where where;
        size_t at, n;
        uint64_t value;
        const char *message;
    } k_bad[] = {
        {false, END, 0, 4, 0, "no zip directory"},
        {false, END, 20, 2, 5, "no zip directory"},
        {false, END, 4, 2, 1, "several disks"},
        {false, END, 6, 2, 1, "several disks"},
        {false, END, 8, 2, 1, "several disks"},
        {false, END, 8, 4, 0x00010001, "more entries than it says"},
        {false, END, 8, 4, 0x00030003, "fewer entries than it says"},
        {false, END, 8, 4, 0xfffefffe, "fewer entries than it says"},
        {false, END, 12, 4, 0x7fffffff, "lies outside the file"},
        {false, END, 16, 4, 0x7fffffff, "lies outside the file"},
        {false, END, 16, 4, 0xffffffff, "no zip64 locator"},
        {true, LOCATOR, 0, 4, 0, "no zip64 locator"},
        {true, LOCATOR, 8, 8, 0, "points at no zip64 end"},
        {true, LOCATOR, 8, 8, UINT64_MAX, "points at no zip64 end"},
        {true, END64, 0, 4, 0, "points at no zip64 end"},
        {true, END64, 24, 8, 3, "several disks"},
        {true, END64, 32, 8, 3, "several disks"},
        {true, END64, 40, 8, UINT64_MAX, "lies outside the file"},
        {true, END64, 48, 8, UINT64_MAX, "lies outside the file"},
        {false, CENTRAL, 0, 4, 0, "fewer entries than it says"},
        {false, CENTRAL, 8, 2, 1, "a.npy: encrypted"},
        {false, CENTRAL, 10, 2, 12, "a.npy: compression method 12"},
        {false, CENTRAL, 10, 2, 8, "a.npy: its local header says otherwise"},
        {false, CENTRAL, 20, 4, 9, "a.npy: its stored size and its true size"},
        {false, CENTRAL, 20, 8, 0x7fffffff7fffffff, "a.npy: 2147483647 bytes, but there are"},
        {false, CENTRAL, 20, 8, 0xffffffffffffffff, "a.npy: sizes of zip64, but no zip64 field"},
        {false, CENTRAL, 20, 8, 0x0000000500000005, "a: not a npy array"},
        {false, CENTRAL, 20, 8, 0x0000004000000040, "a: npy header: 58 bytes, but there are 54"},
        {false, CENTRAL, 20, 8, 0x0000004500000045, "a: 1 bytes of data, but dtype and shape need 8"},
        {false, CENTRAL, 28, 2, 600, "an entry runs past its end"},
        {false, CENTRAL, 30, 2, 0xffff, "an entry runs past its end"},
        {false, CENTRAL, 32, 2, 0xffff, "an entry runs past its end"},
        {false, CENTRAL, 42, 4, 1, "a.npy: no local header"},
        {false, CENTRAL, 42, 4, 0x7fffffff, "a.npy: lies outside the file"},
        {false, CENTRAL, 46, 1, 0, "holds a NUL"},
        {true, CENTRAL, 46 + 5 + 6, 2, 2, "a.npy: sizes of zip64, but no zip64 field"},
        {true, CENTRAL, 46 + 5 + 8, 2, 16, "a.npy: sizes of zip64, but no zip64 field"},
        {true, CENTRAL, 46 + 5 + 8, 2, 400, "a.npy: sizes of zip64, but no zip64 field"},
        {true, CENTRAL, 46 + 5 + 10, 8, UINT64_MAX, "a.npy: its stored size and its true size"},
        {true, CENTRAL, 46 + 5 + 26, 8, UINT64_MAX, "a.npy: lies outside the file"},
        {false, LOCAL, 0, 4, 0, "a.npy: no local header"},
        {false, LOCAL, 8, 2, 8, "a.npy: its local header says otherwise"},
        {false, LOCAL, 26, 2, 4, "a.npy: its local header says otherwise"},
        {false, LOCAL, 28, 2, 0xffff, "a.npy: its local header says otherwise"},
        {false, LOCAL, 30, 1, 'x', "a.npy: its local header says otherwise"},
        {false, MEMBER, 0, 1, 0, "a: not a npy array"},
        {false, MEMBER, 6, 1, 4, "a: npy version 4.0"},
    };
    for (size_t i = 0; i < sizeof k_bad / sizeof k_bad[0]; i++) {
        zip z = two_arrays(k_bad[i].zip64);
        zip_finish(&z, "");
        const size_t base[] = {z.local[0], z.member[0], z.central[0], z.end, z.end - 76, z.end - 20};
        patch(z.file.data + base[k_bad[i].where] + k_bad[i].at, k_bad[i].value, k_bad[i].n);
        expect_refused(z.file.data, z.file.n, k_bad[i].message);
        zip_free(&z);
    }
}

static void refuses_names_and_overlaps(void **state) {
    (void)state;
    char name[600];
    bytes a = npy_make(DICT("|u1", "(3,)"), "xyz", 3);
    zip twice = {0}, long_name = {0}, nested = {0};
    zip_add(&twice, "b.npy", a.data, a.n);
    zip_add(&twice, "c.npy", a.data, a.n);
    zip_add(&twice, "b.npy", a.data, a.n);
    zip_finish(&twice, "");
    expect_refused(twice.file.data, twice.file.n, "b: twice in the directory");
    memset(name, 'n', sizeof name);
    memcpy(name + sizeof name - 5, ".npy", 5);
    zip_add(&long_name, name, a.data, a.n);
    zip_finish(&long_name, "");
    expect_refused(long_name.file.data, long_name.file.n, "name of a member: 599 bytes");

    /* "inner" lies in the data of "outer", header and all. */
    bytes inner = {0};
    zip_local(&inner, "inner.npy", 0);
    const size_t n_local = inner.n;
    bytes_put(&inner, a.data, a.n);
    char dict[100];
    (void)snprintf(dict, sizeof dict, DICT("|u1", "(%zu,)"), inner.n);
    bytes outer = npy_make(dict, inner.data, inner.n);
    zip_add(&nested, "outer.npy", outer.data, outer.n);
    zip_list(&nested, "inner.npy", nested.member[0] + outer.n - inner.n, a.n, a.n, 0, 0);
    zip_finish(&nested, "");
    expect_refused(nested.file.data, nested.file.n, "outer and inner overlap");
    assert_true(n_local > 0);
    free(a.data);
    free(inner.data);
    free(outer.data);
    zip_free(&twice);
    zip_free(&long_name);
    zip_free(&nested);
}

/* ---- Deflated members ---- */

/* One deflated array "z" of n zeros; claimed and crc: what the directory says. */
static zip deflated_zeros(size_t n, ptrdiff_t claimed_more) {
    char dict[100];
    uint8_t *zeros = calloc(n, 1);
    zip z = {0};
    assert_non_null(zeros);
    (void)snprintf(dict, sizeof dict, DICT("|u1", "(%zu,)"), (size_t)((ptrdiff_t)n + claimed_more));
    bytes a = npy_make(dict, zeros, n);
    zip_add_deflated(&z, "z.npy", a.data, a.n, (size_t)((ptrdiff_t)a.n + claimed_more));
    zip_finish(&z, "");
    free(zeros);
    free(a.data);
    return z;
}

static void inflates_on_demand(void **state) {
    (void)state;
    enum { N = 8 << 20 };
    zip z = deflated_zeros(N, 0);
    npz n;
    assert_true(z.file.n < N / 500);
    assert_int_equal(npz_parse(&n, z.file.data, z.file.n, "f"), PALI_OK);
    npz_array *a = npz_find(&n, "z");
    assert_int_equal(a->array.n_bytes, N); /* known, and not made */
    assert_null(a->data);
    assert_int_equal(n.n_inflated, 0);
    mem_fail_after(1);
    assert_int_equal(npz_load(&n, a), PALI_ERR_MEMORY);
    mem_fail_after(0);
    assert_null(a->data);
    assert_int_equal(npz_load(&n, a), PALI_OK);
    assert_int_equal(n.n_inflated, N + a->array.n_header_bytes);
    assert_int_equal(a->data[0] | a->data[N - 1], 0);
    const uint8_t *data = a->data;
    assert_int_equal(npz_load(&n, a), PALI_OK);
    assert_ptr_equal(a->data, data);
    npz_close(&n);
    zip_free(&z);
}

static void refuses_bombs_and_damage(void **state) {
    (void)state;
    static const ptrdiff_t k_more[] = {-1, 1, -5000, 5000}; /* more or less than the stream has */
    npz n;
    for (size_t i = 0; i < sizeof k_more / sizeof k_more[0]; i++) {
        zip z = deflated_zeros(10000, k_more[i]);
        assert_int_equal(npz_parse(&n, z.file.data, z.file.n, "f"), PALI_OK); /* consistent so far */
        assert_int_equal(npz_load(&n, npz_find(&n, "z")), PALI_ERR_FORMAT);
        assert_non_null(strstr(status_message(), "f: z: deflated data is damaged, or not of the size"));
        npz_close(&n);
        zip_free(&z);
    }
    zip z = deflated_zeros(10000, 0);
    patch(z.file.data + z.central[0] + 24, 0x7fffffff, 4); /* 2 GiB from some tens of bytes: no deflate does that */
    expect_refused(z.file.data, z.file.n, "z.npy: its stored size and its true size");
    zip_free(&z);
    z = deflated_zeros(10000, 0);
    patch(z.file.data + z.central[0] + 24, 40, 4); /* less than the header */
    expect_refused(z.file.data, z.file.n, "z: npy header: cut short");
    zip_free(&z);
    z = deflated_zeros(10000, 0);
    patch(z.file.data + z.member[0], 0xffff, 2); /* a block of no kind */
    expect_refused(z.file.data, z.file.n, "z: deflated data is damaged");
    zip_free(&z);
    z = deflated_zeros(10000, 0);
    patch(z.file.data + z.central[0] + 16, 1, 4);
    assert_int_equal(npz_parse(&n, z.file.data, z.file.n, "f"), PALI_OK);
    assert_int_equal(npz_load(&n, npz_find(&n, "z")), PALI_ERR_FORMAT);
    assert_non_null(strstr(status_message(), "f: z: checksum differs"));
    npz_close(&n);
    zip_free(&z);
    z = two_arrays(false);
    zip_finish(&z, "");
    z.file.data[z.local[1] - 1] ^= 1; /* the last byte of "a" */
    assert_int_equal(npz_parse(&n, z.file.data, z.file.n, "f"), PALI_OK);
    assert_int_equal(npz_check(&n, npz_find(&n, "b")), PALI_OK);
    assert_int_equal(npz_check(&n, npz_find(&n, "a")), PALI_ERR_FORMAT);
    assert_non_null(strstr(status_message(), "f: a: checksum differs"));
    npz_close(&n);
    zip_free(&z);
}

/* Cuts and flips of numpy's own deflated archive: any answer but a crash, and never one that lies outside the file. */
static void survives_damage_everywhere(void **state) {
    (void)state;
    char *text;
    size_t n_bytes;
    assert_int_equal(file_read(&text, &n_bytes, GOLDEN "deflated.npz", 1 << 20), PALI_OK);
    size_t n_refused = 0;
    for (size_t i = 0; i < n_bytes; i++) {
        npz n;
        uint8_t *copy;
        text[i] ^= 0x55;
        if (parse(&n, &copy, (uint8_t *)text, n_bytes) != PALI_OK) {
            n_refused++;
        } else {
            for (size_t k = 0; k < n.n_arrays; k++) {
                npz_array *a = &n.arrays[k];
                assert_true(a->member >= copy && a->member_bytes <= (size_t)(copy + n_bytes - a->member));
                (void)npz_load(&n, a);
            }
            npz_close(&n);
        }
        free(copy);
        text[i] ^= 0x55;
    }
    assert_true(n_refused > n_bytes / 4); /* names and checksums are most of the rest */
    mem_free(text);
}

static void survives_lack_of_memory(void **state) {
    (void)state;
    zip z = two_arrays(false);
    zip_finish(&z, "");
    size_t k = 1;
    for (;; k++) {
        npz n;
        mem_fail_after(k);
        pali_status s = npz_parse(&n, z.file.data, z.file.n, "f");
        mem_fail_after(0);
        npz_close(&n);
        if (s == PALI_OK) break;
        assert_int_equal(s, PALI_ERR_MEMORY);
    }
    assert_true(k > 3);
    zip_free(&z);
}

/* ---- npy headers ---- */

static void reads_and_refuses_headers(void **state) {
    (void)state;
    static const struct {
        const char *dict, *message; /* NULL: fine, with 8 bytes of data */
    } k_dicts[] = {
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }  \n", NULL},
        {"{\"shape\":(1,2,),\"descr\":\"<f4\",\"fortran_order\":True}", NULL},
        {"{'descr': '<U2', 'fortran_order': False, 'shape': (1,)}", NULL},
        {"{'descr': '|O', 'fortran_order': False, 'shape': (77,)}", NULL},
        {"{'descr': '<V2', 'fortran_order': False, 'shape': (4,)}", NULL},
        {"{'descr': '<c8', 'fortran_order': False, 'shape': ()}", NULL},
        {"", "expected a dict"},
        {"[]", "expected a dict"},
        {"{", "expected a key"},
        {"{'descr'", "expected ':'"},
        {"{'descr: '<f4', 'fortran_order': False, 'shape': (2,)}", "unknown key"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2,), 'more': 1}", "unknown key"},
        {"{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", "a key twice"},
        {"{'descr': '<f4', 'fortran_order': False}", "shape missing"},
        {"{'descr': '<f4', 'shape': (2,)}", "fortran_order missing"},
        {"{'fortran_order': False, 'shape': (2,)}", "descr missing"},
        {"{'descr': '<f4' 'fortran_order': False, 'shape': (2,)}", "expected ',' or '}'"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2,)} x", "text after the dict"},
        {"{'descr': '<f4', 'fortran_order': Falsch, 'shape': (2,)}", "fortran_order: expected True or False"},
        {"{'descr': 7, 'fortran_order': False, 'shape': (2,)}", "descr: expected a string"},
        {"{'descr': '<f\\4', 'fortran_order': False, 'shape': (2,)}", "descr: expected a string"},
        {"{'descr': 'f', 'fortran_order': False, 'shape': (2,)}", "descr: expected a byte order"},
        {"{'descr': '>f4', 'fortran_order': False, 'shape': (2,)}", "descr '>f4': big-endian"},
        {"{'descr': [('x', '<f4')], 'fortran_order': False, 'shape': (2,)}", "arrays of records are not supported"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': 2}", "shape: expected a tuple"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2)}", "shape: expected a tuple"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2 2)}", "shape: expected a tuple"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2 2)}", "shape: expected whole numbers"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (-2,)}", "shape: expected whole numbers"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (,)}", "shape: expected whole numbers"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2", "shape: expected a tuple"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,", "shape: expected whole numbers"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,2)}", "more than the limit of 8 dims"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (18446744073709551618,)}", "shape: size overflows"}, /* 2 modulo 2^64 */
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296)}", "shape: size overflows"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387906,)}", "shape: size overflows"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (3,)}", "8 bytes of data, but dtype and shape need 12"},
        {"{'descr': '<f8', 'fortran_order': False, 'shape': (0,)}", "8 bytes of data, but dtype and shape need 0"},
    };
    for (size_t i = 0; i < sizeof k_dicts / sizeof k_dicts[0]; i++) {
        bytes b = npy_make(k_dicts[i].dict, "12345678", 8);
        npy_array a;
        uint8_t *copy = malloc(b.n);
        assert_non_null(copy);
        memcpy(copy, b.data, b.n);
        pali_status s = npy_parse(&a, copy, b.n, "f", "n");
        if ((s == PALI_OK) != (k_dicts[i].message == NULL)) fail_msg("%s: %s", k_dicts[i].dict, s == PALI_OK ? "accepted" : status_message());
        if (s == PALI_OK)
            assert_int_equal(a.n_bytes, 8);
        else if (!strstr(status_message(), k_dicts[i].message) || strncmp(status_message(), "f: n: ", 6) != 0)
            fail_msg("%s: '%s' does not hold '%s'", k_dicts[i].dict, status_message(), k_dicts[i].message);
        free(copy);
        free(b.data);
    }
    uint8_t long_header[16] = "\x93NUMPY\2\0\1\0\1\0";
    npy_array a;
    assert_int_equal(npy_parse(&a, long_header, sizeof long_header, "f", "n"), PALI_ERR_LIMIT);
    assert_int_equal(npy_parse(&a, long_header, 11, "f", "n"), PALI_ERR_FORMAT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_what_numpy_writes),    cmocka_unit_test(reads_zip64_comments_and_nothing), cmocka_unit_test(refuses_every_truncation),
        cmocka_unit_test(refuses_lying_directories),  cmocka_unit_test(refuses_names_and_overlaps),       cmocka_unit_test(inflates_on_demand),
        cmocka_unit_test(refuses_bombs_and_damage),   cmocka_unit_test(survives_damage_everywhere),       cmocka_unit_test(survives_lack_of_memory),
        cmocka_unit_test(reads_and_refuses_headers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
