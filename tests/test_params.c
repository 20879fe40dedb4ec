/* test_params.c: which parameters are trained, how many, and which of them decay: the counts of spec training 3, worked out
 * from the table of tensors without weights; and their memory. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/halffloat.h"
#include "base/mem.h"
#include "train/params.h"

/* A model without weights. */
typedef struct shape {
    vit v;
    gemma g;
    spec s;
} shape;

static void shape_open(shape *m, const config *c) {
    *m = (shape){.v.cfg = c->vit, .g.cfg = c->text};
    m->v.layers = mem_calloc(c->vit.n_layers, sizeof *m->v.layers);
    m->g.layers = mem_calloc(c->text.n_layers, sizeof *m->g.layers);
    assert_true(m->v.layers && m->g.layers);
    assert_int_equal(spec_build(&m->s, &m->v, &m->g), PALI_OK);
}

static void shape_close(shape *m) {
    spec_free(&m->s);
    mem_free(m->v.layers);
    mem_free(m->g.layers);
}

static void shape_named(shape *m, const char *name) {
    config c;
    assert_int_equal(config_named(&c, name), PALI_OK);
    c.text.vocab_size = 257152;
    shape_open(m, &c);
}

static params chosen(const shape *m, const char *train, const char *freeze) {
    params p;
    unsigned groups;
    assert_int_equal(params_groups_parse(&groups, train, freeze), PALI_OK);
    assert_int_equal(params_of_spec(&p, &m->s, groups), PALI_OK);
    return p;
}

static uint64_t count(const shape *m, const char *train, const char *freeze) {
    params p = chosen(m, train, freeze);
    uint64_t n = p.n_values;
    params_free(&p);
    return n;
}

static void counts(void **state) {
    (void)state;
    shape m;
    shape_named(&m, "3b-224");
    assert_int_equal(count(&m, NULL, NULL), 2923335408u);
    assert_int_equal(count(&m, NULL, "img"), 2510893056u);      /* the article: its code trains the projector */
    assert_int_equal(count(&m, NULL, "img,proj"), 2508531712u); /* big_vision's freeze_vit */
    assert_int_equal(count(&m, "llm.attn", NULL), 169869312u);  /* its notebook */
    assert_int_equal(count(&m, "img", NULL), 412442352u);
    assert_int_equal(count(&m, "proj", NULL), 2361344u);
    assert_int_equal(count(&m, "embed,llm.norm", "llm.norm"), 526647296u);
    assert_int_equal(count(&m, "llm.norm", NULL), 37u * 2048);
    shape_close(&m);
    shape_named(&m, "3b-448");
    assert_int_equal(count(&m, NULL, NULL), 2924220144u);
    shape_close(&m);
    shape_named(&m, "pg2-3b-224");
    assert_int_equal(count(&m, "llm.attn", NULL), 368050176u);
    shape_close(&m);
}

typedef struct tally {
    size_t n;
    uint64_t values;
} tally;

static void decay(void **state) {
    (void)state;
    shape m;
    shape_named(&m, "3b-224");
    params p = chosen(&m, NULL, NULL);
    tally undecayed = {0}, text = {0}, kernels_ = {0}, embeddings = {0};
    for (size_t i = 0; i < p.n; i++) {
        const param *q = &p.items[i];
        tally *t[] = {q->decay ? NULL : &undecayed, q->decay || q->group < SPEC_EMBED ? NULL : &text, q->kernel ? &kernels_ : NULL,
                      q->embedding ? &embeddings : NULL};
        for (size_t j = 0; j < 4; j++) {
            if (!t[j]) continue;
            t[j]->n++;
            t[j]->values += q->n;
        }
        /* The rule of the reference, by name. */
        bool plain = strstr(q->name, "bias") || strstr(q->name, "norm");
        if (q->decay == plain) fail_msg("%s", q->name);
    }
    assert_int_equal(undecayed.n, 311);
    assert_int_equal(undecayed.values, 477424);
    assert_int_equal(text.n, 37);
    assert_int_equal(text.values, 75776);
    assert_int_equal(kernels_.n, 27 * 6 + 2); /* patches, projector, and six of each layer */
    assert_int_equal(embeddings.n, 2);
    assert_int_equal(embeddings.values, 526647296u + 294912u);
    params_free(&p);
    shape_close(&m);
}

static void heads(void **state) {
    (void)state;
    static const struct {
        const char *name;
        size_t rows, cols;
    } k_heads[] = {{"language_model.layers.3.self_attn.q_proj.weight", 8, 1},
                   {"language_model.layers.3.self_attn.v_proj.weight", 4, 1},
                   {"language_model.layers.3.self_attn.o_proj.weight", 1, 8},
                   {"vision_tower.encoder.layers.2.self_attn.k_proj.weight", 16, 1},
                   {"vision_tower.encoder.layers.2.self_attn.out_proj.weight", 1, 16},
                   {"vision_tower.encoder.layers.2.self_attn.q_proj.bias", 1, 1},
                   {"language_model.layers.3.mlp.down_proj.weight", 1, 1}};
    shape m;
    shape_named(&m, "pg2-3b-224");
    params p = chosen(&m, NULL, NULL);
    for (size_t i = 0; i < sizeof k_heads / sizeof k_heads[0]; i++) {
        size_t j = 0;
        while (j < p.n && strcmp(p.items[j].name, k_heads[i].name) != 0) j++;
        assert_true(j < p.n);
        assert_int_equal(p.items[j].row_heads, k_heads[i].rows);
        assert_int_equal(p.items[j].col_heads, k_heads[i].cols);
    }
    params_free(&p);
    shape_close(&m);
}

