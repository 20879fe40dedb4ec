/* lora.c: --lora DIR[:SCALE]. A directory may have a colon in its name: what exists as it stands is taken so. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"

int cli_scaled_read(cli *c, const char *name, const char *text, double low, double high, char **path, double *number) {
    const char *colon = strrchr(text, ':');
    *path = strdup(text);
    if (!*path) return cli_fail(c, "%s: out of memory", c->command->name);
    if (!colon || access(text, F_OK) == 0) return CLI_OK;
    (*path)[colon - text] = 0;
    char *end;
    double value = strtod(colon + 1, &end);
    if (colon[1] && !*end && value >= low && value <= high) {
        *number = value;
        return CLI_OK;
    }
    if (access(*path, F_OK) == 0) return cli_usage(c, "%s: --%s: \"%s\": a number from %g to %g expected after the colon", c->command->name, name, text, low, high);
    (*path)[colon - text] = ':';
    return CLI_OK;
}

static int use_read(cli *c, const char *text, char **path, float *scale) {
    double number = 1;
    int code = cli_scaled_read(c, "lora", text, -1e6, 1e6, path, &number);
    *scale = (float)number;
    return code;
}

int cli_loras_read(cli *c) {
    const text_list *given = &c->args.loras;
    lora_list *l = &c->loras;
    int code = CLI_OK;
    if (!given->n) return CLI_OK;
    l->paths = calloc(given->n, sizeof *l->paths);
    l->uses = calloc(given->n, sizeof *l->uses);
    if (!l->paths || !l->uses) return cli_fail(c, "%s: out of memory", c->command->name);
    for (; l->n < given->n && !code; l->n++) code = use_read(c, given->items[l->n], &l->paths[l->n], &l->uses[l->n].scale);
    return code;
}

int cli_loras_open(cli *c, pali_model *model) {
    for (size_t i = 0; i < c->loras.n; i++) {
        pali_adapter *adapter;
        pali_status status = pali_adapter_load(&adapter, model, c->loras.paths[i]);
        if (status != PALI_OK) return cli_fail_library(c, status, "lora");
        c->loras.uses[i].adapter = adapter;
    }
    return CLI_OK;
}

void cli_loras_close(cli *c) {
    for (size_t i = 0; i < c->loras.n; i++) {
        pali_adapter_free((pali_adapter *)(uintptr_t)c->loras.uses[i].adapter);
        c->loras.uses[i].adapter = NULL;
    }
}

void cli_loras_free(cli *c) {
    cli_loras_close(c);
    for (size_t i = 0; i < c->loras.n; i++) free(c->loras.paths[i]);
    free(c->loras.paths);
    free(c->loras.uses);
    c->loras = (lora_list){0};
}
