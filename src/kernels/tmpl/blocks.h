/* blocks.h: products with block-quantized weights (kernels/blocks_plain.h defines them, operation by operation), written once
 * in vector words. Lanes are outputs, so that sums over k are never split and all instruction sets give the same bits.
 *
 *   few rows of x    VL weight rows side by side: of each, WIDE blocks are multiplied with x into partial sums, and those of
 *                    the VL rows are transposed and added, which leaves one integer for each (row, block)
 *   many rows of x   a panel: for each block, 8 steps of 4 weights of NRB rows, then their scales and minima;
 *                    x is broadcast 4 bytes at a time
 *
 * Words beyond those of loops.h:
 *
 *   BNV, BMR                panel width in vectors, rows of the micro-kernel
 *   SUMS_IN_MEMORY          1: sums of a row are, while those of a block have the registers
 *   OFFSETS                 1: 8-bit weights are made unsigned by adding 128, which x_offsets undoes (x86's dot product)
 *   vi                      VL 32-bit integers;  vi_set1, vi_zero, v_from_vi
 *   vi_load4(p)             the 4 bytes at p in every lane
 *   PLANES                  vectors of the panel that 8-bit weights take: 1, or 2: one more, for their signs
 *   vi_panel8(w)            8-bit weights as the panel has them;  PLANES 2: vi_signs8(w) beside them
 *   vi_dot8(acc, w, s, x)   acc + w x over the 4 bytes of each lane; s: their signs, with PLANES 2
 *   vi_start8(n, w)         PLANES 2: n + what has to be added to such sums for the weights w of a lane
 *   vi_dot4(acc, w, x)      the same for w in 0..15, at most 8 times in a row;  vi_dot4_end(acc): then the sum
 *   WIDE, vw                blocks in a wide word, 32 WIDE bytes;  vw_load(p)
 *   vw_q8_0(p), vw_q4(p, stride), vw_q4_k(p, pair)   the weights of WIDE blocks (of the half of a pair, if WIDE is 1)
 *   vw_dot8(w, x), vw_dot4(w, x)                     partial sums; each lane belongs to one block
 *   vw_sum_rows(out[WIDE], part[VL])                 lane j of out[i]: the sum of block i in part[j]
 *   vw_transpose(out[8 WIDE], r[VL])                 lane j of out[q]: bytes 4 q.. of r[j]
 *   v_load_f16_each(p, at)  lane j: the f16 at p[j] + at
 *   vu_load_each(out[4], p, at)                      lane j of out[i]: the 4 bytes at p[j] + at + 4 i
 *   vu_and, vu_or, vu_shr(x, n), vu_set1, vi_from_vu
 *   v_store_i8(p, x)        VL integral floats as bytes
 */
#include "kernels/blocks_plain.h"
#include "kernels/tmpl/panel.h"

#define INLINE static inline __attribute__((always_inline))
#define NRB (BNV * VL)
#define GROUP ((size_t)4) /* blocks whose scales are read together: half a super-block of Q4_K */
#define PANEL_BLOCK_BYTES(nibbles) (NRB * (BLOCK * ((nibbles) ? 1 : PLANES) + 8)) /* weights; scales; minima, or with PLANES 2 what sums start from */

/* ---- Reading weights ---- */

/* Pointers to rows; beyond n the first one again, so that all lanes have something to read. */
INLINE void rows_point(const uint8_t *p[VL], const char *w, size_t row_bytes, size_t n) {
    for (size_t j = 0; j < VL; j++) p[j] = (const uint8_t *)w + (j < n ? j * row_bytes : 0);
}

