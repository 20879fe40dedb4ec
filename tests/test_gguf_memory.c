/* test_gguf_memory.c: a model whose .gguf file lies in the caller's memory is the model of that file: its tensors, its tokenizer, its
 * answers, what contents and plans say; the caller's bytes are read and nothing else, whatever is done with the model; and a file
 * system that has something under the model's name is not asked. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "api/handles.h"
#include "base/file.h"
#include "golden.h"
#include "paligemma.h"
#include "same_model.h"

#define PAGE 4096u
#define NAME "a file in memory"

static char g_dir[] = "/tmp/test_gguf_memory_XXXXXX";
static char g_path[128];
static uint8_t *g_bytes, *g_copy; /* on pages of their own, which a system call could empty */
static size_t g_n;

static pali_model_options options_of(const uint8_t *bytes, size_t n_bytes) {
    pali_model_options o;
    pali_model_options_init(&o);
    o.n_threads = 2;
    o.gguf = bytes;
    o.n_gguf_bytes = n_bytes;
    return o;
}

static pali_model *opened(const char *path, const pali_model_options *o) {
    pali_model *m;
    if (pali_model_load(&m, path, o) != PALI_OK) fail_msg("%s", pali_last_error());
    return m;
}

static int group_setup(void **state) {
    (void)state;
    file_map map;
    assert_non_null(mkdtemp(g_dir));
    (void)snprintf(g_path, sizeof g_path, "%s/model.gguf", g_dir);
    pali_model *m = opened(GOLDEN_DIR "/pg1-f32", NULL);
    assert_int_equal(pali_model_save(m, g_path, NULL), PALI_OK);
    pali_model_free(m);
    assert_int_equal(file_map_open(&map, g_path), PALI_OK);
    g_n = map.n_bytes;
    size_t whole = (g_n + PAGE - 1) / PAGE * PAGE;
    g_bytes = aligned_alloc(PAGE, whole);
    g_copy = aligned_alloc(PAGE, whole);
    assert_true(g_bytes && g_copy);
    memcpy(g_bytes, map.data, g_n);
    memcpy(g_copy, map.data, g_n);
    file_map_close(&map);
    return 0;
}

static int group_teardown(void **state) {
    (void)state;
    free(g_bytes);
    free(g_copy);
    return unlink(g_path) || rmdir(g_dir);
}

/* The answer's text, for the caller to free. */
static char *answer_of(pali_model *m) {
    pali_session *run;
    pali_image *picture;
    pali_result *answer;
    pali_generate_options o;
    pali_sequence first = {.struct_size = sizeof first};
    pali_generate_options_init(&o);
    o.max_tokens = 12;
    o.ignore_eos = 1;
    assert_int_equal(pali_session_new(&run, m, NULL), PALI_OK);
    assert_int_equal(pali_image_load(&picture, GOLDEN_DIR "/images/landscape.jpg"), PALI_OK);
    const pali_image *pictures[] = {picture};
    assert_int_equal(pali_generate(run, pictures, 1, "cat <loc0010>", &o, &answer), PALI_OK);
    assert_int_equal(pali_result_get(answer, 0, &first), PALI_OK);
    assert_int_equal(first.n_tokens, 12);
    char *text = strdup(first.text);
    pali_result_free(answer);
    pali_image_free(picture);
    pali_session_free(run);
    return text;
}

static void is_the_model_of_the_file(void **state) {
    (void)state;
    pali_model_options o = options_of(g_bytes, g_n);
    pali_model *a = opened(g_path, NULL), *b = opened(NAME, &o);
    assert_same_config(&a->m->cfg, &b->m->cfg);
    assert_same_model(a->m, b->m);
    char *x = answer_of(a), *y = answer_of(b);
    assert_true(strlen(x) > 3);
    assert_string_equal(x, y);
    free(x);
    free(y);
    pali_model_free(a);
    pali_model_free(b);
}

static void uses_weights_where_they_lie(void **state) {
    (void)state;
    pali_model_options o = options_of(g_bytes, g_n);
    pali_model *m = opened(NAME, &o);
    const uint8_t *data = m->m->text.embed.data;
    assert_true(data >= g_bytes && data < g_bytes + g_n);
    pali_model_free(m);
}

/* Conversion and saving let go of a file's pages; of the caller's that would be the end. */
static void leaves_the_bytes_alone(void **state) {
    (void)state;
    static const char *const k_names[] = {"out.gguf", "out.npz", "out"};
    for (size_t i = 0; i < sizeof k_names / sizeof *k_names; i++) {
        char path[160], command[200];
        pali_model_options o = options_of(g_bytes, g_n);
        o.dtype = PALI_DTYPE_BF16;
        pali_model_free(opened(NAME, &o));
        assert_memory_equal(g_bytes, g_copy, g_n);
        o.dtype = PALI_DTYPE_AUTO;
        o.no_prefault = 1;
        pali_model *m = opened(NAME, &o);
        pali_save_options save;
        pali_save_options_init(&save);
        save.dtype = i ? PALI_DTYPE_AUTO : PALI_DTYPE_Q8_0;
        (void)snprintf(path, sizeof path, "%s/%s", g_dir, k_names[i]);
        if (pali_model_save(m, path, &save) != PALI_OK) fail_msg("%s", pali_last_error());
        pali_model_free(m);
        assert_memory_equal(g_bytes, g_copy, g_n);
        (void)snprintf(command, sizeof command, "rm -r %s", path);
        assert_int_equal(system(command), 0);
    }
}

