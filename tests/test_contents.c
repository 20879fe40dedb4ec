/* test_contents.c: what files hold: of models that open the same as the opened model says, of others what is missing, what does not
 * fit and what is extra, with the line that opening them fails with; and the real shapes' parameters. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "checkpoint.h"
#include "golden.h"
#include "paligemma.h"

static pali_contents *contents_of(const char *path) {
    pali_contents *c;
    if (pali_contents_load(&c, path, NULL) != PALI_OK) fail_msg("%s", pali_last_error());
    return c;
}

static pali_tensor_info tensor_at(const pali_contents *c, size_t i) {
    pali_tensor_info t = {.struct_size = sizeof t};
    assert_int_equal(pali_contents_get_tensor(c, i, &t), PALI_OK);
    return t;
}

/* The index of a tensor. */
static size_t index_of(const pali_contents *c, const char *name) {
    for (size_t i = 0; i < pali_contents_tensor_count(c); i++)
        if (strcmp(tensor_at(c, i).name, name) == 0) return i;
    fail_msg("no tensor %s", name);
    return 0;
}

static size_t count_of(const pali_contents *c, pali_tensor_state state) {
    size_t n = 0;
    for (size_t i = 0; i < pali_contents_tensor_count(c); i++) n += tensor_at(c, i).state == state;
    return n;
}

/* Without reading weights, all that the opened model says. */
static void says_what_the_model_says(void **state) {
    (void)state;
    static const char *const k_more[] = {PALI_TEST_DATA "/gguf/community/text-00001-of-00003.gguf", PALI_TEST_DATA "/bnb/pg1-nf4", PALI_TEST_DATA "/bnb/pg2-int8",
                                         PALI_TEST_DATA "/bnb/pg2-nf4-skip", NULL};
    static const char k_tokenizer[] = GOLDEN_DIR "/pg1-f32/tokenizer.json"; /* some have none */
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; (pass ? k_more : k_golden_models)[i]; i++) {
            char path[512];
            pali_model *m;
            pali_model_info a = {.struct_size = sizeof a}, b = {.struct_size = sizeof b};
            (void)snprintf(path, sizeof path, "%s%s", pass ? "" : GOLDEN_DIR "/", (pass ? k_more : k_golden_models)[i]);
            pali_model_options o;
            pali_model_options_init(&o);
            o.tokenizer_path = k_tokenizer;
            if (pali_model_load(&m, path, &o) != PALI_OK) fail_msg("%s", pali_last_error());
            pali_contents *c;
            assert_int_equal(pali_contents_load(&c, path, &o), PALI_OK);
            assert_string_equal(pali_contents_problem(c), "");
            assert_int_equal(pali_model_get_info(m, &a), PALI_OK);
            assert_int_equal(pali_contents_get_info(c, &b), PALI_OK);
            assert_string_equal(a.name, b.name);
            a.name = b.name = NULL;
            assert_memory_equal(&a, &b, sizeof a);
            assert_int_equal(pali_model_tensor_count(m), pali_contents_tensor_count(c));
            for (size_t j = 0; j < pali_model_tensor_count(m); j++) {
                pali_tensor_info s = {.struct_size = sizeof s}, t = tensor_at(c, j);
                assert_int_equal(pali_model_get_tensor(m, j, &s), PALI_OK);
                assert_string_equal(s.name, t.name);
                assert_string_equal(s.file, t.file);
                assert_string_equal(s.stored, t.stored);
                assert_string_equal(t.problem, "");
                assert_true(s.dtype == t.dtype && s.n_dims == t.n_dims && s.n_bytes == t.n_bytes && s.n_bytes > 0 && t.state == PALI_TENSOR_FOUND);
                assert_memory_equal(s.dims, t.dims, sizeof s.dims);
            }
            pali_contents_free(c);
            pali_model_free(m);
        }
    }
}

