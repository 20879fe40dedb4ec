#include "model/adapter_config.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/file.h"
#include "base/mem.h"
#include "io/json.h"

/* Fields that, where they are set, make something else of an adapter than W + s B A. (PEFT's fan_in_fan_out, lora_dropout,
 * velora_config and which modules are targeted do not: every target here is a linear layer, and the tensors say which.) */
static const struct {
    const char *key, *what;
} k_refused[] = {
    {"use_dora", "DoRA"},
    {"use_qalora", "QALoRA"},
    {"use_bdlora", "block-diagonal LoRA"},
    {"alora_invocation_tokens", "activated LoRA"},
    {"arrow_config", "Arrow routing"},
    {"kasa_config", "KaSA"},
    {"monteclora_config", "MonteCLoRA"},
    {"megatron_config", "Megatron's layers"},
    {"layer_replication", "replicated layers"},
    {"target_parameters", "LoRA on bare parameters"},
    {"trainable_token_indices", "trained single tokens"},
};

/* Not null, false, or empty. */
static bool is_set(const json_t *value) {
    if (json_is_array(value)) return json_array_size(value) > 0;
    if (json_is_object(value)) return json_object_size(value) > 0;
    return value && !json_is_null(value) && !json_is_false(value);
}

/* How the adapter began. Some ways take away from the base's weights what they give the adapter; PEFT does that again when it
 * loads one, and so does nobody else. */
static pali_status init_check(const json_t *value, const char *name) {
    static const char *const k_plain[] = {"gaussian", "eva", "orthogonal", "mica"};
    static const char *const k_changing[] = {"pissa", "corda", "olora", "loftq", "lora_ga"};
    const char *text = json_string_value(value);
    if (!value || json_is_null(value) || json_is_boolean(value)) return PALI_OK;
    for (size_t i = 0; text && i < sizeof k_plain / sizeof *k_plain; i++)
        if (strcasecmp(text, k_plain[i]) == 0) return PALI_OK;
    for (size_t i = 0; text && i < sizeof k_changing / sizeof *k_changing; i++)
        if (strncasecmp(text, k_changing[i], strlen(k_changing[i])) == 0)
            return status_fail(PALI_ERR_UNSUPPORTED, "%s: init_lora_weights: %s changes the base's weights: expected an adapter that PEFT has "
                               "converted (save_pretrained with path_initial_model_for_weight_conversion)", name, text);
    return status_fail(PALI_ERR_UNSUPPORTED, "%s: init_lora_weights: '%s' is not known", name, text ? text : "?");
}

static pali_status kind_check(const json_t *root, const char *name) {
    const char *type = NULL, *bias = "none";
    STATUS_TRY(json_get_string(root, "peft_type", &type, name));
    if (!type) return status_fail(PALI_ERR_FORMAT, "%s: peft_type: missing: expected LORA", name);
    if (strcmp(type, "LORA") != 0) return status_fail(PALI_ERR_UNSUPPORTED, "%s: peft_type: %s is not supported: expected LORA", name, type);
    for (size_t i = 0; i < sizeof k_refused / sizeof *k_refused; i++)
        if (is_set(json_object_get(root, k_refused[i].key)))
            return status_fail(PALI_ERR_UNSUPPORTED, "%s: %s: %s is not supported", name, k_refused[i].key, k_refused[i].what);
    STATUS_TRY(json_get_string(root, "bias", &bias, name));
    if (strcmp(bias, "none") != 0 && strcmp(bias, "all") != 0 && strcmp(bias, "lora_only") != 0)
        return status_fail(PALI_ERR_FORMAT, "%s: bias: '%s': expected none, all or lora_only", name, bias);
    return init_check(json_object_get(root, "init_lora_weights"), name);
}

static bool number_fits(const json_t *value, bool is_rank) {
    if (is_rank) return json_is_integer(value) && json_integer_value(value) >= 1 && json_integer_value(value) <= (json_int_t)ADAPTER_MAX_RANK;
    return json_is_number(value) && fabs(json_number_value(value)) <= ADAPTER_MAX_ALPHA;
}

/* One entry, as PEFT matches it: the end of a module's name, dots and all, or a regular expression for it. */
static pali_status rule_read(adapter_rule *rule, const char *key, const json_t *value, bool is_rank, const char *name) {
    char text[PATTERN_MAX_BYTES + 1];
    if (!number_fits(value, is_rank))
        return status_fail(PALI_ERR_FORMAT, "%s: %s_pattern: %s: expected a number of at most %g", name, is_rank ? "rank" : "alpha", key,
                           is_rank ? ADAPTER_MAX_RANK : ADAPTER_MAX_ALPHA);
    int n = snprintf(text, sizeof text, "(.*\\.)?(%s)$", key);
    if (n < 0 || (size_t)n >= sizeof text) return status_fail(PALI_ERR_LIMIT, "%s: pattern of more than %u bytes", name, PATTERN_MAX_BYTES);
    rule->value = json_number_value(value);
    return pattern_new(&rule->pattern, text, name);
}

static pali_status rules_read(adapter_rule **out, size_t *n, const json_t *root, const char *field, bool is_rank, const char *name) {
    const json_t *object;
    const char *key;
    json_t *value;
    STATUS_TRY(json_get_object(root, field, &object, name));
    if (!object) return PALI_OK;
    size_t count = json_object_size(object);
    if (count > ADAPTER_MAX_RULES) return status_fail(PALI_ERR_LIMIT, "%s: %s: more than %u entries", name, field, ADAPTER_MAX_RULES);
    *out = mem_calloc(count + 1, sizeof **out);
    if (!*out) return status_no_memory(count * sizeof **out);
    size_t n_states = 0;
    json_object_foreach((json_t *)(uintptr_t)object, key, value) { /* in the file's order */
        adapter_rule *rule = &(*out)[(*n)++];
        STATUS_TRY(rule_read(rule, key, value, is_rank, name));
        n_states += pattern_n_states(rule->pattern);
        if (n_states > ADAPTER_MAX_STATES) return status_fail(PALI_ERR_LIMIT, "%s: %s: more than %u states", name, field, ADAPTER_MAX_STATES);
    }
    return PALI_OK;
}

