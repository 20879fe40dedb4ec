/* test_trainer_state.c: trainer_state.json: what Transformers writes is read, and what is written has its fields (the file
 * written.json is Transformers' own). */
#include <math.h>
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
#include "io/json.h"
#include "train/trainer_state.h"

#define REFERENCE PALI_TEST_SOURCE "/tests/fuzz/corpus/trainer_state/written.json"

static void reads(void **state) {
    (void)state;
    trainer_state s;
    if (trainer_state_load(&s, REFERENCE) != PALI_OK) fail_msg("%s", status_message());
    assert_int_equal(s.global_step, 2);
    assert_true(s.epoch == 0.5);
    assert_int_equal(s.save_steps, 500);
    assert_int_equal(s.batch_size, 0); /* null */
    assert_int_equal(json_array_size(s.log), 1);
    assert_true(json_number_value(json_object_get(json_array_get(s.log, 0), "learning_rate")) == 2e-5);
    trainer_state_free(&s);
}

/* The same keys with the same types, all the way down. */
static void assert_alike(const json_t *ours, json_t *theirs) {
    const char *key;
    json_t *value;
    assert_int_equal(json_object_size(ours), json_object_size(theirs));
    json_object_foreach(theirs, key, value) {
        const json_t *own = json_object_get(ours, key);
        if (!own) fail_msg("%s is missing", key);
        if (json_is_object(value)) assert_alike(own, value);
        else if (json_is_array(value)) assert_alike(json_array_get(own, 0), json_array_get(value, 0));
        else if (json_is_number(value)) assert_true(json_is_number(own));
        else if (json_is_null(value)) assert_true(json_is_null(own) || strcmp(key, "train_batch_size") == 0);
        else assert_true(json_is_boolean(own));
    }
}

static void writes(void **state) {
    (void)state;
    char dir[] = "/tmp/paligemma-state-XXXXXX", path[64], *text;
    size_t n;
    trainer_state s, back;
    assert_non_null(mkdtemp(dir));
    (void)snprintf(path, sizeof path, "%s/trainer_state.json", dir);
    assert_int_equal(trainer_state_init(&s), PALI_OK);
    s.epoch = 1.0 / 3;
    s.global_step = 7;
    s.max_steps = 9;
    s.n_epochs = 2;
    s.batch_size = 16;
    s.n_input_tokens = 1234;
    s.total_flos = 6e18;
    const trainer_value k_values[] = {{"loss", 0.1}, {"grad_norm", (double)NAN}, {"learning_rate", 2e-5}};
    assert_int_equal(trainer_state_log(&s, k_values, 3), PALI_OK);
    assert_int_equal(trainer_state_save(&s, path, false), PALI_OK);
    assert_int_equal(trainer_state_load(&back, path), PALI_OK);
    assert_true(back.epoch == s.epoch && back.total_flos == s.total_flos);
    assert_int_equal(back.global_step, 7);
    assert_int_equal(back.max_steps, 9);
    assert_int_equal(back.n_input_tokens, 1234);
    assert_true(json_equal(back.log, s.log));
    assert_true(json_is_null(json_object_get(json_array_get(back.log, 0), "grad_norm")));
    trainer_state_free(&back);
    /* A log with finite numbers only has the reference's keys and types; keys are sorted, the indent is 2, a newline ends it. */
    assert_int_equal(json_array_clear(s.log), 0);
    const trainer_value k_finite[] = {{"loss", 0.1}, {"grad_norm", 1}, {"learning_rate", 2e-5}};
    assert_int_equal(trainer_state_log(&s, k_finite, 3), PALI_OK);
    assert_int_equal(trainer_state_save(&s, path, true), PALI_OK);
    json_t *ours, *theirs;
    assert_int_equal(json_read(&ours, path), PALI_OK);
    assert_int_equal(json_read(&theirs, REFERENCE), PALI_OK);
    assert_alike(ours, theirs);
    json_decref(ours);
    json_decref(theirs);
    assert_int_equal(file_read(&text, &n, path, 65536), PALI_OK);
    assert_memory_equal(text, "{\n  \"best_global_step\": null,\n", 30);
    assert_string_equal(text + n - 2, "}\n");
    assert_non_null(strstr(text, "\"should_training_stop\": true"));
    mem_free(text);
    trainer_state_free(&s);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(dir), 0);
}

static void refused(const char *json, const char *message) {
    trainer_state s;
    assert_int_not_equal(trainer_state_parse(&s, json, strlen(json), "f"), PALI_OK);
    assert_null(s.log);
    assert_string_equal(status_message(), message);
}

static void refusals(void **state) {
    (void)state;
    refused("[]", "f: expected an object");
    refused("{}", "f: log_history: expected an array");
    refused("{\"log_history\":[1]}", "f: log_history[0]: expected an object");
    refused("{\"log_history\":[{},{\"loss\":\"x\"}]}", "f: log_history[1].loss: expected a number");
    refused("{\"log_history\":[],\"epoch\":-1}", "f: epoch: expected a number of at least 0");
    refused("{\"log_history\":[],\"global_step\":1.5}", "f: global_step: expected a whole number");
    refused("{\"log_history\":[],\"max_steps\":-1}", "f: max_steps: -1 is not between 0 and 9007199254740992");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(reads), cmocka_unit_test(writes), cmocka_unit_test(refusals)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
