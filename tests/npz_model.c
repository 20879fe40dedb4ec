#include "npz_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/halffloat.h"
#include "base/mem.h"
#include "golden.h"
#include "model/config_json.h"

static void check(pali_status status) {
    if (status != PALI_OK) fail_msg("%s: %s", pali_status_name(status), status_message());
}

/* ---- A checkpoint as such a file ---- */

/* How an array is made of a checkpoint's tensors: where[i] says which axis of a tensor, its dims split as given, is the array's
 * axis i (after those of layers and slots). */
typedef struct recipe {
    const char *name;
    size_t n_slots; /* 0: no axis */
    const char *tensors[3];
    size_t n_dims, split[4];
    size_t where[4];
    size_t n_layers; /* 0: no axis */
} recipe;

array *arrays_find(arrays *a, const char *name) {
    for (size_t i = 0; i < a->n; i++)
        if (strcmp(a->list[i].name, name) == 0) return &a->list[i];
    fail_msg("no array %s", name);
    return NULL;
}

array *arrays_add(arrays *a, const char *name, const char *descr, size_t element_bytes, size_t n_dims, const size_t *dims) {
    assert_true(a->n < NPZ_MODEL_MAX_ARRAYS);
    array *to = &a->list[a->n++];
    *to = (array){.element_bytes = element_bytes, .n_dims = n_dims, .n_bytes = element_bytes};
    (void)snprintf(to->name, sizeof to->name, "%s", name);
    (void)snprintf(to->descr, sizeof to->descr, "%s", descr);
    for (size_t i = 0; i < n_dims; i++) to->n_bytes *= to->dims[i] = dims[i];
    to->data = calloc(to->n_bytes + 1, 1);
    assert_non_null(to->data);
    return to;
}

void arrays_free(arrays *a) {
    for (size_t i = 0; i < a->n; i++) free(a->list[i].data);
    a->n = 0;
}

static const weights_entry *tensor_of(const weights *hf, const char *name, size_t layer) {
    char full[SPEC_NAME_MAX];
    const char *star = strchr(name, '*');
    if (star)
        (void)snprintf(full, sizeof full, "%.*s%zu%s", (int)(star - name), name, layer, star + 1);
    else
        (void)snprintf(full, sizeof full, "%s", name);
    const weights_entry *e = weights_find(hf, full);
    if (!e) fail_msg("no tensor %s", full);
    return e;
}

static float element_f32(const uint8_t *p, pali_dtype dtype) {
    uint16_t half;
    float x;
    if (dtype == PALI_DTYPE_F32) {
        memcpy(&x, p, 4);
        return x;
    }
    memcpy(&half, p, 2);
    return dtype == PALI_DTYPE_BF16 ? half_from_bf16(half) : half_from_f16(half);
}

static void array_make(arrays *a, const weights *hf, const recipe *r) {
    const size_t n_layers = r->n_layers ? r->n_layers : 1, n_slots = r->n_slots ? r->n_slots : 1;
    size_t dims[6], n_dims = 0, n = 1, steps[4], step = 1;
    pali_dtype dtype = tensor_of(hf, r->tensors[0], 0)->dtype;
    for (size_t l = 0; l < n_layers; l++) /* an array has one type: if the tensors have several, f32 */
        for (size_t s = 0; s < n_slots; s++)
            if (tensor_of(hf, r->tensors[s], l)->dtype != dtype) dtype = PALI_DTYPE_F32;
    if (r->n_layers) dims[n_dims++] = r->n_layers;
    if (r->n_slots) dims[n_dims++] = r->n_slots;
    for (size_t i = 0; i < r->n_dims; i++) n *= dims[n_dims++] = r->split[r->where[i]];
    for (size_t i = r->n_dims; i-- > 0; step *= r->split[i]) steps[i] = step;
    const size_t element = dtype == PALI_DTYPE_F32 ? 4 : 2;
    array *to = arrays_add(a, r->name, dtype == PALI_DTYPE_F32 ? "<f4" : dtype == PALI_DTYPE_F16 ? "<f2" : "|V2", element, n_dims, dims);
    for (size_t l = 0; l < n_layers; l++) {
        for (size_t s = 0; s < n_slots; s++) {
            const weights_entry *e = tensor_of(hf, r->tensors[s], l);
            const size_t from_element = e->dtype == PALI_DTYPE_F32 ? 4 : 2;
            assert_int_equal(e->n_bytes, n * from_element);
            for (size_t i = 0; i < n; i++) {
                size_t from = 0, rest = i;
                for (size_t d = r->n_dims; d-- > 0;) {
                    size_t size = r->split[r->where[d]];
                    from += rest % size * steps[r->where[d]];
                    rest /= size;
                }
                uint8_t *at = to->data + ((l * n_slots + s) * n + i) * element;
                float x = element_f32(e->data + from * from_element, e->dtype);
                memcpy(at, e->dtype == dtype ? (const void *)(e->data + from * from_element) : &x, element);
            }
        }
    }
}

