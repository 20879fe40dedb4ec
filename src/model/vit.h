/* vit.h: the SigLIP image encoder and the projector (spec inference 2.1 - 2.3). */
#ifndef PALI_MODEL_VIT_H
#define PALI_MODEL_VIT_H

#include "model/config.h"
#include "tensor/exec.h"
#include "tensor/mat.h"

typedef struct vit_layer {
    const float *norm1_w, *norm1_b; /* [W] */
    mat q, k, v, o;                 /* [W, W] */
    const float *q_b, *k_b, *v_b, *o_b;
    const float *norm2_w, *norm2_b;
    mat fc1, fc2;                   /* [F, W], [W, F] */
    const float *fc1_b, *fc2_b;
} vit_layer;

typedef struct vit {
    vit_config cfg;
    mat patch;                      /* [W, 3 * patch * patch] in (channel, row, column) order */
    const float *patch_b;           /* [W] */
    const float *position;          /* [P, W] */
    vit_layer *layers;
    const float *post_w, *post_b;   /* [W] */
    mat projector;                  /* [D, W] */
    const float *projector_b;       /* [D] */
} vit;

/* pixels [3, R, R] in [-1, 1] -> vision [P, W] (after the post layer norm). */
pali_status vit_forward(exec *e, const vit *v, float *vision, const float *pixels);
/* vision [n, W] -> out [n, D]. */
pali_status vit_project(exec *e, const vit *v, float *out, const float *vision, size_t n);

/* Adds what vit_forward and vit_project need; data of the weights is not looked at. */
void vit_need(exec_need *need, exec *e, const vit *v);

#endif
