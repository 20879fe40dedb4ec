/* test_gguf_files.c: models in several .gguf files, as the community has them: a text model, the file of its vision tower, parts of
 * either; names of other writers; types that are read but not held. What belongs together is the model that one file would be;
 * what does not gives a line that says why. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/mem.h"
#include "golden.h"
#include "io/gguf_decode.h"
#include "model/save.h"
#include "paligemma.h"
#include "same_model.h"
#include "tensor/encode.h"

#define COMMUNITY PALI_TEST_DATA "/gguf/community/"

static char g_dir[] = "/tmp/test_gguf_files_XXXXXX";
static model *g_whole; /* all in one file, which is not in g_dir */
static gguf g_file;    /* that file */

static model *opened(const char *path, const char *mmproj, pali_dtype dtype) {
    model *m;
    model_options o = {.dtype = dtype, .n_threads = 2, .no_prefault = true, .mmproj_path = mmproj};
    if (model_load(&m, path, &o) != PALI_OK) fail_msg("%s", status_message());
    return m;
}

static char *path_in(char out[128], const char *name) {
    (void)snprintf(out, 128, "%s/%s", g_dir, name);
    return out;
}

static int group_setup(void **state) {
    (void)state;
    char path[128];
    model_save_options o = {.n_threads = 2};
    assert_non_null(mkdtemp(g_dir));
    model *m = opened(GOLDEN_DIR "/pg2-bf16", NULL, PALI_DTYPE_AUTO);
    assert_int_equal(model_save(m, NULL, path_in(path, "whole.gguf"), &o), PALI_OK);
    model_free(m);
    g_whole = opened(path, NULL, PALI_DTYPE_AUTO);
    assert_int_equal(gguf_open(&g_file, path), PALI_OK);
    return unlink(path);
}

static int group_teardown(void **state) {
    (void)state;
    model_free(g_whole);
    gguf_close(&g_file);
    return rmdir(g_dir);
}

/* ---- Other files made of that one ---- */

typedef struct part {
    const char *name;             /* in g_dir */
    const char *arch;             /* NULL: the file's */
    const char *keep[6], *drop[6]; /* what names of values and tensors begin with; nothing to keep: all */
    const char *rename[4][2];     /* in names of tensors: what, by what */
    size_t first, n;              /* of the tensors that are left; n 0: all */
    const char *keys[4];          /* numbers to add, 32 bits */
    uint32_t numbers[4];
} part;

static void put(FILE *f, const void *bytes, size_t n) {
    assert_int_equal(fwrite(bytes, 1, n, f), n);
}

static void put_u32(FILE *f, uint32_t x) {
    put(f, &x, sizeof x);
}

static void put_u64(FILE *f, uint64_t x) {
    put(f, &x, sizeof x);
}

static void put_string(FILE *f, const char *text, size_t n) {
    put_u64(f, n);
    put(f, text, n);
}

static bool begins(const char *name, const char *const list[6]) {
    for (size_t i = 0; i < 6 && list[i]; i++)
        if (strncmp(name, list[i], strlen(list[i])) == 0) return true;
    return false;
}

static bool is_kept(const part *p, const char *name) {
    return (!p->keep[0] || begins(name, p->keep)) && !begins(name, p->drop);
}

static void put_value(FILE *f, const part *p, const gguf_value *v, const char *key) {
    bool arch = p->arch && strcmp(key, "general.architecture") == 0;
    put_string(f, key, v->n_key);
    if (v->is_array) put_u32(f, GGUF_ARRAY);
    put_u32(f, v->kind);
    if (v->is_array) put_u64(f, v->n);
    if (arch)
        put_string(f, p->arch, strlen(p->arch));
    else
        put(f, v->data, v->n_bytes);
}

static void put_name(FILE *f, const part *p, const char *name) {
    char other[2 * GGUF_MAX_NAME];
    (void)snprintf(other, sizeof other, "%s", name);
    for (size_t i = 0; i < 4 && p->rename[i][0]; i++) {
        const char *at = strstr(name, p->rename[i][0]);
        if (at) (void)snprintf(other, sizeof other, "%.*s%s%s", (int)(at - name), name, p->rename[i][1], at + strlen(p->rename[i][0]));
    }
    put_string(f, other, strlen(other));
}

