/* test_config.c: config.json and the image processor's config -> hyper-parameters; defaults, real shapes, refusals. */
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
#include "model/config.h"

static config parsed(const char *json) {
    config c;
    if (config_parse(&c, json, strlen(json), "config.json") != PALI_OK) fail_msg("%s: %s", json, status_message());
    return c;
}

#define CONFIG(vision, text) "{\"model_type\":\"paligemma\",\"vision_config\":{" vision "},\"text_config\":{" text "}}"

/* Spec 1.2, all of its rows. */
static void counts_parameters(void **state) {
    (void)state;
    static const struct {
        const char *shape, *name;
        uint64_t n_257152, n_257216;
    } k_rows[] = {
        {"3b-224", "PaliGemma 3B 224", 2923335408u, 2923466480u},
        {"3b-448", "PaliGemma 3B 448", 2924220144u, 2924351216u},
        {"3b-896", "PaliGemma 3B 896", 2927759088u, 2927890160u},
        {"pg2-3b-224", "PaliGemma 2 3B 224", 3032094960u, 3032242416u},
        {"pg2-3b-448", "PaliGemma 2 3B 448", 3032979696u, 3033127152u},
        {"pg2-3b-896", "PaliGemma 2 3B 896", 3036518640u, 3036666096u},
        {"pg2-10b-224", "PaliGemma 2 10B 224", 9662409456u, 9662638832u},
        {"pg2-10b-448", "PaliGemma 2 10B 448", 9663294192u, 9663523568u},
        {"pg2-10b-896", "PaliGemma 2 10B 896", 9666833136u, 9667062512u},
        {"pg2-28b-224", "PaliGemma 2 28B 224", 27650192112u, 27650487024u},
        {"pg2-28b-448", "PaliGemma 2 28B 448", 27651076848u, 27651371760u},
        {"pg2-28b-896", "PaliGemma 2 28B 896", 27654615792u, 27654910704u},
    };
    for (size_t i = 0; i < sizeof k_rows / sizeof k_rows[0]; i++) {
        config c;
        char name[64];
        assert_int_equal(config_named(&c, k_rows[i].shape), PALI_OK);
        assert_int_equal(config_n_parameters(&c), k_rows[i].n_257216);
        c.text.vocab_size = 257152;
        assert_int_equal(config_n_parameters(&c), k_rows[i].n_257152);
        c.tied = false;
        assert_int_equal(config_n_parameters(&c), k_rows[i].n_257152 + 257152 * c.text.width);
        config_name(&c, name, sizeof name);
        assert_string_equal(name, k_rows[i].name);
    }
    config c;
    assert_int_equal(config_named(&c, "3b-225"), PALI_ERR_ARGUMENT);
    assert_int_equal(config_named(&c, "4b-224"), PALI_ERR_ARGUMENT);
    assert_int_equal(config_named(&c, ""), PALI_ERR_ARGUMENT);
}

static void assert_same(const config *a, const config *b) {
    const vit_config *v = &a->vit, *w = &b->vit;
    const gemma_config *s = &a->text, *t = &b->text;
    assert_int_equal(v->image_size, w->image_size);
    assert_int_equal(v->patch_size, w->patch_size);
    assert_int_equal(v->n_patches, w->n_patches);
    assert_int_equal(v->width, w->width);
    assert_int_equal(v->n_layers, w->n_layers);
    assert_int_equal(v->n_heads, w->n_heads);
    assert_int_equal(v->mlp_width, w->mlp_width);
    assert_true(v->norm_eps == w->norm_eps);
    assert_int_equal(s->generation, t->generation);
    assert_int_equal(s->width, t->width);
    assert_int_equal(s->n_layers, t->n_layers);
    assert_int_equal(s->n_heads, t->n_heads);
    assert_int_equal(s->n_kv_heads, t->n_kv_heads);
    assert_int_equal(s->head_dim, t->head_dim);
    assert_int_equal(s->mlp_width, t->mlp_width);
    assert_int_equal(s->vocab_size, t->vocab_size);
    assert_true(s->norm_eps == t->norm_eps && s->rope_theta == t->rope_theta && s->attn_scale == t->attn_scale);
    assert_true(s->attn_softcap == t->attn_softcap && s->final_softcap == t->final_softcap);
    assert_int_equal(s->sliding_window, t->sliding_window);
    for (size_t i = 0; i < s->n_layers; i++) assert_int_equal(s->layer_slides[i], t->layer_slides[i]);
    assert_int_equal(a->image_token, b->image_token);
    assert_int_equal(a->bos_token, b->bos_token);
    assert_int_equal(a->eos_token, b->eos_token);
    assert_int_equal(a->pad_token, b->pad_token);
    assert_int_equal(a->resample, b->resample);
}