static pali_status saved_read(adapter_config *c, const json_t *list, const char *name) {
    if (!list || json_is_null(list)) return PALI_OK;
    if (!json_is_array(list)) return status_fail(PALI_ERR_FORMAT, "%s: modules_to_save: expected a list of names", name);
    size_t count = json_array_size(list);
    if (count > ADAPTER_MAX_SAVED) return status_fail(PALI_ERR_LIMIT, "%s: modules_to_save: more than %u names", name, ADAPTER_MAX_SAVED);
    c->saved = mem_calloc(count, sizeof *c->saved);
    if (!c->saved) return status_no_memory(count * sizeof *c->saved);
    for (size_t i = 0; i < count; i++) {
        const char *text = json_string_value(json_array_get(list, i));
        if (!text) return status_fail(PALI_ERR_FORMAT, "%s: modules_to_save: expected a list of names", name);
        c->saved[c->n_saved] = mem_copy_string(text);
        if (!c->saved[c->n_saved++]) return status_no_memory(strlen(text));
    }
    return PALI_OK;
}

static pali_status fields_read(adapter_config *c, const json_t *root, const char *name) {
    const char *base = NULL;
    if (!json_is_object(root)) return status_fail(PALI_ERR_FORMAT, "%s: expected an object", name);
    STATUS_TRY(kind_check(root, name));
    STATUS_TRY(json_get_size(root, "r", &c->rank, 1, ADAPTER_MAX_RANK, name));
    const json_t *alpha = json_object_get(root, "lora_alpha");
    if (alpha && !number_fits(alpha, false)) return status_fail(PALI_ERR_FORMAT, "%s: lora_alpha: expected a number of at most %g", name, ADAPTER_MAX_ALPHA);
    if (alpha) c->alpha = json_number_value(alpha);
    STATUS_TRY(json_get_bool(root, "use_rslora", &c->rslora, name));
    STATUS_TRY(json_get_string(root, "base_model_name_or_path", &base, name));
    if (base && !(c->base = mem_copy_string(base))) return status_no_memory(strlen(base));
    STATUS_TRY(saved_read(c, json_object_get(root, "modules_to_save"), name));
    STATUS_TRY(rules_read(&c->ranks, &c->n_ranks, root, "rank_pattern", true, name));
    return rules_read(&c->alphas, &c->n_alphas, root, "alpha_pattern", false, name);
}

pali_status adapter_config_parse(adapter_config *out, const char *json, size_t n_bytes, const char *name) {
    json_t *root;
    *out = (adapter_config){.rank = 8, .alpha = 8, .work = ADAPTER_MAX_WORK}; /* PEFT's defaults */
    STATUS_TRY(json_parse(&root, json, n_bytes, name));
    pali_status s = fields_read(out, root, name);
    json_decref(root);
    if (s != PALI_OK) adapter_config_free(out);
    return s;
}

pali_status adapter_config_load(adapter_config *out, const char *path) {
    char *text;
    size_t n;
    *out = (adapter_config){0};
    STATUS_TRY(file_read(&text, &n, path, JSON_MAX_FILE_BYTES));
    pali_status s = adapter_config_parse(out, text, n, path);
    mem_free(text);
    return s;
}

static void rules_free(adapter_rule *rules, size_t n) {
    for (size_t i = 0; i < n; i++) pattern_free(rules[i].pattern);
    mem_free(rules);
}

void adapter_config_free(adapter_config *c) {
    rules_free(c->ranks, c->n_ranks);
    rules_free(c->alphas, c->n_alphas);
    for (size_t i = 0; i < c->n_saved; i++) mem_free(c->saved[i]);
    mem_free(c->saved);
    mem_free(c->base);
    *c = (adapter_config){0};
}

static double rule_find(adapter_config *c, const adapter_rule *rules, size_t n, const char *module, double otherwise) {
    for (size_t i = 0; i < n; i++)
        if (pattern_matches(rules[i].pattern, module, &c->work)) return rules[i].value;
    return otherwise;
}

pali_status adapter_config_module(adapter_config *c, const char *module, size_t *rank, double *alpha, const char *name) {
    *rank = (size_t)rule_find(c, c->ranks, c->n_ranks, module, (double)c->rank);
    *alpha = rule_find(c, c->alphas, c->n_alphas, module, c->alpha);
    if (!c->work) return status_fail(PALI_ERR_LIMIT, "%s: rank_pattern, alpha_pattern: matching them takes too long", name);
    return PALI_OK;
}

double adapter_config_scale(const adapter_config *c, size_t rank, double alpha) {
    return c->rslora ? alpha / sqrt((double)rank) : alpha / (double)rank;
}

/* PEFT wraps every module whose whole name ends with one of the list's, in the middle of a word or not. */
bool adapter_config_saves(const adapter_config *c, const char *module) {
    for (size_t n = strcspn(module, "."); n; n += module[n] ? 1 + strcspn(module + n + 1, ".") : 0) {
        for (size_t i = 0; i < c->n_saved; i++) {
            size_t m = strlen(c->saved[i]);
            if (m <= n && memcmp(module + n - m, c->saved[i], m) == 0) return true;
        }
        if (!module[n]) break;
    }
    return false;
}
