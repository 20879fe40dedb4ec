/* test_recipes.c: recipes/bv-*.json have the values of big_vision's table (tests/golden/train/bv_recipes.tsv), one recipe for each of
 * its rows and none beside. (That finetune takes every recipe: tests/cli/finetune.sh.) */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "golden.h"
#include "io/json.h"

#define TABLE PALI_TEST_DATA "/train/bv_recipes.tsv"
#define RECIPES PALI_TEST_SOURCE "/recipes"

enum { NAME, EPOCHS, LR, WEIGHT_DECAY, BATCH, SMOOTHING, DROPOUT, TEXT_LEN, ANTIALIAS, FROZEN, N_COLUMNS };

static void assert_number(const char *name, const json_t *recipe, const char *key, double expected) {
    const json_t *value = json_object_get(recipe, key);
    if (!json_is_number(value) || json_number_value(value) != expected) fail_msg("%s: %s: expected %.9g", name, key, expected);
}

static void assert_text(const char *name, const json_t *recipe, const char *key, const char *expected) {
    const char *value = json_string_value(json_object_get(recipe, key));
    if (!expected && !value) return;
    if (!expected || !value || strcmp(value, expected) != 0) fail_msg("%s: %s: %s, expected %s", name, key, value ? value : "not there", expected ? expected : "none");
}

/* What all have in common, but for the plain SGD of one. */
static void assert_common(const char *name, const json_t *recipe) {
    const bool sgd = strstr(name, "sgd");
    const char *const texts[][2] = {{"method", "full"}, {"dtype", "f32"}, {"schedule", "cosine_big_vision"}, {"loss", "big_vision"}};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) assert_text(name, recipe, texts[i][0], texts[i][1]);
    assert_text(name, recipe, "optim", sgd ? "sgd" : "adam_big_vision");
    assert_number(name, recipe, "warmup-steps", 0.05);
    assert_number(name, recipe, "max-grad-norm", 1);
    assert_number(name, recipe, "seed", 0);
    assert_number(name, recipe, "save-steps", 1000);
    if (sgd) return;
    assert_number(name, recipe, "beta1", 0.9);
    assert_number(name, recipe, "beta2", 0.999);
    assert_number(name, recipe, "eps", 1e-8);
}

static void assert_recipe(char *const column[N_COLUMNS]) {
    const char *name = column[NAME];
    char path[512];
    json_t *recipe;
    (void)snprintf(path, sizeof path, RECIPES "/%s.json", name);
    if (json_read(&recipe, path) != PALI_OK) fail_msg("%s", pali_last_error());
    assert_common(name, recipe);
    if (strcmp(column[EPOCHS], "-") != 0) assert_number(name, recipe, "epochs", atof(column[EPOCHS]));
    else assert_number(name, recipe, "max-steps", 5 * 566435 / 256); /* 5 epochs of as many rows */
    assert_number(name, recipe, "lr", atof(column[LR]));
    assert_number(name, recipe, "weight-decay", atof(column[WEIGHT_DECAY]));
    assert_number(name, recipe, "label-smoothing", atof(column[SMOOTHING]));
    assert_number(name, recipe, "dropout", atof(column[DROPOUT]));
    assert_number(name, recipe, "text-len", atof(column[TEXT_LEN]));
    assert_text(name, recipe, "resize", strcmp(column[ANTIALIAS], "aa") == 0 ? "big_vision_aa" : "big_vision");
    assert_text(name, recipe, "freeze", strcmp(column[FROZEN], "frozen") == 0 ? "img,proj" : NULL);
    const json_int_t micro = json_integer_value(json_object_get(recipe, "batch-size"));
    assert_true(micro > 0 && micro <= 16);
    assert_number(name, recipe, "grad-accum", atof(column[BATCH]) / (double)micro);
    json_decref(recipe);
}

static size_t recipes_count(void) {
    size_t n = 0;
    DIR *dir = opendir(RECIPES);
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir));) n += strncmp(e->d_name, "bv-", 3) == 0;
    closedir(dir);
    return n;
}

static void recipes_are_big_vision_s(void **state) {
    (void)state;
    char line[512];
    size_t n = 0;
    FILE *table = fopen(TABLE, "r");
    assert_non_null(table);
    while (fgets(line, sizeof line, table)) {
        char *column[N_COLUMNS], *rest = NULL;
        if (*line == '#') continue;
        for (size_t i = 0; i < N_COLUMNS; i++)
            if (!(column[i] = strtok_r(i ? NULL : line, "\t\n", &rest))) fail_msg("row %zu: column %zu is missing", n, i);
        assert_recipe(column);
        n++;
    }
    (void)fclose(table);
    assert_int_equal(n, 65);
    assert_int_equal(recipes_count(), n);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(recipes_are_big_vision_s)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
