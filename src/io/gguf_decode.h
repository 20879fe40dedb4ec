/* gguf_decode.h: rows of the GGUF types that weights are read from but not held in, as f32 (spec inference 8.4). They occur in
 * community files; nothing here is fast, since it runs once while such a file is opened.
 *
 *   Q5_0   32 weights, 22 bytes    f16 d, 4 bytes, 16 bytes                              w = d (q - 16)
 *   Q5_1   32 weights, 24 bytes    f16 d, f16 m, 4 bytes, 16 bytes                       w = d q + m
 *   Q2_K   256 weights, 84 bytes   16 bytes of nibbles s, t, 64 bytes, f16 d, f16 m      w = (d s) q - (m t), s and t for each 16
 *   Q3_K   256 weights, 110 bytes  32 bytes, 64 bytes, 12 bytes, f16 d                   w = (d (s - 32)) (q - 4), s for each 16
 *   Q5_K   256 weights, 176 bytes  f16 d, f16 m, 12 bytes, 32 bytes, 128 bytes           w = (d s) q - (m t), s and t for each 32
 *   Q6_K   256 weights, 210 bytes  128 bytes, 64 bytes, int8 s[16], f16 d                w = (d s) (q - 32), s for each 16
 *
 * The products are exact in f32, so a weight is rounded once at most and any order gives the same bits. */
#ifndef PALI_IO_GGUF_DECODE_H
#define PALI_IO_GGUF_DECODE_H

#include <stddef.h>
#include <stdint.h>

/* The first n weights of a row, from its start; x has any alignment. */
typedef void (*gguf_decoder)(float *y, const uint8_t *x, size_t n);

/* NULL: a type that weights are held in, or one that is not read. */
gguf_decoder gguf_type_decoder(uint32_t type);

#endif
