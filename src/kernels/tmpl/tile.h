/* tile.h: the micro-kernel of the matrix product with f32 accumulators, from the words of products.h. Defines tiles_run; a file
 * includes it once. */
#define TILE_SUM vf
#include "kernels/tmpl/products.h"

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
    products(acc, a, lda, panel, rows, vectors, k);
    UNROLL
    for (size_t r = 0; r < rows; r++) {
        UNROLL
        for (size_t v = 0; v + 1 < vectors; v++) v_store(c + r * ldc + v * VL, acc[r][v]);
        v_store_n(c + r * ldc + (vectors - 1) * VL, acc[r][vectors - 1], last);
    }
}

#include "kernels/tmpl/tiles.h"