/* Weights of WIDE blocks from block b of a row. */
INLINE vw wide_get(const pali_dtype dtype, const uint8_t *row, size_t b) {
    switch (dtype) {
    case PALI_DTYPE_Q8_0: return vw_q8_0(row + b * Q8_0_BYTES + 2);
    case PALI_DTYPE_Q4_0: return vw_q4(row + b * Q4_0_BYTES + 2, Q4_0_BYTES);
    case PALI_DTYPE_Q4_1: return vw_q4(row + b * Q4_1_BYTES + 4, Q4_1_BYTES);
    default: return vw_q4_k(row + b / 8 * Q4_K_BYTES + 16 + b % 8 / 2 * BLOCK, b % 2);
    }
}

/* The last block of a row of an odd number, behind which WIDE = 2 must not read: a copy of it with zeros behind. */
#define TAIL_BYTES (2 * Q8_0_BYTES)
INLINE void tail_copy(uint8_t copy[VL][TAIL_BYTES], const uint8_t *tail[VL], const pali_dtype dtype, const uint8_t *const p[VL], size_t b) {
    size_t n = dtype_bytes(dtype, BLOCK);
    memset(copy, 0, VL * TAIL_BYTES);
    for (size_t j = 0; j < VL; j++) {
        memcpy(copy[j], p[j] + b * n, n);
        tail[j] = copy[j];
    }
}
INLINE bool is_tail(const pali_dtype dtype, size_t b, size_t n_blocks) {
    return WIDE == 2 && dtype != PALI_DTYPE_Q4_K && b + 1 == n_blocks;
}

/* Scales and minima of n <= GROUP blocks from b, a multiple of GROUP. */
INLINE void scales_get(vf s[GROUP], vf m[GROUP], const pali_dtype dtype, const uint8_t *const p[VL], size_t b, const size_t n) {
    if (dtype == PALI_DTYPE_Q4_K) { /* d and m, then 12 bytes of 6-bit numbers; the upper two bits of the later four lie apart */
        vu h[4];
        vu_load_each(h, p, b / 8 * Q4_K_BYTES);
        vf d = vu_even_f16(h[0]), d_m = v_sub(v_zero(), vu_odd_f16(h[0]));
        vu low = vu_set1(0x0f0f0f0f), high = vu_set1(0x30303030), six = vu_set1(0x3f3f3f3f), byte = vu_set1(0xff);
        bool later = b % 8 != 0;
        vu scale = later ? vu_or(vu_and(h[3], low), vu_and(vu_shr(h[1], 2), high)) : vu_and(h[1], six);
        vu min = later ? vu_or(vu_and(vu_shr(h[3], 4), low), vu_and(vu_shr(h[2], 2), high)) : vu_and(h[2], six);
        UNROLL
        for (size_t i = 0; i < GROUP; i++) {
            s[i] = v_mul(d, v_from_vi(vi_from_vu(vu_and(scale, byte))));
            m[i] = v_mul(d_m, v_from_vi(vi_from_vu(vu_and(min, byte))));
            scale = vu_shr(scale, 8);
            min = vu_shr(min, 8);
        }
        return;
    }
    size_t bytes = dtype == PALI_DTYPE_Q8_0 ? Q8_0_BYTES : dtype == PALI_DTYPE_Q4_0 ? Q4_0_BYTES : Q4_1_BYTES;
    UNROLL
    for (size_t i = 0; i < n; i++) {
        s[i] = v_load_f16_each(p, (b + i) * bytes);
        if (dtype == PALI_DTYPE_Q4_0) m[i] = v_mul(v_set1(-8), s[i]);
        if (dtype == PALI_DTYPE_Q4_1) m[i] = v_load_f16_each(p, (b + i) * bytes + 2);
    }
}

/* ---- Few rows of x ---- */

