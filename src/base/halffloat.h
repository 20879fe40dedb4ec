/* halffloat.h: bf16 and f16 <-> f32, one value at a time, bit exact everywhere (round to nearest even, NaN stays NaN). */
#ifndef PALI_BASE_HALFFLOAT_H
#define PALI_BASE_HALFFLOAT_H

#include <stdint.h>
#include <string.h>

static inline float half_bits_to_f32(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline uint32_t half_f32_to_bits(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float half_from_bf16(uint16_t h) {
    return half_bits_to_f32((uint32_t)h << 16);
}

static inline uint16_t half_to_bf16(float x) {
    uint32_t bits = half_f32_to_bits(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(bits >> 16 | 0x40u); /* quiet NaN */
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

static inline float half_from_f16(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, rest = h & 0x7fffu;
    if (rest >= 0x7c00u) return half_bits_to_f32(sign | 0x7f800000u | (rest & 0x3ffu) << 13); /* infinity, NaN */
    /* Shifting exponent and mantissa into place leaves the exponent 112 too small; the multiplication repairs it, and
     * turns subnormals into normal numbers on the way. Exact. */
    return half_bits_to_f32(sign | half_f32_to_bits(half_bits_to_f32(rest << 13) * 0x1p112f));
}

static inline uint16_t half_to_f16(float x) {
    uint32_t bits = half_f32_to_bits(x), sign = bits >> 16 & 0x8000u;
    bits &= 0x7fffffffu;
    if (bits > 0x7f800000u) return (uint16_t)(sign | 0x7e00u);
    if (bits >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u); /* rounds to 65536 or more: infinity */
    if (bits < 0x38800000u) {                                    /* below 2^-14: subnormal; the addition rounds for us */
        float magic = half_bits_to_f32(bits) + 0.5f;
        return (uint16_t)(sign | (half_f32_to_bits(magic) - 0x3f000000u));
    }
    return (uint16_t)(sign | ((bits - 0x38000000u + 0xfffu + (bits >> 13 & 1u)) >> 13));
}

#endif