/* Of g_file what the part says. */
static void part_write(const part *p) {
    char path[128], key[GGUF_MAX_KEY + 1];
    FILE *f = fopen(path_in(path, p->name), "wb");
    size_t n_values = 0, n_tensors = 0, at = 0;
    assert_non_null(f);
    put(f, "GGUF", 4);
    put_u32(f, 3);
    put_u64(f, 0); /* the counts come later */
    put_u64(f, 0);
    for (size_t i = 0; i < g_file.n_values; i++) {
        const gguf_value *v = &g_file.values[i];
        memcpy(key, v->key, v->n_key);
        key[v->n_key] = 0;
        if (!is_kept(p, key)) continue;
        put_value(f, p, v, key);
        n_values++;
    }
    for (size_t i = 0; i < 4 && p->keys[i]; i++, n_values++) {
        put_string(f, p->keys[i], strlen(p->keys[i]));
        put_u32(f, GGUF_U32);
        put_u32(f, p->numbers[i]);
    }
    bool *kept = mem_calloc(g_file.n_tensors, sizeof *kept);
    uint64_t offset = 0;
    for (size_t i = 0; i < g_file.n_tensors; i++) {
        const gguf_tensor *t = &g_file.tensors[i];
        kept[i] = is_kept(p, t->name) && at++ >= p->first && (p->n == 0 || at <= p->first + p->n);
        if (!kept[i]) continue;
        put_name(f, p, t->name);
        put_u32(f, (uint32_t)t->n_dims);
        for (size_t d = t->n_dims; d-- > 0;) put_u64(f, t->dims[d]);
        put_u32(f, t->type);
        put_u64(f, offset);
        offset += (t->n_bytes + 63) / 64 * 64;
        n_tensors++;
    }
    static const uint8_t k_zeros[64] = {0};
    bool aligned = is_kept(p, "general.alignment");
    put(f, k_zeros, (size_t)(-ftell(f) & (aligned ? 63 : 31)));
    for (size_t i = 0; i < g_file.n_tensors; i++) {
        if (!kept[i]) continue;
        put(f, g_file.tensors[i].data, g_file.tensors[i].n_bytes);
        put(f, k_zeros, -g_file.tensors[i].n_bytes & 63u);
    }
    mem_free(kept);
    assert_int_equal(fseek(f, 8, SEEK_SET), 0);
    put_u64(f, n_tensors);
    put_u64(f, n_values);
    assert_int_equal(fclose(f), 0);
}

static void part_remove(const part *p) {
    char path[128];
    assert_int_equal(unlink(path_in(path, p->name)), 0);
}

#define TEXT .drop = {"clip.", "v.", "mm."}
#define TOWER .keep = {"general.a", "clip.", "v.", "mm."}
#define VISION TOWER, .arch = "clip"
#define PART(no, count, total) .keys = {"split.no", "split.count", "split.tensors.count"}, .numbers = {no, count, total}

static void assert_opens_as_one(const part *parts, size_t n, const char *open, const char *mmproj) {
    char path[128], vision[128];
    for (size_t i = 0; i < n; i++) part_write(&parts[i]);
    model *m = opened(path_in(path, open), mmproj ? path_in(vision, mmproj) : NULL, PALI_DTYPE_AUTO);
    assert_same_model(m, g_whole);
    model_free(m);
    for (size_t i = 0; i < n; i++) part_remove(&parts[i]);
}

/* ---- What belongs together ---- */

static void joins_text_and_vision(void **state) {
    (void)state;
    assert_opens_as_one((part[]){{.name = "t.gguf", TEXT}, {.name = "mmproj-f16.gguf", VISION}}, 2, "t.gguf", NULL);
    assert_opens_as_one((part[]){{.name = "t.gguf", TEXT}, {.name = "t-mmproj.gguf", VISION}}, 2, "t.gguf", NULL);
    assert_opens_as_one((part[]){{.name = "t.gguf", TEXT}, {.name = "tower.gguf", VISION}}, 2, "t.gguf", "tower.gguf");
    /* One that is named is taken whatever lies there, and a whole file needs none. */
    assert_opens_as_one((part[]){{.name = "t.gguf", TEXT}, {.name = "mmproj-1.gguf", VISION}, {.name = "mmproj-2.gguf", VISION}}, 3, "t.gguf", "mmproj-2.gguf");
    assert_opens_as_one((part[]){{.name = "w.gguf"}, {.name = "mmproj-1.gguf", VISION}}, 2, "w.gguf", NULL);
}

