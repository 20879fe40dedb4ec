/* test_weights_bad.c: checkpoints that are broken, each in one way: each fails with a line that names the file and the tensor. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/mem.h"
#include "checkpoint.h"

static void break_missing(checkpoint *c) {
    checkpoint_drop(c, "language_model.layers.1.mlp.up_proj.weight");
    checkpoint_write_shard(c, "model.safetensors", 0, layout_a);
}
static void break_missing_norm(checkpoint *c) {
    checkpoint_drop(c, "language_model.norm.weight");
    checkpoint_write_shard(c, "model.safetensors", 0, layout_a);
}
static void break_shape(checkpoint *c) {
    checkpoint_reshape(c, "language_model.layers.0.mlp.down_proj.weight", 2, 10, 15);
    checkpoint_write_shard(c, "model.safetensors", 0, layout_a);
}
static void break_transposed(checkpoint *c) {
    checkpoint_reshape(c, "multi_modal_projector.linear.weight", 2, 12, 10);
    checkpoint_write_shard(c, "model.safetensors", 0, layout_b);
}
static void break_rank(checkpoint *c) {
    checkpoint_reshape(c, "vision_tower.post_layernorm.bias", 2, 12, 1);
    checkpoint_write_shard(c, "model.safetensors", 0, layout_a);
}
static void break_grid(checkpoint *c) {
    checkpoint_reshape(c, "vision_tower.embeddings.position_embedding.weight", 2, 17, 12);
    checkpoint_write_shard(c, "model.safetensors", 0, layout_a);
}
static void break_kv_rows(checkpoint *c) {
    checkpoint_reshape(c, "language_model.layers.0.self_attn.k_proj.weight", 2, 7, 10);
    checkpoint_write_shard(c, "model.safetensors", 0, layout_a);
}
static void break_dtype(checkpoint *c) {
    static const size_t k_packed[] = {60, 1};
    checkpoint_drop(c, "language_model.layers.0.self_attn.q_proj.weight");
    checkpoint_add(c, "language_model.layers.0.self_attn.q_proj.weight", "U8", 2, k_packed);
    checkpoint_write_shard(c, "model.safetensors", 0, layout_a);
}
static void break_duplicate(checkpoint *c) {
    static const size_t k_dims[] = {10};
    tensor *twin = checkpoint_add(c, "language_model.model.norm.weight", "F32", 1, k_dims);
    twin->raw = true;
    twin->shard = 1;
    checkpoint_write_shard(c, "first part.safetensors", 0, layout_b);
    checkpoint_write_shard(c, "zweiter.bin", 1, layout_b);
    checkpoint_write_index(c, layout_b);
}
static void break_truncated(checkpoint *c) {
    char path[128], *bytes;
    size_t n;
    checkpoint_write_shard(c, "model.safetensors", 0, layout_a);
    checkpoint_path(path, sizeof path, c, "model.safetensors");
    assert_int_equal(file_read(&bytes, &n, path, MAX_FILE), PALI_OK);
    checkpoint_write(c, "model.safetensors", bytes, n - 1);
    mem_free(bytes);
}
static void break_header(checkpoint *c) {
    checkpoint_write(c, "model.safetensors", "\xff\xff\xff\xff\xff\xff\xff\x7f{}", 10);
}
static void break_empty(checkpoint *c) {
    checkpoint_write(c, "model.safetensors", "", 0);
}
static void break_outside(checkpoint *c) {
    static const char json[] = "{\"weight_map\":{\"language_model.model.norm.weight\":\"../../etc/passwd\"}}";
    checkpoint_write_text(c, "model.safetensors.index.json", json);
}
static void break_absent_shard(checkpoint *c) {
    checkpoint_write_shard(c, "first part.safetensors", 0, layout_a);
    c->tensors[0].shard = 1;
    checkpoint_write_index(c, layout_a);
}
static void break_no_weights(checkpoint *c) {
    (void)c;
}
static void break_config(checkpoint *c) {
    checkpoint_write_shard(c, "model.safetensors", 0, layout_a);
    checkpoint_write_text(c, "config.json", "{\"vision_config\":");
}
static void break_quantized(checkpoint *c) {
    static const char json[] =
        "{\"quantization_config\":{\"quant_method\":\"gptq\"},\"vision_config\":{},\"text_config\":{}}";
    checkpoint_write_text(c, "config.json", json);
}
static void break_adapter(checkpoint *c) {
    checkpoint_remove_files(c);
    checkpoint_write_text(c, "adapter_config.json", "{\"peft_type\":\"LORA\",\"r\":4,\"lora_alpha\":8,\"base_model_name_or_path\":\"the-base\"}");
}
static void break_no_config(checkpoint *c) {
    checkpoint_remove_files(c);
}
static void break_picture_size(checkpoint *c) {
    checkpoint_write_shard(c, "model.safetensors", 0, layout_a);
    checkpoint_write_text(c, "preprocessor_config.json", "{\"size\":{\"height\":448,\"width\":448}}");
}

static void names_what_is_wrong(void **state) {
    (void)state;
    static const struct {
        void (*break_it)(checkpoint *c);
        pali_status status;
        const char *file, *message;
    } k_cases[] = {
        {break_missing, PALI_ERR_FORMAT, "",
         ": language_model.layers.1.mlp.up_proj.weight: tensor missing: expected one of shape [14, 10]"},
        {break_missing_norm, PALI_ERR_FORMAT, "",
         ": language_model.norm.weight: tensor missing: expected one of shape [10]"},
        {break_shape, PALI_ERR_FORMAT, "/model.safetensors",
         ": language_model.model.layers.0.mlp.down_proj.weight: shape [10, 15], expected [10, 14]"},
        {break_transposed, PALI_ERR_FORMAT, "/model.safetensors",
         ": model.multi_modal_projector.linear.weight: shape [12, 10], expected [10, 12]"},
        {break_rank, PALI_ERR_FORMAT, "/model.safetensors", "post_layernorm.bias: shape [12, 1], expected [12]"},
        {break_grid, PALI_ERR_FORMAT, "/model.safetensors", "position_embedding.weight: 17 rows are not a square grid"},
        {break_kv_rows, PALI_ERR_FORMAT, "/model.safetensors",
         "layers.0.self_attn.k_proj.weight: shape [7, 10], expected [12, 10]"},
        {break_dtype, PALI_ERR_UNSUPPORTED, "/model.safetensors",
         "layers.0.self_attn.q_proj.weight: dtype U8 is not supported yet"},
        {break_duplicate, PALI_ERR_FORMAT, "/", "language_model.norm.weight: the same tensor is also in"},
        {break_truncated, PALI_ERR_FORMAT, "/model.safetensors", "(truncated?)"},
        {break_header, PALI_ERR_FORMAT, "/model.safetensors", ": header: 9223372036854775807 bytes, but the file has 10"},
        {break_empty, PALI_ERR_FORMAT, "/model.safetensors", ": 0 bytes are too few"},
        {break_outside, PALI_ERR_FORMAT, "/model.safetensors.index.json",
         "language_model.model.norm.weight: '../../etc/passwd' is not the name of a file in the same directory"},
        {break_absent_shard, PALI_ERR_IO, "/zweiter.bin", "cannot open"},
        {break_no_weights, PALI_ERR_IO, "", ": found neither model.safetensors nor"},
        {break_config, PALI_ERR_FORMAT, "/config.json", ": line 1"},
        {break_quantized, PALI_ERR_UNSUPPORTED, "/config.json",
         ": quantization_config: quant_method 'gptq' is not supported, only bitsandbytes"},
        {break_adapter, PALI_ERR_UNSUPPORTED, "", ": a LoRA adapter, not a model: open the model that it was made for (the-base)"},
        {break_no_config, PALI_ERR_IO, "/config.json", "cannot open"},
        {break_picture_size, PALI_ERR_FORMAT, "/preprocessor_config.json", ": size: 448 x 448, but the model takes 8 x 8"},
    };
    for (size_t i = 0; i < sizeof k_cases / sizeof k_cases[0]; i++) {
        checkpoint c;
        model *m;
        char where[128];
        checkpoint_new(&c, 1, "F32");
        checkpoint_write_config(&c);
        k_cases[i].break_it(&c);
        pali_status status = checkpoint_load(&m, &c, PALI_DTYPE_AUTO);
        checkpoint_path(where, sizeof where, &c, k_cases[i].file + (k_cases[i].file[0] == '/'));
        if (!k_cases[i].file[0]) where[strlen(where) - 1] = 0;
        if (status != k_cases[i].status || strncmp(status_message(), where, strlen(where)) != 0 ||
            !strstr(status_message(), k_cases[i].message))
            fail_msg("case %zu: status %d, '%s' lacks '%s' or '%s'", i, status, status_message(), where,
                     k_cases[i].message);
        assert_null(m);
        checkpoint_free(&c);
    }
}

static void refuses_other_files(void **state) {
    (void)state;
    static const char *const k_names[] = {"weights.npz", "weights.gguf"};
    checkpoint c;
    model *m;
    model_options o = {.n_threads = 1};
    checkpoint_new(&c, 1, "F32");
    for (size_t i = 0; i < 2; i++) {
        char path[128];
        checkpoint_path(path, sizeof path, &c, k_names[i]);
        assert_int_equal(model_load(&m, path, &o), PALI_ERR_IO);
        checkpoint_write(&c, k_names[i], "x", 1);
        assert_int_equal(model_load(&m, path, &o), PALI_ERR_FORMAT);
        assert_non_null(strstr(status_message(), k_names[i]));
        assert_non_null(strstr(status_message(), i == 0 ? "too few for an npz file" : "not a GGUF file"));
    }
    checkpoint_free(&c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_what_is_wrong),
        cmocka_unit_test(refuses_other_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
