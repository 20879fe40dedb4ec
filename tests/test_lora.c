/* test_lora.c: new adapters to be trained: which modules get them, how many parameters that is, and what they begin with. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tiny.h"

/* ---- Adapters ---- */

static void count_check(const model *m, const lora_options *o, size_t n_tensors, uint64_t n_values) {
    lora_training l;
    assert_int_equal(lora_training_new(&l, m, o), PALI_OK);
    assert_int_equal(l.params.n, n_tensors);
    assert_int_equal(l.params.n_values, n_values);
    lora_training_free(&l);
}

static void test_lora_counts(void **state) {
    (void)state;
    model *m;
    weights_memory memory;
    assert_int_equal(model_outline(&m, &memory, "3b-224", true, &(model_options){.n_threads = 1}), PALI_OK);
    count_check(m, &(lora_options){.rank = 8, .alpha = 8}, 414, 11298816);
    count_check(m, &(lora_options){.rank = 8, .alpha = 8, .text_only = true}, 252, 9805824);
    count_check(m, &(lora_options){.rank = 1, .alpha = 8, .targets = "linear,fc1,q_proj"}, 2 * (1 + 27 + 27 + 18), 1152 + 2048 + 27 * (1152 + 4304) + 27 * 2304 + 18 * 4096);
    model_free(m);
}

static void lora_refused(const model *m, lora_options o, const char *message) {
    lora_training l;
    assert_int_equal(lora_training_new(&l, m, &o), PALI_ERR_ARGUMENT);
    if (!tiny_contains(pali_last_error(), message)) fail_msg("\"%s\" does not say \"%s\"", pali_last_error(), message);
}

static void test_lora_new(void **state) {
    (void)state;
    tiny t;
    lora_training l, again;
    double sum = 0, square = 0, most = 0;
    tiny_open(&t);
    lora_refused(t.m, (lora_options){.rank = 0, .alpha = 8}, "rank: 0");
    lora_refused(t.m, (lora_options){.rank = 5000, .alpha = 8}, "rank: 5000");
    lora_refused(t.m, (lora_options){.rank = 8, .alpha = (double)NAN}, "alpha");
    lora_refused(t.m, (lora_options){.rank = 8, .alpha = 8, .targets = "q_proj,proj"}, "targets: \"proj\"");
    lora_refused(t.m, (lora_options){.rank = 8, .alpha = 8, .dropout = 1}, "dropout: 1");
    lora_refused(t.m, (lora_options){.rank = 8, .alpha = 8, .targets = ""}, "targets: \"\"");
    lora_refused(t.m, (lora_options){.rank = 8, .alpha = 8, .targets = "embed_tokens"}, "targets: \"embed_tokens\"");
    lora_refused(t.m, (lora_options){.rank = 8, .alpha = 8, .targets = "fc1", .text_only = true}, "no linear layer of the text model");
    assert_int_equal(lora_training_new(&l, t.m, &(lora_options){.rank = 64, .alpha = 16, .rslora = true, .seed = 7}), PALI_OK);
    assert_int_equal(lora_training_new(&again, t.m, &(lora_options){.rank = 64, .alpha = 16, .seed = 7}), PALI_OK);
    assert_true(l.view->text.layers[0].q.lora->scale == 2 && again.view->text.layers[0].q.lora->scale == 0.25f);
    const param *a = tiny_param(&l.params, "language_model.layers.1.mlp.down_proj.lora_A"), *b = tiny_param(&l.params, "language_model.layers.1.mlp.down_proj.lora_B");
    assert_string_equal(a->name, "base_model.model.model.language_model.layers.1.mlp.down_proj.lora_A.weight");
    assert_memory_equal(a->value, tiny_param(&again.params, a->name)->value, a->n * sizeof *a->value);
    for (size_t i = 0; i < a->n; i++) {
        double x = (double)a->value[i] * sqrt(96); /* uniform in [-1, 1): mean 0, variance 1/3 */
        sum += x;
        square += x * x;
        most = fabs(x) > most ? fabs(x) : most;
    }
    /* 6144 of them: the mean errs by 0.0074, the variance by 0.0038; four times that. */
    assert_true(most <= 1 && most > 0.99 && fabs(sum / (double)a->n) < 0.03 && fabs(square / (double)a->n - 1.0 / 3) < 0.015);
    for (size_t i = 0; i < b->n; i++) assert_true(b->value[i] == 0);
    lora_training_free(&l);
    lora_training_free(&again);
    tiny_close(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lora_counts),
        cmocka_unit_test(test_lora_new),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
