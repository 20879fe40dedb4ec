/* kernels.h: the table through which everything above meets the hardware.
 *
 * Kernels are pure functions on ranges: no allocation, no threads, no model. ref/ is complete and plain; an instruction
 * set overrides what it does better (kernels_get climbs the ladder of base/cpu.h). The order of every floating-point
 * reduction is fixed by the kernel and its arguments alone, so results never depend on how work was shared out.
 *
 * Matrix products with many rows of activations (prefill):
 *
 *   W rows j..j+nr  --panel_rows-->  panel [k, nr] f32 in L2  --gemm_panel-->  C[m, nr] (+)= A[m, k] panel
 *
 * The panel is made anew from the file's own row-major bytes for each tile of nr outputs; at m = 266 that costs a few
 * percent, and in return weights are never repacked or copied. Decode (m small) reads rows directly: dot_rows.
 *
 * Pointers to weights may have any alignment (a checkpoint file decides it); f32 operands are at least 4-aligned. For the types
 * of kernels/codes.h, `w` of panel_rows, panel_rows_pairs, dot_rows and `x` of to_f32 is a codes_at, and ld the matrix's columns. */
#ifndef PALI_KERNELS_KERNELS_H
#define PALI_KERNELS_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cpu.h"
#include "paligemma.h"

#define KERNELS_NR_MAX 64u  /* widest panel of any level */
#define KERNELS_DOT_ROWS 4u /* most activation rows dot_rows takes at once */
#define KERNELS_PAIRS_HEADER 16u /* a cache line, so that pairs are aligned as their block is */
#define KERNELS_N_DTYPES 11u /* pali_dtype values, AUTO included (its entries are NULL) */

