/* adapter_files.c: see adapter_files.h. */
#include "train/adapter_files.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "io/json.h"
#include "io/safetensors_write.h"

static json_t *target_list(const char *targets) {
    json_t *list = json_array();
    for (const char *at = targets; list; at++) {
        size_t n = strcspn(at, ",");
        if (json_array_append_new(list, json_stringn(at, n)) != 0) {
            json_decref(list);
            return NULL;
        }
        at += n;
        if (!*at) break;
    }
    return list;
}

/* PEFT looks for modules by their last names, and the tower has some of the same; what is in the text model only is said by an
 * expression for the whole name. */
static json_t *target_expression(const char *targets) {
    static const char k_begin[] = ".*language_model.*\\.(", k_end[] = ")";
    size_t n = strlen(targets) + sizeof k_begin + sizeof k_end;
    char *text = mem_alloc(n, 1);
    if (!text) return NULL;
    (void)snprintf(text, n, "%s%s%s", k_begin, targets, k_end);
    for (char *c = text + strlen(k_begin); *c; c++)
        if (*c == ',') *c = '|';
    json_t *value = json_string(text);
    mem_free(text);
    return value;
}

static json_t *number(double x) {
    return floor(x) == x ? json_integer((json_int_t)x) : json_real(x);
}

static pali_status config_write(const dir_out *dir, const lora_options *o, const char *base_name) {
    const char *targets = o->targets ? o->targets : LORA_TARGETS;
    json_t *list = o->text_only ? target_expression(targets) : target_list(targets);
    json_t *root = list ? json_pack("{s:s, s:s, s:s?, s:I, s:o, s:f, s:b, s:o, s:s, s:b, s:b, s:b, s:b, s:{}, s:{}, s:n, s:n, s:n, s:n, s:n}", "peft_type", "LORA", "task_type",
                                    "CAUSAL_LM", "base_model_name_or_path", base_name, "r", (json_int_t)o->rank, "lora_alpha", number(o->alpha), "lora_dropout",
                                    o->dropout, "use_rslora", (int)o->rslora, "target_modules", list, "bias", "none", "fan_in_fan_out", 0, "inference_mode", 1,
                                    "init_lora_weights", 1, "use_dora", 0, "rank_pattern", "alpha_pattern", "modules_to_save", "auto_mapping", "layers_pattern",
                                    "layers_to_transform", "revision")
                        : NULL;
    char *text;
    STATUS_TRY(json_print(&text, root));
    pali_status s = dir_out_write(dir, "adapter_config.json", text, strlen(text));
    mem_free(text);
    return s;
}

static pali_status factors_put(safetensors_writer *w, const params *p) {
    for (size_t i = 0; i < p->n; i++) STATUS_TRY(safetensors_writer_put(w, p->items[i].name, ST_F32, p->items[i].n_dims, p->items[i].dims));
    STATUS_TRY(safetensors_writer_begin(w));
    for (size_t i = 0; i < p->n; i++) STATUS_TRY(safetensors_writer_data(w, p->items[i].value, p->items[i].n * sizeof(float)));
    return safetensors_writer_commit(w);
}

static pali_status factors_write(const dir_out *dir, const params *p) {
    file_out file;
    safetensors_writer w;
    STATUS_TRY(dir_out_file(dir, &file, "adapter_model.safetensors"));
    STATUS_TRY(safetensors_writer_open(&w, &file));
    pali_status s = factors_put(&w, p);
    safetensors_writer_free(&w);
    return s;
}

/* The name of a base is a string of YAML as it is one of JSON. */
static pali_status card_write(const dir_out *dir, const char *base_name) {
    char *text;
    json_t *name = json_string(base_name);
    char *quoted = name ? json_dumps(name, JSON_ENCODE_ANY) : NULL;
    json_decref(name);
    size_t n = quoted ? strlen(quoted) + 256 : 0;
    text = n ? mem_alloc(n, 1) : NULL;
    if (text) (void)snprintf(text, n, "---\nbase_model: %s\nlibrary_name: peft\n---\n\nA LoRA adapter, trained with paligemma.\n", quoted);
    pali_status s = text ? dir_out_write(dir, "README.md", text, strlen(text)) : status_no_memory(n);
    mem_free(text);
    mem_free(quoted);
    return s;
}

pali_status adapter_files_write(const dir_out *dir, const lora_training *t, const lora_options *o, const char *base_name) {
    STATUS_TRY(config_write(dir, o, base_name));
    STATUS_TRY(factors_write(dir, &t->params));
    return base_name ? card_write(dir, base_name) : PALI_OK;
}
