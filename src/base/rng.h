/* rng.h: xoshiro256** seeded by splitmix64 (Blackman and Vigna): the one source of randomness, same on every machine. */
#ifndef PALI_BASE_RNG_H
#define PALI_BASE_RNG_H

#include <stdint.h>

typedef struct rng {
    uint64_t s[4];
} rng;

void rng_seed(rng *r, uint64_t seed);
uint64_t rng_next(rng *r);
double rng_uniform(rng *r); /* [0, 1), 53 bits */
uint64_t rng_below(rng *r, uint64_t n); /* 0 to n - 1, n at most 2^53 */
float rng_normal(rng *r);   /* mean 0, variance 1 */

#endif
