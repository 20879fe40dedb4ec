/* cmd_inspect.c: paligemma inspect: what the files of a model hold, also where it does not open. */
#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "cli.h"
#include "inspect_adapter.h"
#include "inspect_codec.h"
#include "memory.h"
#include "report.h"

enum { N_RUN_DTYPES = 7, MAX_TYPES = 16, MAX_LINES = 20 };
static const char *const run_dtypes[N_RUN_DTYPES] = {"f32", "bf16", "f16", "q8", "q4", "nf4", "int8"}; /* of --dtype */

/* Tensors of one type of the files. */
typedef struct stored_type {
    char name[24];
    uint64_t n_tensors, n_elements, n_bytes;
} stored_type;

typedef struct inspection {
    pali_contents *contents;
    const char *problem;  /* why the model does not open, "" if it does */
    bool has_info;
    pali_model_info info;
    bool is_adapter;
    pali_adapter_info adapter;
    stored_type types[MAX_TYPES]; /* [n_types] of what the model asks for */
    size_t n_types;
    size_t n_states[PALI_TENSOR_EXTRA + 1];
    uint64_t run_bytes_stored, run_bytes[N_RUN_DTYPES]; /* to answer about one picture, 256 tokens at most */
} inspection;

static const char *const state_names[] = {"found", "missing", "unfit", "extra"};

static bool tensor_get(const inspection *x, size_t i, pali_tensor_info *t) {
    *t = (pali_tensor_info){.struct_size = sizeof *t};
    return i < pali_contents_tensor_count(x->contents) && pali_contents_get_tensor(x->contents, i, t) == PALI_OK;
}

/* "q6_k": the type as it is stored; of random models as it would be held. */
static void type_name(char name[24], const pali_tensor_info *t) {
    (void)snprintf(name, 24, "%s", *t->stored ? t->stored : pali_dtype_name(t->dtype));
    for (char *p = name; *p; p++) *p = (char)tolower((unsigned char)*p);
}

/* It is held in another type than it is stored in. */
static bool is_converted(const pali_tensor_info *t) {
    return t->state == PALI_TENSOR_FOUND && *t->stored && strcasecmp(t->stored, pali_dtype_name(t->dtype)) != 0;
}

static void type_count(inspection *x, const pali_tensor_info *t) {
    char name[24];
    uint64_t n = 1;
    size_t k = 0;
    type_name(name, t);
    for (int32_t d = 0; d < t->n_dims; d++) n *= t->dims[d];
    while (k < x->n_types && strcmp(x->types[k].name, name) != 0) k++;
    if (k == MAX_TYPES) return; /* formats have fewer that weights can have */
    if (k == x->n_types) memcpy(x->types[x->n_types++].name, name, sizeof name);
    x->types[k].n_tensors++;
    x->types[k].n_elements += n;
    x->types[k].n_bytes += t->n_bytes;
}

static int memory_count(cli *c, inspection *x) {
    pali_model_options options;
    pali_memory_plan plan;
    int code = cli_model_options(c, &options);
    if (code) return code;
    pali_status status = memory_plan(c, &plan, &options);
    x->run_bytes_stored = plan.total;
    for (size_t k = 0; k < N_RUN_DTYPES && status == PALI_OK; k++) {
        options.dtype = cli_dtype(run_dtypes[k]);
        status = memory_plan(c, &plan, &options);
        x->run_bytes[k] = plan.total;
    }
    return status == PALI_OK ? CLI_OK : cli_fail_library(c, status, "inspect");
}

static int inspection_make(cli *c, inspection *x) {
    pali_tensor_info t;
    *x = (inspection){.problem = "", .info = {.struct_size = sizeof x->info}, .adapter = {.struct_size = sizeof x->adapter}};
    int code = cli_open_contents(c, &x->contents);
    if (code) return code;
    x->problem = pali_contents_problem(x->contents);
    x->has_info = pali_contents_get_info(x->contents, &x->info) == PALI_OK;
    x->is_adapter = pali_contents_get_adapter(x->contents, &x->adapter) == PALI_OK;
    for (size_t i = 0; tensor_get(x, i, &t); i++) {
        x->n_states[t.state]++;
        if (t.state == PALI_TENSOR_FOUND || !x->has_info) type_count(x, &t);
    }
    return *x->problem || x->is_adapter ? CLI_OK : memory_count(c, x);
}

/* ---- For people ---- */

static void print_shape(FILE *out, const pali_tensor_info *t) {
    fprintf(out, "[");
    for (int32_t d = 0; d < t->n_dims; d++) fprintf(out, "%s%" PRIu64, d ? ", " : "", t->dims[d]);
    fprintf(out, "]");
}