/* qkv: the text model has as many heads for keys as for queries. */
void arrays_make(arrays *a, const weights *hf, const config *c) {
    const vit_config *v = &c->vit;
    const gemma_config *t = &c->text;
    const size_t p = v->patch_size, w = v->width, f = v->mlp_width, n = v->n_heads, h = w / n, vl = v->n_layers;
    const size_t d = t->width, q = t->n_heads, k = t->n_kv_heads, th = t->head_dim, tf = t->mlp_width, tl = t->n_layers;
#define TOWER "vision_tower.encoder.layers.*."
#define TEXT "language_model.layers.*."
    const recipe k_recipes[] = {
        {"img/embedding/kernel", 0, {"vision_tower.embeddings.patch_embedding.weight"}, 4, {w, 3, p, p}, {2, 3, 1, 0}, 0},
        {"img/embedding/bias", 0, {"vision_tower.embeddings.patch_embedding.bias"}, 1, {w}, {0}, 0},
        {"img/pos_embedding", 1, {"vision_tower.embeddings.position_embedding.weight"}, 2, {v->n_patches, w}, {0, 1}, 0},
        {"img/Transformer/encoder_norm/scale", 0, {"vision_tower.post_layernorm.weight"}, 1, {w}, {0}, 0},
        {"img/Transformer/encoder_norm/bias", 0, {"vision_tower.post_layernorm.bias"}, 1, {w}, {0}, 0},
        {NPZ_VIT "LayerNorm_0/scale", 0, {TOWER "layer_norm1.weight"}, 1, {w}, {0}, vl},
        {NPZ_VIT "LayerNorm_0/bias", 0, {TOWER "layer_norm1.bias"}, 1, {w}, {0}, vl},
        {NPZ_VIT "LayerNorm_1/scale", 0, {TOWER "layer_norm2.weight"}, 1, {w}, {0}, vl},
        {NPZ_VIT "LayerNorm_1/bias", 0, {TOWER "layer_norm2.bias"}, 1, {w}, {0}, vl},
        {NPZ_HEADS "query/kernel", 0, {TOWER "self_attn.q_proj.weight"}, 3, {n, h, w}, {2, 0, 1}, vl},
        {NPZ_HEADS "query/bias", 0, {TOWER "self_attn.q_proj.bias"}, 2, {n, h}, {0, 1}, vl},
        {NPZ_HEADS "key/kernel", 0, {TOWER "self_attn.k_proj.weight"}, 3, {n, h, w}, {2, 0, 1}, vl},
        {NPZ_HEADS "key/bias", 0, {TOWER "self_attn.k_proj.bias"}, 2, {n, h}, {0, 1}, vl},
        {NPZ_HEADS "value/kernel", 0, {TOWER "self_attn.v_proj.weight"}, 3, {n, h, w}, {2, 0, 1}, vl},
        {NPZ_HEADS "value/bias", 0, {TOWER "self_attn.v_proj.bias"}, 2, {n, h}, {0, 1}, vl},
        {NPZ_HEADS "out/kernel", 0, {TOWER "self_attn.out_proj.weight"}, 3, {w, n, h}, {1, 2, 0}, vl},
        {NPZ_HEADS "out/bias", 0, {TOWER "self_attn.out_proj.bias"}, 1, {w}, {0}, vl},
        {NPZ_VIT "MlpBlock_0/Dense_0/kernel", 0, {TOWER "mlp.fc1.weight"}, 2, {f, w}, {1, 0}, vl},
        {NPZ_VIT "MlpBlock_0/Dense_0/bias", 0, {TOWER "mlp.fc1.bias"}, 1, {f}, {0}, vl},
        {NPZ_VIT "MlpBlock_0/Dense_1/kernel", 0, {TOWER "mlp.fc2.weight"}, 2, {w, f}, {1, 0}, vl},
        {NPZ_VIT "MlpBlock_0/Dense_1/bias", 0, {TOWER "mlp.fc2.bias"}, 1, {w}, {0}, vl},
        {"img/head/kernel", 0, {"multi_modal_projector.linear.weight"}, 2, {d, w}, {1, 0}, 0},
        {"img/head/bias", 0, {"multi_modal_projector.linear.bias"}, 1, {d}, {0}, 0},
        {"llm/embedder/input_embedding", 0, {"language_model.embed_tokens.weight"}, 2, {t->vocab_size, d}, {0, 1}, 0},
        {"llm/layers/attn/attn_vec_einsum/w", 0, {TEXT "self_attn.o_proj.weight"}, 3, {d, q, th}, {1, 2, 0}, tl},
        {"llm/layers/mlp/gating_einsum", 2, {TEXT "mlp.gate_proj.weight", TEXT "mlp.up_proj.weight"}, 2, {tf, d}, {1, 0}, tl},
        {"llm/layers/mlp/linear", 0, {TEXT "mlp.down_proj.weight"}, 2, {d, tf}, {1, 0}, tl},
        {"llm/layers/pre_attention_norm/scale", 0, {TEXT "input_layernorm.weight"}, 1, {d}, {0}, tl},
        {"llm/final_norm/scale", 0, {"language_model.norm.weight"}, 1, {d}, {0}, 0},
    };
    const recipe k_separate[] = {
        {"llm/layers/attn/q_einsum/w", 0, {TEXT "self_attn.q_proj.weight"}, 3, {q, th, d}, {0, 2, 1}, tl},
        {"llm/layers/attn/kv_einsum/w", 2, {TEXT "self_attn.k_proj.weight", TEXT "self_attn.v_proj.weight"}, 3, {k, th, d}, {0, 2, 1}, tl},
    };
    const recipe together = {"llm/layers/attn/qkv_einsum/w", 3, {TEXT "self_attn.q_proj.weight", TEXT "self_attn.k_proj.weight", TEXT "self_attn.v_proj.weight"},
                             3, {q, th, d}, {0, 2, 1}, tl};
    const recipe k_norms[2][3] = {
        {{"llm/layers/pre_ffw_norm/scale", 0, {TEXT "post_attention_layernorm.weight"}, 1, {d}, {0}, tl}},
        {{"llm/layers/post_attention_norm/scale", 0, {TEXT "post_attention_layernorm.weight"}, 1, {d}, {0}, tl},
         {"llm/layers/pre_ffw_norm/scale", 0, {TEXT "pre_feedforward_layernorm.weight"}, 1, {d}, {0}, tl},
         {"llm/layers/post_ffw_norm/scale", 0, {TEXT "post_feedforward_layernorm.weight"}, 1, {d}, {0}, tl}},
    };
    arrays_free(a);
    for (size_t i = 0; i < sizeof k_recipes / sizeof k_recipes[0]; i++) array_make(a, hf, &k_recipes[i]);
    for (size_t i = 0; i < 2 && k != q; i++) array_make(a, hf, &k_separate[i]);
    if (k == q) array_make(a, hf, &together);
    for (size_t i = 0; i < (t->generation == 1 ? 1u : 3u); i++) array_make(a, hf, &k_norms[t->generation - 1][i]);
}