/* In the current directory as in any other. */
static void finds_vision_beside_a_bare_name(void **state) {
    (void)state;
    const part parts[] = {{.name = "t.gguf", TEXT}, {.name = "mmproj.gguf", VISION}};
    char *before = getcwd(NULL, 0);
    for (size_t i = 0; i < 2; i++) part_write(&parts[i]);
    assert_int_equal(chdir(g_dir), 0);
    model *m = opened("t.gguf", NULL, PALI_DTYPE_AUTO);
    assert_same_model(m, g_whole);
    model_free(m);
    assert_int_equal(chdir(before), 0);
    free(before);
    for (size_t i = 0; i < 2; i++) part_remove(&parts[i]);
}

static void knows_other_names(void **state) {
    (void)state;
    const part parts[] = {{.name = "t.gguf", TEXT},
                          {.name = "mmproj.gguf", VISION, .rename = {{"mm.0.", "mm.input_projection."}, {"ffn_up.", "ffn_down."}, {"ffn_down.", "ffn_up."}}}};
    assert_opens_as_one(parts, 2, "t.gguf", NULL);
    assert_opens_as_one(&(part){.name = "w.gguf", .rename = {{"mm.0.", "mm.input_projection."}}}, 1, "w.gguf", NULL);
}

#define NO_VALUES .drop = {"general.", "gemma", "clip.", "tokenizer.", "paligemma."}
#define N_ALL ((uint32_t)g_file.n_tensors)

/* Through any of the parts, of which only the first has values; and a vision file in parts. */
static void joins_parts(void **state) {
    (void)state;
    const part parts[] = {{.name = "w-00001-of-00003.gguf", .n = 5, PART(0, 3, N_ALL)},
                          {.name = "w-00002-of-00003.gguf", NO_VALUES, .first = 5, .n = 30, PART(1, 3, N_ALL)},
                          {.name = "w-00003-of-00003.gguf", NO_VALUES, .first = 35, PART(2, 3, N_ALL)}};
    for (size_t i = 0; i < 3; i++) assert_opens_as_one(parts, 3, parts[i].name, NULL);
    const part vision[] = {{.name = "t.gguf", TEXT},
                           {.name = "v-00001-of-00002.gguf", VISION, .n = 7, .keys = {"split.no", "split.count"}, .numbers = {0, 2}},
                           {.name = "v-00002-of-00002.gguf", .keep = {"v.", "mm."}, .first = 7, .keys = {"split.no", "split.count"}, .numbers = {1, 2}}};
    assert_opens_as_one(vision, 3, "t.gguf", "v-00002-of-00002.gguf");
    assert_opens_as_one(&(part){.name = "any.gguf", PART(0, 1, N_ALL)}, 1, "any.gguf", NULL); /* a split into one */
}

/* ---- What does not ---- */

typedef struct bad_set {
    part parts[3]; /* the first is opened */
    const char *mmproj;
    pali_status status;
    const char *message;
} bad_set;