typedef struct kernels {
    cpu_level level;
    size_t nr; /* panel width in outputs */

    /* panel[i * nr + j] = w[j * ld + i] for j < n <= nr, i < k; columns n..nr become zero. ld counts elements. */
    void (*panel_rows[KERNELS_N_DTYPES])(float *panel, const void *w, size_t ld, size_t n, size_t k);
    /* panel[i * nr + j] = b[i * ld + j]; the second operand of attention's P V. */
    void (*panel_cols)(float *panel, const float *b, size_t ld, size_t n, size_t k);
    /* c[r * ldc + j] (+)= sum_i a[r * lda + i] * panel[i * nr + j], r < m, j < n <= nr, i < k in ascending order. */
    void (*gemm_panel)(float *c, size_t ldc, const float *a, size_t lda, const float *panel, size_t m, size_t n, size_t k,
                       bool accumulate);

    /* The same with both operands in 16-bit floats, in pairs along k (zero padded to even k); NULL where that does not outrun
     * f32. How they are rounded and scaled is the level's own affair (x86/avx512bf16.c, x86/avx512fp16.c). */
    /* out: KERNELS_PAIRS_HEADER words for what the level keeps of the row, then k columns of x, k rounded up to 16. */
    void (*pairs_x)(uint32_t *out, const float *x, size_t k);
    /* nr such words, then element (i / 2) * nr + j with elements i (low half) and i + 1 (high half) of row j. */
    /* (NF4, FP4: weights that are rounded to a type which has such panels) */
    void (*panel_rows_pairs[KERNELS_N_DTYPES])(uint32_t *panel, const void *w, size_t ld, size_t n, size_t k);
    /* The same of a panel of floats [k, nr], whatever they were before (backward, where rows of W are the panel's). */
    void (*panel_pairs)(uint32_t *out, const float *panel, size_t k);
    /* Rows of x, header included, lie ldx words apart. */
    void (*gemm_panel_pairs)(float *c, size_t ldc, const uint32_t *x, size_t ldx, const uint32_t *panel, size_t m, size_t n,
                             size_t k_pairs, bool accumulate);

    /* y[r * ldy + j] (+)= dot(x[r * ldx ...k], w[j * ld ...k]), r < m <= KERNELS_DOT_ROWS, j < n. The dot product of one
     * (r, j) is summed the same way whatever m and n are. */
    void (*dot_rows[KERNELS_N_DTYPES])(float *y, size_t ldy, const float *x, size_t ldx, const void *w, size_t ld, size_t m,
                                       size_t n, size_t k, bool accumulate);
    /* Block-quantized weights (kernels/blocks.h): 8-bit integer products with x rounded to 8 bits by blocks. Both ways give
     * the same bits on every instruction set; kernels/blocks_plain.h has the definition and the layout of a rounded row. */
    size_t blocks_nr, panel_block_bytes[2]; /* outputs a panel holds; bytes of it per block of 32 in k: of 8-bit weights, of 4-bit ones */
    void (*quantize_x)(void *out, const float *x, size_t k);
    /* Blocks b0..b0+n_blocks of n <= blocks_nr rows, which lie row_bytes apart; what absent rows give is not specified. 64-aligned. */
    void (*panel_blocks[KERNELS_N_DTYPES])(void *panel, const void *w, size_t row_bytes, size_t n, size_t b0, size_t n_blocks);
    /* c[r * ldc + j] += those blocks' share; x rows of k columns lie ldx bytes apart. b0 is even, n_blocks too
     * but at the end of a row. minima: the type has them (all but Q8_0). */
    void (*gemm_blocks)(float *c, size_t ldc, const void *x, size_t ldx, const void *panel, size_t m, size_t n, size_t k, size_t b0,
                        size_t n_blocks, bool minima);
    /* As dot_rows, with x rows ldx bytes and weight rows row_bytes apart. */
    void (*dot_blocks[KERNELS_N_DTYPES])(float *y, size_t ldy, const void *x, size_t ldx, const void *w, size_t row_bytes, size_t m,
                                         size_t n, size_t k, bool accumulate);
    /* y[j] (+)= sum_i p[i] * v[i * ld + j], i < rows ascending, j < n: attention's P V for one query. */
    void (*sum_rows)(float *y, const float *p, const float *v, size_t ld, size_t rows, size_t n, bool accumulate);

    /* y = x / sqrt(mean(x^2) + eps) * (1 + w), spec 2.5; y may be x. */
    void (*rms_norm)(float *y, const float *x, const float *w, size_t n, float eps);
    /* y = (x - mean) / sqrt(var + eps) * w + b, biased variance, spec 2.2; y may be x. */
    void (*layer_norm)(float *y, const float *x, const float *w, const float *b, size_t n, float eps);
    /* x = gelu_tanh(x); x = gelu_tanh(x) * up: spec 2.2, 2.8. */
    void (*gelu)(float *x, size_t n);
    void (*geglu)(float *x, const float *up, size_t n);
    /* x = softmax(cap(x * scale)); cap(z) = softcap * tanh(z / softcap), or z where softcap is 0. n >= 1. */
    void (*softmax)(float *x, size_t n, float scale, float softcap);
    /* x = softcap * tanh(x / softcap) */
    void (*softcap)(float *x, size_t n, float softcap);
    /* Rotate-half of one head: (x[i], x[i + half]) by angle i, spec 2.6. */
    void (*rope)(float *x, const float *cos, const float *sin, size_t half);
    void (*add)(float *y, const float *x, size_t n);            /* y += x */
    void (*scale)(float *y, const float *x, size_t n, float s); /* y = x * s */

    /* Backward (spec training 2). Where a forward overwrote its input, the backward gives its output again beside the gradient. */
    /* y[c * ldy + r] = x[r * ldx + c], r < rows, c < cols */
    void (*transpose)(float *y, size_t ldy, const float *x, size_t ldx, size_t rows, size_t cols);
    /* In: x and dy of y = gelu_tanh(x). Out: x = dx, dy = y, with the bits of the forward. */
    void (*gelu_backward)(float *x, float *dy, size_t n);
    /* In: gate, up and dy of y = gelu_tanh(gate) * up. Out: gate = d gate, up = d up, dy = y. */
    void (*geglu_backward)(float *gate, float *up, float *dy, size_t n);
    /* dx = or += the gradient by x; stats = mean (0 of rms_norm), 1 / sqrt(.. + eps), which norm_weight_backward needs. dx may not
     * be x or dy. */
    void (*rms_norm_backward)(float *dx, float stats[2], const float *dy, const float *x, const float *w, size_t n, float eps,
                              bool accumulate);
    void (*layer_norm_backward)(float *dx, float stats[2], const float *dy, const float *x, const float *w, size_t n, float eps,
                                bool accumulate);
    /* dw += dy (x - mean) inv: a row's share of the gradient by the weight of either norm. */
    void (*norm_weight_backward)(float *dw, const float *dy, const float *x, float mean, float inv, size_t n);
    /* Of z = cap(x * scale): stats = max z, sum exp(z - max), sum exp(z - max) g; g NULL: the last is 0. The first two are what
     * softmax divides by, to the bit. n >= 1. */
    void (*softmax_stats)(float stats[3], const float *x, const float *g, size_t n, float scale, float softcap);
    /* In: x and g = the gradient by p of p = softmax(cap(x * scale)). Out: x = p, g = dx. max, inv = 1 / sum and dot = sum p g
     * are those of the softmax that an element belongs to: element i has entry i * step of each, step 0 or 1. */
    void (*softmax_backward)(float *x, float *g, const float *max, const float *inv, const float *dot, size_t step, size_t n,
                             float scale, float softcap);
    /* z = weight (exp(z - max) inv - other) (1 - (z / softcap)^2): the gradient of cross-entropy by the logits before the cap, of all
     * but the target; z is capped already. softcap 0: none. */
    void (*xent_backward)(float *z, size_t n, float max, float inv, float other, float weight, float softcap);

    /* n weights of one row, from its start, as f32; and back, rounded to nearest even (blocks: kernels/tmpl/quantize.h). */
    void (*to_f32[KERNELS_N_DTYPES])(float *y, const void *x, size_t n);
    void (*from_f32[KERNELS_N_DTYPES])(void *y, const float *x, size_t n);
} kernels;

/* The table of a level; NULL if this build or machine cannot run it. Constant after first use. */
const kernels *kernels_get(cpu_level level);

/* Filled in by ref/ and overridden by each instruction set, lowest first; kernels.c has the order. */
void kernels_fill_ref(kernels *k);
void kernels_fill_ref_blocks(kernels *k);
void kernels_fill_ref_backward(kernels *k);
void kernels_fill_avx2(kernels *k);
void kernels_fill_avxvnni(kernels *k);
void kernels_fill_avx512(kernels *k);
void kernels_fill_avx512vnni(kernels *k);
void kernels_fill_avx512bf16(kernels *k);
void kernels_fill_avx512fp16(kernels *k);
void kernels_fill_neon(kernels *k);
void kernels_fill_dotprod(kernels *k);

#endif
