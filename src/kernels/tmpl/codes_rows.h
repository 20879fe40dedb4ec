/* codes_rows.h: the kernels that read coded weights. A file includes it behind loops.h and its words for tmpl/codes.h; sums are
 * added in the order of loops.h's. One more word: v_load_i8(p), VL bytes as floats. */
#include "kernels/tmpl/codes.h"

CODES_INLINE vf v_decode_i8(const uint8_t *p, vf scale) {
    return v_mul(v_mul(v_load_i8(p), scale), v_set1(CODES_INT8_STEP));
}

static void decode_int8(float *out, const coded_at *at, size_t j, size_t i, size_t n) {
    const uint8_t *p = at->of->data + (at->row + j) * at->of->cols + at->col + i;
    vf scale = v_set1(codes_scale(at->of, at->row + j));
    size_t k = 0;
    for (; k + VL <= n; k += VL) v_store(out + k, v_decode_i8(p + k, scale));
    if (k < n) {
        uint8_t tail[VL] = {0};
        memcpy(tail, p + k, n - k);
        v_store_n(out + k, v_decode_i8(tail, scale), n - k);
    }
}

/* Rows of k decoded 64 columns at a time into L1, then on as any f32 rows. */
#define DEFINE_CODES_PANEL(T)                                                                                          \
    static void k_panel_rows_##T(float *panel, const void *w, size_t ld, size_t n, size_t k) {                         \
        float rows[NR * CODES_BLOCK];                                                                                  \
        (void)ld;                                                                                                      \
        for (size_t i = 0; i < k; i += CODES_BLOCK) {                                                                  \
            size_t left = k - i < CODES_BLOCK ? k - i : CODES_BLOCK;                                                   \
            for (size_t j = 0; j < n; j++) decode_##T(rows + j * CODES_BLOCK, w, j, i, left);                          \
            k_panel_rows_f32(panel + i * NR, rows, CODES_BLOCK, n, left);                                              \
        }                                                                                                              \
    }                                                                                                                  \
    static void k_to_f32_##T(float *y, const void *x, size_t n) {                                                      \
        decode_##T(y, x, 0, 0, n);                                                                                     \
    }
DEFINE_CODES_PANEL(4bit)
DEFINE_CODES_PANEL(int8)

/* 64 columns of one row that are a block, times m rows of x, into the accumulators of dot_f32. */
CODES_INLINE void dot_block(vf acc[KERNELS_DOT_ROWS][DOT_ACC], const float *x, size_t ldx, const coded *c, size_t e, const size_t m, const bool bf16) {
    vt table = vt_make(c->table, codes_scale(c, e / CODES_BLOCK), c->rounding);
    UNROLL
    for (size_t i = 0; i < CODES_BLOCK; i += CODES_STEP) {
        vf w[CODES];
        v_decode(w, table, c->data + (e + i) / 2, bf16);
        UNROLL
        for (size_t v = 0; v < CODES; v++) {
            UNROLL
            for (size_t r = 0; r < m; r++)
                acc[r][(i / VL + v) % DOT_ACC] = v_fma(w[v], v_load(x + r * ldx + i + v * VL), acc[r][(i / VL + v) % DOT_ACC]);
        }
    }
}

CODES_INLINE void dot_4bit(float *y, size_t ldy, const float *x, size_t ldx, const coded_at *at, size_t j, const size_t m, size_t k, bool accumulate,
                           const bool bf16) {
    vf acc[KERNELS_DOT_ROWS][DOT_ACC];
    size_t e = (at->row + j) * at->of->cols + at->col, i = 0;
    dot_begin(acc, m);
    if (e % CODES_BLOCK == 0) /* of all real shapes but SigLIP's 4304 columns, which are never few rows of x */
        for (; i + CODES_BLOCK <= k; i += CODES_BLOCK) dot_block(acc, x + i, ldx, at->of, e + i, m, bf16);
    for (; i < k; i += CODES_BLOCK) {
        float block[CODES_BLOCK];
        size_t left = k - i < CODES_BLOCK ? k - i : CODES_BLOCK;
        decode_4bit(block, at, j, i, left);
        dot_part_f32(acc, x + i, ldx, (const char *)block, 0, m, 1, left);
    }
    dot_end(y, ldy, acc, m, 1, accumulate);
}

CODES_INLINE void dot_int8(float *y, size_t ldy, const float *x, size_t ldx, const coded_at *at, size_t j, const size_t m, size_t k, bool accumulate) {
    vf acc[KERNELS_DOT_ROWS][DOT_ACC], scale = v_set1(codes_scale(at->of, at->row + j));
    const uint8_t *p = at->of->data + (at->row + j) * at->of->cols + at->col;
    size_t i = 0;
    dot_begin(acc, m);
    for (; i + DOT_ACC * VL <= k; i += DOT_ACC * VL) {
        UNROLL
        for (size_t u = 0; u < DOT_ACC; u++) {
            vf w = v_decode_i8(p + i + u * VL, scale);
            UNROLL
            for (size_t r = 0; r < m; r++) acc[r][u] = v_fma(w, v_load(x + r * ldx + i + u * VL), acc[r][u]);
        }
    }
    if (i < k) {
        float rest[DOT_ACC * VL];
        decode_int8(rest, at, j, i, k - i);
        dot_part_f32(acc, x + i, ldx, (const char *)rest, 0, m, 1, k - i);
    }
    dot_end(y, ldy, acc, m, 1, accumulate);
}

/* One row of weights after the other, with the number of rows of x a constant. */
#define CODES_DOT_ROWS(call)                 \
    for (size_t j = 0; j < n; j++, y++) {    \
        switch (m) {                         \
        case 1: call(1); break;              \
        case 2: call(2); break;              \
        case 3: call(3); break;              \
        default: call(4);                    \
        }                                    \
    }
#define DOT_BF16(M) dot_4bit(y, ldy, x, ldx, w, j, M, k, accumulate, true)
#define DOT_OTHER(M) dot_4bit(y, ldy, x, ldx, w, j, M, k, accumulate, false)
#define DOT_INT8(M) dot_int8(y, ldy, x, ldx, w, j, M, k, accumulate)

static void k_dot_rows_4bit(float *y, size_t ldy, const float *x, size_t ldx, const void *w, size_t ld, size_t m, size_t n, size_t k, bool accumulate) {
    (void)ld;
    if (((const coded_at *)w)->of->rounding == PALI_DTYPE_BF16)
        CODES_DOT_ROWS(DOT_BF16)
    else
        CODES_DOT_ROWS(DOT_OTHER)
}

static void k_dot_rows_int8(float *y, size_t ldy, const float *x, size_t ldx, const void *w, size_t ld, size_t m, size_t n, size_t k, bool accumulate) {
    (void)ld;
    CODES_DOT_ROWS(DOT_INT8)
}

static void codes_fill(kernels *k) {
#define FILL_CODES(DTYPE, T)                 \
    k->panel_rows[DTYPE] = k_panel_rows_##T; \
    k->dot_rows[DTYPE] = k_dot_rows_##T;     \
    k->to_f32[DTYPE] = k_to_f32_##T
    FILL_CODES(PALI_DTYPE_NF4, 4bit);
    FILL_CODES(PALI_DTYPE_FP4, 4bit);
    FILL_CODES(PALI_DTYPE_INT8, int8);
}
