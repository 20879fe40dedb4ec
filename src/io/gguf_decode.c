/* gguf_decode.c: one function for each type makes a whole block of weights; rows are made of blocks in one place. */
#include "io/gguf_decode.h"

#include <string.h>

#include "kernels/blocks_plain.h"

/* ---- A block each ---- */

/* Weight i in the low nibble of byte i, weight i + 16 in the high one; its fifth bit is bit i of the word before. */
static unsigned q5_at(const uint8_t *p, size_t i) {
    unsigned nibble = i < BLOCK / 2 ? p[4 + i] & 15u : (unsigned)p[4 + i - BLOCK / 2] >> 4;
    return nibble | ((unsigned)p[i / 8] >> i % 8 & 1u) << 4;
}

static void q5_0_block(float *y, const uint8_t *p) {
    float d = f16_at(p);
    for (size_t i = 0; i < BLOCK; i++) y[i] = d * (float)((int)q5_at(p + 2, i) - 16);
}

static void q5_1_block(float *y, const uint8_t *p) {
    float d = f16_at(p), m = f16_at(p + 2);
    for (size_t i = 0; i < BLOCK; i++) y[i] = d * (float)q5_at(p + 4, i) + m;
}

/* Two bits of each weight: byte i of a run of 32 has those of weights i, i + 32, i + 64, i + 96. */
static unsigned two_bits(const uint8_t *p, size_t i) {
    return (unsigned)(p[i / 128 * 32 + i % 32] >> i % 128 / 32 * 2) & 3u;
}

static void q2_k_block(float *y, const uint8_t *p) {
    float d = f16_at(p + 80), m = f16_at(p + 82);
    for (size_t i = 0; i < SUPER_BLOCK; i++) {
        unsigned both = p[i / 16];
        y[i] = d * (float)(both & 15u) * (float)two_bits(p + 16, i) - m * (float)(both >> 4);
    }
}

/* The third bit of weight i is bit i / 32 of byte i % 32. Scales have four bits in nibbles of 8 bytes, two in the 4 behind. */
static void q3_k_block(float *y, const uint8_t *p) {
    const uint8_t *scales = p + 96;
    float d = f16_at(p + 108);
    for (size_t i = 0; i < SUPER_BLOCK; i++) {
        size_t j = i / 16;
        unsigned low = (unsigned)(j < 8 ? scales[j] & 15 : scales[j - 8] >> 4), high = (unsigned)(scales[8 + j % 4] >> j / 4 * 2) & 3u;
        unsigned q = two_bits(p + 32, i) | ((unsigned)p[i % 32] >> i / 32 & 1u) << 2;
        y[i] = d * (float)((int)(low | high << 4) - 32) * (float)((int)q - 4);
    }
}

/* As Q4_K, with a fifth bit: of weight i in bit i / 32 of byte i % 32. */
static void q5_k_block(float *y, const uint8_t *p) {
    for (size_t j = 0; j < SUPER_BLOCK / BLOCK; j++) {
        const uint8_t *nibbles = p + 48 + j / 2 * BLOCK;
        float s, m;
        q4_k_scale(p, j, &s, &m);
        for (size_t i = 0; i < BLOCK; i++) {
            unsigned q = (unsigned)(j % 2 ? nibbles[i] >> 4 : nibbles[i] & 15) | (p[16 + i] >> j & 1u) << 4;
            y[j * BLOCK + i] = s * (float)q + m;
        }
    }
}

/* In each half of 128, byte i of 64 has the low bits of weights i and i + 64. */
static void q6_k_block(float *y, const uint8_t *p) {
    float d = f16_at(p + 208);
    for (size_t i = 0; i < SUPER_BLOCK; i++) {
        unsigned byte = p[i / 128 * 64 + i % 64], q = (i % 128 < 64 ? byte & 15u : byte >> 4) | two_bits(p + 128, i) << 4;
        int8_t s;
        memcpy(&s, p + 192 + i / 16, 1);
        y[i] = d * (float)s * (float)((int)q - 32);
    }
}

/* ---- Rows ---- */

static void row_get(float *y, const uint8_t *x, size_t n, size_t block, size_t n_bytes, void (*get)(float *y, const uint8_t *p)) {
    float last[SUPER_BLOCK];
    for (; n >= block; n -= block, y += block, x += n_bytes) get(y, x);
    if (!n) return;
    get(last, x);
    memcpy(y, last, n * sizeof *y);
}

#define DEFINE_ROW(T, BLOCK_SIZE, N_BYTES)                                \
    static void T##_row(float *y, const uint8_t *x, size_t n) {           \
        row_get(y, x, n, BLOCK_SIZE, N_BYTES, T##_block);                 \
    }
DEFINE_ROW(q5_0, BLOCK, 22)
DEFINE_ROW(q5_1, BLOCK, 24)
DEFINE_ROW(q2_k, SUPER_BLOCK, 84)
DEFINE_ROW(q3_k, SUPER_BLOCK, 110)
DEFINE_ROW(q5_k, SUPER_BLOCK, 176)
DEFINE_ROW(q6_k, SUPER_BLOCK, 210)

gguf_decoder gguf_type_decoder(uint32_t type) {
    switch (type) {
    case 6: return q5_0_row;
    case 7: return q5_1_row;
    case 10: return q2_k_row;
    case 11: return q3_k_row;
    case 13: return q5_k_row;
    case 14: return q6_k_row;
    default: return NULL;
    }
}