#define HUB_VISION                                                                                                         \
    "\"hidden_size\":1152,\"intermediate_size\":4304,\"model_type\":\"siglip_vision_model\",\"num_attention_heads\":16,"   \
    "\"num_hidden_layers\":27,\"num_image_tokens\":256,\"patch_size\":14,\"projection_dim\":2048,"                         \
    "\"projector_hidden_act\":\"gelu_fast\",\"vision_use_head\":false"

/* As released: image_size 224 is a default, the top-level vocab_size is stale, Gemma fields are left out. */
static void reads_released_configs(void **state) {
    (void)state;
    config named, c = parsed("{\"architectures\":[\"PaliGemmaForConditionalGeneration\"],\"bos_token_id\":2,\"eos_token_"
                             "id\":1,\"hidden_size\":2048,"
                             "\"ignore_index\":-100,\"image_token_index\":257152,\"model_type\":\"paligemma\",\"pad_token_"
                             "id\":0,\"projection_dim\":2048,"
                             "\"text_config\":{\"hidden_size\":2048,\"intermediate_size\":16384,\"model_type\":\"gemma\","
                             "\"num_attention_heads\":8,"
                             "\"num_hidden_layers\":18,\"num_image_tokens\":256,\"num_key_value_heads\":1,\"torch_dtype\":"
                             "\"float32\",\"vocab_size\":257216},"
                             "\"torch_dtype\":\"float32\",\"vision_config\":{" HUB_VISION "},\"vocab_size\":257152}");
    assert_int_equal(config_named(&named, "3b-224"), PALI_OK);
    assert_same(&c, &named);

    c = parsed(CONFIG(HUB_VISION ",\"image_size\":448",
                      "\"model_type\":\"gemma2\",\"hidden_size\":4608,\"intermediate_size\":36864,\"num_attention_heads\":"
                      "32,\"num_hidden_layers\":46,"
                      "\"num_key_value_heads\":16,\"head_dim\":128,\"query_pre_attn_scalar\":144,\"hidden_activation\":"
                      "\"gelu_pytorch_tanh\","
                      "\"hidden_act\":\"gelu_pytorch_tanh\",\"sliding_window\":4096,\"vocab_size\":257216"));
    assert_int_equal(config_named(&named, "pg2-28b-448"), PALI_OK);
    assert_same(&c, &named);
    assert_float_equal(c.text.attn_scale, 1.0 / 12, 1e-8); /* one rounding of a float below 1/8 */
}