static void print_sizes(FILE *out, const pali_model_info *m) {
    fprintf(out, "picture     %d x %d pixels, %d tokens\n", m->image_size, m->image_size, m->n_image_tokens);
    fprintf(out, "vision      %d layers, width %d, %d heads, mlp %d\n", m->vision_layers, m->vision_width, m->vision_heads, m->vision_mlp_width);
    fprintf(out, "text        Gemma %d: %d layers, width %d, %d heads (%d for keys and values) of %d, mlp %d\n", m->generation,
            m->text_layers, m->text_width, m->text_heads, m->text_kv_heads, m->text_head_dim, m->text_mlp_width);
    fprintf(out, "vocabulary  %d, %s tokenizer\n", m->vocab_size, m->has_tokenizer ? "with" : "without");
    if (m->sliding_window) fprintf(out, "window      %d tokens in the sliding layers\n", m->sliding_window);
}

/* What is not as it should be, the first few of each kind. */
static void print_states(cli *c, const inspection *x) {
    pali_tensor_info t;
    for (int state = PALI_TENSOR_MISSING; state <= PALI_TENSOR_EXTRA && x->has_info; state++) {
        size_t n = 0;
        for (size_t i = 0; tensor_get(x, i, &t); i++) {
            if ((int)t.state != state || ++n > MAX_LINES) continue;
            fprintf(c->out, "%-11s %s ", state_names[state], t.name);
            if (state != PALI_TENSOR_UNFIT) print_shape(c->out, &t);
            fprintf(c->out, state == PALI_TENSOR_UNFIT ? "(%s)\n" : "\n", t.problem);
        }
        if (n > MAX_LINES) fprintf(c->out, "%-11s and %zu more (--tensors lists all)\n", "", n - MAX_LINES);
    }
}

static void print_plain(cli *c, const inspection *x) {
    char size[32], name[24];
    pali_tensor_info t;
    FILE *out = c->out;
    if (x->is_adapter) {
        fprintf(out, "adapter     %s\n", cli_model_name(c));
        inspect_adapter_print(out, &x->adapter);
    } else {
        fprintf(out, "model       %s (%s)\n", x->has_info ? x->info.name : "unknown", c->args.random ? "random weights" : cli_model_name(c));
    }
    if (x->has_info) fprintf(out, "parameters  %" PRIu64 "\n", x->info.n_parameters);
    fprintf(out, "stored as  ");
    for (size_t k = 0; k < x->n_types; k++) {
        fprintf(out, "%s %s (%" PRIu64 " tensors, %s)", k ? "," : "", x->types[k].name, x->types[k].n_tensors, memory_text(size, x->types[k].n_bytes));
    }
    fprintf(out, "\n");
    if (x->has_info) print_sizes(out, &x->info);
    if (x->run_bytes_stored) {
        fprintf(out, "memory      %s to run as stored;", memory_text(size, x->run_bytes_stored));
        for (size_t k = 0; k < N_RUN_DTYPES; k++) {
            fprintf(out, " as %s %s%s", run_dtypes[k], memory_text(size, x->run_bytes[k]), k + 1 < N_RUN_DTYPES ? "," : "\n");
        }
    }
    print_states(c, x);
    for (size_t i = 0; c->args.tensors && tensor_get(x, i, &t); i++) {
        type_name(name, &t);
        fprintf(out, "%s %s ", t.name, t.state == PALI_TENSOR_MISSING ? "missing" : name);
        print_shape(out, &t);
        if (*t.file) fprintf(out, " %s", t.file);
        if (is_converted(&t)) fprintf(out, " (held as %s)", pali_dtype_name(t.dtype));
        if (t.state == PALI_TENSOR_UNFIT || (t.state == PALI_TENSOR_EXTRA && x->has_info)) fprintf(out, " (%s)", state_names[t.state]);
        fprintf(out, "\n");
    }
}

/* ---- For programs ---- */

static json_t *shape_json(const pali_tensor_info *t) {
    json_t *shape = json_array();
    for (int32_t d = 0; d < t->n_dims; d++) (void)json_array_append_new(shape, json_integer((json_int_t)t->dims[d]));
    return shape;
}

