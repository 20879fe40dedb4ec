/* neon_codes.h: the words of tmpl/codes.h in 128 bits. A table lies in four registers, one for each byte of its floats: a byte
 * lookup takes 16 codes at once. */
#ifndef PALI_KERNELS_ARM_NEON_CODES_H
#define PALI_KERNELS_ARM_NEON_CODES_H

#include <stdbool.h>

#define CODES ((size_t)4)

typedef uint8x16x4_t vt;

static inline vf v_round_bf16(vf x) {
    vu bits = vreinterpretq_u32_f32(x), odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
    vu rounded = vaddq_u32(vaddq_u32(bits, vdupq_n_u32(0x7fff)), odd); /* finite scales: no NaN */
    return vreinterpretq_f32_u32(vandq_u32(rounded, vdupq_n_u32(0xffff0000u)));
}
#define v_round_f16(x) vcvt_f32_f16(vcvt_f16_f32(x))

static inline vf v_load_i8(const void *p) {
    int8_t b[8] = {0};
    memcpy(b, p, 4);
    return vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(vld1_s8(b)))));
}

#define vt_make(t, s, r) vt_from(v_rounded(v_mul(v_load(t), v_set1(s)), r), v_rounded(v_mul(v_load((t) + 4), v_set1(s)), r), \
                                 v_rounded(v_mul(v_load((t) + 8), v_set1(s)), r), v_rounded(v_mul(v_load((t) + 12), v_set1(s)), r))
static inline vt vt_from(vf a, vf b, vf c, vf d) {
    float all[16];
    vst1q_f32(all, a);
    vst1q_f32(all + 4, b);
    vst1q_f32(all + 8, c);
    vst1q_f32(all + 12, d);
    return vld4q_u8((const uint8_t *)(const void *)all);
}

static inline void v_decode(vf out[4], vt t, const uint8_t *p, const bool bf16) {
    uint8x8_t bytes = vld1_u8(p);
    uint8x8x2_t pairs = vzip_u8(vshr_n_u8(bytes, 4), vand_u8(bytes, vdup_n_u8(15)));
    uint8x16_t code = vcombine_u8(pairs.val[0], pairs.val[1]);
    uint16x8_t low[2] = {vdupq_n_u16(0), vdupq_n_u16(0)}, high[2];
    if (!bf16) {
        uint8x16x2_t zipped = vzipq_u8(vqtbl1q_u8(t.val[0], code), vqtbl1q_u8(t.val[1], code));
        low[0] = vreinterpretq_u16_u8(zipped.val[0]);
        low[1] = vreinterpretq_u16_u8(zipped.val[1]);
    }
    uint8x16x2_t zipped = vzipq_u8(vqtbl1q_u8(t.val[2], code), vqtbl1q_u8(t.val[3], code));
    high[0] = vreinterpretq_u16_u8(zipped.val[0]);
    high[1] = vreinterpretq_u16_u8(zipped.val[1]);
    for (size_t i = 0; i < 2; i++) {
        uint16x8x2_t words = vzipq_u16(low[i], high[i]);
        out[2 * i] = vreinterpretq_f32_u16(words.val[0]);
        out[2 * i + 1] = vreinterpretq_f32_u16(words.val[1]);
    }
}

#endif