/* Adds the share of n <= GROUP blocks from b, a multiple of GROUP, to y. */
INLINE vf dot_group(const pali_dtype dtype, vf y, const void *x, const uint8_t *const p[VL], size_t k, size_t b, const size_t n) {
    size_t n_blocks = (k + BLOCK - 1) / BLOCK;
    vf s[GROUP], m[GROUP];
    scales_get(s, m, dtype, p, b, n);
    UNROLL
    for (size_t i = 0; i < n; i += WIDE) {
        const uint8_t *tail[VL];
        uint8_t copy[VL][TAIL_BYTES];
        bool at_tail = n < GROUP && is_tail(dtype, b + i, n_blocks);
        if (at_tail) tail_copy(copy, tail, dtype, p, b + i);
        vw wide = vw_load((const int8_t *)x + (b + i) * BLOCK);
        vi part[VL], sum[WIDE];
        UNROLL
        for (size_t j = 0; j < VL; j++) {
            vw w = wide_get(dtype, at_tail ? tail[j] : p[j], at_tail ? 0 : b + i);
            part[j] = dtype == PALI_DTYPE_Q8_0 ? vw_dot8(w, wide) : vw_dot4(w, wide);
        }
        vw_sum_rows(sum, part);
        UNROLL
        for (size_t u = 0; u < WIDE; u++) {
            if (i + u >= n) break;
            if (dtype == PALI_DTYPE_Q8_0 && OFFSETS) sum[u] = vi_add(sum[u], vi_set1(x_offsets(x, k)[b + i + u]));
            y = v_fma(v_from_vi(sum[u]), v_mul(s[i + u], v_set1(x_scales(x, k)[b + i + u])), y);
            if (dtype_has_minima(dtype)) y = v_fma(m[i + u], v_set1(x_sums(x, k)[b + i + u]), y);
        }
    }
    return y;
}

/* VL rows in step are more streams than the hardware follows, and short rows end before it has noticed them. The rows of a
 * matrix lie one after the other, so while one strip of VL rows is worked on the next is fetched; rows too long for that
 * are fetched a little ahead of the work. */
#define PREFETCH_STRIP_BYTES 65536u
#define PREFETCH_AHEAD_BYTES 1024u

INLINE void prefetch(const void *p, size_t n_bytes) {
    for (size_t i = 0; i < n_bytes; i += 64) __builtin_prefetch((const char *)p + i, 0, 2);
}

/* For group g of n: strip is VL rows, at least one more row follows them if `more`. */
INLINE void prefetch_group(const uint8_t *const p[VL], size_t row_bytes, size_t g, size_t n, bool more) {
    size_t strip = VL * row_bytes;
    if (strip <= PREFETCH_STRIP_BYTES) {
        if (more) prefetch(p[0] + strip + g * strip / n, strip / n);
        return;
    }
    for (size_t j = 0; j < VL; j++) prefetch(p[j] + g * row_bytes / n + PREFETCH_AHEAD_BYTES, row_bytes / n);
}

INLINE void dot_blocks(const pali_dtype dtype, float *y, size_t ldy, const void *x, size_t ldx, const void *w, size_t row_bytes, size_t m,
                       size_t n, size_t k, bool accumulate) {
    size_t n_blocks = (k + BLOCK - 1) / BLOCK;
    for (size_t j = 0; j < n; j += VL) {
        const uint8_t *p[VL];
        size_t lanes = n - j < VL ? n - j : VL;
        rows_point(p, (const char *)w + j * row_bytes, row_bytes, lanes);
        for (size_t r = 0; r < m; r++) {
            const char *row = (const char *)x + r * ldx;
            float *to = y + r * ldy + j;
            vf sum = accumulate ? v_load_n(to, lanes) : v_zero();
            size_t b = 0;
            for (; b + GROUP <= n_blocks; b += GROUP) {
                if (r == 0) prefetch_group(p, row_bytes, b / GROUP, (n_blocks + GROUP - 1) / GROUP, j + VL < n);
                sum = dot_group(dtype, sum, row, p, k, b, GROUP);
            }
            switch (n_blocks - b) { /* constants, so that everything unrolls */
            case 1: sum = dot_group(dtype, sum, row, p, k, b, 1); break;
            case 2: sum = dot_group(dtype, sum, row, p, k, b, 2); break;
            case 3: sum = dot_group(dtype, sum, row, p, k, b, 3); break;
            default: break;
            }
            v_store_n(to, sum, lanes);
        }
    }
}

