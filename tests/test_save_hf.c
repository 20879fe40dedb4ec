/* test_save_hf.c: directories as other programs expect them: configuration, shards and their index, names, the tokenizer's files, modes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/mem.h"
#include "golden.h"
#include "io/safetensors.h"
#include "model/save.h"
#include "model/weights.h"
#include "same_model.h"
#include "savedir.h"

/* The same model whether its configuration was copied or made. */
static void writes_the_configuration(void **state) {
    (void)state;
    for (size_t i = 0; k_golden_models[i]; i++) {
        model *a = savedir_open_golden(k_golden_models[i]);
        savedir_save(a, NULL, savedir_in("m.gguf"), PALI_DTYPE_AUTO);
        savedir_save(a, NULL, savedir_in("copied"), PALI_DTYPE_AUTO);
        savedir_convert(savedir_in("m.gguf"), savedir_in("made"), PALI_DTYPE_AUTO);
        model *b = savedir_open(savedir_in("copied"), PALI_DTYPE_AUTO), *c = savedir_open(savedir_in("made"), PALI_DTYPE_AUTO);
        assert_same_config(&a->cfg, &b->cfg);
        assert_same_config(&a->cfg, &c->cfg);
        assert_int_equal(savedir_count(savedir_in("made")), 3); /* config.json, preprocessor_config.json, model.safetensors */
        json_t *made = savedir_json(savedir_in("made"), "config.json"), *copied = savedir_json(savedir_in("copied"), "config.json");
        const char *dtype = strstr(k_golden_models[i], "bf16") ? "bfloat16" : strstr(k_golden_models[i], "f16") ? "float16" : "float32";
        if (!strstr(k_golden_models[i], "mixed")) {
            assert_string_equal(golden_string(made, "torch_dtype"), dtype);
            assert_string_equal(golden_string(copied, json_object_get(copied, "dtype") ? "dtype" : "torch_dtype"), dtype);
        }
        assert_string_equal(json_string_value(json_array_get(json_object_get(made, "architectures"), 0)), "PaliGemmaForConditionalGeneration");
        json_decref(made);
        json_decref(copied);
        model_free(a);
        model_free(b);
        model_free(c);
        savedir_clean(NULL);
    }
}

/* What changed is changed in the copy, and nothing else. */
static void updates_a_copied_configuration(void **state) {
    (void)state;
    char dir[512];
    model *m;
    savedir_golden(dir, "pg2-f32");
    model_options o = {.n_threads = 2, .no_sliding_window = true, .no_final_softcap = true, .no_prefault = true};
    assert_int_equal(model_load(&m, dir, &o), PALI_OK);
    m->cfg.image_token = 77;
    savedir_save(m, NULL, savedir_in("m"), PALI_DTYPE_F16);
    json_t *was = savedir_json(dir, "config.json"), *is = savedir_json(savedir_in("m"), "config.json");
    json_t *text = json_object_get(was, "text_config"), *vision = json_object_get(was, "vision_config");
    json_t *const parts[] = {was, text, vision};
    for (size_t i = 0; i < 3; i++) assert_int_equal(json_object_set_new(parts[i], "dtype", json_string("float16")), 0);
    (void)json_object_set_new(was, "image_token_index", json_integer(77));
    (void)json_object_set_new(text, "final_logit_softcapping", json_null());
    (void)json_object_set_new(text, "layer_types", json_pack("[s, s, s]", "full_attention", "full_attention", "full_attention"));
    assert_true(json_equal(was, is));
    json_decref(was);
    json_decref(is);
    model *b = savedir_open(savedir_in("m"), PALI_DTYPE_AUTO);
    assert_same_config(&m->cfg, &b->cfg);
    model_free(b);
    model_free(m);
}

/* Files of at most the given size, in the order of the table, one of its own for a tensor that is larger; an index of them. */
static void cuts_into_shards(void **state) {
    (void)state;
    static const uint64_t k_limits[] = {1, 5000, 40000, 200000, 300000, 100000000};
    model *m = savedir_open_golden("pg2-bf16");
    char dir[512];
    size_t n_files_before = SIZE_MAX;
    savedir_golden(dir, "pg2-bf16");
    for (size_t i = 0; i < sizeof k_limits / sizeof k_limits[0]; i++) {
        model_save_options o = {.n_threads = 1, .shard_bytes = k_limits[i]};
        if (model_save(m, NULL, savedir_in("m"), &o) != PALI_OK) fail_msg("%s", status_message());
        assert_same_files(dir, savedir_in("m"));
        weights *w;
        assert_int_equal(weights_open(&w, savedir_in("m")), PALI_OK);
        uint64_t total = 0, elements = 0;
        for (size_t f = 0; f < w->n_files; f++) {
            const safetensors *st = w->files[f].handle;
            uint64_t n = 0;
            for (size_t t = 0; t < st->n_tensors; t++) n += st->tensors[t].n_bytes;
            assert_true(n <= k_limits[i] || st->n_tensors == 1);
            total += n;
            elements += n / 2;
            assert_true(((uintptr_t)st->tensors[0].data - (uintptr_t)st->map.data) % 64 == 0);
        }
        assert_true(w->n_files < n_files_before || w->n_files == 1);
        n_files_before = w->n_files;
        assert_int_equal(file_exists(savedir_in("m/model.safetensors")), w->n_files == 1);
        assert_int_equal(file_exists(savedir_in("m/model.safetensors.index.json")), w->n_files > 1);
        if (w->n_files > 1) {
            json_t *index = savedir_json(savedir_in("m"), "model.safetensors.index.json");
            const json_t *metadata = golden_field(index, "metadata");
            assert_int_equal((uint64_t)golden_number(metadata, "total_size"), total);
            assert_int_equal((uint64_t)golden_number(metadata, "total_parameters"), elements);
            assert_int_equal(json_object_size(golden_field(index, "weight_map")), w->n_entries);
            json_decref(index);
            char first[64];
            (void)snprintf(first, sizeof first, "m/model-00001-of-%05zu.safetensors", w->n_files);
            assert_true(file_exists(savedir_in(first)));
        }
        weights_free(w);
        savedir_clean(NULL);
    }
    model_free(m);
}

