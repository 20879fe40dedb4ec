/* avx512fp16.c: the matrix product in half precision (vfmadd231ph): twice the rate of fp32 FMA.
 *
 * Range: within a panel's block of k, each row of x and each row of weights is multiplied by the power of two that brings its
 * largest element just below 2^X_TOP or 2^W_TOP. bf16 has more exponents than f16, but what that loses is below 2^-22 of the
 * largest weight beside it, 2^-28 for x. The exponents wait in the headers of pairs and are undone on the way into c.
 * Precision: x is rounded to 11 bits (bf16: 8). A lane adds RUN products in f16, less than 2^15 together; the sum is then
 * widened and added in f32. SPEED.md has the error, and why this RUN.
 *
 *   x        x0 x1 | x2 x3 | ..               lane 2 j     of accumulator v: even k of output 16 v + j
 *   panel    w0 w1 | w2 w3 | .. of output j   lane 2 j + 1                   odd k
 */
#include "kernels/x86/avx512_words.h"

#include "kernels/tmpl/panel.h"

#include "kernels/x86/avx512_codes.h"

#include "kernels/tmpl/codes_pairs.h"

#define RUN ((size_t)16)
#define X_TOP 3
#define W_TOP 8

/* The exponents e of largest absolute values: 2^e <= largest < 2^(e + 1). No smaller than -100, for zeros; infinity and NaN
 * will make nonsense of the row anyway. */
static inline vf exponents(vf largest) {
    return v_min(v_max(_mm512_getexp_ps(largest), v_set1(-100)), v_set1(127));
}

