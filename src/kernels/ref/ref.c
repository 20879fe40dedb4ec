/* ref.c: every kernel in plain C: the truth that the instruction sets are checked against, and the code that runs where
 * there is none. Reductions are plain ascending sums in float, as the reference would do on one lane. */
#include <math.h>
#include <string.h>

#include "base/halffloat.h"
#include "kernels/codes.h"
#include "kernels/kernels.h"

#define NR 16u

/* Element i of an unaligned array of each dtype. */
static inline float load_f32(const void *w, size_t i) {
    float x;
    memcpy(&x, (const char *)w + i * sizeof x, sizeof x);
    return x;
}
static inline uint16_t load_u16(const void *w, size_t i) {
    uint16_t x;
    memcpy(&x, (const char *)w + i * sizeof x, sizeof x);
    return x;
}
static inline float load_bf16(const void *w, size_t i) {
    return half_from_bf16(load_u16(w, i));
}
static inline float load_f16(const void *w, size_t i) {
    return half_from_f16(load_u16(w, i));
}
/* Element i from a place in a matrix of codes (kernels/codes.h). */
static inline float load_4bit(const void *w, size_t i) {
    const coded_at *at = w;
    return codes_4bit(at->of, at->row * at->of->cols + at->col + i);
}
static inline float load_int8(const void *w, size_t i) {
    const coded_at *at = w;
    return codes_int8(at->of, at->row * at->of->cols + at->col + i);
}

/* The kernels that read weights, once per element type. */
#define DEFINE_WEIGHT_KERNELS(T)                                                                                            \
    static void panel_rows_##T(float *panel, const void *w, size_t ld, size_t n, size_t k) {                                \
        for (size_t i = 0; i < k; i++)                                                                                      \
            for (size_t j = 0; j < NR; j++) panel[i * NR + j] = j < n ? load_##T(w, j * ld + i) : 0;                        \
    }                                                                                                                       \
    static void dot_rows_##T(float *y, size_t ldy, const float *x, size_t ldx, const void *w, size_t ld, size_t m, size_t n, \
                             size_t k, bool accumulate) {                                                                   \
        for (size_t r = 0; r < m; r++) {                                                                                    \
            for (size_t j = 0; j < n; j++) {                                                                                \
                float sum = 0;                                                                                              \
                for (size_t i = 0; i < k; i++) sum += x[r * ldx + i] * load_##T(w, j * ld + i);                             \
                y[r * ldy + j] = accumulate ? y[r * ldy + j] + sum : sum;                                                   \
            }                                                                                                               \
        }                                                                                                                   \
    }                                                                                                                       \
    static void to_f32_##T(float *y, const void *x, size_t n) {                                                             \
        for (size_t i = 0; i < n; i++) y[i] = load_##T(x, i);                                                               \
    }
DEFINE_WEIGHT_KERNELS(f32)
DEFINE_WEIGHT_KERNELS(bf16)
DEFINE_WEIGHT_KERNELS(f16)
DEFINE_WEIGHT_KERNELS(4bit)
DEFINE_WEIGHT_KERNELS(int8)

static void panel_cols(float *panel, const float *b, size_t ld, size_t n, size_t k) {
    for (size_t i = 0; i < k; i++)
        for (size_t j = 0; j < NR; j++) panel[i * NR + j] = j < n ? b[i * ld + j] : 0;
}

static void gemm_panel(float *c, size_t ldc, const float *a, size_t lda, const float *panel, size_t m, size_t n, size_t k,
                       bool accumulate) {
    for (size_t r = 0; r < m; r++) {
        float sum[NR] = {0};
        if (accumulate) memcpy(sum, c + r * ldc, n * sizeof *c);
        for (size_t i = 0; i < k; i++)
            for (size_t j = 0; j < NR; j++) sum[j] += a[r * lda + i] * panel[i * NR + j];
        memcpy(c + r * ldc, sum, n * sizeof *c);
    }
}

static void sum_rows(float *y, const float *p, const float *v, size_t ld, size_t rows, size_t n, bool accumulate) {
    if (!accumulate) memset(y, 0, n * sizeof *y);
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < n; j++) y[j] += p[i] * v[i * ld + j];
}

static void rms_norm(float *y, const float *x, const float *w, size_t n, float eps) {
    float sum = 0;
    for (size_t i = 0; i < n; i++) sum += x[i] * x[i];
    float inv = 1.0f / sqrtf(sum / (float)n + eps);
    for (size_t i = 0; i < n; i++) y[i] = x[i] * inv * (1.0f + w[i]);
}

