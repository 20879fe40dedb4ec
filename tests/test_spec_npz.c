/* test_spec_npz.c: the table of tensors as parts of big_vision's arrays, at the sizes of the released models: it covers the arrays, and
 * the arrays' shapes give the config back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "model/config_npz.h"
#include "model/weights.h"
#include "same_model.h"

static void check(pali_status status) {
    if (status != PALI_OK) fail_msg("%s: %s", pali_status_name(status), status_message());
}

typedef struct array_seen {
    const char *name;
    size_t n_dims, dims[6];
    uint64_t n_covered; /* elements that are some tensor's */
} array_seen;

static array_seen array_of(const spec_npz *z) {
    array_seen a = {.name = z->name};
    if (z->n_layers) a.dims[a.n_dims++] = z->n_layers;
    if (z->n_slots) a.dims[a.n_dims++] = z->n_slots;
    for (size_t i = 0; i < z->n_dims; i++) a.dims[a.n_dims++] = z->dims[i];
    return a;
}

/* Every tensor's part of an array is as many elements in the axes that it says, no two have the same part, and together they
 * are the whole arrays of spec 3.4. */
static void the_table_covers_the_arrays(void **state) {
    (void)state;
    static const struct {
        const char *shape;
        size_t n_arrays;
        uint64_t n_parameters; /* spec 1.2, with the rows of the original table */
    } k_models[] = {{"3b-224", 32, 2923335408u}, {"pg2-3b-448", 34, 3032979696u}, {"pg2-10b-896", 34, 9666833136u}, {"pg2-28b-224", 34, 27650192112u}};
    static const struct {
        size_t model;
        const char *name;
        size_t n_dims, dims[6];
    } k_arrays[] = {
        {0, "img/embedding/kernel", 4, {14, 14, 3, 1152}},
        {0, "img/pos_embedding", 3, {1, 256, 1152}},
        {0, "img/Transformer/encoderblock/LayerNorm_1/scale", 2, {27, 1152}},
        {0, "img/Transformer/encoderblock/MultiHeadDotProductAttention_0/key/kernel", 4, {27, 1152, 16, 72}},
        {0, "img/Transformer/encoderblock/MultiHeadDotProductAttention_0/value/bias", 3, {27, 16, 72}},
        {0, "img/Transformer/encoderblock/MultiHeadDotProductAttention_0/out/kernel", 4, {27, 16, 72, 1152}},
        {0, "img/Transformer/encoderblock/MlpBlock_0/Dense_1/kernel", 3, {27, 4304, 1152}},
        {0, "img/Transformer/encoder_norm/bias", 1, {1152}},
        {0, "img/head/kernel", 2, {1152, 2048}},
        {0, "llm/embedder/input_embedding", 2, {257152, 2048}},
        {0, "llm/layers/attn/kv_einsum/w", 5, {18, 2, 1, 2048, 256}},
        {0, "llm/layers/mlp/gating_einsum", 4, {18, 2, 2048, 16384}},
        {3, "llm/layers/attn/q_einsum/w", 4, {46, 32, 4608, 128}},
        {3, "llm/layers/attn/attn_vec_einsum/w", 4, {46, 32, 128, 4608}},
        {3, "llm/layers/mlp/linear", 3, {46, 36864, 4608}},
        {3, "llm/layers/post_ffw_norm/scale", 2, {46, 4608}},
        {3, "llm/final_norm/scale", 1, {4608}},
    };
    size_t n_named = 0;
    for (size_t i = 0; i < sizeof k_models / sizeof k_models[0]; i++) {
        config cfg;
        spec s;
        array_seen seen[64];
        size_t n_seen = 0;
        uint64_t n_parameters = 0;
        assert_int_equal(config_named(&cfg, k_models[i].shape), PALI_OK);
        cfg.text.vocab_size = 257152;
        vit v = {.cfg = cfg.vit, .layers = calloc(cfg.vit.n_layers, sizeof *v.layers)};
        gemma g = {.cfg = cfg.text, .layers = calloc(cfg.text.n_layers, sizeof *g.layers)};
        assert_true(v.layers && g.layers);
        assert_int_equal(spec_build(&s, &v, &g), PALI_OK);
        for (size_t j = 0; j < s.n; j++) {
            const spec_tensor *t = &s.tensors[j];
            uint64_t n = 1, n_there = 1;
            unsigned axes = 0;
            if (t->optional) continue;
            assert_string_equal(spec_name(t, SPEC_NPZ), t->npz.name);
            for (size_t d = 0; d < t->n_dims; d++) n *= t->dims[d];
            for (size_t d = 0; d < t->npz.n_dims; d++) {
                n_there *= t->npz.dims[d];
                axes |= 1u << t->npz.axes[d];
            }
            assert_int_equal(n, n_there);
            assert_int_equal(axes, (1u << t->npz.n_dims) - 1); /* a permutation */
            assert_true(t->npz.layer < t->npz.n_layers || t->npz.n_layers == 0);
            assert_true(t->npz.slot < t->npz.n_slots || t->npz.n_slots == 0);
            for (size_t k = 0; k < j; k++)
                assert_true(strcmp(s.tensors[k].npz.name, t->npz.name) != 0 || s.tensors[k].npz.layer != t->npz.layer || s.tensors[k].npz.slot != t->npz.slot);
            /* Hugging Face's rows are the first of its axes, as many as make them up. */
            size_t rows = 1, d = 0;
            while (rows < t->dims[0]) rows *= t->npz.dims[t->npz.axes[d++]];
            assert_int_equal(rows, t->dims[0]);
            size_t at = 0;
            while (at < n_seen && strcmp(seen[at].name, t->npz.name) != 0) at++;
            if (at == n_seen) seen[n_seen++] = array_of(&t->npz);
            seen[at].n_covered += n;
        }
        assert_int_equal(n_seen, k_models[i].n_arrays);
        for (size_t j = 0; j < n_seen; j++) {
            uint64_t n = 1;
            for (size_t d = 0; d < seen[j].n_dims; d++) n *= seen[j].dims[d];
            assert_int_equal(seen[j].n_covered, n);
            n_parameters += n;
            for (size_t k = 0; k < sizeof k_arrays / sizeof k_arrays[0]; k++) {
                if (k_arrays[k].model != i || strcmp(k_arrays[k].name, seen[j].name) != 0) continue;
                assert_int_equal(seen[j].n_dims, k_arrays[k].n_dims);
                assert_memory_equal(seen[j].dims, k_arrays[k].dims, sizeof seen[j].dims);
                n_named++;
            }
        }
        assert_int_equal(n_parameters, k_models[i].n_parameters);
        spec_free(&s);
        free(v.layers);
        free(g.layers);
    }
    assert_int_equal(n_named, sizeof k_arrays / sizeof k_arrays[0]);
}