static void pairs_x(uint32_t *out, const float *x, size_t k) {
    uint16_t *halves = (uint16_t *)(out + KERNELS_PAIRS_HEADER);
    vf largest = v_zero();
    for (size_t i = 0; i < k; i += VL) largest = v_max(largest, v_abs(v_load_n(x + i, k - i < VL ? k - i : VL)));
    vf shift = v_sub(v_set1(X_TOP - 1), exponents(v_set1(v_hmax(largest))));
    v_store_n((float *)(void *)out, v_sub(v_zero(), shift), 1);
    for (size_t i = 0; i < k; i += VL) {
        vf scaled = _mm512_scalef_ps(v_load_n(x + i, k - i < VL ? k - i : VL), shift);
        _mm256_storeu_si256((__m256i *)(void *)(halves + i), _mm512_cvtps_ph(scaled, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    }
}

/* The low half of each 32-bit lane in both halves. */
static inline vu both_halves(vu x) {
    return _mm512_or_si512(x, _mm512_slli_epi32(x, 16));
}

/* bf16 times 2^shift in f16: the exponent is counted from another zero and moves by 3 bits. Saturation makes zeros of what
 * lies below f16's normal numbers, and subnormals, not the nearest ones, of the first that lie there. */
static inline vu scaled_bf16(vu x, vf shift) {
    vu magnitude = _mm512_and_si512(x, _mm512_set1_epi16(0x7fff)), sign = _mm512_andnot_si512(_mm512_set1_epi16(0x7fff), x);
    vu zero = both_halves(_mm512_slli_epi32(_mm512_cvtps_epi32(v_sub(v_set1(127 - 15), shift)), 7));
    __mmask32 finite = _mm512_cmplt_epu16_mask(magnitude, _mm512_set1_epi16(0x7f80));
    vu kept = _mm512_and_si512(magnitude, _mm512_set1_epi16(0xfff)); /* of infinity and NaN, 5 bits of whose exponent do */
    return _mm512_or_si512(sign, _mm512_slli_epi16(_mm512_mask_subs_epu16(kept, finite, magnitude, zero), 3));
}

static inline vu scaled_f16(vu x, vf shift) {
    vu both = both_halves(_mm512_cvtepu16_epi32(_mm512_cvtps_ph(shift, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)));
    return _mm512_castph_si512(_mm512_scalef_ph(_mm512_castsi512_ph(x), _mm512_castsi512_ph(both)));
}

/* Two passes, because a scale must know the largest; what the first, the transposition, wrote is still in cache. */
#define DEFINE_PANEL_ROWS_PAIRS(T)                                                                                          \
    static void panel_scale_##T(uint32_t *panel, size_t k) {                                                                \
        for (size_t j = 0; j < NR; j += VL) {                                                                               \
            uint32_t *pairs = panel + NR + j;                                                                               \
            vu largest = vu_zero();                                                                                         \
            for (size_t i = 0; i < (k + 1) / 2; i++)                                                                        \
                largest = _mm512_max_epu16(largest, _mm512_and_si512(vu_load(pairs + i * NR), _mm512_set1_epi16(0x7fff)));  \
            vf shift = v_sub(v_set1(W_TOP - 1), exponents(v_max(vu_even_##T(largest), vu_odd_##T(largest))));               \
            v_store((float *)(void *)(panel + j), v_sub(v_zero(), shift));                                                  \
            for (size_t i = 0; i < (k + 1) / 2; i++) vu_store(pairs + i * NR, scaled_##T(vu_load(pairs + i * NR), shift));  \
        }                                                                                                                   \
    }                                                                                                                       \
    static void panel_rows_pairs_##T(uint32_t *panel, const void *w, size_t ld, size_t n, size_t k) {                       \
        pairs_transpose(panel + NR, w, ld, n, k);                                                                           \
        panel_scale_##T(panel, k);                                                                                          \
    }
DEFINE_PANEL_ROWS_PAIRS(bf16)
DEFINE_PANEL_ROWS_PAIRS(f16)

/* Weights that are rounded to one of these. */
static void panel_rows_pairs_4bit(uint32_t *panel, const void *w, size_t ld, size_t n, size_t k) {
    (void)ld;
    codes_pairs_transpose(panel + NR, w, n, k);
    if (((const coded_at *)w)->of->rounding == PALI_DTYPE_BF16)
        panel_scale_bf16(panel, k);
    else
        panel_scale_f16(panel, k);
}

static void panel_pairs(uint32_t *out, const float *panel, size_t k) {
    uint16_t halves[2][VL];
    for (size_t j = 0; j < NR; j += VL) {
        vf largest = v_zero();
        for (size_t i = 0; i < k; i++) largest = v_max(largest, v_abs(v_load(panel + i * NR + j)));
        vf shift = v_sub(v_set1(W_TOP - 1), exponents(largest));
        v_store((float *)(void *)(out + j), v_sub(v_zero(), shift));
        for (size_t i = 0; i < k; i += 2) {
            v_store_f16(halves[0], _mm512_scalef_ps(v_load(panel + i * NR + j), shift));
            v_store_f16(halves[1], i + 1 < k ? _mm512_scalef_ps(v_load(panel + (i + 1) * NR + j), shift) : v_zero());
            vu_store(out + NR + i / 2 * NR + j, pairs_of(halves[0], halves[1]));
        }
    }
}

#define TILE_TYPE uint32_t
#define TILE_VECTOR vu
#define TILE_SUM __m512h
#define TILE_BROADCAST(a) _mm512_set1_epi32((int)(a))
#define TILE_LOAD(p) vu_load(p)
#define TILE_MULTIPLY(acc, a, b) _mm512_fmadd_ph(_mm512_castsi512_ph(a), _mm512_castsi512_ph(b), acc)
#include "kernels/tmpl/products.h"

/* Adds 32 f16 lanes to f32 sums. Through memory: from there each half is widened by one instruction, from a register by two
 * or three on the ports that multiply. */
static inline void widen(vf sum[2], __m512h acc) {
    __m512h slot = acc;
    __asm__("" : "+m"(slot));
    for (size_t h = 0; h < 2; h++) sum[h] = v_add(sum[h], _mm512_cvtxph_ps(_mm256_loadu_ph((const char *)&slot + 32 * h)));
}

static inline __attribute__((always_inline)) void tile(float *c, size_t ldc, const uint32_t *x, size_t ldx, const uint32_t *panel,
                                                       const size_t rows, const size_t vectors, size_t n, size_t k, bool accumulate) {
    vf sums[MR][NV][2]; /* lanes as in the accumulators: even and odd k apart */
    memset(sums, 0, sizeof sums);
    for (size_t i = 0; i < k; i += RUN) {
        __m512h acc[MR][NV];
        UNROLL
        for (size_t r = 0; r < rows; r++) {
            UNROLL
            for (size_t v = 0; v < vectors; v++) acc[r][v] = _mm512_setzero_ph();
        }
        products(acc, x + KERNELS_PAIRS_HEADER + i, ldx, panel + NR + i * NR, rows, vectors, k - i < RUN ? k - i : RUN);
        UNROLL
        for (size_t r = 0; r < rows; r++) {
            UNROLL
            for (size_t v = 0; v < vectors; v++) widen(sums[r][v], acc[r][v]);
        }
    }
    const vu even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const vu odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
    for (size_t r = 0; r < rows; r++) {
        vf exponent = _mm512_castsi512_ps(_mm512_set1_epi32((int)x[r * ldx]));
        for (size_t v = 0; v < vectors; v++) {
            size_t lanes = v + 1 < vectors ? VL : n - v * VL;
            vf low = sums[r][v][0], high = sums[r][v][1];
            vf sum = v_add(_mm512_permutex2var_ps(low, even, high), _mm512_permutex2var_ps(low, odd, high));
            sum = _mm512_scalef_ps(sum, v_add(exponent, v_load((const float *)(const void *)(panel + v * VL))));
            if (accumulate) sum = v_add(v_load_n(c + r * ldc + v * VL, lanes), sum);
            v_store_n(c + r * ldc + v * VL, sum, lanes);
        }
    }
}

#include "kernels/tmpl/tiles.h"

void kernels_fill_avx512fp16(kernels *k) {
    k->pairs_x = pairs_x;
    k->panel_rows_pairs[PALI_DTYPE_BF16] = panel_rows_pairs_bf16;
    k->panel_rows_pairs[PALI_DTYPE_F16] = panel_rows_pairs_f16;
    k->panel_rows_pairs[PALI_DTYPE_NF4] = panel_rows_pairs_4bit;
    k->panel_rows_pairs[PALI_DTYPE_FP4] = panel_rows_pairs_4bit;
    k->panel_pairs = panel_pairs;
    k->gemm_panel_pairs = tiles_run;
}
