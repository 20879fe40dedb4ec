#include "same_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

void assert_same_config(const config *a, const config *b) {
    const vit_config *v = &a->vit, *x = &b->vit;
    const gemma_config *t = &a->text, *u = &b->text;
    assert_true(v->image_size == x->image_size && v->patch_size == x->patch_size && v->n_patches == x->n_patches && v->width == x->width);
    assert_true(v->n_layers == x->n_layers && v->n_heads == x->n_heads && v->mlp_width == x->mlp_width && v->norm_eps == x->norm_eps);
    assert_true(t->generation == u->generation && t->width == u->width && t->n_layers == u->n_layers && t->n_heads == u->n_heads);
    assert_true(t->n_kv_heads == u->n_kv_heads && t->head_dim == u->head_dim && t->mlp_width == u->mlp_width && t->vocab_size == u->vocab_size);
    assert_true(t->norm_eps == u->norm_eps && t->rope_theta == u->rope_theta && t->attn_scale == u->attn_scale);
    assert_true(t->attn_softcap == u->attn_softcap && t->final_softcap == u->final_softcap);
    for (size_t i = 0; i < t->n_layers; i++) { /* a window that no layer has is none */
        const bool slides = t->sliding_window && t->layer_slides[i];
        assert_int_equal(slides, u->sliding_window && u->layer_slides[i]);
        if (slides) assert_int_equal(t->sliding_window, u->sliding_window);
    }
    assert_true(a->image_token == b->image_token && a->bos_token == b->bos_token && a->eos_token == b->eos_token && a->pad_token == b->pad_token);
    assert_true(a->tied == b->tied && a->resample == b->resample);
}

void assert_same_model(const model *a, const model *b) {
    assert_same_config(&a->cfg, &b->cfg);
    assert_int_equal(a->spec.n, b->spec.n);
    assert_int_equal(a->weight_bytes, b->weight_bytes);
    for (size_t i = 0; i < a->spec.n; i++) {
        const spec_tensor *x = &a->spec.tensors[i], *y = &b->spec.tensors[i];
        size_t n = 1;
        for (size_t d = 0; d < x->n_dims; d++) n *= x->dims[d];
        assert_string_equal(x->name, y->name);
        if (x->vector) {
            if (memcmp(*x->vector, *y->vector, n * sizeof(float)) != 0) fail_msg("%s differs", x->name);
        } else if (x->matrix->dtype != y->matrix->dtype || memcmp(x->matrix->data, y->matrix->data, x->matrix->rows * mat_row_bytes(x->matrix)) != 0) {
            fail_msg("%s: %s differs from %s", x->name, pali_dtype_name(x->matrix->dtype), pali_dtype_name(y->matrix->dtype));
        }
    }
    assert_int_equal(a->n_extras, 0);
    assert_int_equal(b->n_extras, 0);
}
