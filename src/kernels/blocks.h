/* blocks.h: how rows of block-quantized weights lie in memory: GGUF's own layouts, so that its files are mapped and used as
 * they are (source: the GGUF specification's tensor types).
 *
 *   Q8_0   32 weights, 34 bytes    f16 d, int8 q[32]                      w = d q
 *   Q4_0   32 weights, 18 bytes    f16 d, 16 bytes of nibbles             w = d (q - 8)
 *   Q4_1   32 weights, 20 bytes    f16 d, f16 m, 16 bytes of nibbles      w = d q + m
 *   Q4_K   256 weights, 144 bytes  f16 d, f16 m, 12 bytes, 128 bytes      w = (d s) q - (m t), s and t 6 bits for each 32
 *
 * Q4_0 and Q4_1: byte i holds weight i in its low nibble, weight i + 16 in its high one. Q4_K: byte i of each run of 32
 * holds weight i of an even block of 32 low, of the next block high. A row is a whole number of blocks: cols that are no
 * multiple of 32 (SigLIP's 4304) are followed by zero weights. */
#ifndef PALI_KERNELS_BLOCKS_H
#define PALI_KERNELS_BLOCKS_H

#include <stdbool.h>
#include <stddef.h>

#include "paligemma.h"

#define BLOCK 32u        /* weights under one scale */
#define SUPER_BLOCK 256u /* of Q4_K */
#define Q8_0_BYTES 34u
#define Q4_0_BYTES 18u
#define Q4_1_BYTES 20u
#define Q4_K_BYTES 144u

static inline bool dtype_is_blocks(pali_dtype dtype) {
    return dtype >= PALI_DTYPE_Q8_0 && dtype <= PALI_DTYPE_Q4_K;
}

/* Bytes of n elements; of types with blocks, n counts from the start of a row and is rounded up to a whole block. */
static inline size_t dtype_bytes(pali_dtype dtype, size_t n) {
    size_t blocks = n / BLOCK + (n % BLOCK != 0);
    switch (dtype) {
    case PALI_DTYPE_F32: return n * 4;
    case PALI_DTYPE_BF16:
    case PALI_DTYPE_F16: return n * 2;
    case PALI_DTYPE_Q8_0: return blocks * Q8_0_BYTES;
    case PALI_DTYPE_Q4_0: return blocks * Q4_0_BYTES;
    case PALI_DTYPE_Q4_1: return blocks * Q4_1_BYTES;
    case PALI_DTYPE_Q4_K: return (n / SUPER_BLOCK + (n % SUPER_BLOCK != 0)) * Q4_K_BYTES;
    case PALI_DTYPE_NF4:
    case PALI_DTYPE_FP4: return n / 2 + n % 2;
    case PALI_DTYPE_INT8: return n;
    case PALI_DTYPE_AUTO: break;
    }
    return 0;
}

#endif