/* ---- Panels ---- */

/* The weights of a block, for vector v of the panel. */
INLINE void panel_block(char *to, const vu quads[8], size_t v, const bool nibbles) {
    if (nibbles) {
        UNROLL
        for (size_t q = 0; q < 8; q++) vu_store(to + (q * BNV + v) * VL * 4, quads[q]);
        return;
    }
    UNROLL
    for (size_t q = 0; q < 8; q++) vu_store(to + (q * PLANES * BNV + v) * VL * 4, vi_panel8(quads[q]));
#if PLANES == 2
    vi start = vi_zero();
    UNROLL
    for (size_t q = 0; q < 8; q++) {
        vu_store(to + ((q * PLANES + 1) * BNV + v) * VL * 4, vi_signs8(quads[q]));
        start = vi_start8(start, quads[q]);
    }
    vu_store(to + PANEL_BLOCK_BYTES(false) - (NRB - v * VL) * 4, start);
#endif
}

INLINE void panel_blocks(const pali_dtype dtype, char *panel, const void *w, size_t row_bytes, size_t n, size_t b0, size_t n_blocks) {
    for (size_t v = 0; v < BNV; v++) {
        const uint8_t *p[VL];
        size_t j0 = v * VL < n ? v * VL : 0;
        rows_point(p, (const char *)w + j0 * row_bytes, row_bytes, n - j0);
        for (size_t b = 0; b < n_blocks; b += GROUP) {
            vf s[GROUP], m[GROUP];
            size_t count = n_blocks - b < GROUP ? n_blocks - b : GROUP;
            switch (count) {
            case 1: scales_get(s, m, dtype, p, b0 + b, 1); break;
            case 2: scales_get(s, m, dtype, p, b0 + b, 2); break;
            case 3: scales_get(s, m, dtype, p, b0 + b, 3); break;
            default: scales_get(s, m, dtype, p, b0 + b, GROUP);
            }
            for (size_t i = 0; i < count; i += WIDE) {
                const uint8_t *tail[VL];
                uint8_t copy[VL][TAIL_BYTES];
                bool at_tail = is_tail(dtype, b + i, n_blocks);
                if (at_tail) tail_copy(copy, tail, dtype, p, b0 + b + i);
                vw r[VL];
                vu quads[8 * WIDE];
                UNROLL
                for (size_t j = 0; j < VL; j++) r[j] = wide_get(dtype, at_tail ? tail[j] : p[j], at_tail ? 0 : b0 + b + i);
                vw_transpose(quads, r);
                for (size_t u = 0; u < WIDE && i + u < count; u++) {
                    const bool nibbles = dtype != PALI_DTYPE_Q8_0;
                    char *to = panel + (b + i + u) * PANEL_BLOCK_BYTES(nibbles);
                    panel_block(to, quads + u * 8, v, nibbles);
                    float *scales = (float *)(void *)(to + PANEL_BLOCK_BYTES(nibbles)) - 2 * NRB;
                    v_store(scales + v * VL, s[i + u]);
                    if (nibbles) v_store(scales + NRB + v * VL, m[i + u]);
                }
            }
        }
    }
}

/* ---- Many rows of x ---- */

