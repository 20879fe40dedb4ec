/* test_adapter_files.c: what an adapter's files may be. Regular expressions as Python reads them (tests/golden/lora/patterns.json),
 * broken and refused adapters (one line that names the file and what is wrong), and the parameters of the usual recipe on the real
 * shape. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "adapter_dir.h"
#include "golden.h"
#include "io/pattern.h"
#include "model/view.h"
#include "paligemma.h"

#define LORA PALI_TEST_DATA "/lora/"

static void check(pali_status status) {
    if (status != PALI_OK) fail_msg("%s: %s", pali_status_name(status), pali_last_error());
}

/* ---- Patterns ---- */

/* What we take to be a pattern must match as in Python; what Python refuses must be refused. Our own refusals are those of the
 * constructs that pattern.h leaves out. */
static void test_patterns(void **unused) {
    (void)unused;
    json_error_t error;
    json_t *list = json_load_file(LORA "patterns.json", 0, &error);
    size_t n_matches = 0, n_refused = 0, n_left_out = 0;
    assert_non_null(list);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *c = json_array_get(list, i);
        const char *text = json_string_value(json_array_get(c, 0)), *subject = json_string_value(json_array_get(c, 1));
        int expected = (int)json_integer_value(json_array_get(c, 2));
        pattern *p;
        pali_status s = pattern_new(&p, text, "test");
        if (s == PALI_ERR_UNSUPPORTED) {
            bool escapes = strstr(text, "\\1") || strstr(text, "\\b");
            bool left_out = strstr(pali_last_error(), "possessive") || strstr(pali_last_error(), "(? )") || (escapes && strstr(pali_last_error(), "escape"));
            if (expected >= 0 && !left_out) fail_msg("%s: %s", text, pali_last_error());
            n_left_out++;
            continue;
        }
        if ((s != PALI_OK) != (expected < 0)) fail_msg("%s: Python says %d, we: %s", text, expected, s == PALI_OK ? "fine" : pali_last_error());
        n_refused += s != PALI_OK;
        if (s != PALI_OK) continue;
        size_t work = 1000000;
        bool matches = pattern_matches(p, subject, &work);
        if (matches != (expected == 1)) fail_msg("%s on '%s': Python says %d, we %d", text, subject, expected, matches);
        n_matches += matches;
        pattern_free(p);
    }
    assert_true(n_matches > 200 && n_refused > 50 && n_left_out > 10);
    json_decref(list);
}

/* Patterns that take a backtracking matcher longer than anybody waits; and the limits. */
static void test_pattern_cost(void **unused) {
    (void)unused;
    static const char *const k_slow[] = {"(a*)*b", "(a|a)*b", "((a+)+)+b", "(a?){30}a{30}b", "(.*a){20}b", "(a|ab|abc)*(b|c)*d"};
    char subject[200], *text;
    memset(subject, 'a', sizeof subject - 1);
    subject[sizeof subject - 1] = 0;
    for (size_t i = 0; i < sizeof k_slow / sizeof *k_slow; i++) {
        pattern *p;
        size_t work = 10000000, few = 100;
        check(pattern_new(&p, k_slow[i], "test"));
        assert_false(pattern_matches(p, subject, &work));
        assert_true(10000000 - work <= 200 * 2 * pattern_n_states(p));
        assert_false(pattern_matches(p, subject, &few));
        assert_int_equal(few, 0);
        pattern_free(p);
    }
    static const char *const k_large[] = {"(a{100}){100}", "a{5000}", "a{1,99999999999999999999}", "(((a{20}){20}){20})"};
    for (size_t i = 0; i < sizeof k_large / sizeof *k_large; i++) {
        pattern *p;
        assert_int_equal(pattern_new(&p, k_large[i], "test"), PALI_ERR_LIMIT);
        assert_null(p);
    }
    text = malloc(2100);
    assert_non_null(text);
    memset(text, '(', 1050);
    memset(text + 1050, ')', 1049);
    text[2099] = 0;
    pattern *p;
    assert_int_equal(pattern_new(&p, text, "test"), PALI_ERR_LIMIT); /* too long */
    memset(text + 100, ')', 100);
    text[200] = 0;
    assert_int_equal(pattern_new(&p, text, "test"), PALI_ERR_LIMIT); /* too deep */
    free(text);
}

/* ---- Broken adapters ---- */

#define Q "base_model.model.model.language_model.layers.0.self_attn.q_proj"
#define GOOD_A {Q ".lora_A.weight", "F32", {2, 44}, 2, 0.1f, NULL}
#define GOOD_B {Q ".lora_B.weight", "F32", {64, 2}, 2, 0.1f, NULL}
#define CONFIG(more) "{\"peft_type\": \"LORA\", \"r\": 2" more "}"

