/* blocks.c: kernels of block-quantized weights in plain C. */
#include "kernels/kernels.h"

#include "kernels/tmpl/quantize.h"

#define NR 16u

/* A panel of blocks here: for each block, NR rows of (s, m, q[32]). */
typedef struct panel_block {
    float s[NR], m[NR];
    int8_t q[NR][BLOCK];
} panel_block;

static void gemm_blocks(float *c, size_t ldc, const void *x, size_t ldx, const void *panel, size_t m, size_t n, size_t k, size_t b0,
                        size_t n_blocks, bool minima) {
    for (size_t r = 0; r < m; r++) {
        const char *row = (const char *)x + r * ldx;
        const int8_t *q = (const int8_t *)(const void *)row;
        for (size_t j = 0; j < n; j++) {
            const panel_block *p = panel;
            for (size_t b = b0; b < b0 + n_blocks; b++, p++) {
                int32_t dot = 0;
                for (size_t e = 0; e < BLOCK; e++) dot += p->q[j][e] * q[b * BLOCK + e];
                c[r * ldc + j] = fmaf((float)dot, p->s[j] * x_scales(row, k)[b], c[r * ldc + j]);
                if (minima) c[r * ldc + j] = fmaf(p->m[j], x_sums(row, k)[b], c[r * ldc + j]);
            }
        }
    }
}

#define DEFINE_BLOCK_KERNELS(T, DTYPE)                                                                                       \
    static void panel_blocks_##T(void *panel, const void *w, size_t row_bytes, size_t n, size_t b0, size_t n_blocks) {       \
        panel_block *p = panel;                                                                                              \
        for (size_t b = 0; b < n_blocks; b++, p++) {                                                                         \
            memset(p, 0, sizeof *p);                                                                                         \
            for (size_t j = 0; j < n; j++)                                                                                   \
                block_get(DTYPE, (const char *)w + j * row_bytes, b0 + b, p->q[j], &p->s[j], &p->m[j]);                      \
        }                                                                                                                    \
    }                                                                                                                        \
    static void dot_blocks_##T(float *y, size_t ldy, const void *x, size_t ldx, const void *w, size_t row_bytes, size_t m,   \
                               size_t n, size_t k, bool accumulate) {                                                        \
        for (size_t r = 0; r < m; r++)                                                                                       \
            for (size_t j = 0; j < n; j++)                                                                                   \
                y[r * ldy + j] = block_dot(DTYPE, accumulate ? y[r * ldy + j] : 0, (const char *)x + r * ldx,                \
                                           (const char *)w + j * row_bytes, k);                                              \
    }                                                                                                                        \
    static void to_f32_##T(float *y, const void *x, size_t n) {                                                              \
        for (size_t b = 0; b * BLOCK < n; b++) {                                                                             \
            int8_t q[BLOCK];                                                                                                 \
            float s, m;                                                                                                      \
            block_get(DTYPE, x, b, q, &s, &m);                                                                               \
            for (size_t i = 0; i < BLOCK && b * BLOCK + i < n; i++) y[b * BLOCK + i] = s * (float)q[i] + m;                  \
        }                                                                                                                    \
    }
DEFINE_BLOCK_KERNELS(q8_0, PALI_DTYPE_Q8_0)
DEFINE_BLOCK_KERNELS(q4_0, PALI_DTYPE_Q4_0)
DEFINE_BLOCK_KERNELS(q4_1, PALI_DTYPE_Q4_1)
DEFINE_BLOCK_KERNELS(q4_k, PALI_DTYPE_Q4_K)

static void quantize_x(void *out, const float *x, size_t k) {
    x_quantize(out, x, k);
}

void kernels_fill_ref_blocks(kernels *k) {
    k->blocks_nr = NR;
    k->panel_block_bytes[false] = k->panel_block_bytes[true] = sizeof(panel_block);
    k->quantize_x = quantize_x;
    k->gemm_blocks = gemm_blocks;
#define FILL(T, DTYPE)                        \
    k->panel_blocks[DTYPE] = panel_blocks_##T; \
    k->dot_blocks[DTYPE] = dot_blocks_##T;     \
    k->to_f32[DTYPE] = to_f32_##T
    FILL(q8_0, PALI_DTYPE_Q8_0);
    FILL(q4_0, PALI_DTYPE_Q4_0);
    FILL(q4_1, PALI_DTYPE_Q4_1);
    FILL(q4_k, PALI_DTYPE_Q4_K);
    quantize_fill(k);
}