/* The integers of one block for `rows` rows of x and all outputs of the panel. */
INLINE void tile_block(vi acc[BMR][BNV], const char *x, size_t ldx, const char *panel, const size_t rows, size_t k, size_t b, const bool nibbles) {
    const size_t planes = nibbles ? 1 : PLANES;
    UNROLL
    for (size_t r = 0; r < rows; r++) {
        vi start = OFFSETS && !nibbles ? vi_set1(x_offsets(x + r * ldx, k)[b]) : vi_zero();
        UNROLL
        for (size_t v = 0; v < BNV; v++) acc[r][v] = planes == 2 ? vi_from_vu(vu_load(panel + PANEL_BLOCK_BYTES(false) - (NRB - v * VL) * 4)) : start;
    }
    UNROLL
    for (size_t q = 0; q < 8; q++) {
        vu w[BNV], signs[BNV];
        (void)signs; /* not everyone's product takes them */
        UNROLL
        for (size_t v = 0; v < BNV; v++) {
            w[v] = vu_load(panel + (q * planes * BNV + v) * VL * 4);
            signs[v] = planes == 2 ? vu_load(panel + ((q * planes + 1) * BNV + v) * VL * 4) : w[v];
        }
        UNROLL
        for (size_t r = 0; r < rows; r++) {
            vi four = vi_load4(x + r * ldx + b * BLOCK + q * 4);
            v_opaque(four); /* or it becomes a memory operand of each product */
            UNROLL
            for (size_t v = 0; v < BNV; v++) {
                acc[r][v] = nibbles ? vi_dot4(acc[r][v], w[v], four) : vi_dot8(acc[r][v], w[v], signs[v], four);
                v_opaque(acc[r][v]); /* or the compiler, to add in another order, multiplies everything first and spills it */
            }
        }
    }
    if (!nibbles) return;
    UNROLL
    for (size_t r = 0; r < rows; r++) {
        UNROLL
        for (size_t v = 0; v < BNV; v++) acc[r][v] = vi_dot4_end(acc[r][v]);
    }
}

INLINE void tile_blocks(float *c, size_t ldc, const char *x, size_t ldx, const char *panel, const size_t rows, size_t n, size_t k, size_t b0,
                        size_t n_blocks, const bool nibbles) {
    vf y[BMR][BNV];
    UNROLL
    for (size_t r = 0; r < rows; r++) {
        UNROLL
        for (size_t v = 0; v < BNV; v++) {
            size_t lanes = n > v * VL ? n - v * VL : 0;
            y[r][v] = lanes >= VL ? v_load(c + r * ldc + v * VL) : lanes ? v_load_n(c + r * ldc + v * VL, lanes) : v_zero();
        }
    }
    for (size_t b = b0; b < b0 + n_blocks; b++, panel += PANEL_BLOCK_BYTES(nibbles)) {
        vi acc[BMR][BNV];
        const float *scales = (const float *)(const void *)(panel + PANEL_BLOCK_BYTES(nibbles)) - 2 * NRB;
#if SUMS_IN_MEMORY
        __asm__("" : "+m"(y));
#endif
        tile_block(acc, x, ldx, panel, rows, k, b, nibbles);
        UNROLL
        for (size_t r = 0; r < rows; r++) {
            vf d = v_set1(x_scales(x + r * ldx, k)[b]);
            UNROLL
            for (size_t v = 0; v < BNV; v++) {
                y[r][v] = v_fma(v_from_vi(acc[r][v]), v_mul(v_load(scales + v * VL), d), y[r][v]);
                if (nibbles) y[r][v] = v_fma(v_load(scales + NRB + v * VL), v_set1(x_sums(x + r * ldx, k)[b]), y[r][v]);
            }
        }
    }
    UNROLL
    for (size_t r = 0; r < rows; r++) {
        UNROLL
        for (size_t v = 0; v < BNV; v++) {
            size_t lanes = n > v * VL ? n - v * VL : 0;
            if (lanes >= VL)
                v_store(c + r * ldc + v * VL, y[r][v]);
            else if (lanes)
                v_store_n(c + r * ldc + v * VL, y[r][v], lanes);
        }
    }
}

INLINE void rows_blocks(float *c, size_t ldc, const char *x, size_t ldx, const char *panel, size_t m, size_t n, size_t k, size_t b0,
                        size_t n_blocks, const bool nibbles) {
    size_t r = 0;
    for (; r + BMR <= m; r += BMR) tile_blocks(c + r * ldc, ldc, x + r * ldx, ldx, panel, BMR, n, k, b0, n_blocks, nibbles);
    for (; r + 2 <= m; r += 2) tile_blocks(c + r * ldc, ldc, x + r * ldx, ldx, panel, 2, n, k, b0, n_blocks, nibbles);
    if (r < m) tile_blocks(c + r * ldc, ldc, x + r * ldx, ldx, panel, 1, n, k, b0, n_blocks, nibbles);
}