static const struct {
    const char *config; /* NULL: an adapter in order */
    adapter_tensor tensors[3];
    pali_status status;
    const char *says;
} k_broken[] = {
    /* The config */
    {"", {GOOD_A, GOOD_B}, PALI_ERR_FORMAT, "adapter_config.json: line 1"},
    {"[]", {GOOD_A, GOOD_B}, PALI_ERR_FORMAT, "expected an object"},
    {"{\"peft_type\": \"LORA\", \"r\": 2", {GOOD_A, GOOD_B}, PALI_ERR_FORMAT, "adapter_config.json"},
    {"{\"r\": 2}", {GOOD_A, GOOD_B}, PALI_ERR_FORMAT, "peft_type: missing"},
    {"{\"peft_type\": \"IA3\"}", {GOOD_A, GOOD_B}, PALI_ERR_UNSUPPORTED, "peft_type: IA3"},
    {"{\"peft_type\": 3}", {GOOD_A, GOOD_B}, PALI_ERR_FORMAT, "peft_type: expected a string"},
    {"{\"peft_type\": \"LORA\", \"r\": 0}", {GOOD_A, GOOD_B}, PALI_ERR_FORMAT, "r: 0 is not between 1 and 4096"},
    {"{\"peft_type\": \"LORA\", \"r\": -1}", {GOOD_A, GOOD_B}, PALI_ERR_FORMAT, "r: -1"},
    {"{\"peft_type\": \"LORA\", \"r\": 1e9}", {GOOD_A, GOOD_B}, PALI_ERR_FORMAT, "r: expected a whole number"},
    {"{\"peft_type\": \"LORA\", \"r\": 99999999999999}", {GOOD_A, GOOD_B}, PALI_ERR_FORMAT, "r: 99999999999999"},
    {CONFIG(", \"lora_alpha\": NaN"), {GOOD_A, GOOD_B}, PALI_ERR_FORMAT, "adapter_config.json: line 1"},
    {CONFIG(", \"lora_alpha\": 1e300"), {GOOD_A, GOOD_B}, PALI_ERR_FORMAT, "lora_alpha"},
    {CONFIG(", \"lora_alpha\": \"8\""), {GOOD_A, GOOD_B}, PALI_ERR_FORMAT, "lora_alpha"},
    {CONFIG(", \"use_rslora\": 1"), {GOOD_A, GOOD_B}, PALI_ERR_FORMAT, "use_rslora"},
    {CONFIG(", \"use_dora\": true"), {GOOD_A, GOOD_B}, PALI_ERR_UNSUPPORTED, "use_dora: DoRA is not supported"},
    {CONFIG(", \"init_lora_weights\": \"pissa_niter_4\""), {GOOD_A, GOOD_B}, PALI_ERR_UNSUPPORTED, "pissa_niter_4 changes the base's weights"},
    {CONFIG(", \"init_lora_weights\": \"loftq\""), {GOOD_A, GOOD_B}, PALI_ERR_UNSUPPORTED, "loftq"},
    {CONFIG(", \"init_lora_weights\": \"magic\""), {GOOD_A, GOOD_B}, PALI_ERR_UNSUPPORTED, "'magic' is not known"},
    {CONFIG(", \"layer_replication\": [[0, 2]]"), {GOOD_A, GOOD_B}, PALI_ERR_UNSUPPORTED, "layer_replication"},
    {CONFIG(", \"trainable_token_indices\": [7]"), {GOOD_A, GOOD_B}, PALI_ERR_UNSUPPORTED, "trainable_token_indices"},
    {CONFIG(", \"target_parameters\": [\"x\"]"), {GOOD_A, GOOD_B}, PALI_ERR_UNSUPPORTED, "target_parameters"},
    {CONFIG(", \"alora_invocation_tokens\": [1]"), {GOOD_A, GOOD_B}, PALI_ERR_UNSUPPORTED, "alora_invocation_tokens"},
    {CONFIG(", \"use_bdlora\": {\"target_modules_bd_a\": []}"), {GOOD_A, GOOD_B}, PALI_ERR_UNSUPPORTED, "use_bdlora"},
    {CONFIG(", \"bias\": \"some\""), {GOOD_A, GOOD_B}, PALI_ERR_FORMAT, "bias: 'some'"},
    {CONFIG(", \"modules_to_save\": \"norm\""), {GOOD_A, GOOD_B}, PALI_ERR_FORMAT, "modules_to_save: expected a list"},
    {CONFIG(", \"modules_to_save\": [1]"), {GOOD_A, GOOD_B}, PALI_ERR_FORMAT, "modules_to_save: expected a list"},
    {CONFIG(", \"rank_pattern\": {\"q_proj\": 0}"), {GOOD_A, GOOD_B}, PALI_ERR_FORMAT, "rank_pattern: q_proj"},
    {CONFIG(", \"rank_pattern\": [2]"), {GOOD_A, GOOD_B}, PALI_ERR_FORMAT, "rank_pattern: expected an object"},
    {CONFIG(", \"alpha_pattern\": {\"q_proj\": null}"), {GOOD_A, GOOD_B}, PALI_ERR_FORMAT, "alpha_pattern: q_proj"},
    {CONFIG(", \"alpha_pattern\": {\"q_proj(\": 1}"), {GOOD_A, GOOD_B}, PALI_ERR_FORMAT, "expected )"},
    {CONFIG(", \"alpha_pattern\": {\"(?<=x)q_proj\": 1}"), {GOOD_A, GOOD_B}, PALI_ERR_UNSUPPORTED, "not supported"},
    {CONFIG(", \"alpha_pattern\": {\"(a{200}){200}\": 1}"), {GOOD_A, GOOD_B}, PALI_ERR_LIMIT, "states"},
    /* The tensors */
    {NULL, {GOOD_A}, PALI_ERR_FORMAT, "q_proj.lora_A.weight: its lora_B is missing"},
    {NULL, {GOOD_B}, PALI_ERR_FORMAT, "q_proj.lora_B.weight: its lora_A is missing"},
    {NULL, {{Q ".lora_A.weight", "F32", {3, 44}, 2, 0, NULL}, {Q ".lora_B.weight", "F32", {64, 3}, 2, 0, NULL}}, PALI_ERR_FORMAT, "rank 3, but"},
    {NULL, {GOOD_A, {Q ".lora_B.weight", "F32", {64, 3}, 2, 0, NULL}}, PALI_ERR_FORMAT, "does not fit a matrix [64, 44]"},
    {NULL, {{Q ".lora_A.weight", "F32", {2, 45}, 2, 0, NULL}, GOOD_B}, PALI_ERR_FORMAT, "does not fit a matrix [64, 44]"},
    {NULL, {{Q ".lora_A.weight", "F32", {2, 4, 11}, 3, 0, NULL}, GOOD_B}, PALI_ERR_FORMAT, "does not fit"},
    {NULL, {{Q ".lora_A.weight", "F32", {0}, 0, 0, NULL}, GOOD_B}, PALI_ERR_FORMAT, "rank 0, but"},
    {NULL, {{Q ".lora_A.weight", "F32", {2, 0}, 2, 0, NULL}, GOOD_B}, PALI_ERR_FORMAT, "does not fit"},
    {NULL, {{Q ".lora_A.weight", "I64", {2, 44}, 2, 0, NULL}, GOOD_B}, PALI_ERR_UNSUPPORTED, "dtype I64"},
    {NULL, {{Q ".lora_A.weight", "F32", {2, 44}, 2, __builtin_nanf(""), NULL}, GOOD_B}, PALI_ERR_FORMAT, "not a finite number"},
    {NULL, {GOOD_A, {Q ".lora_B.weight", "F32", {64, 2}, 2, -__builtin_inff(), NULL}}, PALI_ERR_FORMAT, "q_proj.lora_B.weight: a value is not a finite number"},
    {NULL, {GOOD_A, GOOD_B, {"model.language_model.layers.0.self_attn.q_proj.lora_A.weight", "F32", {2, 44}, 2, 0, NULL}}, PALI_ERR_FORMAT, "twice"},
    {NULL, {{"base_model.model.model.language_model.layers.9.self_attn.q_proj.lora_A.weight", "F32", {2, 44}, 2, 0, NULL}}, PALI_ERR_FORMAT,
     "layers.9.self_attn.q_proj.lora_A.weight: the model has nothing of this name"},
    {NULL, {{"base_model.model.audio_tower.q_proj.lora_A.weight", "F32", {2, 44}, 2, 0, NULL}}, PALI_ERR_FORMAT, "audio_tower"},
    {NULL, {GOOD_A, GOOD_B, {Q ".lora_magnitude_vector", "F32", {64}, 1, 0, NULL}}, PALI_ERR_UNSUPPORTED, "DoRA"},
    {NULL, {GOOD_A, GOOD_B, {Q ".lora_C.weight", "F32", {2, 2}, 2, 0, NULL}}, PALI_ERR_FORMAT, "lora_C"},
    {NULL, {GOOD_A, GOOD_B, {"prompt_embeddings", "F32", {2, 2}, 2, 0, NULL}}, PALI_ERR_FORMAT, "not a name that PEFT gives"},
    {NULL, {GOOD_A, GOOD_B, {Q ".lora_B.bias", "F32", {63}, 1, 0, NULL}}, PALI_ERR_FORMAT, "its shape does not fit"},
    {NULL, {{Q ".lora_B.bias", "F32", {64}, 1, 0, NULL}}, PALI_ERR_FORMAT, "lora_A and lora_B are missing"},
    {NULL, {{Q ".lora_embedding_A", "F32", {2, 44}, 2, 0, NULL}, {Q ".lora_embedding_B", "F32", {64, 2}, 2, 0, NULL}}, PALI_ERR_FORMAT, "not a table of embeddings"},
    {NULL, {{"base_model.model.model.language_model.embed_tokens.lora_A.weight", "F32", {2, 44}, 2, 0, NULL},
            {"base_model.model.model.language_model.embed_tokens.lora_B.weight", "F32", {1488, 2}, 2, 0, NULL}}, PALI_ERR_FORMAT, "expected lora_embedding_A"},
    {NULL, {{"base_model.model.model.vision_tower.embeddings.position_embedding.lora_A.weight", "F32", {2, 36}, 2, 0, NULL},
            {"base_model.model.model.vision_tower.embeddings.position_embedding.lora_B.weight", "F32", {16, 2}, 2, 0, NULL}}, PALI_ERR_FORMAT, "updates of this tensor are not supported"},
    {NULL, {{"base_model.model.model.multi_modal_projector.linear.weight", "F32", {44, 35}, 2, 0, NULL}}, PALI_ERR_FORMAT, "its shape is not that of the model's"},
    {NULL, {{"base_model.model.model.multi_modal_projector.linear.bias", "F32", {44, 1}, 2, 0, NULL}}, PALI_ERR_FORMAT, "its shape is not that of the model's"},
    {NULL, {{"base_model.model.model.language_model.embed_tokens.weight", "F32", {1490, 44}, 2, 0, NULL}}, PALI_ERR_FORMAT, "its shape is not that of the model's"},
    {NULL, {{"base_model.model.model.language_model.embed_tokens.base_layer.weight", "F32", {1488, 44}, 2, 0, NULL},
            {"base_model.model.model.language_model.embed_tokens.weight", "F32", {1488, 44}, 2, 0, NULL}}, PALI_ERR_FORMAT, "weights of its own and of the base at once"},
};

