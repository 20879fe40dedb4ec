/* products.h: the inner loop of the matrix product: MR rows of A by NV vectors of a panel, one accumulator per output, k
 * ascending, so that the result does not depend on how rows and columns were cut into tiles.
 *
 *   TILE_TYPE, TILE_VECTOR        element of A and the panel: float, or uint32_t for a pair of 16-bit floats; a vector of them
 *   TILE_SUM                      a vector of accumulators
 *   TILE_BROADCAST(a)             the element in every lane
 *   TILE_LOAD(p)                  a vector of the panel
 *   TILE_MULTIPLY(acc, a, b)      acc + a * b
 *
 * The broadcast goes through v_opaque, or the compiler folds it into each product as a memory operand: NV loads instead of
 * one, which halves the speed of AVX-512. */

static inline __attribute__((always_inline)) void products(TILE_SUM acc[MR][NV], const TILE_TYPE *a, size_t lda, const TILE_TYPE *panel,
                                                           const size_t rows, const size_t vectors, size_t k) {
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
}
