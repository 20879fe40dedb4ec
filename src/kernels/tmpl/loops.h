/* loops.h: the kernels' loops, written once in vector words. A file of x86/ or arm/ defines the words for its instruction
 * set and includes this; static functions named k_* result.
 *
 *   VL               lanes of a vector;  vf: vector of VL floats;  vu: vector of VL 32-bit patterns
 *   NV, MR           panel width in vectors, rows of the micro-kernel (MR * NV accumulators + NV + 1 fit in registers)
 *   DOT_ACC, DOT_ROWS accumulators of a dot product, weight rows at once (at most KERNELS_DOT_ROWS)
 *   v_zero, v_set1, v_load, v_store           whole vectors, any alignment
 *   v_load_n, v_store_n, v_keep_n             the first n < VL lanes; loads fill with 0
 *   v_add, v_sub, v_mul, v_div, v_fma(a,b,c) = a b + c, v_fnma(a,b,c) = c - a b
 *   v_max(a,b), v_min(a,b)                    NaN in b wins
 *   v_hsum, v_hmax                            across lanes, fixed order
 *   v_round                                   to the nearest integer, as float
 *   v_pow2(n)                                 2^n for integral n in [-126, 127]
 *   v_abs, v_sign_of(a, b)                    |a|; a >= 0 with the sign of b
 *   v_pick_less(a, b, x, y)                   a < b ? x : y
 *   v_opaque(x)                               hides from the compiler where x came from
 *   v_load_bf16, v_load_f16                   VL halves widened
 *   v_store_bf16                              rounded to nearest even
 *   vu_load(p), vu_transpose(r[VL]), vu_store, vu_f32
 *   vu_even_bf16, vu_odd_bf16, vu_even_f16, vu_odd_f16   widen one half of each 32-bit lane
 */
#include "base/halffloat.h"
#include "kernels/tmpl/panel.h"

/* ---- Panels ---- */

static void k_panel_rows_f32(float *panel, const void *w, size_t ld, size_t n, size_t k) {
    for (size_t j0 = 0; j0 < NR; j0 += VL) {
        const char *rows = (const char *)w + j0 * ld * 4;
        for (size_t i = 0; i < k; i += VL) {
            vu r[VL];
            size_t left = k - i < VL ? k - i : VL;
            rows_transpose(r, rows, ld * 4, n > j0 ? n - j0 : 0, i * 4, left * 4);
            for (size_t c = 0; c < left; c++) vu_store(panel + (i + c) * NR + j0, r[c]);
        }
    }
}