static void test_broken(void **unused) {
    (void)unused;
    model *m;
    const model_options o = {.n_threads = 1};
    check(model_load(&m, GOLDEN_DIR "/pg1-f32", &o));
    for (size_t i = 0; i < sizeof k_broken / sizeof *k_broken; i++) {
        size_t n = 0;
        adapter *a;
        while (n < 3 && k_broken[i].tensors[n].name) n++;
        adapter_dir d = adapter_dir_new(k_broken[i].config ? k_broken[i].config : CONFIG(""), k_broken[i].tensors, n);
        pali_status s = adapter_open(&a, d.path, m, false);
        if (s != k_broken[i].status || !strstr(pali_last_error(), k_broken[i].says) || !strstr(pali_last_error(), d.path))
            fail_msg("case %zu: %s, \"%s\"; expected %s, \"%s\"", i, pali_status_name(s), s == PALI_OK ? "" : pali_last_error(), pali_status_name(k_broken[i].status), k_broken[i].says);
        assert_null(a);
        adapter_dir_free(&d);
    }
    /* The one in order, without which the others prove nothing. */
    const adapter_tensor good[] = {GOOD_A, GOOD_B};
    adapter *a;
    adapter_dir d = adapter_dir_new(CONFIG(", \"lora_alpha\": 3, \"fan_in_fan_out\": true, \"unheard_of\": 1"), good, 2);
    check(adapter_open(&a, d.path, m, false));
    assert_true(a->n_updated == 1 && a->n_parameters == 2 * 44 + 64 * 2 && a->touches_text && !a->touches_vision);
    adapter_free(a);

    /* Files: none, a pickle, half of one, none of its tensors ours. */
    char path[128];
    (void)snprintf(path, sizeof path, "%s/adapter_model.safetensors", d.path);
    assert_int_equal(truncate(path, 300), 0);
    assert_int_equal(adapter_open(&a, d.path, m, false), PALI_ERR_FORMAT);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(adapter_open(&a, d.path, m, false), PALI_ERR_IO);
    (void)snprintf(path, sizeof path, "%s/adapter_model.bin", d.path);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(adapter_open(&a, d.path, m, false), PALI_ERR_UNSUPPORTED);
    assert_non_null(strstr(pali_last_error(), "pickle"));
    adapter_dir_free(&d);
    d = adapter_dir_new(CONFIG(""), good, 0);
    assert_int_equal(adapter_open(&a, d.path, m, false), PALI_ERR_FORMAT);
    assert_non_null(strstr(pali_last_error(), "no tensors"));
    adapter_dir_free(&d);
    d = adapter_dir_new(NULL, good, 2);
    assert_int_equal(adapter_open(&a, d.path, m, false), PALI_ERR_IO);
    assert_non_null(strstr(pali_last_error(), "no adapter_config.json"));
    adapter_dir_free(&d);
    model_free(m);
}

