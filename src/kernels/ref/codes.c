/* codes.c: bitsandbytes' quantizers (version 0.50), operation by operation, so that the same weights give the same bytes. */
#include "kernels/codes.h"

#include <math.h>

const float k_codes_nf4[16] = {-1.0f, -0.6961928009986877f, -0.5250730514526367f, -0.39491748809814453f, -0.28444138169288635f,
                               -0.18477343022823334f, -0.09105003625154495f, 0.0f, 0.07958029955625534f, 0.16093020141124725f,
                               0.24611230194568634f, 0.33791524171829224f, 0.44070982933044434f, 0.5626170039176941f, 0.7229568362236023f, 1.0f};
const float k_codes_fp4[16] = {0.0f, 0.0052083334885537624f, 0.6666666865348816f, 1.0f, 0.3333333432674408f, 0.5f, 0.1666666716337204f, 0.25f,
                               0.0f, -0.0052083334885537624f, -0.6666666865348816f, -1.0f, -0.3333333432674408f, -0.5f, -0.1666666716337204f, -0.25f};

/* Codes by ascending value; of FP4's two zeros the library's sort puts the positive one first. */
static const uint8_t k_order_nf4[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
static const uint8_t k_order_fp4[16] = {11, 10, 13, 12, 15, 14, 9, 0, 8, 1, 6, 7, 4, 5, 2, 3};

void codes_quantize_4bit(uint8_t *data, float *scale, const float *x, size_t n, pali_dtype dtype) {
    const float *table = dtype == PALI_DTYPE_NF4 ? k_codes_nf4 : k_codes_fp4;
    const uint8_t *order = dtype == PALI_DTYPE_NF4 ? k_order_nf4 : k_order_fp4;
    float bound[15], max = 0;
    for (size_t i = 0; i < 15; i++) bound[i] = (table[order[i]] + table[order[i + 1]]) / 2;
    for (size_t i = 0; i < n; i++) max = fabsf(x[i]) > max ? fabsf(x[i]) : max;
    float divisor = max > 1e-38f ? max : 1e-38f, inverse = 1.0f / divisor;
    *scale = n == CODES_BLOCK ? max : divisor;
    float y[CODES_BLOCK] = {0};
    int32_t at[CODES_BLOCK] = {0}; /* place among the values; counted without branches, for the compiler's vectors */
    for (size_t i = 0; i < n; i++) y[i] = n == CODES_BLOCK ? x[i] * inverse : x[i] / divisor; /* rounding may pass 1: no matter here */
    for (size_t b = 0; b < 15; b++)
        for (size_t i = 0; i < CODES_BLOCK; i++) at[i] += y[i] > bound[b]; /* a midpoint belongs to the lower one */
    for (size_t i = 0; i < n; i += 2) data[i / 2] = (uint8_t)(order[at[i]] << 4 | order[at[i + 1]]);
}

void codes_quantize_int8(uint8_t *data, float *scale, const float *x, size_t n) {
    float max = 0;
    for (size_t i = 0; i < n; i++) {
        float y = fabsf(codes_round(x[i], PALI_DTYPE_F16));
        max = y > max ? y : max;
    }
    float factor = max > 0 ? 1.0f / max * 127.0f : 0; /* what PyTorch makes of 127 / max */
    *scale = max;
    for (size_t i = 0; i < n; i++) data[i] = (uint8_t)(int8_t)nearbyintf(codes_round(x[i], PALI_DTYPE_F16) * factor);
}