/* ---- Ways to store it ---- */

/* The array's elements with the first axis running fastest. */
static uint8_t *fortran_order(const array *a) {
    uint8_t *out = malloc(a->n_bytes + 1);
    assert_non_null(out);
    for (size_t i = 0; i < a->n_bytes / a->element_bytes; i++) {
        size_t to = 0, rest = i;
        size_t steps[6], step = 1;
        for (size_t d = 0; d < a->n_dims; step *= a->dims[d++]) steps[d] = step;
        for (size_t d = a->n_dims; d-- > 0; rest /= a->dims[d]) to += rest % a->dims[d] * steps[d];
        memcpy(out + to * a->element_bytes, a->data + i * a->element_bytes, a->element_bytes);
    }
    return out;
}

void arrays_zip_one(zip *z, const array *a, unsigned how) {
    char name[160], dict[320], shape[160] = "(";
    uint8_t *turned = how & FORTRAN ? fortran_order(a) : NULL;
    for (size_t i = 0; i < a->n_dims; i++) (void)snprintf(shape + strlen(shape), sizeof shape - strlen(shape), "%zu, ", a->dims[i]);
    (void)snprintf(name, sizeof name, "%s%s.npy", how & PARAMS ? "params/" : "", a->name);
    (void)snprintf(dict, sizeof dict, "{'descr': '%s', 'fortran_order': %s, 'shape': %s), }\n", a->descr, how & FORTRAN ? "True" : "False", shape);
    bytes npy = npy_make(dict, turned ? turned : a->data, a->n_bytes);
    if (how & DEFLATED)
        zip_add_deflated(z, name, npy.data, npy.n, npy.n);
    else
        zip_add(z, name, npy.data, npy.n);
    free(npy.data);
    free(turned);
}

