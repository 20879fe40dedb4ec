/* codes.h: coded weights (kernels/codes.h) to f32, written once in vector words; what the products of tmpl/codes_rows.h and the
 * pairs of x86 are made of.
 *
 * The table of a block is multiplied by its scale and rounded once, then looked up in registers. Words beyond those of loops.h:
 *
 *   CODES                  vectors decoded at once: CODES * VL divides 64
 *   vt                     a table of 16 floats in registers
 *   vt_make(t, s, r)       the 16 floats at t times s, rounded to r
 *   v_decode(out[CODES], t, p, bf16)   CODES * VL weights from half as many bytes; bf16: their lower halves are all zero
 *   v_round_bf16, v_round_f16          to that type and back
 */
#include "kernels/codes.h"
#include "kernels/kernels.h"

#define CODES_INLINE static inline __attribute__((always_inline))
#define CODES_STEP (CODES * VL)

/* A vector of table values times the scale, as weights are rounded. */
CODES_INLINE vf v_rounded(vf x, pali_dtype rounding) {
    return rounding == PALI_DTYPE_BF16 ? v_round_bf16(x) : rounding == PALI_DTYPE_F16 ? v_round_f16(x) : x;
}

/* The n <= 64 codes from the upper or lower half of p's first byte, moved to begin with an upper half, zeros behind. */
static inline void nibbles_copy(uint8_t to[CODES_BLOCK / 2], const uint8_t *p, bool lower, size_t n) {
    size_t n_bytes = (n + 1) / 2, last = (lower + n - 1) / 2; /* byte of the last code */
    memset(to, 0, CODES_BLOCK / 2);
    if (!lower) {
        memcpy(to, p, n_bytes);
        return;
    }
    for (size_t i = 0; i < n_bytes; i++) to[i] = (uint8_t)(p[i] << 4 | (i < last ? p[i + 1] >> 4 : 0));
}

/* n weights of one block, from element e of the flattened matrix. */
CODES_INLINE void decode_run(float *out, const coded *c, size_t e, size_t n, const bool bf16) {
    const uint8_t *p = c->data + e / 2;
    uint8_t copy[CODES_BLOCK / 2];
    vt table = vt_make(c->table, codes_scale(c, e / CODES_BLOCK), c->rounding);
    if (e % 2 || n % CODES_STEP) {
        nibbles_copy(copy, p, e % 2, n);
        p = copy;
    }
    for (size_t i = 0; i < n; i += CODES_STEP) {
        vf w[CODES];
        v_decode(w, table, p + i / 2, bf16);
        for (size_t v = 0; v < CODES && i + v * VL < n; v++) {
            size_t left = n - i - v * VL;
            if (left >= VL)
                v_store(out + i + v * VL, w[v]);
            else
                v_store_n(out + i + v * VL, w[v], left);
        }
    }
}

/* n weights of row `at->row + j`, from column at->col + i, whatever way they lie in blocks. */
static void decode_4bit(float *out, const coded_at *at, size_t j, size_t i, size_t n) {
    size_t e = (at->row + j) * at->of->cols + at->col + i, run;
    for (; n; n -= run, e += run, out += run) {
        run = CODES_BLOCK - e % CODES_BLOCK < n ? CODES_BLOCK - e % CODES_BLOCK : n;
        if (at->of->rounding == PALI_DTYPE_BF16)
            decode_run(out, at->of, e, run, true);
        else
            decode_run(out, at->of, e, run, false);
    }
}