/* Entries of the shapes that the real models have, without data: their config is the released one, and the plan holds what has to
 * be copied: all but the table. */
static void derives_the_released_configs(void **state) {
    (void)state;
    static const struct {
        const char *shape;
        uint64_t n_parameters; /* spec 1.2 */
    } k_models[] = {{"3b-224", 2923335408u}, {"3b-896", 2927759088u}, {"pg2-3b-224", 3032094960u}, {"pg2-3b-448", 3032979696u}, {"pg2-10b-448", 9663294192u}, {"pg2-28b-896", 27654615792u}};
    for (size_t i = 0; i < sizeof k_models / sizeof k_models[0]; i++) {
        config want, c;
        spec s;
        weights w = {.layout = SPEC_NPZ};
        weights_memory memory;
        char title[2][64];
        check(config_named(&want, k_models[i].shape));
        want.text.vocab_size = 257152;
        vit v = {.cfg = want.vit, .layers = calloc(want.vit.n_layers, sizeof *v.layers)};
        gemma g = {.cfg = want.text, .layers = calloc(want.text.n_layers, sizeof *g.layers)};
        assert_true(v.layers && g.layers);
        check(spec_build(&s, &v, &g));
        for (size_t j = 0; j < s.n; j++) {
            const spec_npz *z = &s.tensors[j].npz;
            if (z->layer || z->slot || s.tensors[j].optional) continue;
            weights_entry e = {.file = "f", .file_name = z->name, .dtype = PALI_DTYPE_BF16};
            e.n_dims = spec_npz_shape(e.dims, z, true);
            check(weights_add(&w, z->name, &e));
        }
        check(weights_seal(&w));
        check(config_npz_read(&c, &w, "f", "/not/read/config.json"));
        assert_same_config(&c, &want);
        assert_int_equal(config_n_parameters(&c), k_models[i].n_parameters);
        config_name(&c, title[0], sizeof title[0]);
        config_name(&want, title[1], sizeof title[1]);
        assert_string_equal(title[0], title[1]);
        check(weights_plan(&memory, &w, &s, (spec_dtypes){0}, "f"));
        assert_int_equal(memory.mapped, 2 * (uint64_t)257152 * want.text.width);
        assert_in_range(memory.mapped + memory.block, 2 * k_models[i].n_parameters - memory.vectors, 2 * k_models[i].n_parameters);
        for (size_t j = 0; j < w.n_entries; j++) mem_free(w.entries[j].name);
        mem_free(w.entries);
        spec_free(&s);
        free(v.layers);
        free(g.layers);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_table_covers_the_arrays),
        cmocka_unit_test(derives_the_released_configs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