/* Every tensor, or what there is to say of those of one state. */
static json_t *tensors_json(const inspection *x, bool all, pali_tensor_state state) {
    json_t *array = json_array();
    pali_tensor_info t;
    for (size_t i = 0; array && tensor_get(x, i, &t); i++) {
        char name[24];
        if (!all && t.state != state) continue;
        type_name(name, &t);
        json_t *object = json_pack("{s:o, s:o}", "name", report_text(t.name, strlen(t.name)), "shape", shape_json(&t));
        if (t.state != PALI_TENSOR_MISSING) {
            (void)json_object_set_new(object, "dtype", json_string(name));
            (void)json_object_set_new(object, "file", report_text(t.file, strlen(t.file)));
            (void)json_object_set_new(object, "bytes", json_integer((json_int_t)t.n_bytes));
        }
        if (all) (void)json_object_set_new(object, "state", json_string(state_names[t.state]));
        if (is_converted(&t)) (void)json_object_set_new(object, "held", json_string(pali_dtype_name(t.dtype)));
        if (*t.problem) (void)json_object_set_new(object, "problem", report_text(t.problem, strlen(t.problem)));
        if (json_array_append_new(array, object) != 0) {
            json_decref(array);
            array = NULL;
        }
    }
    return array;
}

static json_t *sizes_json(const pali_model_info *m) {
    return json_pack("{s:s, s:i, s:I, s:I, s:i, s:i, s:{s:i, s:i, s:i, s:i}, s:{s:i, s:i, s:i, s:i, s:i, s:i}, s:i, s:i, s:b, s:I}", "variant", m->name,
                     "generation", (int)m->generation, "parameters", (json_int_t)m->n_parameters, "weight_bytes", (json_int_t)m->weight_bytes,
                     "resolution", (int)m->image_size, "image_tokens", (int)m->n_image_tokens, "vision", "layers", (int)m->vision_layers, "width",
                     (int)m->vision_width, "heads", (int)m->vision_heads, "mlp_width", (int)m->vision_mlp_width, "text", "layers",
                     (int)m->text_layers, "width", (int)m->text_width, "heads", (int)m->text_heads, "kv_heads", (int)m->text_kv_heads, "head_dim",
                     (int)m->text_head_dim, "mlp_width", (int)m->text_mlp_width, "vocab_size", (int)m->vocab_size, "sliding_window",
                     (int)m->sliding_window, "tokenizer", m->has_tokenizer, "kv_bytes_per_token", (json_int_t)m->kv_bytes_per_token);
}

static json_t *inspection_json(cli *c, const inspection *x) {
    const char *path = c->args.random ? c->args.random : cli_model_name(c);
    json_t *stored = json_object(), *memory = json_pack("{s:I}", "stored", (json_int_t)x->run_bytes_stored);
    for (size_t k = 0; k < x->n_types; k++) {
        const stored_type *t = &x->types[k];
        (void)json_object_set_new(stored, t->name, json_pack("{s:I, s:I, s:I}", "tensors", (json_int_t)t->n_tensors, "elements",
                                                             (json_int_t)t->n_elements, "bytes", (json_int_t)t->n_bytes));
    }
    for (size_t k = 0; k < N_RUN_DTYPES; k++) (void)json_object_set_new(memory, run_dtypes[k], json_integer((json_int_t)x->run_bytes[k]));
    json_t *object = json_pack("{s:i, s:s, s:o, s:o, s:o}", "schema", REPORT_SCHEMA, "kind", x->is_adapter ? "adapter" : "model", "path", report_text(path, strlen(path)),
                               "problem", *x->problem ? report_text(x->problem, strlen(x->problem)) : json_null(), "dtypes", stored);
    json_t *sizes = x->is_adapter ? inspect_adapter_json(&x->adapter) : x->has_info ? sizes_json(&x->info) : json_object();
    bool ok = object && sizes && json_object_update(object, sizes) == 0;
    json_decref(sizes);
    for (int state = PALI_TENSOR_MISSING; state <= PALI_TENSOR_EXTRA && ok && x->has_info; state++)
        ok = json_object_set_new(object, state_names[state], tensors_json(x, false, (pali_tensor_state)state)) == 0;
    if (ok && x->run_bytes_stored) ok = json_object_set(object, "memory_bytes", memory) == 0;
    if (ok && c->args.tensors) ok = json_object_set_new(object, "tensors", tensors_json(x, true, PALI_TENSOR_FOUND)) == 0;
    json_decref(memory);
    if (ok) return object;
    json_decref(object);
    return NULL;
}

int cmd_inspect(cli *c) {
    inspection x;
    if (!c->args.random && inspect_codec_is(c->args.model)) return inspect_codec(c);
    int code = inspection_make(c, &x);
    if (!code) {
        if (c->args.json) {
            code = report_print(c, inspection_json(c, &x));
        } else {
            print_plain(c, &x);
        }
    }
    if (!code && *x.problem) code = cli_fail(c, "%s: %s", x.is_adapter ? "adapter" : "model", x.problem);
    pali_contents_free(x.contents);
    return code;
}