/* Halves are transposed in pairs and widened afterwards: half the shuffles, and whole cache lines of every row. */
#define DEFINE_PANEL_ROWS_HALVES(T)                                                                               \
    static void k_panel_rows_##T(float *panel, const void *w, size_t ld, size_t n, size_t k) {                    \
        for (size_t j0 = 0; j0 < NR; j0 += VL) {                                                                  \
            const char *rows = (const char *)w + j0 * ld * 2;                                                     \
            for (size_t i = 0; i < k; i += 2 * VL) {                                                              \
                vu r[VL];                                                                                         \
                size_t left = k - i < 2 * VL ? k - i : 2 * VL;                                                    \
                rows_transpose(r, rows, ld * 2, n > j0 ? n - j0 : 0, i * 2, left * 2);                            \
                for (size_t c = 0; c < left; c += 2) {                                                            \
                    v_store(panel + (i + c) * NR + j0, vu_even_##T(r[c / 2]));                                    \
                    if (c + 1 < left) v_store(panel + (i + c + 1) * NR + j0, vu_odd_##T(r[c / 2]));               \
                }                                                                                                 \
            }                                                                                                     \
        }                                                                                                         \
    }
DEFINE_PANEL_ROWS_HALVES(bf16)
DEFINE_PANEL_ROWS_HALVES(f16)

static void k_panel_cols(float *panel, const float *b, size_t ld, size_t n, size_t k) {
    for (size_t i = 0; i < k; i++) {
        for (size_t j = 0; j < NR; j += VL) {
            vf x = v_zero();
            if (n >= j + VL)
                x = v_load(b + i * ld + j);
            else if (n > j)
                x = v_load_n(b + i * ld + j, n - j);
            v_store(panel + i * NR + j, x);
        }
    }
}

/* ---- Matrix product ---- */

#define TILE_TYPE float
#define TILE_VECTOR vf
#define TILE_BROADCAST(a) v_set1(a)
#define TILE_LOAD(p) v_load(p)
#define TILE_MULTIPLY(acc, a, b) v_fma(a, b, acc)
#include "kernels/tmpl/tile.h"

static void k_gemm_panel(float *c, size_t ldc, const float *a, size_t lda, const float *panel, size_t m, size_t n, size_t k, bool accumulate) {
    tiles_run(c, ldc, a, lda, panel, m, n, k, accumulate);
}

/* ---- Dot products ---- */

/* Dot products of m rows of x with `rows` weight rows, DOT_ACC accumulators each, added in a fixed order. While x fits in L1
 * one weight row after the other is the purest stream. A longer x comes from L2, and its misses crowd out the stream (12.8
 * instead of 30 GB/s at k = 16384, with or without blocking k or prefetching): several weight rows then share its loads. */
#define DOT_LONG 4096u

/* The two ends of it. */
static inline __attribute__((always_inline)) void dot_begin(vf acc[KERNELS_DOT_ROWS][DOT_ACC], const size_t n) {
    UNROLL
    for (size_t r = 0; r < n; r++) {
        UNROLL
        for (size_t u = 0; u < DOT_ACC; u++) acc[r][u] = v_zero();
    }
}

static inline __attribute__((always_inline)) void dot_end(float *y, size_t ldy, vf acc[KERNELS_DOT_ROWS][DOT_ACC], const size_t m, const size_t rows,
                                                          bool accumulate) {
    UNROLL
    for (size_t r = 0; r < m * rows; r++) {
        UNROLL
        for (size_t u = 1; u < DOT_ACC; u++) acc[r][0] = v_add(acc[r][0], acc[r][u]);
        float sum = v_hsum(acc[r][0]), *to = rows > 1 ? y + r : y + r * ldy;
        *to = accumulate ? *to + sum : sum;
    }
}

/* dot_part adds k columns to the sums, [m or rows] of them: one of the two is 1. k is a multiple of DOT_ACC * VL but for the last. */
#define DEFINE_DOT(T, BYTES)                                                                                                \
    static inline __attribute__((always_inline)) void dot_part_##T(vf acc[KERNELS_DOT_ROWS][DOT_ACC], const float *x, size_t ldx, \
                                                                   const char *w, size_t ld_bytes, const size_t m,          \
                                                                   const size_t rows, size_t k) {                           \
        size_t i = 0;                                                                                                       \
        for (; i + DOT_ACC * VL <= k; i += DOT_ACC * VL) {                                                                  \
            UNROLL for (size_t u = 0; u < DOT_ACC; u++) {                                                                   \
                UNROLL for (size_t j = 0; j < rows; j++) {                                                                  \
                    vf weight = v_load_##T(w + j * ld_bytes + (i + u * VL) * BYTES);                                        \
                    UNROLL for (size_t r = 0; r < m; r++)                                                                   \
                        acc[r + j][u] = v_fma(weight, v_load(x + r * ldx + i + u * VL), acc[r + j][u]);                     \
                }                                                                                                           \
            }                                                                                                               \
        }                                                                                                                   \
        for (; i + VL <= k; i += VL) {                                                                                      \
            UNROLL for (size_t j = 0; j < rows; j++) {                                                                      \
                vf weight = v_load_##T(w + j * ld_bytes + i * BYTES);                                                       \
                UNROLL for (size_t r = 0; r < m; r++) acc[r + j][0] = v_fma(weight, v_load(x + r * ldx + i), acc[r + j][0]); \
            }                                                                                                               \
        }                                                                                                                   \
        if (i < k) {                                                                                                        \
            UNROLL for (size_t j = 0; j < rows; j++) {                                                                      \
                char tail[VL * BYTES] = {0};                                                                                \
                memcpy(tail, w + j * ld_bytes + i * BYTES, (k - i) * BYTES);                                                \
                vf weight = v_load_##T(tail);                                                                               \
                UNROLL for (size_t r = 0; r < m; r++)                                                                       \
                    acc[r + j][1] = v_fma(weight, v_load_n(x + r * ldx + i, k - i), acc[r + j][1]);                         \
            }                                                                                                               \
        }                                                                                                                   \
    }                                                                                                                       \
    static inline __attribute__((always_inline)) void dot_##T(float *y, size_t ldy, const float *x, size_t ldx, const char *w, \
                                                              size_t ld_bytes, const size_t m, const size_t rows, size_t k,    \
                                                              bool accumulate) {                                            \
        vf acc[KERNELS_DOT_ROWS][DOT_ACC];                                                                                  \
        dot_begin(acc, m * rows);                                                                                           \
        dot_part_##T(acc, x, ldx, w, ld_bytes, m, rows, k);                                                                 \
        dot_end(y, ldy, acc, m, rows, accumulate);                                                                          \
    }                                                                                                                       \
    static void k_dot_rows_##T(float *y, size_t ldy, const float *x, size_t ldx, const void *w, size_t ld, size_t m, size_t n, \
                               size_t k, bool accumulate) {                                                                 \
        const char *row = w;                                                                                                \
        size_t j = 0, step = ld * BYTES;                                                                                    \
        if (m == 1 && k > DOT_LONG)                                                                                         \
            for (; j + DOT_ROWS <= n; j += DOT_ROWS, row += DOT_ROWS * step) dot_##T(y + j, ldy, x, ldx, row, step, 1, DOT_ROWS, k, accumulate); \
        for (; j < n; j++, row += step) {                                                                                   \
            switch (m) {                                                                                                    \
            case 1: dot_##T(y + j, ldy, x, ldx, row, step, 1, 1, k, accumulate); break;                                     \
            case 2: dot_##T(y + j, ldy, x, ldx, row, step, 2, 1, k, accumulate); break;                                     \
            case 3: dot_##T(y + j, ldy, x, ldx, row, step, 3, 1, k, accumulate); break;                                     \
            default: dot_##T(y + j, ldy, x, ldx, row, step, 4, 1, k, accumulate);                                           \
            }                                                                                                               \
        }                                                                                                                   \
    }