static void names_what_is_wrong(void **state) {
    (void)state;
    const bad_set sets[] = {
        {{{.name = "t.gguf", TEXT}}, NULL, PALI_ERR_UNSUPPORTED, "t.gguf: a text model without vision tower (clip.vision.image_size and v.patch_embd.weight): expected a mmproj file beside it"},
        {{{.name = "t.gguf", TEXT}, {.name = "tower.gguf", VISION}}, NULL, PALI_ERR_UNSUPPORTED, "t.gguf: a text model without vision tower"},
        {{{.name = "t.gguf", TEXT}, {.name = "mmproj.bin", VISION}}, NULL, PALI_ERR_UNSUPPORTED, "t.gguf: a text model without vision tower"},
        {{{.name = "t.gguf", TEXT}, {.name = "a-mmproj.gguf", VISION}, {.name = "b-mmproj.gguf", VISION}}, NULL, PALI_ERR_ARGUMENT, "t.gguf: several mmproj files beside it ("},
        {{{.name = "t.gguf", TEXT}}, "none.gguf", PALI_ERR_IO, "none.gguf: "},
        {{{.name = "t.gguf", TEXT}, {.name = "other.gguf", TEXT}}, "other.gguf", PALI_ERR_FORMAT, "other.gguf: blk.0.attn_k.weight: the same tensor is also in "},
        {{{.name = "w.gguf"}, {.name = "tower.gguf", VISION}}, "tower.gguf", PALI_ERR_FORMAT, "mm.0.bias: the same tensor is also in "},
        {{{.name = "t.gguf", TEXT}, {.name = "mmproj.gguf", TOWER, .arch = "llava"}}, NULL, PALI_ERR_UNSUPPORTED, "mmproj.gguf: general.architecture: 'llava', expected clip, a vision tower"},
        {{{.name = "mmproj.gguf", VISION}}, NULL, PALI_ERR_UNSUPPORTED, "mmproj.gguf: general.architecture: clip: a vision tower alone, expected the file of its text model"},
        {{{.name = "t.gguf", TEXT}, {.name = "mmproj.gguf", VISION, .drop = {"clip.vision.image_size"}}}, NULL, PALI_ERR_FORMAT, "mmproj.gguf: clip.vision.image_size: missing"},
        {{{.name = "t.gguf", TEXT}, {.name = "mmproj.gguf", VISION, .drop = {"clip.vision.projection_dim"}, .keys = {"clip.vision.projection_dim"}, .numbers = {7}}}, NULL,
         PALI_ERR_FORMAT, "mmproj.gguf: clip.vision.projection_dim: 7, expected "},
        {{{.name = "t.gguf", TEXT}, {.name = "mmproj.gguf", VISION, .rename = {{"mm.0.bias", "mm.2.weight"}}}}, NULL, PALI_ERR_UNSUPPORTED, "mmproj.gguf: mm.2.weight: a projector of another kind"},
        {{{.name = "t.gguf", TEXT}, {.name = "mmproj.gguf", VISION, .drop = {"mm.0.bias"}}}, NULL, PALI_ERR_FORMAT, "t.gguf: mm.0.bias: tensor missing"},
        {{{.name = "t.gguf", TEXT}, {.name = "mmproj.gguf", VISION, .rename = {{"1.ffn_up.", "1.ffn_down."}, {"1.ffn_down.", "1.ffn_up."}}}}, NULL, PALI_ERR_FORMAT,
         "mmproj.gguf: v.blk.1.ffn_up.weight: shape "}, /* of one layer only */
        {{{.name = "w.gguf", PART(0, 2, 1)}}, NULL, PALI_ERR_FORMAT, "w.gguf: split.count: 2, but the name does not end like that of a part: -00001-of-00002.gguf"},
        {{{.name = "w-00001-of-00003.gguf", PART(0, 2, 1)}}, NULL, PALI_ERR_FORMAT, "w-00001-of-00003.gguf: split.count: 2, but the name"},
        {{{.name = "w-0001x-of-00002.gguf", PART(0, 2, 1)}}, NULL, PALI_ERR_FORMAT, "w-0001x-of-00002.gguf: split.count: 2, but the name"},
        {{{.name = "-of-00002.gguf", PART(0, 2, 1)}}, NULL, PALI_ERR_FORMAT, "-of-00002.gguf: split.count: 2, but the name"},
        {{{.name = "w-00001-of-00002.gguf", .n = 9, PART(0, 2, N_ALL)}}, NULL, PALI_ERR_IO, "w-00002-of-00002.gguf: "},
        {{{.name = "w-00002-of-00002.gguf", .first = 9, PART(1, 2, N_ALL)}}, NULL, PALI_ERR_IO, "w-00001-of-00002.gguf: "},
        {{{.name = "w-00001-of-00002.gguf", .n = 9, PART(0, 2, N_ALL)}, {.name = "w-00002-of-00002.gguf", .first = 9, PART(0, 2, N_ALL)}}, NULL,
         PALI_ERR_FORMAT, "w-00002-of-00002.gguf: split.no: 0, expected 1"},
        {{{.name = "w-00001-of-00002.gguf", .n = 9, PART(0, 2, N_ALL)}, {.name = "w-00002-of-00002.gguf", .first = 9, PART(1, 3, N_ALL)}}, NULL,
         PALI_ERR_FORMAT, "w-00002-of-00002.gguf: split.count: 3, expected 2"},
        {{{.name = "w-00001-of-00002.gguf", .n = 9, PART(0, 2, N_ALL)}, {.name = "w-00002-of-00002.gguf", .first = 9}}, NULL,
         PALI_ERR_FORMAT, "w-00002-of-00002.gguf: split.count: missing"},
        {{{.name = "w-00001-of-00002.gguf", .n = 9, PART(0, 2, N_ALL + 1)}, {.name = "w-00002-of-00002.gguf", .first = 9, PART(1, 2, 0)}}, NULL,
         PALI_ERR_FORMAT, "w-00001-of-00002.gguf: split.tensors.count: "},
        {{{.name = "w-00001-of-00002.gguf", .n = 9, PART(0, 2, N_ALL + 1)}, {.name = "w-00002-of-00002.gguf", .first = 8, PART(1, 2, 0)}}, NULL,
         PALI_ERR_FORMAT, ": the same tensor is also in "},
        {{{.name = "w-00001-of-01001.gguf", PART(0, 1001, 1)}}, NULL, PALI_ERR_FORMAT, "w-00001-of-01001.gguf: split.count: expected a number from 0 to 1000"},
    };
    for (size_t i = 0; i < sizeof sets / sizeof sets[0]; i++) {
        const bad_set *b = &sets[i];
        char path[128], vision[128];
        model *m = NULL;
        for (size_t j = 0; j < 3 && b->parts[j].name; j++) part_write(&b->parts[j]);
        model_options o = {.n_threads = 1, .mmproj_path = b->mmproj ? path_in(vision, b->mmproj) : NULL};
        pali_status s = model_load(&m, path_in(path, b->parts[0].name), &o);
        if (s != b->status || !strstr(status_message(), b->message)) fail_msg("set %zu: status %d, '%s', expected '%s'", i, s, status_message(), b->message);
        assert_null(m);
        for (size_t j = 0; j < 3 && b->parts[j].name; j++) part_remove(&b->parts[j]);
    }
}