/* One of each that is wrong, and all that is right beside them. */
static void lists_what_is_wrong(void **state) {
    (void)state;
    static const size_t k_dims[] = {3, 2, 2, 2, 2};
    checkpoint c;
    model *m;
    pali_model_info info = {.struct_size = sizeof info};
    checkpoint_new(&c, 2, "BF16");
    checkpoint_write_config(&c);
    checkpoint_drop(&c, "language_model.layers.1.mlp.up_proj.weight");
    checkpoint_drop(&c, "vision_tower.post_layernorm.bias");
    checkpoint_reshape(&c, "language_model.layers.0.mlp.down_proj.weight", 2, 10, 15);
    checkpoint_find(&c, "language_model.norm.weight")->dtype = "I32";
    checkpoint_add(&c, "vision_tower.vision_model.head.probe", "F32", 5, k_dims)->raw = true;
    checkpoint_add(&c, "language_model.model.layers.0.self_attn.rotary_emb.inv_freq", "F32", 1, k_dims)->raw = true; /* nobody misses it */
    checkpoint_write_shard(&c, "model.safetensors", 0, layout_a);
    assert_int_equal(checkpoint_load(&m, &c, PALI_DTYPE_AUTO), PALI_ERR_FORMAT);
    char failure[512];
    (void)snprintf(failure, sizeof failure, "%s", pali_last_error());

    pali_contents *x = contents_of(c.dir);
    assert_string_equal(pali_contents_problem(x), failure);
    assert_int_equal(pali_contents_get_info(x, &info), PALI_OK);
    assert_true(info.generation == 2 && info.image_size == 8 && !info.has_tokenizer);
    assert_int_equal(count_of(x, PALI_TENSOR_MISSING), 2);
    assert_int_equal(count_of(x, PALI_TENSOR_UNFIT), 2);
    assert_int_equal(count_of(x, PALI_TENSOR_EXTRA), 1);
    assert_int_equal(count_of(x, PALI_TENSOR_FOUND), c.n - 4);
    pali_tensor_info t = tensor_at(x, index_of(x, "language_model.layers.1.mlp.up_proj.weight"));
    assert_true(t.state == PALI_TENSOR_MISSING && t.n_dims == 2 && t.dims[0] == 14 && t.dims[1] == 10 && t.n_bytes == 0 && !*t.file && !*t.stored);
    assert_non_null(strstr(t.problem, "language_model.layers.1.mlp.up_proj.weight: tensor missing: expected one of shape [14, 10]"));
    t = tensor_at(x, index_of(x, "language_model.layers.0.mlp.down_proj.weight"));
    assert_true(t.state == PALI_TENSOR_UNFIT && t.dims[1] == 14);
    assert_non_null(strstr(t.problem, "shape [10, 15], expected [10, 14]"));
    t = tensor_at(x, index_of(x, "language_model.norm.weight"));
    assert_true(t.state == PALI_TENSOR_UNFIT && t.dtype == PALI_DTYPE_AUTO && strcmp(t.stored, "I32") == 0);
    assert_non_null(strstr(t.problem, "dtype I32 is not supported yet"));
    t = tensor_at(x, pali_contents_tensor_count(x) - 1);
    assert_string_equal(t.name, "vision_tower.vision_model.head.probe");
    assert_true(t.state == PALI_TENSOR_EXTRA && t.n_dims == 4 && t.dims[0] == 3 && t.n_bytes == 3 * 16 * 4);
    pali_contents_free(x);
    checkpoint_free(&c);
}