static void contents_and_plans_know_it(void **state) {
    (void)state;
    pali_model_options o = options_of(g_bytes, g_n);
    pali_contents *c;
    pali_model_info a = {.struct_size = sizeof a}, b = {.struct_size = sizeof b};
    pali_memory_request r;
    pali_memory_plan p = {.struct_size = sizeof p}, q = {.struct_size = sizeof q};
    pali_memory_request_init(&r);
    assert_int_equal(pali_memory_plan_load(&p, g_path, &r), PALI_OK);
    r.model = &o;
    assert_int_equal(pali_memory_plan_load(&q, NAME, &r), PALI_OK);
    assert_int_equal(p.total, q.total);
    pali_model *m = opened(g_path, NULL);
    assert_int_equal(pali_model_get_info(m, &a), PALI_OK);
    assert_int_equal(pali_contents_load(&c, NAME, &o), PALI_OK);
    assert_string_equal(pali_contents_problem(c), "");
    assert_int_equal(pali_contents_get_info(c, &b), PALI_OK);
    assert_string_equal(a.name, b.name);
    assert_true(a.n_parameters == b.n_parameters && a.weight_bytes == b.weight_bytes && b.has_tokenizer);
    pali_contents_free(c);
    pali_model_free(m);
}

/* Neither a directory nor a file of the model's name matters, but a tokenizer that was asked for does. */
static void looks_for_no_file(void **state) {
    (void)state;
    pali_model_options o = options_of(g_bytes, g_n);
    pali_model *m = opened(GOLDEN_DIR "/pg2-f32", &o);
    assert_int_equal(m->m->cfg.text.generation, 1);
    char path[160], command[200];
    pali_model *again;
    (void)snprintf(path, sizeof path, "%s/out", g_dir);
    assert_int_equal(pali_model_save(m, path, NULL), PALI_OK); /* does not take the files of that directory along */
    again = opened(path, NULL);
    assert_same_config(&m->m->cfg, &again->m->cfg);
    pali_model_free(again);
    pali_model_free(m);
    (void)snprintf(command, sizeof command, "rm -r %s", path);
    assert_int_equal(system(command), 0);
    pali_contents *c;
    assert_int_equal(pali_contents_load(&c, PALI_TEST_DATA "/lora/text", &o), PALI_OK);
    assert_int_equal(pali_contents_is_adapter(c), 0);
    pali_contents_free(c);
    o.tokenizer_path = "/nowhere/tokenizer.json";
    assert_int_equal(pali_model_load(&m, NAME, &o), PALI_ERR_IO);
    assert_non_null(strstr(pali_last_error(), "/nowhere/tokenizer.json"));
}

static void refuses_what_is_no_whole_file(void **state) {
    (void)state;
    pali_model *m;
    pali_contents *c;
    for (size_t n = 0; n < g_n; n += n < 64 ? 1 : g_n / 97) {
        uint8_t *cut = malloc(n + !n); /* of its very size, for a sanitizer to see steps past it */
        memcpy(cut, g_bytes, n);
        pali_model_options o = options_of(cut, n);
        assert_int_equal(pali_model_load(&m, NAME, &o), PALI_ERR_FORMAT);
        assert_null(m);
        assert_int_equal(strncmp(pali_last_error(), NAME ": ", strlen(NAME) + 2), 0);
        assert_int_equal(pali_contents_load(&c, GOLDEN_DIR "/pg1-f32", &o), PALI_ERR_FORMAT); /* nor does it go to that directory */
        free(cut);
    }
    file_map part;
    assert_int_equal(file_map_open(&part, PALI_TEST_DATA "/gguf/community/text-00001-of-00003.gguf"), PALI_OK);
    pali_model_options o = options_of(part.data, part.n_bytes);
    assert_int_equal(pali_model_load(&m, NAME, &o), PALI_ERR_UNSUPPORTED);
    assert_non_null(strstr(pali_last_error(), "a file in memory must be whole"));
    file_map_close(&part);
}

static void parses_a_mask_codec(void **state) {
    (void)state;
    file_map map;
    pali_mask_codec *a, *b;
    int32_t codes[PALI_MASK_CODES];
    static float masks[2][PALI_MASK_SIDE * PALI_MASK_SIDE];
    for (int32_t i = 0; i < PALI_MASK_CODES; i++) codes[i] = 7 * i;
    assert_int_equal(file_map_open(&map, PALI_TEST_DATA "/codec/narrow.npz"), PALI_OK);
    assert_int_equal(pali_mask_codec_load(&a, PALI_TEST_DATA "/codec/narrow.npz"), PALI_OK);
    assert_int_equal(pali_mask_codec_parse(&b, map.data, map.n_bytes, NAME), PALI_OK);
    assert_int_equal(pali_mask_codec_decode(a, codes, masks[0]), PALI_OK);
    pali_mask_codec_free(a);
    assert_int_equal(pali_mask_codec_parse(&a, map.data, map.n_bytes / 2, NAME), PALI_ERR_FORMAT);
    assert_non_null(strstr(pali_last_error(), NAME));
    assert_int_equal(pali_mask_codec_parse(&a, NULL, 0, NAME), PALI_ERR_ARGUMENT);
    file_map_close(&map); /* the codec needs it no more */
    assert_int_equal(pali_mask_codec_decode(b, codes, masks[1]), PALI_OK);
    assert_memory_equal(masks[0], masks[1], sizeof masks[0]);
    pali_mask_codec_free(b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(is_the_model_of_the_file),
        cmocka_unit_test(uses_weights_where_they_lie),
        cmocka_unit_test(leaves_the_bytes_alone),
        cmocka_unit_test(contents_and_plans_know_it),
        cmocka_unit_test(looks_for_no_file),
        cmocka_unit_test(refuses_what_is_no_whole_file),
        cmocka_unit_test(parses_a_mask_codec),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
