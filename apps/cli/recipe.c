/* recipe.c: --config RECIPE.json, options by their long names. They become arguments before those of the command line, so that both
 * are parsed and refused alike and the later one wins. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

#define RECIPE_MAX_BYTES 1000000

/* Appends "--lr=2e-05", or nothing for a flag that is off. */
static int argument_add(cli *c, const char *key, const json_t *value) {
    if (json_is_false(value)) return CLI_OK;
    char *text = json_is_string(value) ? strdup(json_string_value(value)) : json_is_number(value) ? json_dumps(value, JSON_ENCODE_ANY) : NULL;
    if (!text && !json_is_true(value)) return cli_usage(c, "%s: %s: %s: a string, a number, true or false expected", c->command->name, c->args.recipe, key);
    size_t n = strlen(key) + (text ? strlen(text) : 0) + 4;
    char *argument = malloc(n);
    if (argument) (void)snprintf(argument, n, "--%s%s%s", key, text ? "=" : "", text ? text : "");
    free(text);
    if (!argument) return cli_fail(c, "%s: out of memory", c->command->name);
    c->recipe.items[c->recipe.n++] = argument;
    return CLI_OK;
}

/* A list repeats its option. Where options add up, the command line's replace the recipe's. */
static int option_add(cli *c, const char *key, const json_t *value) {
    const text_list *given = args_list(&c->args, c->command, key);
    if (given && given->n) return CLI_OK;
    if (!given || !json_is_array(value)) return argument_add(c, key, value);
    for (size_t i = 0; i < json_array_size(value); i++) {
        int code = argument_add(c, key, json_array_get(value, i));
        if (code) return code;
    }
    return CLI_OK;
}

static size_t arguments_most(json_t *root) {
    const char *key;
    json_t *value;
    size_t n = 1;
    json_object_foreach(root, key, value) n += 1 + json_array_size(value);
    return n;
}

static int arguments_make(cli *c, json_t *root) {
    const char *key;
    json_t *value;
    c->recipe.items = calloc(arguments_most(root), sizeof *c->recipe.items);
    if (!c->recipe.items) return cli_fail(c, "%s: out of memory", c->command->name);
    json_object_foreach(root, key, value) {
        if (!strcmp(key, "config")) return cli_usage(c, "%s: %s: config: not in a recipe", c->command->name, c->args.recipe);
        if (!strcmp(key, "description")) continue;
        int code = option_add(c, key, value);
        if (code) return code;
    }
    return CLI_OK;
}

/* argv[0], the recipe's, argv[1] ... */
static int parse_again(cli *c, int argc, char **argv) {
    const size_t n = c->recipe.n;
    char message[512], **all = calloc((size_t)argc + n, sizeof *all);
    if (!all) return cli_fail(c, "%s: out of memory", c->command->name);
    const char *name = c->args.recipe;
    all[0] = argv[0];
    if (n) memcpy(all + 1, c->recipe.items, n * sizeof *all);
    memcpy(all + 1 + n, argv + 1, (size_t)(argc - 1) * sizeof *all);
    args_free(&c->args);
    args_init(&c->args);
    const bool ok = args_parse(&c->args, c->command, argc + (int)n, all, message, sizeof message);
    free(all);
    return ok ? CLI_OK : cli_usage(c, "%s: %s", name, message);
}

int cli_recipe_read(cli *c, int argc, char **argv) {
    json_error_t error;
    FILE *file = fopen(c->args.recipe, "rb");
    char *text = file ? malloc(RECIPE_MAX_BYTES + 1) : NULL;
    const size_t n = text ? fread(text, 1, RECIPE_MAX_BYTES + 1, file) : 0;
    const bool fine = text && !ferror(file) && n <= RECIPE_MAX_BYTES;
    if (file) (void)fclose(file);
    json_t *root = fine ? json_loadb(text, n, JSON_REJECT_DUPLICATES, &error) : NULL;
    free(text);
    if (!fine) return cli_fail(c, "%s: %s: cannot be read, or is larger than %d bytes", c->command->name, c->args.recipe, RECIPE_MAX_BYTES);
    if (!json_is_object(root)) {
        json_decref(root);
        return cli_fail(c, "%s: %s: a JSON object of options expected", c->command->name, c->args.recipe);
    }
    int code = arguments_make(c, root);
    json_decref(root);
    return code ? code : parse_again(c, argc, argv);
}

void cli_recipe_free(cli *c) {
    for (size_t i = 0; i < c->recipe.n; i++) free(c->recipe.items[i]);
    free(c->recipe.items);
    c->recipe = (recipe){0};
}