DEFINE_DOT(f32, 4)
DEFINE_DOT(bf16, 2)
DEFINE_DOT(f16, 2)

static void k_sum_rows(float *y, const float *p, const float *v, size_t ld, size_t rows, size_t n, bool accumulate) {
    size_t j = 0;
    for (; j + 4 * VL <= n; j += 4 * VL) {
        vf acc[4];
        UNROLL
        for (size_t u = 0; u < 4; u++) acc[u] = accumulate ? v_load(y + j + u * VL) : v_zero();
        for (size_t i = 0; i < rows; i++) {
            UNROLL
            for (size_t u = 0; u < 4; u++) acc[u] = v_fma(v_set1(p[i]), v_load(v + i * ld + j + u * VL), acc[u]);
        }
        UNROLL
        for (size_t u = 0; u < 4; u++) v_store(y + j + u * VL, acc[u]);
    }
    for (; j < n; j += VL) {
        size_t left = n - j < VL ? n - j : VL;
        vf acc = accumulate ? v_load_n(y + j, left) : v_zero();
        for (size_t i = 0; i < rows; i++) acc = v_fma(v_set1(p[i]), v_load_n(v + i * ld + j, left), acc);
        v_store_n(y + j, acc, left);
    }
}

/* ---- Functions ---- */

/* exp(x), relative error below 2e-7: x = n ln 2 + r, |r| <= ln 2 / 2, polynomial of Cephes' expf (Moshier). Results below
 * the normal range become 2^-126, above it about 2^128 less one ulp's worth; softmax never gets there. */
static inline vf v_exp(vf x) {
    x = v_min(v_set1(88.3762f), v_max(v_set1(-87.3365f), x));
    vf n = v_round(v_mul(x, v_set1(1.44269504f)));
    vf r = v_fnma(n, v_set1(0.693359375f), x);
    r = v_fnma(n, v_set1(-2.12194440e-4f), r);
    vf p = v_set1(1.9875691500e-4f);
    p = v_fma(p, r, v_set1(1.3981999507e-3f));
    p = v_fma(p, r, v_set1(8.3334519073e-3f));
    p = v_fma(p, r, v_set1(4.1665795894e-2f));
    p = v_fma(p, r, v_set1(1.6666665459e-1f));
    p = v_fma(p, r, v_set1(5.0000001201e-1f));
    p = v_add(v_fma(v_mul(r, r), p, r), v_set1(1));
    return v_mul(p, v_pow2(n));
}

/* tanh(x): an odd polynomial below 0.625 (Cephes' tanhf), so that small values keep their relative accuracy; above it
 * 1 - 2 / (exp(2 |x|) + 1). */
static inline vf v_tanh(vf x) {
    vf z = v_mul(x, x), a = v_abs(x);
    vf p = v_set1(-5.70498872745e-3f);
    p = v_fma(p, z, v_set1(2.06390887954e-2f));
    p = v_fma(p, z, v_set1(-5.37397155531e-2f));
    p = v_fma(p, z, v_set1(1.33314422036e-1f));
    p = v_fma(p, z, v_set1(-3.33332819422e-1f));
    p = v_fma(v_mul(p, z), x, x);
    vf big = v_sub(v_set1(1), v_div(v_set1(2), v_add(v_exp(v_add(a, a)), v_set1(1))));
    return v_pick_less(a, v_set1(0.625f), p, v_sign_of(big, x));
}