static void k_gemm_blocks(float *c, size_t ldc, const void *x, size_t ldx, const void *panel, size_t m, size_t n, size_t k, size_t b0,
                          size_t n_blocks, bool minima) {
    if (minima)
        rows_blocks(c, ldc, x, ldx, panel, m, n, k, b0, n_blocks, true);
    else
        rows_blocks(c, ldc, x, ldx, panel, m, n, k, b0, n_blocks, false);
}

/* ---- Activations ---- */

static void k_quantize_x(void *out, const float *x, size_t k) {
    for (size_t i0 = 0; i0 < x_padded(k); i0 += BLOCK) {
        float copy[BLOCK] = {0};
        const float *from = copy;
        int8_t *q = (int8_t *)out + i0;
        if (i0 + BLOCK <= k)
            from = x + i0;
        else if (i0 < k)
            memcpy(copy, x + i0, (k - i0) * sizeof *x);
        vf top = v_zero(), total = v_zero();
        UNROLL
        for (size_t i = 0; i < BLOCK; i += VL) top = v_max(v_abs(v_load(from + i)), top);
        vf inv = v_set1(x_block_begin(out, k, i0 / BLOCK, v_hmax(top)));
        UNROLL
        for (size_t i = 0; i < BLOCK; i += VL) {
            vf r = v_round(v_mul(v_load(from + i), inv));
            v_store_i8(q + i, r);
            total = v_add(total, r);
        }
        x_block_end(out, k, i0 / BLOCK, v_hsum(total)); /* exact in any order */
    }
}

#define DEFINE_BLOCK_KERNELS(T, DTYPE)                                                                                          \
    static void k_panel_blocks_##T(void *panel, const void *w, size_t row_bytes, size_t n, size_t b0, size_t n_blocks) {        \
        panel_blocks(DTYPE, panel, w, row_bytes, n, b0, n_blocks);                                                              \
    }                                                                                                                           \
    static void k_dot_blocks_##T(float *y, size_t ldy, const void *x, size_t ldx, const void *w, size_t row_bytes, size_t m,    \
                                 size_t n, size_t k, bool accumulate) {                                                         \
        dot_blocks(DTYPE, y, ldy, x, ldx, w, row_bytes, m, n, k, accumulate);                                                   \
    }
DEFINE_BLOCK_KERNELS(q8_0, PALI_DTYPE_Q8_0)
DEFINE_BLOCK_KERNELS(q4_0, PALI_DTYPE_Q4_0)
DEFINE_BLOCK_KERNELS(q4_1, PALI_DTYPE_Q4_1)
DEFINE_BLOCK_KERNELS(q4_k, PALI_DTYPE_Q4_K)

static void blocks_fill(kernels *k) {
    k->blocks_nr = NRB;
    k->panel_block_bytes[false] = PANEL_BLOCK_BYTES(false);
    k->panel_block_bytes[true] = PANEL_BLOCK_BYTES(true);
    k->quantize_x = k_quantize_x;
    k->gemm_blocks = k_gemm_blocks;
#define FILL_BLOCKS(T, DTYPE)                    \
    k->panel_blocks[DTYPE] = k_panel_blocks_##T; \
    k->dot_blocks[DTYPE] = k_dot_blocks_##T
    FILL_BLOCKS(q8_0, PALI_DTYPE_Q8_0);
    FILL_BLOCKS(q4_0, PALI_DTYPE_Q4_0);
    FILL_BLOCKS(q4_1, PALI_DTYPE_Q4_1);
    FILL_BLOCKS(q4_k, PALI_DTYPE_Q4_K);
}