static void refusals(void **state) {
    (void)state;
    unsigned groups;
    params p = {0};
    const size_t dims[] = {4, 0, 1, 1, 1}, huge[] = {SIZE_MAX / 2, 3};
    static const char *const k_bad[] = {"", "img,", ",img", "llm", "img;proj", "IMG", "img proj"};
    for (size_t i = 0; i < sizeof k_bad / sizeof k_bad[0]; i++) {
        assert_int_equal(params_groups_parse(&groups, k_bad[i], NULL), PALI_ERR_ARGUMENT);
        assert_int_equal(params_groups_parse(&groups, NULL, k_bad[i]), PALI_ERR_ARGUMENT);
    }
    assert_int_equal(params_groups_parse(&groups, "llm", NULL), PALI_ERR_ARGUMENT);
    assert_string_equal(status_message(), "train: \"llm\" is none of the groups img, proj, embed, llm.attn, llm.mlp, llm.norm");
    assert_int_equal(params_groups_parse(&groups, "img,proj", "proj,img"), PALI_ERR_ARGUMENT);
    assert_int_equal(params_add(&p, "none", SPEC_IMG, 0, dims), PALI_ERR_ARGUMENT);
    assert_int_equal(params_add(&p, "five", SPEC_IMG, 5, dims), PALI_ERR_ARGUMENT);
    assert_int_equal(params_add(&p, "empty", SPEC_IMG, 2, dims), PALI_ERR_ARGUMENT);
    assert_int_equal(params_add(&p, "huge", SPEC_IMG, 2, huge), PALI_ERR_ARGUMENT);
    char name[PARAM_NAME_MAX + 1];
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = 0;
    assert_int_equal(params_add(&p, name, SPEC_IMG, 1, dims), PALI_ERR_ARGUMENT);
    assert_int_equal(p.n, 0);
    params_free(&p);
}

/* A toy with weights: values go into each storage and back into the model's places. */
static void storage(void **state) {
    (void)state;
    config c;
    assert_int_equal(config_named(&c, "3b-224"), PALI_OK);
    c.vit.n_layers = c.text.n_layers = 1;
    c.vit.width = 6;
    c.vit.mlp_width = 10;
    c.vit.n_patches = 4;
    c.vit.patch_size = 2;
    c.text.width = 8;
    c.text.mlp_width = 12;
    c.text.n_heads = 2;
    c.text.n_kv_heads = 1;
    c.text.head_dim = 4;
    c.text.vocab_size = 21;
    for (int storage = PARAM_F32; storage <= PARAM_BF16; storage++) {
        shape m;
        exec e;
        shape_open(&m, &c);
        assert_int_equal(exec_init(&e, 2), PALI_OK);
        params p = chosen(&m, NULL, NULL);
        float weights[256];
        for (size_t i = 0; i < 256; i++) weights[i] = 1 + (float)i * 0x1p-9f; /* not all on bf16's grid */
        for (size_t i = 0; i < p.n; i++) {
            const spec_tensor *t = p.items[i].tensor;
            assert_true(p.items[i].n <= 256);
            if (t->matrix) t->matrix->dtype = PALI_DTYPE_F32;
            if (t->matrix) t->matrix->data = weights;
            else *t->vector = weights;
        }
        assert_int_equal(params_alloc(&p, (param_storage)storage, storage == PARAM_BF16), PALI_OK);
        assert_true(p.block.n_bytes == params_need(&p, (param_storage)storage, storage == PARAM_BF16));
        assert_int_equal(params_load(&p, &e), PALI_OK);
        params_bind(&p);
        for (size_t i = 0; i < p.n; i++) {
            const param *q = &p.items[i];
            bool vector = q->tensor->vector, half = storage != PARAM_F32 && !vector;
            assert_true(!!q->value == (storage != PARAM_BF16 || vector));
            assert_true(!!q->half == half);
            bool half_grad = storage == PARAM_BF16 && !vector && q->group != SPEC_EMBED;
            assert_true(!!q->grad == !half_grad && !!q->grad_half == half_grad);
            for (size_t j = 0; j < q->n; j++) {
                float rounded = half_from_bf16(half_to_bf16(weights[j]));
                if (q->value) assert_true(q->value[j] == (storage == PARAM_BF16 ? rounded : weights[j]));
                if (q->half) assert_true(half_from_bf16(q->half[j]) == rounded);
            }
            if (vector) assert_ptr_equal(*q->tensor->vector, q->value);
            else assert_ptr_equal(q->tensor->matrix->data, half ? (const void *)q->half : q->value);
            if (!vector) assert_int_equal(q->tensor->matrix->dtype, half ? PALI_DTYPE_BF16 : PALI_DTYPE_F32);
            /* Nothing overlaps: writing all gradients leaves the values. */
            if (q->grad) memset(q->grad, 0x7f, q->n * 4);
            else memset(q->grad_half, 0x7f, q->n * 2);
        }
        for (size_t i = 0; i < p.n; i++) assert_true(!p.items[i].value || p.items[i].value[0] == 1);
        params_clear_grads(&p);
        for (size_t i = 0; i < p.n; i++) assert_true(p.items[i].grad ? p.items[i].grad[p.items[i].n - 1] == 0 : p.items[i].grad_half[0] == 0);
        params_free(&p);
        exec_free(&e);
        shape_close(&m);
    }
}

/* An untied head is trained with the embedding. */
static void untied(void **state) {
    (void)state;
    shape m;
    shape_named(&m, "3b-224");
    m.g.head.data = &m;
    assert_int_equal(count(&m, "embed", NULL), 2 * 526647296u);
    shape_close(&m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts), cmocka_unit_test(decay),   cmocka_unit_test(heads),
        cmocka_unit_test(refusals), cmocka_unit_test(storage), cmocka_unit_test(untied),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