static void layer_norm(float *y, const float *x, const float *w, const float *b, size_t n, float eps) {
    float sum = 0, square = 0;
    for (size_t i = 0; i < n; i++) sum += x[i];
    float mean = sum / (float)n;
    for (size_t i = 0; i < n; i++) square += (x[i] - mean) * (x[i] - mean);
    float inv = 1.0f / sqrtf(square / (float)n + eps);
    for (size_t i = 0; i < n; i++) y[i] = (x[i] - mean) * inv * w[i] + b[i];
}

static float gelu_tanh(float x) { /* 0.79788... = sqrt(2 / pi) */
    return 0.5f * x * (1.0f + tanhf(0.7978845608028654f * (x + 0.044715f * x * x * x)));
}

static void gelu(float *x, size_t n) {
    for (size_t i = 0; i < n; i++) x[i] = gelu_tanh(x[i]);
}

static void geglu(float *x, const float *up, size_t n) {
    for (size_t i = 0; i < n; i++) x[i] = gelu_tanh(x[i]) * up[i];
}

static void softcap(float *x, size_t n, float cap) {
    for (size_t i = 0; i < n; i++) x[i] = cap * tanhf(x[i] / cap);
}

static void softmax(float *x, size_t n, float scale, float cap) {
    for (size_t i = 0; i < n; i++) x[i] *= scale;
    if (cap > 0) softcap(x, n, cap);
    float max = x[0], sum = 0;
    for (size_t i = 1; i < n; i++) max = x[i] > max ? x[i] : max;
    for (size_t i = 0; i < n; i++) sum += x[i] = expf(x[i] - max);
    float inv = 1.0f / sum;
    for (size_t i = 0; i < n; i++) x[i] *= inv;
}

static void rope(float *x, const float *cos, const float *sin, size_t half) {
    for (size_t i = 0; i < half; i++) {
        float a = x[i], b = x[i + half];
        x[i] = a * cos[i] - b * sin[i];
        x[i + half] = b * cos[i] + a * sin[i];
    }
}

static void add(float *y, const float *x, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] += x[i];
}

static void scale_by(float *y, const float *x, size_t n, float s) {
    for (size_t i = 0; i < n; i++) y[i] = x[i] * s;
}

static void from_f32_f32(void *y, const float *x, size_t n) {
    memcpy(y, x, n * sizeof *x);
}

static void from_f32_bf16(void *y, const float *x, size_t n) {
    uint16_t *halves = y;
    for (size_t i = 0; i < n; i++) halves[i] = half_to_bf16(x[i]);
}

static void from_f32_f16(void *y, const float *x, size_t n) {
    uint16_t *halves = y;
    for (size_t i = 0; i < n; i++) halves[i] = half_to_f16(x[i]);
}

void kernels_fill_ref(kernels *k) {
    *k = (kernels){
        .level = CPU_REF,
        .nr = NR,
        .panel_rows = {NULL, panel_rows_f32, panel_rows_bf16, panel_rows_f16},
        .panel_cols = panel_cols,
        .gemm_panel = gemm_panel,
        .dot_rows = {NULL, dot_rows_f32, dot_rows_bf16, dot_rows_f16},
        .sum_rows = sum_rows,
        .rms_norm = rms_norm,
        .layer_norm = layer_norm,
        .gelu = gelu,
        .geglu = geglu,
        .softmax = softmax,
        .softcap = softcap,
        .rope = rope,
        .add = add,
        .scale = scale_by,
        .to_f32 = {NULL, to_f32_f32, to_f32_bf16, to_f32_f16},
        .from_f32 = {NULL, from_f32_f32, from_f32_bf16, from_f32_f16},
    };
#define FILL_CODES(DTYPE, T)               \
    k->panel_rows[DTYPE] = panel_rows_##T; \
    k->dot_rows[DTYPE] = dot_rows_##T;     \
    k->to_f32[DTYPE] = to_f32_##T
    FILL_CODES(PALI_DTYPE_NF4, 4bit);
    FILL_CODES(PALI_DTYPE_FP4, 4bit);
    FILL_CODES(PALI_DTYPE_INT8, int8);
    kernels_fill_ref_blocks(k);
    kernels_fill_ref_backward(k);
}