static void layers_add(zip *z, const array *a, unsigned how) {
    for (size_t i = 0; i < a->dims[0]; i++) {
        array layer = *a;
        (void)snprintf(layer.name, sizeof layer.name, "img/Transformer/encoderblock_%zu/%.70s", i, a->name + strlen(NPZ_VIT));
        layer.n_dims--;
        memmove(layer.dims, a->dims + 1, layer.n_dims * sizeof *layer.dims);
        layer.n_bytes = a->n_bytes / a->dims[0];
        layer.data = a->data + i * layer.n_bytes;
        arrays_zip_one(z, &layer, how);
    }
}

bytes arrays_zip(const arrays *a, unsigned how) {
    static const float k_numbers[3] = {1, 2, 3};
    zip z = {0};
    for (size_t i = 0; i < a->n; i++) {
        if (how & UNSTACKED && strncmp(a->list[i].name, NPZ_VIT, strlen(NPZ_VIT)) == 0)
            layers_add(&z, &a->list[i], how);
        else
            arrays_zip_one(&z, &a->list[i], how);
    }
    if (how & EXTRAS) {
        array extra = {.name = "opt/0/mu/llm/final_norm/scale", .descr = "<f8", .n_dims = 1, .dims = {1}, .element_bytes = 8, .n_bytes = 8, .data = (uint8_t *)(uintptr_t)k_numbers};
        arrays_zip_one(&z, &extra, 0);
        (void)snprintf(extra.name, sizeof extra.name, "chrono/step");
        extra.n_dims = 0;
        arrays_zip_one(&z, &extra, 0);
    }
    zip_finish(&z, "");
    return z.file;
}

/* ---- The directory ---- */

void npz_model_put(const npz_model *m, const char *name, const void *data, size_t n) {
    char path[160];
    (void)snprintf(path, sizeof path, "%s/%s", m->dir, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

void npz_model_copy(const npz_model *m, const char *name) {
    char path[700], *data;
    size_t n;
    (void)snprintf(path, sizeof path, "%s/%s", m->golden, name);
    check(file_read(&data, &n, path, (size_t)1 << 24));
    npz_model_put(m, name, data, n);
    mem_free(data);
}

void npz_model_restore(npz_model *m) {
    char path[700];
    weights *hf;
    (void)snprintf(path, sizeof path, "%s/config.json", m->golden);
    check(config_load(&m->cfg, path));
    check(weights_open(&hf, m->golden));
    arrays_make(&m->arrays, hf, &m->cfg);
    weights_free(hf);
}

void npz_model_open(npz_model *m, const char *name) {
    *m = (npz_model){.dir = "/tmp/pali-npz-model-XXXXXX"};
    (void)snprintf(m->golden, sizeof m->golden, "%s/%s", GOLDEN_DIR, name);
    assert_non_null(mkdtemp(m->dir));
    (void)snprintf(m->path, sizeof m->path, "%s/model.npz", m->dir);
    npz_model_copy(m, "tokenizer.json");
    npz_model_copy(m, "config.json");
    npz_model_restore(m);
}

void npz_model_close(npz_model *m) {
    char command[128];
    (void)snprintf(command, sizeof command, "rm -rf '%s'", m->dir);
    assert_int_equal(system(command), 0);
    arrays_free(&m->arrays);
}

void npz_model_write(const npz_model *m, unsigned how) {
    bytes file = arrays_zip(&m->arrays, how);
    npz_model_put(m, "model.npz", file.data, file.n);
    free(file.data);
}
