/* tile.h: the micro-kernel of the matrix product: MR rows of A by NV vectors of a panel, one accumulator per output, k
 * ascending, so that the result does not depend on how rows and columns were cut into tiles.
 *
 *   TILE_TYPE, TILE_VECTOR        element of A and the panel: float, or uint32_t for a pair of bf16; a vector of them
 *   TILE_BROADCAST(a)             the element in every lane
 *   TILE_LOAD(p)                  a vector of the panel
 *   TILE_MULTIPLY(acc, a, b)      acc + a * b
 *
 * The broadcast goes through v_opaque, or the compiler folds it into each product as a memory operand: NV loads instead of
 * one, which halves the speed of AVX-512.
 *
 * Defines tiles_run; a file includes it once. */

static inline __attribute__((always_inline)) void tile(float *c, size_t ldc, const TILE_TYPE *a, size_t lda, const TILE_TYPE *panel,
                                                               const size_t rows, const size_t vectors, size_t n, size_t k, bool accumulate) {
    vf acc[MR][NV];
    size_t last = n - (vectors - 1) * VL; /* lanes of the last vector */
    UNROLL
    for (size_t r = 0; r < rows; r++) {
        UNROLL
        for (size_t v = 0; v < vectors; v++)
            acc[r][v] = !accumulate ? v_zero() : v == vectors - 1 ? v_load_n(c + r * ldc + v * VL, last) : v_load(c + r * ldc + v * VL);
    }
    for (size_t i = 0; i < k; i++, panel += NR) {
        TILE_VECTOR b[NV];
        UNROLL
        for (size_t v = 0; v < vectors; v++) b[v] = TILE_LOAD(panel + v * VL);
        UNROLL
        for (size_t r = 0; r < rows; r++) {
            TILE_VECTOR x = TILE_BROADCAST(a[r * lda + i]);
            v_opaque(x);
            UNROLL
            for (size_t v = 0; v < vectors; v++) acc[r][v] = TILE_MULTIPLY(acc[r][v], x, b[v]);
        }
    }
    UNROLL
    for (size_t r = 0; r < rows; r++) {
        UNROLL
        for (size_t v = 0; v + 1 < vectors; v++) v_store(c + r * ldc + v * VL, acc[r][v]);
        v_store_n(c + r * ldc + (vectors - 1) * VL, acc[r][vectors - 1], last);
    }
}

/* All rows against the first `vectors` vectors of the panel. */
static inline __attribute__((always_inline)) void columns(float *c, size_t ldc, const TILE_TYPE *a, size_t lda, const TILE_TYPE *panel,
                                                                  size_t m, const size_t vectors, size_t n, size_t k, bool accumulate) {
    size_t r = 0;
    for (; r + MR <= m; r += MR) tile(c + r * ldc, ldc, a + r * lda, lda, panel, MR, vectors, n, k, accumulate);
    for (; r + 2 <= m; r += 2) tile(c + r * ldc, ldc, a + r * lda, lda, panel, 2, vectors, n, k, accumulate);
    if (r < m) tile(c + r * ldc, ldc, a + r * lda, lda, panel, 1, vectors, n, k, accumulate);
}

static void tiles_run(float *c, size_t ldc, const TILE_TYPE *a, size_t lda, const TILE_TYPE *panel, size_t m, size_t n, size_t k,
                             bool accumulate) {
    /* Narrow tiles, such as the last columns of a head of 72, leave the rest of the panel out. The conditions on NV keep
     * widths that the panel does not have from being compiled. */
    size_t vectors = (n + VL - 1) / VL;
    if (vectors == NV)
        columns(c, ldc, a, lda, panel, m, NV, n, k, accumulate);
    else if (vectors == 1)
        columns(c, ldc, a, lda, panel, m, 1, n, k, accumulate);
    else if (vectors == 2)
        columns(c, ldc, a, lda, panel, m, NV > 2 ? 2 : 1, n, k, accumulate);
    else if (vectors == 3)
        columns(c, ldc, a, lda, panel, m, NV > 3 ? 3 : 1, n, k, accumulate);
}
