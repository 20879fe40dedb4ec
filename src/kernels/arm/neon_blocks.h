/* neon_blocks.h: the words of tmpl/blocks.h in 128 bits; a wide word is one block in two halves. Whoever includes it has defined
 * dot16(acc, w, x): acc + the products of bytes, four a lane. */
#ifndef PALI_KERNELS_ARM_NEON_BLOCKS_H
#define PALI_KERNELS_ARM_NEON_BLOCKS_H

#include <stdbool.h>

#define BNV ((size_t)2)
#define BMR ((size_t)4)
#define SUMS_IN_MEMORY 0
#define WIDE ((size_t)1)
#define OFFSETS 0
#define PLANES 1

typedef int32x4_t vi;
typedef struct vw {
    int8x16_t half[2];
} vw;

#define vi_zero() vdupq_n_s32(0)
#define vi_set1(x) vdupq_n_s32(x)
#define vi_add(a, b) vaddq_s32(a, b)
#define vi_from_vu(x) vreinterpretq_s32_u32(x)
#define v_from_vi(x) vcvtq_f32_s32(x)
#define vu_and(a, b) vandq_u32(a, b)
#define vu_or(a, b) vorrq_u32(a, b)
#define vu_shr(x, n) vshrq_n_u32(x, n)
#define vu_set1(x) vdupq_n_u32(x)
#define vi_panel8(x) (x)
#define vi_dot8(acc, w, s, x) dot16(acc, vreinterpretq_s8_u32(w), vreinterpretq_s8_s32(x))
#define vi_dot4(acc, w, x) vi_dot8(acc, w, w, x)
#define vi_dot4_end(acc) (acc)
#define vw_dot8(w, x) dot16(dot16(vi_zero(), (w).half[0], (x).half[0]), (w).half[1], (x).half[1])
#define vw_dot4(w, x) vw_dot8(w, x)

static inline vi vi_load4(const void *p) {
    int32_t x;
    memcpy(&x, p, sizeof x);
    return vdupq_n_s32(x);
}

static inline int8x16_t load16(const void *p) {
    int8_t x[16];
    memcpy(x, p, sizeof x);
    return vld1q_s8(x);
}

static inline int8x16_t nibbles(int8x16_t x, bool high) {
    uint8x16_t u = vreinterpretq_u8_s8(x);
    return vreinterpretq_s8_u8(high ? vshrq_n_u8(u, 4) : vandq_u8(u, vdupq_n_u8(15)));
}

static inline vw vw_load(const void *p) {
    return (vw){{load16(p), load16((const char *)p + 16)}};
}
#define vw_q8_0(p) vw_load(p)

static inline vw vw_q4(const uint8_t *p, size_t stride) {
    (void)stride;
    return (vw){{nibbles(load16(p), false), nibbles(load16(p), true)}};
}

static inline vw vw_q4_k(const uint8_t *p, size_t half) {
    return (vw){{nibbles(load16(p), half != 0), nibbles(load16(p + 16), half != 0)}};
}

static inline void vw_sum_rows(vi out[1], const vi part[4]) {
    out[0] = vpaddq_s32(vpaddq_s32(part[0], part[1]), vpaddq_s32(part[2], part[3]));
}

static inline void vw_transpose(vu out[8], const vw r[4]) {
    for (int j = 0; j < 4; j++) {
        out[j] = vreinterpretq_u32_s8(r[j].half[0]);
        out[4 + j] = vreinterpretq_u32_s8(r[j].half[1]);
    }
    vu_transpose(out);
    vu_transpose(out + 4);
}

static inline vf v_load_f16_each(const uint8_t *const p[4], size_t at) {
    uint16_t h[4];
    for (int j = 0; j < 4; j++) memcpy(&h[j], p[j] + at, 2);
    return v_load_f16(h);
}

static inline void vu_load_each(vu out[4], const uint8_t *const p[4], size_t at) {
    for (int j = 0; j < 4; j++) out[j] = vu_load(p[j] + at);
    vu_transpose(out);
}

static inline void v_store_i8(int8_t *p, vf x) {
    int16x4_t h = vmovn_s32(vcvtnq_s32_f32(x));
    int8_t b[8];
    vst1_s8(b, vmovn_s16(vcombine_s16(h, h)));
    memcpy(p, b, 4);
}

#endif