/* Spec 1.4, the table; for the vision tower the reference's class defaults. */
static void takes_documented_defaults(void **state) {
    (void)state;
    config c = parsed(CONFIG("", "\"model_type\":\"gemma\""));
    config gemma = {.vit = {.image_size = 224, .patch_size = 16, .n_patches = 196, .width = 768, .n_layers = 12,
                    .n_heads = 12, .mlp_width = 3072, .norm_eps = 1e-6f}, .text = {.generation = 1, .width = 3072,
                    .n_layers = 28, .n_heads = 16, .n_kv_heads = 16, .head_dim = 256, .mlp_width = 24576,
                    .vocab_size = 256000, .norm_eps = 1e-6f, .rope_theta = 10000, .attn_scale = 1.0f / 16},
                    .image_token = 257152, .bos_token = 2, .eos_token = 1, .pad_token = 0, .resample = 3};
    assert_same(&c, &gemma);
    assert_true(c.tied);

    config gemma2 = gemma;
    gemma2.text = (gemma_config){.generation = 2, .width = 2304, .n_layers = 26, .n_heads = 8, .n_kv_heads = 4,
                                 .head_dim = 256, .mlp_width = 9216, .vocab_size = 256000, .norm_eps = 1e-6f,
                                 .rope_theta = 10000, .attn_scale = 1.0f / 16, .attn_softcap = 50, .final_softcap = 30,
                                 .sliding_window = 4096};
    for (size_t i = 0; i < 26; i += 2) gemma2.text.layer_slides[i] = true;
    c = parsed(CONFIG("", "\"model_type\":\"gemma2\""));
    assert_same(&c, &gemma2);

    /* null counts as absent, except for what it turns off. */
    c = parsed(CONFIG("\"image_size\":null", "\"model_type\":\"gemma2\",\"head_dim\":null,\"attn_logit_softcapping\":null,"
                                             "\"final_logit_softcapping\":null,\"sliding_window\":null"));
    gemma2.text.attn_softcap = gemma2.text.final_softcap = 0;
    gemma2.text.sliding_window = 0;
    assert_same(&c, &gemma2);
}

static void reads_optional_fields(void **state) {
    (void)state;
    config c = parsed(
        "{\"image_token_id\":299,\"bos_token_id\":5,\"eos_token_id\":[6],\"pad_token_id\":7,\"vocab_size\":9,\"tie_word_"
        "embeddings\":false,"
        "\"vision_config\":{\"image_size\":30,\"patch_size\":7,\"hidden_size\":48,\"num_attention_heads\":6,\"layer_norm_"
        "eps\":1e-5},"
        "\"text_config\":{\"model_type\":\"gemma2\",\"num_hidden_layers\":3,\"head_dim\":18,\"query_pre_attn_scalar\":64,"
        "\"rms_norm_eps\":1e-5,"
        "\"attn_logit_softcapping\":20.5,\"final_logit_softcapping\":10,\"sliding_window\":8,\"rope_parameters\":{\"rope_"
        "theta\":500000.0,"
        "\"rope_type\":\"default\"},\"layer_types\":[\"full_attention\",\"sliding_attention\",\"full_attention\"]}}");
    assert_int_equal(c.vit.n_patches, 16); /* the rest of the picture's edge belongs to no patch */
    assert_int_equal(c.vit.n_heads, 6);
    assert_true(c.vit.norm_eps == 1e-5f && c.text.norm_eps == 1e-5f);
    assert_true(c.text.attn_scale == 0.125f && c.text.attn_softcap == 20.5f && c.text.final_softcap == 10 &&
                c.text.rope_theta == 500000);
    assert_int_equal(c.text.sliding_window, 8);
    assert_false(c.text.layer_slides[0]);
    assert_true(c.text.layer_slides[1]);
    assert_false(c.text.layer_slides[2]);
    assert_int_equal(c.image_token, 299);
    assert_int_equal(c.bos_token, 5);
    assert_int_equal(c.eos_token, 6);
    assert_int_equal(c.pad_token, 7);
    assert_int_equal(c.text.vocab_size, 256000);
    char name[64];
    config_name(&c, name, sizeof name);
    assert_string_equal(name, "PaliGemma 2 (custom) 30");
    /* Gemma 1 scales by its head dim whatever the field says; "gelu" there has always meant the tanh approximation. */
    c = parsed(
        CONFIG("", "\"model_type\":\"gemma\",\"head_dim\":64,\"query_pre_attn_scalar\":144,\"hidden_act\":\"gelu\""));
    assert_true(c.text.attn_scale == 0.125f);
}

