/* vit_block.h: the parts of the image encoder that inference and training share. Private to vit*.c. */
#ifndef PALI_MODEL_VIT_BLOCK_H
#define PALI_MODEL_VIT_BLOCK_H

#include "model/vit.h"
#include "tensor/attention.h"

/* Where the intermediates of a block live. Of several pictures: their rows one after the other. */
typedef struct vit_acts {
    float *x;          /* [P, W] residual stream */
    float *h;          /* [P, W] normed input of a branch */
    float *q, *k, *v;  /* [P, W] */
    float *mix;        /* [P, W] attention output, heads concatenated */
    float *mlp;        /* [P, F] */
} vit_acts;

static inline size_t vit_patch_floats(const vit_config *cfg) {
    return 3 * cfg->patch_size * cfg->patch_size;
}

/* rows [P, 3 p p]: patch (r, c) is row r * grid + c; columns run over (channel, row, column) as the weights do. */
void vit_patches(float *rows, const float *pixels, const vit_config *cfg);

/* x [n, P, W] = the patches of n pictures, which go to rows, embedded. */
pali_status vit_embed_patches(exec *e, const vit *v, float *x, float *rows, const float *const *pixels, size_t n);

/* Attention between the patches of one of the pictures whose rows a has. */
attention vit_attention(const vit_config *cfg, const vit_acts *a, size_t picture);

/* h, q, k, v and mix of x [n, P, W]: n <= ATTENTION_MAX pictures. */
pali_status vit_block_attention(exec *e, const vit_config *cfg, const vit_layer *l, const vit_acts *a, const float *x, size_t n);
/* x through a block, in place. */
pali_status vit_block(exec *e, const vit_config *cfg, const vit_layer *l, const vit_acts *a, size_t n);

#endif