/* Patterns that are too costly together, each within its limits. */
static void test_pattern_budget(void **unused) {
    (void)unused;
    char *text, name[64];
    adapter_config c;
    size_t rank, length, n = 60;
    double alpha;
    FILE *f = open_memstream(&text, &length);
    assert_non_null(f);
    fprintf(f, "{\"peft_type\": \"LORA\", \"alpha_pattern\": {");
    for (size_t i = 0; i < n; i++) fprintf(f, "%s\"((.?){40}){40}%zuz\": 1", i ? "," : "", i);
    fprintf(f, "}}");
    assert_int_equal(fclose(f), 0);
    check(adapter_config_parse(&c, text, length, "test"));
    pali_status s = PALI_OK;
    for (size_t i = 0; i < 2000 && s == PALI_OK; i++) {
        (void)snprintf(name, sizeof name, "model.language_model.layers.%zu.self_attn.q_proj", i);
        s = adapter_config_module(&c, name, &rank, &alpha, "test");
    }
    assert_int_equal(s, PALI_ERR_LIMIT);
    assert_non_null(strstr(pali_last_error(), "takes too long"));
    adapter_config_free(&c);
    free(text);
}

/* ---- The usual recipe on the real shape ---- */

/* r = 8 on every module whose name ends with one of the seven: 414 matrices, 9,805,824 parameters in the text model and 1,492,992 in
 * the tower, whose q, k and v are called so too (training 3). The adapter is as large as a real one, but a hole. */
