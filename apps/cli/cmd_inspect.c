/* cmd_inspect.c: paligemma inspect. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "inspect_codec.h"
#include "memory.h"
#include "report.h"

enum { N_DTYPES = 10, N_RUN_DTYPES = 7 };
static const struct {
    pali_dtype dtype;
    const char *name;
} dtypes[N_DTYPES] = {{PALI_DTYPE_F32, "f32"},   {PALI_DTYPE_BF16, "bf16"}, {PALI_DTYPE_F16, "f16"},  {PALI_DTYPE_Q8_0, "q8_0"},
                      {PALI_DTYPE_Q4_0, "q4_0"}, {PALI_DTYPE_Q4_1, "q4_1"}, {PALI_DTYPE_Q4_K, "q4_k"},
                      {PALI_DTYPE_NF4, "nf4"},   {PALI_DTYPE_FP4, "fp4"},   {PALI_DTYPE_INT8, "int8"}};
static const char *const run_dtypes[N_RUN_DTYPES] = {"f32", "bf16", "f16", "q8", "q4", "nf4", "int8"}; /* of --dtype */

typedef struct inspection {
    pali_model_info info;
    uint64_t n_elements[N_DTYPES]; /* stored elements by type */
    uint64_t n_tensors[N_DTYPES];
    uint64_t run_bytes_stored, run_bytes[N_RUN_DTYPES]; /* to answer about one picture, 256 tokens at most */
} inspection;

static const char *dtype_name(pali_dtype dtype) {
    for (size_t i = 0; i < N_DTYPES; i++) {
        if (dtypes[i].dtype == dtype) return dtypes[i].name;
    }
    return "other";
}

static int inspect_tensors(cli *c, const pali_model *model, inspection *x) {
    x->info.struct_size = sizeof x->info;
    pali_status status = pali_model_get_info(model, &x->info);
    for (size_t i = 0; status == PALI_OK && i < pali_model_tensor_count(model); i++) {
        pali_tensor_info t = {.struct_size = sizeof t};
        status = pali_model_get_tensor(model, i, &t);
        if (status != PALI_OK) break;
        uint64_t n = 1;
        for (int32_t d = 0; d < t.n_dims && d < 4; d++) n *= t.dims[d];
        for (size_t k = 0; k < N_DTYPES; k++) {
            if (dtypes[k].dtype != t.dtype) continue;
            x->n_elements[k] += n;
            x->n_tensors[k]++;
        }
    }
    pali_model_options options;
    pali_memory_plan plan = {.total = 0};
    int code = cli_model_options(c, &options);
    if (code) return code;
    if (status == PALI_OK) status = memory_plan(c, &plan, &options);
    x->run_bytes_stored = plan.total;
    for (size_t k = 0; k < N_RUN_DTYPES && status == PALI_OK; k++) {
        options.dtype = cli_dtype(run_dtypes[k]);
        status = memory_plan(c, &plan, &options);
        x->run_bytes[k] = plan.total;
    }
    return status == PALI_OK ? CLI_OK : cli_fail_library(c, status, "inspect");
}

static void print_plain(cli *c, const pali_model *model, const inspection *x) {
    const pali_model_info *m = &x->info;
    FILE *out = c->out;
    fprintf(out, "model       %s (%s)\n", m->name, c->args.model);
    fprintf(out, "parameters  %" PRIu64 "\n", m->n_parameters);
    fprintf(out, "stored as  ");
    for (size_t k = 0; k < N_DTYPES; k++) {
        if (x->n_tensors[k]) fprintf(out, " %s (%" PRIu64 " tensors)", dtypes[k].name, x->n_tensors[k]);
    }
    fprintf(out, "\npicture     %d x %d pixels, %d tokens\n", m->image_size, m->image_size, m->n_image_tokens);
    fprintf(out, "vision      %d layers, width %d, %d heads, mlp %d\n", m->vision_layers, m->vision_width, m->vision_heads, m->vision_mlp_width);
    fprintf(out, "text        Gemma %d: %d layers, width %d, %d heads (%d for keys and values) of %d, mlp %d\n", m->generation,
            m->text_layers, m->text_width, m->text_heads, m->text_kv_heads, m->text_head_dim, m->text_mlp_width);
    fprintf(out, "vocabulary  %d, %s tokenizer\n", m->vocab_size, m->has_tokenizer ? "with" : "without");
    if (m->sliding_window) fprintf(out, "window      %d tokens in the sliding layers\n", m->sliding_window);
    char size[32];
    fprintf(out, "memory      %s to run as stored;", memory_text(size, x->run_bytes_stored));
    for (size_t k = 0; k < N_RUN_DTYPES; k++) {
        fprintf(out, " as %s %s%s", run_dtypes[k], memory_text(size, x->run_bytes[k]), k + 1 < N_RUN_DTYPES ? "," : "\n");
    }
    for (size_t i = 0; c->args.tensors && i < pali_model_tensor_count(model); i++) {
        pali_tensor_info t = {.struct_size = sizeof t};
        if (pali_model_get_tensor(model, i, &t) != PALI_OK) continue;
        fprintf(out, "%s %s [", t.name, dtype_name(t.dtype));
        for (int32_t d = 0; d < t.n_dims && d < 4; d++) fprintf(out, "%s%" PRIu64, d ? ", " : "", t.dims[d]);
        fprintf(out, "] %s\n", t.file);
    }
}

