/* avx512vnni.c: products with block-quantized weights by vpdpbusd in 512 bits. 12 sums of a block + 12 of a row + 2 panel vectors
 * + 1 broadcast of 32 registers. A wide word is two blocks of a row. */
#include "kernels/x86/avx512_words.h"
#include "kernels/x86/bytes.h"

#define BNV ((size_t)2)
#define BMR ((size_t)6)
#define SUMS_IN_MEMORY 0
#define WIDE ((size_t)2)
#define OFFSETS 1
#define PLANES 1

typedef __m512i vi;
typedef __m512i vw;

#define vi_zero() _mm512_setzero_si512()
#define vi_set1(x) _mm512_set1_epi32(x)
#define vi_add(a, b) _mm512_add_epi32(a, b)
#define vi_from_vu(x) (x)
#define v_from_vi(x) _mm512_cvtepi32_ps(x)
#define vu_and(a, b) _mm512_and_si512(a, b)
#define vu_or(a, b) _mm512_or_si512(a, b)
#define vu_shr(x, n) _mm512_srli_epi32(x, n)
#define vu_set1(x) _mm512_set1_epi32(x)
#define vi_panel8(x) _mm512_xor_si512(x, _mm512_set1_epi8(-128))
#define vi_dot8(acc, w, s, x) _mm512_dpbusd_epi32(acc, w, x)
#define vi_dot4(acc, w, x) _mm512_dpbusd_epi32(acc, w, x)
#define vi_dot4_end(acc) (acc)
#define vw_dot8(w, x) _mm512_dpbusd_epi32(vi_zero(), vi_panel8(w), x)
#define vw_dot4(w, x) _mm512_dpbusd_epi32(vi_zero(), w, x)
#define vi_load4(p) _mm512_set1_epi32(load_i32(p))
#define vw_load(p) _mm512_loadu_si512(p)

/* The next block's weights begin 34 bytes on. */
static inline vw vw_q8_0(const uint8_t *p) {
    return _mm512_inserti64x4(_mm512_castsi256_si512(load32(p)), load32(p + 34), 1);
}

/* Low nibbles of a block in one 128-bit quarter, high ones in the next; two blocks. */
static inline vw vw_q4(const uint8_t *p, size_t stride) {
    __m512i a = _mm512_broadcast_i32x4(load16(p)), b = _mm512_broadcast_i32x4(load16(p + stride));
    __m512i shift = _mm512_setr_epi32(0, 0, 0, 0, 4, 4, 4, 4, 0, 0, 0, 0, 4, 4, 4, 4);
    return _mm512_and_si512(_mm512_srlv_epi32(_mm512_mask_mov_epi64(a, 0xf0, b), shift), _mm512_set1_epi8(15));
}

/* Always the even block of a pair: low nibbles, then the odd one: high nibbles. */
static inline vw vw_q4_k(const uint8_t *p, size_t half) {
    (void)half;
    __m512i shift = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 4, 4, 4, 4, 4, 4, 4, 4);
    return _mm512_and_si512(_mm512_srlv_epi32(_mm512_broadcast_i64x4(load32(p)), shift), _mm512_set1_epi8(15));
}

/* Two rows' partial sums to one vector of half as many: a0+a1, a2+a3, b0+b1, b2+b3 in each 128 bits. */
static inline __m512i pairs_add(__m512i a, __m512i b) {
    __m512 x = _mm512_castsi512_ps(a), y = _mm512_castsi512_ps(b);
    return _mm512_add_epi32(_mm512_castps_si512(_mm512_shuffle_ps(x, y, 0x88)), _mm512_castps_si512(_mm512_shuffle_ps(x, y, 0xdd)));
}

static inline void vw_sum_rows(vi out[2], const vi part[16]) {
    __m512i r[4]; /* rows 4 i .. 4 i + 3 in each quarter; quarters: block 0, block 0, block 1, block 1 */
    for (int i = 0; i < 4; i++) r[i] = pairs_add(pairs_add(part[4 * i], part[4 * i + 1]), pairs_add(part[4 * i + 2], part[4 * i + 3]));
    /* quarters: block 0 and 1 of rows 0-3, then of rows 4-7; and of the others */
    __m512i a = _mm512_add_epi32(_mm512_shuffle_i32x4(r[0], r[1], 0x88), _mm512_shuffle_i32x4(r[0], r[1], 0xdd));
    __m512i b = _mm512_add_epi32(_mm512_shuffle_i32x4(r[2], r[3], 0x88), _mm512_shuffle_i32x4(r[2], r[3], 0xdd));
    out[0] = _mm512_shuffle_i32x4(a, b, 0x88);
    out[1] = _mm512_shuffle_i32x4(a, b, 0xdd);
}

static inline void vw_transpose(vu out[16], const vw r[16]) {
    for (int i = 0; i < 16; i++) out[i] = r[i];
    vu_transpose(out);
}

#define v_load_f16_each(p, at) _mm512_cvtph_ps(_mm256_setr_m128i(load_u16_each(p, at), load_u16_each((p) + 8, at)))

/* 16 bytes of each of 16 rows: rows j, j + 4, j + 8, j + 12 share a vector, then 4 x 4 in each quarter. */
static inline void vu_load_each(vu out[4], const uint8_t *const p[16], size_t at) {
    vu r[4], t[4];
    for (int j = 0; j < 4; j++) {
        __m256i low = _mm256_setr_m128i(load16(p[j] + at), load16(p[j + 4] + at));
        __m256i high = _mm256_setr_m128i(load16(p[j + 8] + at), load16(p[j + 12] + at));
        r[j] = _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
    }
    for (int i = 0; i < 2; i++) {
        t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
    }
    out[0] = _mm512_unpacklo_epi64(t[0], t[2]);
    out[1] = _mm512_unpackhi_epi64(t[0], t[2]);
    out[2] = _mm512_unpacklo_epi64(t[1], t[3]);
    out[3] = _mm512_unpackhi_epi64(t[1], t[3]);
}

static inline void v_store_i8(int8_t *p, vf x) {
    _mm_storeu_si128((__m128i *)(void *)p, _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(x)));
}

#include "kernels/tmpl/blocks.h"

void kernels_fill_avx512vnni(kernels *k) {
    blocks_fill(k);
}
