/* codes_pairs.h: coded weights into panels of 16-bit pairs: weights rounded to bf16 or f16 fit there as they are. Uses the words of
 * tmpl/codes.h, and v_store_f16 beside v_store_bf16. */
#include "kernels/tmpl/codes.h"

static void codes_pairs_transpose(uint32_t *panel, const coded_at *at, size_t n, size_t k) {
    float row[CODES_BLOCK];
    uint16_t halves[NR * CODES_BLOCK];
    memset(row, 0, sizeof row);
    for (size_t i = 0; i < k; i += CODES_BLOCK) {
        size_t left = k - i < CODES_BLOCK ? k - i : CODES_BLOCK;
        for (size_t j = 0; j < n; j++) {
            uint16_t *to = halves + j * CODES_BLOCK;
            decode_4bit(row, at, j, i, left);
            for (size_t c = 0; c < CODES_BLOCK; c += VL) {
                if (at->of->rounding == PALI_DTYPE_BF16)
                    v_store_bf16(to + c, v_load(row + c));
                else
                    v_store_f16(to + c, v_load(row + c));
            }
        }
        pairs_transpose(panel + i / 2 * NR, halves, CODES_BLOCK, n, left);
    }
}