static void test_recipe_count(void **unused) {
    (void)unused;
    static const char *const k_seven[] = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"};
    model *m;
    weights_memory memory;
    adapter *a;
    size_t n = 0;
    const model_options o = {.n_threads = 1};
    check(model_outline(&m, &memory, "3b-224", true, &o));
    adapter_tensor *tensors = calloc(2 * m->spec.n, sizeof *tensors);
    char(*names)[256] = calloc(2 * m->spec.n, sizeof *names);
    assert_true(tensors && names);
    for (size_t only_text = 0; only_text < 2; only_text++) {
        n = 0;
        for (size_t i = 0; i < m->spec.n; i++) {
            const spec_tensor *t = &m->spec.tensors[i];
            const size_t length = strlen(t->name) - strlen(".weight");
            if (!t->matrix || (only_text && t->group == SPEC_IMG)) continue;
            for (size_t j = 0; j < 7; j++) {
                size_t end = strlen(k_seven[j]);
                if (length < end || strncmp(t->name + length - end, k_seven[j], end) != 0) continue;
                for (size_t half = 0; half < 2; half++) {
                    (void)snprintf(names[n], sizeof names[n], "base_model.model.model.%.*s.lora_%c.weight", (int)length, t->name, half ? 'B' : 'A');
                    tensors[n] = (adapter_tensor){.name = names[n], .dtype = "F32", .dims = {half ? t->matrix->rows : 8, half ? 8 : t->matrix->cols}, .n_dims = 2};
                    n++;
                }
            }
        }
        assert_int_equal(n, only_text ? 252 : 414);
        adapter_dir d = adapter_dir_new("{\"peft_type\": \"LORA\", \"r\": 8}", tensors, n);
        check(adapter_open(&a, d.path, m, true));
        assert_int_equal(a->n_parameters, only_text ? 9805824 : 11298816);
        assert_int_equal(a->n_updated, n / 2);
        assert_int_equal(a->touches_vision, !only_text);
        assert_int_equal(a->block_bytes, a->n_parameters * sizeof(float)); /* every side of these is whole cache lines */
        adapter_free(a);
        adapter_dir_free(&d);
    }
    free(tensors);
    free(names);
    model_free(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_patterns), cmocka_unit_test(test_pattern_cost), cmocka_unit_test(test_broken), cmocka_unit_test(test_pattern_budget),
        cmocka_unit_test(test_recipe_count),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
