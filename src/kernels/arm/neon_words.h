/* neon_words.h: the vector words of tmpl/loops.h for aarch64 Advanced SIMD. 24 accumulators + 4 panel vectors + 1 broadcast of
 * 32 registers. */
#ifndef PALI_KERNELS_ARM_NEON_WORDS_H
#define PALI_KERNELS_ARM_NEON_WORDS_H

#include <arm_neon.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define VL ((size_t)4)
#define NV ((size_t)4)
#define MR ((size_t)6)
#define DOT_ACC ((size_t)4)
#define DOT_ROWS ((size_t)4)

typedef float32x4_t vf;
typedef uint32x4_t vu;

static inline vf v_load_n(const float *p, size_t n) {
    if (n >= VL) return vld1q_f32(p);
    float x[4] = {0};
    memcpy(x, p, n * sizeof *x);
    return vld1q_f32(x);
}

static inline void v_store_n(float *p, vf v, size_t n) {
    float x[4];
    if (n >= VL) {
        vst1q_f32(p, v);
        return;
    }
    vst1q_f32(x, v);
    memcpy(p, x, n * sizeof *x);
}

static inline vf v_keep_n(vf v, size_t n) {
    float x[4];
    vst1q_f32(x, v);
    return v_load_n(x, n);
}

static inline vf v_load_f32(const void *p) {
    float x[4];
    memcpy(x, p, sizeof x);
    return vld1q_f32(x);
}

static inline uint16x4_t load_halves(const void *p) {
    uint16_t x[4];
    memcpy(x, p, sizeof x);
    return vld1_u16(x);
}

static inline vu vu_load(const void *p) {
    uint32_t x[4];
    memcpy(x, p, sizeof x);
    return vld1q_u32(x);
}

static inline void vu_store(void *p, vu v) {
    uint32_t x[4];
    vst1q_u32(x, v);
    memcpy(p, x, sizeof x);
}

#define v_opaque(x) __asm__("" : "+w"(x))
#define v_zero() vdupq_n_f32(0)
#define v_set1(x) vdupq_n_f32(x)
#define v_load(p) vld1q_f32(p)
#define v_store(p, x) vst1q_f32(p, x)
#define v_add(a, b) vaddq_f32(a, b)
#define v_sub(a, b) vsubq_f32(a, b)
#define v_mul(a, b) vmulq_f32(a, b)
#define v_div(a, b) vdivq_f32(a, b)
#define v_fma(a, b, c) vfmaq_f32(c, a, b)
#define v_fnma(a, b, c) vfmsq_f32(c, a, b)
#define v_max(a, b) vmaxq_f32(a, b)
#define v_min(a, b) vminq_f32(a, b)
#define v_hsum(x) vaddvq_f32(x)
#define v_hmax(x) vmaxvq_f32(x)
#define v_round(x) vrndnq_f32(x)
#define v_pow2(n) vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(vcvtnq_s32_f32(n), vdupq_n_s32(127)), 23))
#define v_abs(x) vabsq_f32(x)
#define v_sign_of(a, b) vbslq_f32(vdupq_n_u32(0x80000000u), b, a)
#define v_pick_less(a, b, x, y) vbslq_f32(vcltq_f32(a, b), x, y)
#define v_load_bf16(p) vreinterpretq_f32_u32(vshll_n_u16(load_halves(p), 16))
#define v_load_f16(p) vcvt_f32_f16(vreinterpret_f16_u16(load_halves(p)))

/* Adding 0x7fff and the bit that decides ties rounds to nearest even; NaN keeps its upper half, made quiet. */
static inline void v_store_bf16(uint16_t *p, vf x) {
    vu bits = vreinterpretq_u32_f32(x), high = vshrq_n_u32(bits, 16);
    vu rounded = vshrq_n_u32(vaddq_u32(vaddq_u32(bits, vdupq_n_u32(0x7fff)), vandq_u32(high, vdupq_n_u32(1))), 16);
    vu nan = vorrq_u32(high, vdupq_n_u32(0x40));
    vst1_u16(p, vmovn_u32(vbslq_u32(vceqq_f32(x, x), rounded, nan)));
}

#define vu_zero() vdupq_n_u32(0)
#define vu_even_bf16(x) vreinterpretq_f32_u32(vshlq_n_u32(x, 16))
#define vu_odd_bf16(x) vreinterpretq_f32_u32(vandq_u32(x, vdupq_n_u32(0xffff0000u)))
#define vu_even_f16(x) vcvt_f32_f16(vreinterpret_f16_u16(vmovn_u32(x)))
#define vu_odd_f16(x) vcvt_f32_f16(vreinterpret_f16_u16(vshrn_n_u32(x, 16)))

static inline void vu_transpose(vu r[4]) {
    uint32x4x2_t a = vtrnq_u32(r[0], r[1]), b = vtrnq_u32(r[2], r[3]);
    r[0] = vcombine_u32(vget_low_u32(a.val[0]), vget_low_u32(b.val[0]));
    r[1] = vcombine_u32(vget_low_u32(a.val[1]), vget_low_u32(b.val[1]));
    r[2] = vcombine_u32(vget_high_u32(a.val[0]), vget_high_u32(b.val[0]));
    r[3] = vcombine_u32(vget_high_u32(a.val[1]), vget_high_u32(b.val[1]));
}

#endif