static void refuses_bad_configs(void **state) {
    (void)state;
    static const struct {
        const char *json, *message;
        pali_status status;
    } k_bad[] = {
        {"", "config.json: line", PALI_ERR_FORMAT},
        {"[]", "config.json: expected an object", PALI_ERR_FORMAT},
        {"{", "config.json: line", PALI_ERR_FORMAT},
        {"{}", "config.json: vision_config: missing", PALI_ERR_FORMAT},
        {"{\"vision_config\":{}}", "config.json: text_config: missing", PALI_ERR_FORMAT},
        {"{\"vision_config\":[],\"text_config\":{}}", "vision_config: expected an object", PALI_ERR_FORMAT},
        {"{\"model_type\":\"llava\"}", "model_type: 'llava' is not paligemma", PALI_ERR_UNSUPPORTED},
        {"{\"model_type\":7}", "model_type: expected a string", PALI_ERR_FORMAT},
        {"{\"quantization_config\":{\"quant_method\":\"awq\"},\"vision_config\":{},\"text_config\":{}}",
         "quantization_config: quant_method 'awq' is not supported, only bitsandbytes", PALI_ERR_UNSUPPORTED},
        {"{\"eos_token_id\":[1,2],\"vision_config\":{},\"text_config\":{}}", "eos_token_id: expected a whole number",
         PALI_ERR_FORMAT},
        {"{\"eos_token_id\":-1,\"vision_config\":{},\"text_config\":{}}", "eos_token_id: -1 is not between",
         PALI_ERR_FORMAT},
        {"{\"eos_token_id\":[-1],\"vision_config\":{},\"text_config\":{}}", "eos_token_id: -1 is not an id",
         PALI_ERR_FORMAT},
        {CONFIG("\"hidden_size\":\"big\"", ""), "config.json: vision_config: hidden_size: expected a whole number",
         PALI_ERR_FORMAT},
        {CONFIG("\"hidden_size\":1152.5", ""), "vision_config: hidden_size: expected a whole number", PALI_ERR_FORMAT},
        {CONFIG("\"hidden_size\":0", ""), "vision_config: hidden_size: 0 is not between", PALI_ERR_FORMAT},
        {CONFIG("\"hidden_size\":9223372036854775807", ""),
         "vision_config: hidden_size: 9223372036854775807 is not between", PALI_ERR_FORMAT},
        {CONFIG("\"hidden_size\":1000", ""), "vision_config: hidden_size: 1000 is not a multiple", PALI_ERR_FORMAT},
        {CONFIG("\"image_size\":8", ""), "vision_config: image_size: 8 is less than patch_size", PALI_ERR_FORMAT},
        {CONFIG("\"image_size\":5000", ""), "vision_config: image_size: 5000 is not between", PALI_ERR_FORMAT},
        {CONFIG("\"num_channels\":1", ""), "vision_config: num_channels", PALI_ERR_FORMAT},
        {CONFIG("\"hidden_act\":\"gelu\"", ""), "vision_config: hidden_act: 'gelu' is not supported", PALI_ERR_UNSUPPORTED},
        {CONFIG("", "\"hidden_size\":70000"), "config.json: text_config: hidden_size: 70000 is not between",
         PALI_ERR_FORMAT},
        {CONFIG("", "\"model_type\":\"llama\""), "text_config: model_type: 'llama'", PALI_ERR_UNSUPPORTED},
        {CONFIG("", "\"hidden_act\":\"silu\""), "text_config: hidden_act: 'silu'", PALI_ERR_UNSUPPORTED},
        {CONFIG("", "\"model_type\":\"gemma2\",\"hidden_activation\":\"relu\""), "text_config: hidden_activation: 'relu'",
         PALI_ERR_UNSUPPORTED},
        {CONFIG("", "\"num_hidden_layers\":257"), "num_hidden_layers: 257 is not between", PALI_ERR_FORMAT},
        {CONFIG("", "\"num_attention_heads\":8,\"num_key_value_heads\":3"),
         "num_attention_heads: 8 is not a multiple of num_key_value_heads 3", PALI_ERR_FORMAT},
        {CONFIG("", "\"num_key_value_heads\":0"), "num_key_value_heads: 0 is not between", PALI_ERR_FORMAT},
        {CONFIG("", "\"head_dim\":7"), "head_dim: 7 is odd", PALI_ERR_FORMAT},
        {CONFIG("", "\"rms_norm_eps\":\"small\""), "rms_norm_eps: expected a number", PALI_ERR_FORMAT},
        {CONFIG("", "\"rope_theta\":0"), "rope_theta: 0 is not between", PALI_ERR_FORMAT},
        {CONFIG("", "\"rope_theta\":1e999"), "config.json: line", PALI_ERR_FORMAT},
        {CONFIG("", "\"rope_parameters\":{\"rope_type\":\"yarn\"}"), "rope_parameters.rope_type: 'yarn'",
         PALI_ERR_UNSUPPORTED},
        {CONFIG("", "\"rope_scaling\":{\"type\":\"linear\"}"), "text_config: rope_scaling", PALI_ERR_UNSUPPORTED},
        {CONFIG("", "\"attention_bias\":true"), "attention_bias", PALI_ERR_UNSUPPORTED},
        {CONFIG("", "\"attention_bias\":1"), "attention_bias: expected true or false", PALI_ERR_FORMAT},
        {CONFIG("", "\"model_type\":\"gemma2\",\"layer_types\":[\"full_attention\"]"), "layer_types: expected a list of 26",
         PALI_ERR_FORMAT},
        {CONFIG("", "\"model_type\":\"gemma2\",\"num_hidden_layers\":1,\"layer_types\":[\"odd\"]"),
         "layer_types: 0: expected sliding_attention", PALI_ERR_FORMAT},
        {CONFIG("", "\"model_type\":\"gemma2\",\"query_pre_attn_scalar\":0"), "query_pre_attn_scalar: 0 is not between",
         PALI_ERR_FORMAT},
        {CONFIG("", "\"model_type\":\"gemma2\",\"sliding_window\":0"), "sliding_window: 0 is not between", PALI_ERR_FORMAT},
    };
    for (size_t i = 0; i < sizeof k_bad / sizeof k_bad[0]; i++) {
        config c;
        pali_status status = config_parse(&c, k_bad[i].json, strlen(k_bad[i].json), "config.json");
        if (status != k_bad[i].status || !strstr(status_message(), k_bad[i].message))
            fail_msg("%s: status %d, '%s' lacks '%s'", k_bad[i].json, status, status_message(), k_bad[i].message);
    }
}

