/* dynamic8.h: bitsandbytes' 8-bit codes of optimizer states (spec training 4.2): 256 values between -1 and 1 (or 0 and 1), dense
 * near zero, times the largest magnitude of a block of 256.
 *
 * Finding the nearest of 256 values takes one look-up and one comparison: a bucket is what the upper 16 bits of a float can be
 * (an exponent and 7 bits), and no bucket has more than one of the midpoints between values. */
#ifndef PALI_TRAIN_DYNAMIC8_H
#define PALI_TRAIN_DYNAMIC8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DYNAMIC8_BLOCK 256u
#define DYNAMIC8_LOWEST 0x3400u /* bucket of 2^-23: nothing smaller is nearer to another value than to zero */
#define DYNAMIC8_BUCKETS (0x3f80u - DYNAMIC8_LOWEST + 1)

typedef struct dynamic8 {
    float value[256];    /* ascending */
    float midpoint[256]; /* what lies above it has a higher code than i: the middle to the next value; the last is infinite */
    uint8_t first[2 * DYNAMIC8_BUCKETS]; /* code of a bucket's lowest number: positive buckets, then negative ones */
} dynamic8;

void dynamic8_init(dynamic8 *d, bool is_signed);
/* x [n] = value[codes] * absmax of one block. */
void dynamic8_decode(const dynamic8 *d, float *x, const uint8_t *codes, float absmax, size_t n);
/* The codes of one block, n <= 256, and *absmax; a number between two values goes to the lower one, and a negative number never to
 * zero. */
void dynamic8_encode(const dynamic8 *d, uint8_t *codes, float *absmax, const float *x, size_t n);

#endif