static inline vf v_gelu(vf x) { /* spec 2.2; the constants are sqrt(2 / pi) and 0.044715 */
    vf inner = v_mul(v_set1(0.7978845608f), v_fma(v_mul(v_mul(x, x), x), v_set1(0.044715f), x));
    return v_mul(v_mul(v_set1(0.5f), x), v_add(v_set1(1), v_tanh(inner)));
}

/* Runs `expression` of vector x over an array in place. */
#define MAP(array, n, expression)                           \
    do {                                                    \
        size_t i_ = 0;                                      \
        for (; i_ + VL <= (n); i_ += VL) {                  \
            vf x = v_load((array) + i_);                    \
            v_store((array) + i_, expression);              \
        }                                                   \
        if (i_ < (n)) {                                     \
            vf x = v_load_n((array) + i_, (n)-i_);          \
            v_store_n((array) + i_, expression, (n)-i_);    \
        }                                                   \
    } while (0)

static void k_gelu(float *x_array, size_t n) {
    MAP(x_array, n, v_gelu(x));
}

static void k_geglu(float *x, const float *up, size_t n) {
    size_t i = 0;
    for (; i + VL <= n; i += VL) v_store(x + i, v_mul(v_gelu(v_load(x + i)), v_load(up + i)));
    if (i < n) v_store_n(x + i, v_mul(v_gelu(v_load_n(x + i, n - i)), v_load_n(up + i, n - i)), n - i);
}

static void k_softcap(float *x_array, size_t n, float cap) {
    vf c = v_set1(cap), inv = v_set1(1.0f / cap);
    MAP(x_array, n, v_mul(c, v_tanh(v_mul(x, inv))));
}

static void k_softmax(float *x_array, size_t n, float scale, float cap) {
    vf s = v_set1(scale), max = v_set1(x_array[0] * scale), sum = v_zero();
    if (cap > 0) {
        MAP(x_array, n, v_mul(x, s));
        k_softcap(x_array, n, cap);
        s = v_set1(1);
        max = v_set1(x_array[0]);
    }
    size_t i = 0;
    for (; i + VL <= n; i += VL) max = v_max(max, v_mul(v_load(x_array + i), s));
    float top = v_hmax(max), factor = cap > 0 ? 1 : scale;
    for (; i < n; i++) top = x_array[i] * factor > top ? x_array[i] * factor : top;
    vf t = v_set1(top);
    for (i = 0; i + VL <= n; i += VL) {
        vf e = v_exp(v_sub(v_mul(v_load(x_array + i), s), t));
        sum = v_add(sum, e);
        v_store(x_array + i, e);
    }
    if (i < n) {
        vf e = v_keep_n(v_exp(v_sub(v_mul(v_load_n(x_array + i, n - i), s), t)), n - i);
        sum = v_add(sum, e);
        v_store_n(x_array + i, e, n - i);
    }
    vf inv = v_set1(1.0f / v_hsum(sum));
    MAP(x_array, n, v_mul(x, inv));
}

/* Sum of f(x) over an array, as a vector; `expression` uses x, and zero lanes of the tail must give zero or be masked. */
#define SUM(out, array, n, expression)                                   \
    do {                                                                 \
        vf a_ = v_zero(), b_ = v_zero();                                 \
        size_t i_ = 0;                                                   \
        for (; i_ + 2 * VL <= (n); i_ += 2 * VL) {                       \
            vf x = v_load((array) + i_);                                 \
            a_ = v_add(a_, expression);                                  \
            x = v_load((array) + i_ + VL);                               \
            b_ = v_add(b_, expression);                                  \
        }                                                                \
        for (; i_ < (n); i_ += VL) {                                     \
            size_t left_ = (n)-i_ < VL ? (n)-i_ : VL;                    \
            vf x = v_load_n((array) + i_, left_);                        \
            a_ = v_add(a_, v_keep_n(expression, left_));                 \
        }                                                                \
        (out) = v_hsum(v_add(a_, b_));                                   \
    } while (0)

static void k_rms_norm(float *y, const float *x_array, const float *w, size_t n, float eps) {
    float sum;
    SUM(sum, x_array, n, v_mul(x, x));
    vf inv = v_set1(1.0f / __builtin_sqrtf(sum / (float)n + eps)), one = v_set1(1);
    size_t i = 0;
    for (; i + VL <= n; i += VL) v_store(y + i, v_mul(v_mul(v_load(x_array + i), inv), v_add(one, v_load(w + i))));
    if (i < n) v_store_n(y + i, v_mul(v_mul(v_load_n(x_array + i, n - i), inv), v_add(one, v_load_n(w + i, n - i))), n - i);
}