static void survives_lack_of_memory(void **state) {
    (void)state;
    const part parts[] = {{.name = "t-00001-of-00002.gguf", TEXT, .n = 5, .keys = {"split.no", "split.count"}, .numbers = {0, 2}},
                          {.name = "t-00002-of-00002.gguf", .keep = {"blk.", "output", "token_embd"}, .first = 5, .keys = {"split.no", "split.count"}, .numbers = {1, 2}},
                          {.name = "mmproj.gguf", VISION}};
    char path[128];
    pali_status s = PALI_ERR_MEMORY;
    size_t k = 0;
    for (size_t i = 0; i < 3; i++) part_write(&parts[i]);
    path_in(path, parts[1].name);
    while (s != PALI_OK) {
        model *m = NULL;
        model_options o = {.n_threads = 1, .no_prefault = true};
        mem_fail_after(++k);
        s = model_load(&m, path, &o);
        mem_fail_after(0);
        if (s != PALI_OK && s != PALI_ERR_MEMORY) fail_msg("allocation %zu: %s", k, status_message());
        assert_true(!m == (s != PALI_OK));
        model_free(m);
    }
    assert_true(k > 100); /* every tensor has a name */
    for (size_t i = 0; i < 3; i++) part_remove(&parts[i]);
}

/* ---- Files of the gguf package (tools/make_gguf_community.py) ---- */

static const gguf_tensor *community_tensor(gguf files[3], const char *name) {
    const gguf_tensor *t = NULL;
    for (size_t i = 0; i < 3 && !t; i++) t = gguf_find_tensor(&files[i], name);
    assert_non_null(t);
    return t;
}

/* Types that are read but not held: their values are the package's to the bit. */
static void decodes_as_the_package_does(void **state) {
    (void)state;
    safetensors st;
    gguf files[3];
    bool seen[16] = {false};
    assert_int_equal(safetensors_open(&st, COMMUNITY "types.safetensors"), PALI_OK);
    for (size_t i = 0; i < 3; i++) {
        char path[512];
        (void)snprintf(path, sizeof path, "%stext-%05zu-of-00003.gguf", COMMUNITY, i + 1);
        assert_int_equal(gguf_open(&files[i], path), PALI_OK);
    }
    for (size_t i = 0; i < st.n_tensors; i++) {
        const st_tensor *want = &st.tensors[i];
        const gguf_tensor *t = community_tensor(files, want->name);
        gguf_decoder decode = gguf_type_decoder(t->type);
        size_t cols = t->dims[1], n = cols * want->dims[0];
        float *y = mem_alloc(n + 1, sizeof *y);
        assert_non_null(decode);
        assert_int_equal(cols, want->dims[1]);
        seen[t->type] = true;
        for (size_t r = 0; r < want->dims[0]; r++) decode(y + r * cols, t->data + r * gguf_row_bytes(t->type, cols), cols);
        assert_memory_equal(y, want->data, n * sizeof *y);
        y[cols - 5] = 7; /* fewer than whole blocks: nothing behind them is touched */
        decode(y, t->data, cols - 5);
        assert_memory_equal(y, want->data, (cols - 5) * sizeof *y);
        assert_true(y[cols - 5] == 7);
        mem_free(y);
    }
    assert_true(seen[6] && seen[7] && seen[10] && seen[11] && seen[13] && seen[14]);
    for (size_t i = 0; i < 3; i++) gguf_close(&files[i]);
    safetensors_close(&st);
}