/* Where nothing says what the model is, everything there is is listed. */
static void lists_files_without_a_config(void **state) {
    (void)state;
    checkpoint c;
    pali_model_info info = {.struct_size = sizeof info};
    checkpoint_new(&c, 1, "F32");
    checkpoint_write_shard(&c, "model.safetensors", 0, layout_a);
    for (int i = 0; i < 2; i++) { /* no config.json, then a broken one */
        if (i) checkpoint_write_text(&c, "config.json", "{\"vision_config\":");
        pali_contents *x = contents_of(c.dir);
        assert_non_null(strstr(pali_contents_problem(x), i ? "config.json: line 1" : "config.json: cannot open"));
        assert_int_equal(pali_contents_get_info(x, &info), PALI_ERR_FORMAT);
        assert_string_equal(pali_last_error(), pali_contents_problem(x));
        assert_int_equal(count_of(x, PALI_TENSOR_EXTRA), c.n);
        assert_int_equal(pali_contents_tensor_count(x), c.n);
        pali_contents_free(x);
    }
    /* What comes after the config does not hide it: a preprocessor of another size, and no tokenizer. */
    checkpoint_write_config(&c);
    pali_contents *x = contents_of(c.dir);
    assert_non_null(strstr(pali_contents_problem(x), "found neither tokenizer.json nor tokenizer.model"));
    pali_contents_free(x);
    checkpoint_write_text(&c, "preprocessor_config.json", "{\"size\":{\"height\":448,\"width\":448}}");
    x = contents_of(c.dir);
    assert_non_null(strstr(pali_contents_problem(x), "448 x 448, but the model takes 8 x 8"));
    assert_int_equal(pali_contents_get_info(x, &info), PALI_OK);
    assert_int_equal(count_of(x, PALI_TENSOR_FOUND), c.n);
    pali_contents_free(x);
    checkpoint_free(&c);
    x = (pali_contents *)&c;
    assert_int_equal(pali_contents_load(&x, "/nowhere", NULL), PALI_ERR_IO);
    assert_null(x);
    assert_int_equal(pali_contents_load(&x, PALI_TEST_DATA "/gguf", NULL), PALI_ERR_IO); /* a directory without any of it */
}

/* What an adapter says of itself is what it turns out to be when it is opened for its model. */
static void summarizes_adapters(void **state) {
    (void)state;
    static const char *const k_names[] = {"biases", "lora_bias", "patterns", "recipe", "rslora", "saved", "tables", "text", "vision"};
    for (size_t i = 0; i < sizeof k_names / sizeof k_names[0]; i++) {
        char path[512], base[512];
        pali_model *m;
        pali_adapter *adapter;
        pali_adapter_info a = {.struct_size = sizeof a}, b = {.struct_size = sizeof b};
        pali_model_info info = {.struct_size = sizeof info};
        (void)snprintf(path, sizeof path, "%s/lora/%s", PALI_TEST_DATA, k_names[i]);
        pali_contents *c = contents_of(path);
        assert_string_equal(pali_contents_problem(c), "");
        assert_true(pali_contents_is_adapter(c));
        assert_int_equal(pali_contents_get_info(c, &info), PALI_ERR_ARGUMENT);
        assert_int_equal(pali_contents_get_adapter(c, &b), PALI_OK);
        assert_int_equal(count_of(c, PALI_TENSOR_FOUND), pali_contents_tensor_count(c));
        assert_true(b.base_model && strncmp(b.base_model, "tiny/", 5) == 0);
        (void)snprintf(base, sizeof base, "%s/%s", GOLDEN_DIR, b.base_model + 5);
        assert_int_equal(pali_model_load(&m, base, NULL), PALI_OK);
        if (pali_adapter_load(&adapter, m, path) != PALI_OK) fail_msg("%s", pali_last_error());
        assert_int_equal(pali_adapter_get_info(adapter, &a), PALI_OK);
        assert_true(a.rank_min == b.rank_min && a.rank_max == b.rank_max && a.alpha == b.alpha && a.rslora == b.rslora);
        assert_true(a.touches_vision == b.touches_vision && a.touches_text == b.touches_text);
        assert_int_equal(a.n_updated, b.n_updated);
        assert_int_equal(a.n_replaced, b.n_replaced);
        assert_int_equal(a.n_parameters, b.n_parameters);
        assert_int_equal(strlen(a.targets), strlen(b.targets)); /* the order is that of the model's layers or the file's names */
        pali_adapter_free(adapter);
        pali_model_free(m);
        pali_contents_free(c);
    }
}

