/* gemma_block.h: the parts of a Gemma block that inference and training share; between them comes attention, which inference does
 * on caches and training on the rows themselves. Private to gemma*.c. */
#ifndef PALI_MODEL_GEMMA_BLOCK_H
#define PALI_MODEL_GEMMA_BLOCK_H

#include "model/gemma.h"
#include "tensor/linear.h"

#define GEMMA_MLP_ROWS 1024u /* rows of the MLP's inside at once: bounds its memory at 896 px (F = 16384: 64 MiB) */

/* Where the intermediates of a block live. T = all rows of the batch. */
typedef struct gemma_acts {
    float *h;          /* [T, D] normed input of a branch, then the branch's output in Gemma 2 */
    float *q, *mix;    /* [T, N, H] */
    float *k, *v;      /* [T, K, H] */
    float *mlp;        /* [min(T, GEMMA_MLP_ROWS), F] */
    float *cos, *sin;  /* [T, H / 2] */
    linear_op alone;   /* LINEAR_ALONE: a decode step */
    size_t n_pictures; /* the first rows, of pictures */
} gemma_acts;

/* Angle i of H / 2 is position + 1 times its frequency. */
float gemma_rope_frequency(const gemma_config *cfg, size_t i);
void gemma_rope_angle(float *cosine, float *sine, float frequency, size_t position);
/* Rotates rows of queries and keys, or of those that are not NULL, each by its row of the tables. */
void gemma_rope(exec *e, const gemma_config *cfg, float *q, float *k, const float *cosines, const float *sines, size_t n);

/* h = norm(x); q, k, v from it, rotated. x [T, D] stays. */
pali_status gemma_block_in(exec *e, const gemma *g, size_t layer, const float *x, const gemma_acts *a, size_t n);
/* Adds both branches to x: attention's from mix, then the MLP's. */
pali_status gemma_block_out(exec *e, const gemma *g, size_t layer, float *x, const gemma_acts *a, size_t n);

#endif