/* They are held as 8 bits, or as what is asked for, made of those values; and memory plans say so. */
static void holds_them_as_8_bits(void **state) {
    (void)state;
    static const pali_dtype k_asked[] = {PALI_DTYPE_AUTO, PALI_DTYPE_F32, PALI_DTYPE_Q4_K};
    for (size_t i = 0; i < 3; i++) {
        model *m = opened(COMMUNITY "text-00002-of-00003.gguf", NULL, k_asked[i]), *outline;
        const weights_entry *entry = weights_find(m->weights, "blk.3.ffn_down.weight");
        const mat *down = &m->text.layers[3].down;
        float row[256];
        uint8_t want[256 * sizeof(float)];
        pali_dtype dtype = k_asked[i] == PALI_DTYPE_AUTO ? PALI_DTYPE_Q8_0 : k_asked[i];
        assert_string_equal(entry->dtype_name, "Q6_K");
        assert_int_equal(down->dtype, dtype);
        assert_int_equal(m->text.layers[0].q.dtype, dtype == PALI_DTYPE_Q4_K ? PALI_DTYPE_Q4_1 : dtype);
        for (size_t r = 0; r < down->rows; r++) {
            const kernels *k = kernels_get(CPU_REF);
            entry->decode(row, entry->data + r * entry->n_bytes / down->rows, down->cols);
            encoder e = encode_begin(k, &(mat){.dtype = dtype, .rows = 1, .cols = down->cols, .data = want}, 0);
            assert_true(encode_row(&e, row));
            assert_memory_equal(mat_row(down, r), want, mat_row_bytes(down));
        }
        weights_memory memory;
        model_options o = {.dtype = k_asked[i], .n_threads = 1};
        assert_int_equal(model_outline(&outline, &memory, COMMUNITY "text-00002-of-00003.gguf", false, &o), PALI_OK);
        assert_int_equal(memory.block, m->weights->block_bytes);
        model_free(outline);
        model_free(m);
    }
}

/* Norms in 16 bits, names of older writers, and the tokenizer in the first part. */
static void opens_through_the_public_interface(void **state) {
    (void)state;
    pali_model *handle;
    pali_model_info info = {.struct_size = sizeof info};
    size_t n_read_only = 0;
    if (pali_model_load(&handle, COMMUNITY "text-00003-of-00003.gguf", NULL) != PALI_OK) fail_msg("%s", pali_last_error());
    assert_int_equal(pali_model_get_info(handle, &info), PALI_OK);
    assert_true(info.generation == 1 && info.has_tokenizer && info.image_token == 268 && info.vision_mlp_width == 64);
    for (size_t i = 0; i < pali_model_tensor_count(handle); i++) {
        pali_tensor_info t = {.struct_size = sizeof t};
        assert_int_equal(pali_model_get_tensor(handle, i, &t), PALI_OK);
        if (strcmp(t.name, "vision_tower.encoder.layers.0.mlp.fc1.weight") == 0) assert_true(t.dims[0] == 64 && strcmp(t.stored, "F16") == 0);
        if (strcmp(t.name, "language_model.layers.1.input_layernorm.weight") == 0) assert_string_equal(t.stored, "F16");
        if (strstr("Q5_0 Q5_1 Q2_K Q3_K Q5_K Q6_K", t.stored)) {
            assert_int_equal(t.dtype, PALI_DTYPE_Q8_0);
            n_read_only++;
        }
    }
    assert_int_equal(n_read_only, 12);
    pali_model_free(handle);
    pali_model_options o;
    pali_model_options_init(&o);
    o.mmproj_path = COMMUNITY "types.safetensors";
    assert_int_equal(pali_model_load(&handle, COMMUNITY "text-00003-of-00003.gguf", &o), PALI_ERR_FORMAT);
    assert_non_null(strstr(pali_last_error(), "types.safetensors: not a GGUF file"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(joins_text_and_vision),
        cmocka_unit_test(finds_vision_beside_a_bare_name),
        cmocka_unit_test(knows_other_names),
        cmocka_unit_test(joins_parts),
        cmocka_unit_test(names_what_is_wrong),
        cmocka_unit_test(survives_lack_of_memory),
        cmocka_unit_test(decodes_as_the_package_does),
        cmocka_unit_test(holds_them_as_8_bits),
        cmocka_unit_test(opens_through_the_public_interface),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