#define HALVES "\"image_mean\":[0.5,0.5,0.5],\"image_std\":[0.5,0.5,0.5],"

static void checks_the_preprocessor(void **state) {
    (void)state;
    static const struct {
        const char *json, *message; /* NULL: fine */
        pali_status status;
        int resample;
    } k_cases[] = {
        {"{}", NULL, PALI_OK, 3},
        {"{\"do_convert_rgb\":null,\"do_normalize\":true,\"do_rescale\":true,\"do_resize\":true," HALVES
         "\"image_processor_type\":\"SiglipImageProcessor\","
         "\"image_seq_length\":256,\"resample\":3,\"rescale_factor\":0.00392156862745098,\"size\":{\"height\":224,"
         "\"width\":224}}",
         NULL, PALI_OK, 3},
        {"{\"resample\":2,\"size\":224,\"image_mean\":0.5}", NULL, PALI_OK, 2},
        {"{\"processor_class\":\"PaliGemmaProcessor\",\"image_processor\":{\"resample\":1}}", NULL, PALI_OK, 1},
        {"{\"image_processor\":{\"resample\":6}}", "p: image_processor: resample: 6 is not between", PALI_ERR_FORMAT, 3},
        {"[]", "p: expected an object", PALI_ERR_FORMAT, 3},
        {"{\"do_rescale\":false}", "p: do_rescale: false is not supported", PALI_ERR_UNSUPPORTED, 3},
        {"{\"do_normalize\":0}", "p: do_normalize: expected true or false", PALI_ERR_FORMAT, 3},
        {"{\"image_mean\":[0.48,0.46,0.41]}", "p: image_mean: only 0.5", PALI_ERR_UNSUPPORTED, 3},
        {"{\"image_std\":[0.5,0.5]}", "p: image_std: only 0.5", PALI_ERR_UNSUPPORTED, 3},
        {"{\"image_std\":\"half\"}", "p: image_std: only 0.5", PALI_ERR_UNSUPPORTED, 3},
        {"{\"rescale_factor\":1}", "p: rescale_factor: only 1/255", PALI_ERR_UNSUPPORTED, 3},
        {"{\"size\":{\"height\":224,\"width\":448}}", "p: size: 224 x 448, but the model takes 224 x 224", PALI_ERR_FORMAT,
         3},
        {"{\"size\":448}", "p: size: 448 x 448", PALI_ERR_FORMAT, 3},
        {"{\"size\":{\"shortest_edge\":224}}", "p: size: only a fixed height and width", PALI_ERR_UNSUPPORTED, 3},
        {"{\"size\":{\"height\":\"x\",\"width\":1}}", "p: size: height: expected a whole number", PALI_ERR_FORMAT, 3},
    };
    for (size_t i = 0; i < sizeof k_cases / sizeof k_cases[0]; i++) {
        config c;
        assert_int_equal(config_named(&c, "3b-224"), PALI_OK);
        pali_status status = config_parse_preprocessor(&c, k_cases[i].json, strlen(k_cases[i].json), "p");
        if (status != k_cases[i].status || (k_cases[i].message && !strstr(status_message(), k_cases[i].message)))
            fail_msg("%s: status %d, '%s'", k_cases[i].json, status, status_message());
        assert_int_equal(c.resample, k_cases[i].resample);
    }
}

