/* tiles.h: a product cut into tiles of the file's own `tile`. Defines tiles_run; a file includes it once. */

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