static void k_layer_norm(float *y, const float *x_array, const float *w, const float *b, size_t n, float eps) {
    float sum, square;
    SUM(sum, x_array, n, x);
    vf mean = v_set1(sum / (float)n);
    SUM(square, x_array, n, v_mul(v_sub(x, mean), v_sub(x, mean)));
    vf inv = v_set1(1.0f / __builtin_sqrtf(square / (float)n + eps));
    for (size_t i = 0; i < n; i += VL) {
        size_t left = n - i < VL ? n - i : VL;
        vf x = v_mul(v_sub(v_load_n(x_array + i, left), mean), inv);
        v_store_n(y + i, v_fma(x, v_load_n(w + i, left), v_load_n(b + i, left)), left);
    }
}

static void k_rope(float *x, const float *cos, const float *sin, size_t half) {
    for (size_t i = 0; i < half; i += VL) {
        size_t left = half - i < VL ? half - i : VL;
        vf a = v_load_n(x + i, left), b = v_load_n(x + half + i, left), c = v_load_n(cos + i, left), s = v_load_n(sin + i, left);
        v_store_n(x + i, v_sub(v_mul(a, c), v_mul(b, s)), left);
        v_store_n(x + half + i, v_add(v_mul(b, c), v_mul(a, s)), left);
    }
}

static void k_add(float *y, const float *x_array, size_t n) {
    size_t i = 0;
    for (; i + VL <= n; i += VL) v_store(y + i, v_add(v_load(y + i), v_load(x_array + i)));
    if (i < n) v_store_n(y + i, v_add(v_load_n(y + i, n - i), v_load_n(x_array + i, n - i)), n - i);
}

static void k_scale(float *y, const float *x, size_t n, float s) {
    vf factor = v_set1(s);
    size_t i = 0;
    for (; i + VL <= n; i += VL) v_store(y + i, v_mul(v_load(x + i), factor));
    if (i < n) v_store_n(y + i, v_mul(v_load_n(x + i, n - i), factor), n - i);
}

#define DEFINE_TO_F32(T, SCALAR)                                                          \
    static void k_to_f32_##T(float *y, const void *x, size_t n) {                         \
        const char *p = x;                                                                \
        size_t i = 0;                                                                     \
        for (; i + VL <= n; i += VL) v_store(y + i, v_load_##T(p + i * 2));               \
        for (; i < n; i++) {                                                              \
            uint16_t h;                                                                   \
            memcpy(&h, p + i * 2, sizeof h);                                              \
            y[i] = SCALAR(h);                                                             \
        }                                                                                 \
    }
DEFINE_TO_F32(bf16, half_from_bf16)
DEFINE_TO_F32(f16, half_from_f16)

static void k_from_f32_bf16(void *to, const float *x, size_t n) {
    uint16_t *y = to;
    size_t i = 0;
    for (; i + VL <= n; i += VL) v_store_bf16(y + i, v_load(x + i));
    for (; i < n; i++) y[i] = half_to_bf16(x[i]);
}

#include "kernels/tmpl/backward.h"

static void loops_fill(kernels *k) {
    k->nr = NR;
    k->panel_rows[PALI_DTYPE_F32] = k_panel_rows_f32;
    k->panel_rows[PALI_DTYPE_BF16] = k_panel_rows_bf16;
    k->panel_rows[PALI_DTYPE_F16] = k_panel_rows_f16;
    k->panel_cols = k_panel_cols;
    k->gemm_panel = k_gemm_panel;
    k->dot_rows[PALI_DTYPE_F32] = k_dot_rows_f32;
    k->dot_rows[PALI_DTYPE_BF16] = k_dot_rows_bf16;
    k->dot_rows[PALI_DTYPE_F16] = k_dot_rows_f16;
    k->sum_rows = k_sum_rows;
    k->rms_norm = k_rms_norm;
    k->layer_norm = k_layer_norm;
    k->gelu = k_gelu;
    k->geglu = k_geglu;
    k->softmax = k_softmax;
    k->softcap = k_softcap;
    k->rope = k_rope;
    k->add = k_add;
    k->scale = k_scale;
    k->to_f32[PALI_DTYPE_BF16] = k_to_f32_bf16;
    k->to_f32[PALI_DTYPE_F16] = k_to_f32_f16;
    k->from_f32[PALI_DTYPE_BF16] = k_from_f32_bf16;
    backward_fill(k);
}