/* An adapter of a kind that cannot be used is shown all the same. */
static void shows_adapters_that_do_not_open(void **state) {
    (void)state;
    static const size_t k_a[] = {2, 10}, k_b[] = {14, 2}, k_large[] = {4097, 1};
    static const char k_name[] = "base_model.model.model.language_model.layers.0.mlp.up_proj.";
    checkpoint c;
    char name[128], path[128];
    pali_adapter_info a = {.struct_size = sizeof a};
    checkpoint_new(&c, 1, "F32");
    while (c.n) checkpoint_drop(&c, c.tensors[0].name);
    for (int i = 0; i < 2; i++) {
        (void)snprintf(name, sizeof name, "%slora_%c.weight", k_name, i ? 'B' : 'A');
        checkpoint_add(&c, name, "F32", 2, i ? k_b : k_a)->raw = true;
    }
    checkpoint_write_shard(&c, "adapter_model.safetensors", 0, layout_a);
    for (int i = 0; i < 3; i++) {
        static const char *const k_problems[] = {"use_dora: DoRA is not supported", "base_model.model.odd: not a name that PEFT gives", "odd.lora_A.weight: rank 4097: expected 1 to 4096"};
        checkpoint_write_text(&c, "adapter_config.json", i ? "{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":4}" : "{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":4,\"use_dora\":true}");
        if (i) {
            checkpoint_add(&c, i == 1 ? "base_model.model.odd" : "base_model.model.odd.lora_A.weight", "F32", 2, k_large)->raw = true;
            checkpoint_write_shard(&c, "adapter_model.safetensors", 0, layout_a);
            if (i == 1) checkpoint_drop(&c, "base_model.model.odd");
        }
        pali_contents *x = contents_of(c.dir);
        if (!strstr(pali_contents_problem(x), k_problems[i])) fail_msg("'%s' lacks '%s'", pali_contents_problem(x), k_problems[i]);
        assert_true(pali_contents_is_adapter(x));
        assert_int_equal(pali_contents_tensor_count(x), i ? 3 : 2);
        assert_int_equal(pali_contents_get_adapter(x, &a), PALI_OK);
        if (!i) assert_true(a.rank_max == 2 && a.n_updated == 1 && a.n_parameters == 48 && strcmp(a.targets, "up_proj") == 0);
        pali_contents_free(x);
    }
    checkpoint_path(path, sizeof path, &c, "adapter_model.safetensors");
    assert_int_equal(unlink(path), 0);
    pali_contents *x;
    assert_int_equal(pali_contents_load(&x, c.dir, NULL), PALI_ERR_IO);
    assert_non_null(strstr(pali_last_error(), "adapter_model.safetensors"));
    checkpoint_free(&c);
}

/* Spec 1.2, of tables padded to 257,216 rows. */
static void counts_the_real_parameters(void **state) {
    (void)state;
    static const struct {
        const char *shape;
        uint64_t n;
    } k_models[] = {{"3b-224", 2923466480}, {"3b-448", 2924351216}, {"3b-896", 2927890160}, {"pg2-3b-448", 3033127152}, {"pg2-3b-896", 3036666096},
                    {"pg2-10b-224", 9662638832}, {"pg2-10b-448", 9663523568}, {"pg2-10b-896", 9667062512}, {"pg2-28b-224", 27650487024}, {"pg2-28b-448", 27651371760}};
    for (size_t i = 0; i < sizeof k_models / sizeof k_models[0]; i++) {
        pali_contents *c;
        pali_model_info info = {.struct_size = sizeof info};
        uint64_t n_listed = 0, n_bytes = 0;
        assert_int_equal(pali_contents_random(&c, k_models[i].shape, NULL), PALI_OK);
        assert_int_equal(pali_contents_get_info(c, &info), PALI_OK);
        for (size_t j = 0; j < pali_contents_tensor_count(c); j++) {
            pali_tensor_info t = tensor_at(c, j);
            uint64_t n = 1;
            for (int32_t d = 0; d < t.n_dims; d++) n *= t.dims[d];
            n_listed += n;
            n_bytes += t.n_bytes;
        }
        assert_true(info.n_parameters == k_models[i].n && n_listed == k_models[i].n && n_bytes == info.weight_bytes);
        pali_contents_free(c);
    }
    pali_contents *c;
    assert_int_equal(pali_contents_random(&c, "3b-225", NULL), PALI_ERR_ARGUMENT);
    assert_null(c);
}

