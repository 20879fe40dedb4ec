/* rng.h: the random numbers of the generator, xoshiro256** (Blackman and Vigna).
 *
 * A picture's stream is fixed by (split, seed, number) packed into 64 bits without loss and then mixed by a bijection, so two
 * pictures never begin with the same state: training and held-out data cannot coincide, whatever seeds are chosen. */
#ifndef SCENES_RNG_H
#define SCENES_RNG_H

#include <stdbool.h>
#include <stdint.h>

#define RNG_SEED_LIMIT (1u << 30)

typedef struct rng {
    uint64_t s[4];
} rng;

static inline uint64_t rng_mix(uint64_t x) { /* splitmix64's finish: a bijection */
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static inline uint64_t rng_key(unsigned split, uint32_t seed, uint32_t number) { /* split below 4, seed below RNG_SEED_LIMIT */
    return (uint64_t)split << 62 | (uint64_t)seed << 32 | number;
}

static inline rng rng_start(uint64_t key) {
    rng r;
    for (unsigned i = 0; i < 4; i++) r.s[i] = rng_mix(key += 0x9e3779b97f4a7c15u);
    return r;
}

static inline uint64_t rng_rotate(uint64_t x, unsigned k) {
    return x << k | x >> (64 - k);
}

static inline uint64_t rng_next(rng *r) {
    const uint64_t out = rng_rotate(r->s[1] * 5, 7) * 9, t = r->s[1] << 17;
    r->s[2] ^= r->s[0];
    r->s[3] ^= r->s[1];
    r->s[1] ^= r->s[2];
    r->s[0] ^= r->s[3];
    r->s[2] ^= t;
    r->s[3] = rng_rotate(r->s[3], 45);
    return out;
}

/* 0 .. n - 1; the bias of the product is below n / 2^32. */
static inline unsigned rng_below(rng *r, unsigned n) {
    return (unsigned)((rng_next(r) >> 32) * n >> 32);
}

/* from <= x < to */
static inline double rng_between(rng *r, double from, double to) {
    return from + (to - from) * ((double)(rng_next(r) >> 11) * 0x1p-53);
}

static inline bool rng_chance(rng *r, double p) {
    return rng_between(r, 0, 1) < p;
}

#endif