/* Names as on the hub, a head of its own among them; a directory's other files byte for byte. */
static void writes_what_others_read(void **state) {
    (void)state;
    static const char *const k_names[] = {"vision_tower.vision_model.embeddings.patch_embedding.weight", "vision_tower.vision_model.encoder.layers.0.mlp.fc1.bias",
                                          "multi_modal_projector.linear.weight", "language_model.model.embed_tokens.weight",
                                          "language_model.model.layers.1.self_attn.q_proj.weight", "language_model.lm_head.weight"};
    model *m = savedir_open_golden("pg1-f32");
    tokenizer *t = savedir_tokenizer("pg1-f32");
    m->cfg.tied = false; /* any other matrix as the head */
    m->text.head = m->text.embed;
    m->text.head.data = (const char *)m->text.embed.data + 4;
    m->text.head.rows--;
    m->text.embed.rows--;
    m->cfg.text.vocab_size--;
    m->spec.n++;
    for (size_t i = 0; i < m->spec.n; i++)
        if (m->spec.tensors[i].group == SPEC_EMBED) m->spec.tensors[i].dims[0]--;
    savedir_save(m, t, savedir_in("m"), PALI_DTYPE_AUTO);
    safetensors st;
    assert_int_equal(safetensors_open(&st, savedir_in("m/model.safetensors")), PALI_OK);
    for (size_t i = 0; i < sizeof k_names / sizeof k_names[0]; i++) {
        size_t j = 0;
        while (j < st.n_tensors && strcmp(st.tensors[j].name, k_names[i]) != 0) j++;
        if (j == st.n_tensors) fail_msg("no %s", k_names[i]);
    }
    safetensors_close(&st);
    model *b = savedir_open(savedir_in("m"), PALI_DTYPE_AUTO);
    assert_false(b->cfg.tied);
    assert_int_equal(b->cfg.text.vocab_size, m->cfg.text.vocab_size);
    assert_memory_equal(b->text.head.data, m->text.head.data, m->text.head.rows * mat_row_bytes(&m->text.head));
    json_t *root = savedir_json(savedir_in("m"), "config.json");
    assert_true(json_is_false(json_object_get(root, "tie_word_embeddings")));
    assert_true(json_is_false(json_object_get(json_object_get(root, "text_config"), "tie_word_embeddings")));
    json_decref(root);
    static const char *const k_files[] = {"tokenizer.json", "preprocessor_config.json"};
    for (size_t i = 0; i < 2; i++) {
        char from[640], to[640], *x, *y;
        size_t n, k;
        (void)snprintf(from, sizeof from, "%s/pg1-f32/%s", GOLDEN_DIR, k_files[i]);
        (void)snprintf(to, sizeof to, "%s/%s", savedir_in("m"), k_files[i]);
        assert_int_equal(file_read(&x, &n, from, 1 << 24), PALI_OK);
        assert_int_equal(file_read(&y, &k, to, 1 << 24), PALI_OK);
        assert_int_equal(n, k);
        assert_memory_equal(x, y, n);
        mem_free(x);
        mem_free(y);
    }
    model_save_options o = {.n_threads = 1};
    assert_int_equal(model_save(m, t, savedir_in("m.npz"), &o), PALI_ERR_UNSUPPORTED);
    assert_non_null(strstr(status_message(), "m.npz: the model has a head that is not its table of words"));
    model_free(b);
    model_free(m);
    tokenizer_free(t);
}

static void respects_the_mask_of_modes(void **state) {
    (void)state;
    static const struct {
        mode_t mask, dir, file;
    } k_masks[] = {{022, 0755, 0644}, {077, 0700, 0600}, {002, 0775, 0664}};
    model *m = savedir_open_golden("pg1-bf16");
    mode_t before = umask(0);
    for (size_t i = 0; i < 3; i++) {
        struct stat dir, file;
        umask(k_masks[i].mask);
        savedir_save(m, NULL, savedir_in("m"), PALI_DTYPE_AUTO);
        assert_int_equal(stat(savedir_in("m"), &dir), 0);
        assert_int_equal(stat(savedir_in("m/model.safetensors"), &file), 0);
        assert_int_equal(dir.st_mode & 0777, k_masks[i].dir);
        assert_int_equal(file.st_mode & 0777, k_masks[i].file);
        savedir_clean(NULL);
    }
    umask(before);
    model_free(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(writes_the_configuration, savedir_clean),
        cmocka_unit_test_teardown(updates_a_copied_configuration, savedir_clean),
        cmocka_unit_test_teardown(cuts_into_shards, savedir_clean),
        cmocka_unit_test_teardown(writes_what_others_read, savedir_clean),
        cmocka_unit_test_teardown(respects_the_mask_of_modes, savedir_clean),
    };
    return cmocka_run_group_tests(tests, savedir_setup, savedir_teardown);
}