static void survives_lack_of_memory(void **state) {
    (void)state;
    checkpoint c;
    checkpoint_new(&c, 1, "F32");
    checkpoint_write_config(&c);
    checkpoint_drop(&c, "vision_tower.post_layernorm.bias");
    checkpoint_write_shard(&c, "model.safetensors", 0, layout_a);
    pali_status s = PALI_ERR_MEMORY;
    size_t k = 0;
    while (s != PALI_OK) {
        pali_contents *x;
        mem_fail_after(++k);
        s = pali_contents_load(&x, c.dir, NULL);
        mem_fail_after(0);
        assert_true(!x == (s != PALI_OK));
        if (s == PALI_OK) assert_non_null(strstr(pali_contents_problem(x), "post_layernorm.bias: tensor missing"));
        pali_contents_free(x);
    }
    assert_true(k > 20);
    checkpoint_free(&c);
}

static void checks_arguments(void **state) {
    (void)state;
    pali_contents *c;
    pali_tensor_info t = {.struct_size = sizeof t};
    pali_model_info info = {.struct_size = 3};
    assert_int_equal(pali_contents_load(NULL, "x", NULL), PALI_ERR_ARGUMENT);
    assert_int_equal(pali_contents_load(&c, NULL, NULL), PALI_ERR_ARGUMENT);
    assert_int_equal(pali_contents_random(NULL, "3b-224", NULL), PALI_ERR_ARGUMENT);
    assert_int_equal(pali_contents_random(&c, NULL, NULL), PALI_ERR_ARGUMENT);
    pali_adapter_info adapter = {.struct_size = sizeof adapter};
    assert_int_equal(pali_contents_get_adapter(NULL, &adapter), PALI_ERR_ARGUMENT);
    assert_false(pali_contents_is_adapter(NULL));
    assert_int_equal(pali_contents_get_info(NULL, &info), PALI_ERR_ARGUMENT);
    assert_int_equal(pali_contents_get_tensor(NULL, 0, &t), PALI_ERR_ARGUMENT);
    assert_int_equal(pali_contents_tensor_count(NULL), 0);
    assert_string_equal(pali_contents_problem(NULL), "");
    pali_contents_free(NULL);
    assert_int_equal(pali_contents_random(&c, "3b-224", NULL), PALI_OK);
    assert_int_equal(pali_contents_get_info(c, &info), PALI_ERR_ARGUMENT);
    assert_int_equal(pali_contents_get_info(c, NULL), PALI_ERR_ARGUMENT);
    assert_int_equal(pali_contents_get_adapter(c, &adapter), PALI_ERR_ARGUMENT);
    assert_int_equal(pali_contents_get_tensor(c, pali_contents_tensor_count(c), &t), PALI_ERR_ARGUMENT);
    pali_contents_free(c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(says_what_the_model_says),
        cmocka_unit_test(lists_what_is_wrong),
        cmocka_unit_test(lists_files_without_a_config),
        cmocka_unit_test(summarizes_adapters),
        cmocka_unit_test(shows_adapters_that_do_not_open),
        cmocka_unit_test(counts_the_real_parameters),
        cmocka_unit_test(survives_lack_of_memory),
        cmocka_unit_test(checks_arguments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