static void write_text(const char *dir, const char *name, const char *text) {
    char *path = file_join(dir, name);
    assert_non_null(path);
    assert_int_equal(file_write_atomic(path, text, strlen(text)), PALI_OK);
    mem_free(path);
}

/* The nested form in processor_config.json wins; one that nests nothing leaves the other file's word. */
static void finds_the_preprocessor(void **state) {
    (void)state;
    char dir[] = "/tmp/test_config_XXXXXX", path[64];
    config c;
    assert_non_null(mkdtemp(dir));
    assert_int_equal(config_named(&c, "3b-224"), PALI_OK);
    assert_int_equal(config_load_preprocessor(&c, dir), PALI_OK);
    assert_int_equal(c.resample, 3);
    write_text(dir, "preprocessor_config.json", "{\"resample\":2}");
    assert_int_equal(config_load_preprocessor(&c, dir), PALI_OK);
    assert_int_equal(c.resample, 2);
    write_text(dir, "processor_config.json", "{\"image_seq_length\":256}");
    assert_int_equal(config_load_preprocessor(&c, dir), PALI_OK);
    assert_int_equal(c.resample, 2);
    write_text(dir, "processor_config.json", "{\"image_processor\":{\"resample\":1}}");
    assert_int_equal(config_load_preprocessor(&c, dir), PALI_OK);
    assert_int_equal(c.resample, 1);
    write_text(dir, "processor_config.json", "{");
    assert_int_equal(config_load_preprocessor(&c, dir), PALI_ERR_FORMAT);
    assert_non_null(strstr(status_message(), "/processor_config.json: line"));
    for (size_t k = 1; k <= 3; k++) {
        mem_fail_after(k);
        assert_int_equal(config_load_preprocessor(&c, dir), PALI_ERR_MEMORY);
    }
    mem_fail_after(0);
    (void)snprintf(path, sizeof path, "%s/missing.json", dir);
    assert_int_equal(config_load(&c, path), PALI_ERR_IO);
    assert_non_null(strstr(status_message(), path));
    write_text(dir, "config.json", "{\"vision_config\":{},\"text_config\":{}}");
    (void)snprintf(path, sizeof path, "%s/config.json", dir);
    assert_int_equal(config_load(&c, path), PALI_OK);
    static const char *const k_files[] = {"config.json", "preprocessor_config.json", "processor_config.json"};
    for (size_t i = 0; i < 3; i++) {
        char *file = file_join(dir, k_files[i]);
        assert_int_equal(unlink(file), 0);
        mem_free(file);
    }
    assert_int_equal(rmdir(dir), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_parameters),         cmocka_unit_test(reads_released_configs),
        cmocka_unit_test(takes_documented_defaults), cmocka_unit_test(reads_optional_fields),
        cmocka_unit_test(refuses_bad_configs),       cmocka_unit_test(checks_the_preprocessor),
        cmocka_unit_test(finds_the_preprocessor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
