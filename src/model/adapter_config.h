/* adapter_config.h: adapter_config.json of PEFT (spec inference 9): what it says of scales and ranks, and whether it is of a kind
 * that a low-rank update can stand for. */
#ifndef PALI_MODEL_ADAPTER_CONFIG_H
#define PALI_MODEL_ADAPTER_CONFIG_H

#include <stdbool.h>
#include <stddef.h>

#include "io/pattern.h"

#define ADAPTER_MAX_RANK 4096u
#define ADAPTER_MAX_ALPHA 1e6
#define ADAPTER_MAX_RULES 2000u      /* of rank_pattern or alpha_pattern: some writers list every module */
#define ADAPTER_MAX_STATES 300000u   /* of all their patterns together: 20 MB */
#define ADAPTER_MAX_SAVED 1000u      /* names in modules_to_save */
#define ADAPTER_MAX_WORK 100000000u  /* steps of matching for a whole adapter: a second at most. Two lists of all modules take 15 million */

/* An entry of rank_pattern or alpha_pattern: the first that matches a module's name wins. */
typedef struct adapter_rule {
    pattern *pattern;
    double value;
} adapter_rule;

typedef struct adapter_config {
    size_t rank;
    double alpha;
    bool rslora;
    adapter_rule *ranks, *alphas;
    size_t n_ranks, n_alphas;
    char **saved; /* modules_to_save: endings of names */
    size_t n_saved;
    char *base;   /* base_model_name_or_path; NULL: not told */
    size_t work;  /* what is left for matching */
} adapter_config;

/* `name` stands for the document in messages. */
pali_status adapter_config_parse(adapter_config *out, const char *json, size_t n_bytes, const char *name);
pali_status adapter_config_load(adapter_config *out, const char *path);
void adapter_config_free(adapter_config *c);

/* What the module of this name (as in the adapter's file, without what PEFT puts around it) is trained with. */
pali_status adapter_config_module(adapter_config *c, const char *module, size_t *rank, double *alpha, const char *name);
/* s in y += s B A x. */
double adapter_config_scale(const adapter_config *c, size_t rank, double alpha);
/* The module, or one around it, is in modules_to_save: its weights in the adapter are a copy beside the base's. */
bool adapter_config_saves(const adapter_config *c, const char *module);

#endif