static json_t *tensors_json(const pali_model *model) {
    json_t *array = json_array();
    for (size_t i = 0; array && i < pali_model_tensor_count(model); i++) {
        pali_tensor_info t = {.struct_size = sizeof t};
        json_t *shape = json_array(), *object = NULL;
        if (pali_model_get_tensor(model, i, &t) == PALI_OK) {
            for (int32_t d = 0; d < t.n_dims && d < 4; d++) (void)json_array_append_new(shape, json_integer((json_int_t)t.dims[d]));
            object = json_pack("{s:o, s:s, s:O, s:o}", "name", report_text(t.name, strlen(t.name)), "dtype", dtype_name(t.dtype), "shape",
                               shape, "file", report_text(t.file, strlen(t.file)));
        }
        json_decref(shape);
        if (json_array_append_new(array, object) != 0) {
            json_decref(array);
            array = NULL;
        }
    }
    return array;
}

static json_t *inspection_json(cli *c, const pali_model *model, const inspection *x) {
    const pali_model_info *m = &x->info;
    json_t *stored = json_object(), *memory = json_pack("{s:I}", "stored", (json_int_t)x->run_bytes_stored);
    for (size_t k = 0; k < N_DTYPES; k++) {
        if (x->n_tensors[k]) {
            (void)json_object_set_new(stored, dtypes[k].name, json_pack("{s:I, s:I}", "tensors", (json_int_t)x->n_tensors[k], "elements",
                                                                        (json_int_t)x->n_elements[k]));
        }
    }
    for (size_t k = 0; k < N_RUN_DTYPES; k++) (void)json_object_set_new(memory, run_dtypes[k], json_integer((json_int_t)x->run_bytes[k]));
    json_t *object = json_pack(
        "{s:i, s:s, s:o, s:s, s:i, s:I, s:I, s:o, s:i, s:i, s:{s:i, s:i, s:i, s:i}, s:{s:i, s:i, s:i, s:i, s:i, s:i}, s:i, s:i, s:b, s:I, s:o}",
        "schema", REPORT_SCHEMA, "kind", "model", "path", report_text(c->args.model, strlen(c->args.model)), "variant", m->name, "generation",
        (int)m->generation, "parameters", (json_int_t)m->n_parameters, "weight_bytes", (json_int_t)m->weight_bytes, "dtypes", stored,
        "resolution", (int)m->image_size, "image_tokens", (int)m->n_image_tokens, "vision", "layers", (int)m->vision_layers, "width",
        (int)m->vision_width, "heads", (int)m->vision_heads, "mlp_width", (int)m->vision_mlp_width, "text", "layers", (int)m->text_layers,
        "width", (int)m->text_width, "heads", (int)m->text_heads, "kv_heads", (int)m->text_kv_heads, "head_dim", (int)m->text_head_dim,
        "mlp_width", (int)m->text_mlp_width, "vocab_size", (int)m->vocab_size, "sliding_window", (int)m->sliding_window, "tokenizer",
        m->has_tokenizer, "kv_bytes_per_token", (json_int_t)m->kv_bytes_per_token, "memory_bytes", memory);
    if (object && c->args.tensors && json_object_set_new(object, "tensors", tensors_json(model)) != 0) {
        json_decref(object);
        object = NULL;
    }
    return object;
}

int cmd_inspect(cli *c) {
    pali_model *model = NULL;
    inspection x = {0};
    if (inspect_codec_is(c->args.model)) return inspect_codec(c);
    int code = cli_open_stored(c, &model);
    if (!code) code = inspect_tensors(c, model, &x);
    if (!code) {
        if (c->args.json) {
            code = report_print(c, inspection_json(c, model, &x));
        } else {
            print_plain(c, model, &x);
        }
    }
    pali_model_free(model);
    return code;
}
