/* test_halffloat.c: every 16-bit pattern survives the way to f32 and back, and narrowing picks the nearest value, the even
 * one of two equally near. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/halffloat.h"
#include "base/rng.h"

/* The value of a pattern with so many mantissa bits, from the definition. */
static double value(unsigned h, int mantissa_bits) {
    int bias = (1 << (14 - mantissa_bits)) - 1, exponent = (int)(h & 0x7fffu) >> mantissa_bits;
    double mantissa = (double)(h & ((1u << mantissa_bits) - 1)), sign = h & 0x8000u ? -1 : 1;
    if (exponent == 2 * bias + 1) return mantissa != 0 ? (double)NAN : sign * (double)INFINITY;
    double scale = ldexp(1, (exponent ? exponent : 1) - bias - mantissa_bits);
    return sign * scale * (mantissa + (exponent ? ldexp(1, mantissa_bits) : 0));
}

static void widens_every_pattern(void **state) {
    (void)state;
    for (unsigned h = 0; h < 0x10000u; h++) {
        double f16 = value(h, 10), bf16 = value(h, 7);
        float a = half_from_f16((uint16_t)h), b = half_from_bf16((uint16_t)h);
        assert_true(isnan(f16) ? isnan(a) : (double)a == f16 && !signbit(a) == !(h & 0x8000u));
        assert_true(isnan(bf16) ? isnan(b) : (double)b == bf16 && !signbit(b) == !(h & 0x8000u));
        if (isnan(f16))
            assert_true(isnan(half_from_f16(half_to_f16(a))));
        else
            assert_int_equal(half_to_f16(a), h);
        if (isnan(bf16))
            assert_true(isnan(half_from_bf16(half_to_bf16(b))));
        else
            assert_int_equal(half_to_bf16(b), h);
    }
}

/* h is the nearest of its neighbours to x; infinity counts as the value one step beyond the largest. */
static bool is_nearest(float x, unsigned h, int mantissa_bits) {
    unsigned top = 0x7fffu >> mantissa_bits << mantissa_bits, magnitude = h & 0x7fffu;
    double bound = 2 * value(top - (1u << mantissa_bits), mantissa_bits), best = 0, d[3];
    double want = fabs((double)x);
    if (!(h & 0x8000u) != !signbit(x) || magnitude > top) return false;
    if (isinf(x)) return magnitude == top;
    for (unsigned i = 0; i < 3; i++) {
        unsigned n = magnitude + i - 1;
        double v = magnitude == 0 && i == 0 ? -1e300 : n > top ? 1e300 : n == top ? bound : value(n, mantissa_bits);
        d[i] = fabs(v - want);
    }
    best = d[1];
    if (best < d[0] && best < d[2]) return true;
    return best <= d[0] && best <= d[2] && magnitude % 2 == 0;
}

static void narrows_to_the_nearest(void **state) {
    (void)state;
    static const float k_special[] = {0, 1, 65504, 65519.996f, 65520, 65536, 1e30f, 3.4e38f, 3.39e38f, 6e-8f, 2.9e-8f, 2.98023224e-8f,
                                      2.98023259e-8f, 6.1e-5f, 6.103515e-5f, 1e-40f, 1.17549421e-38f, 9.1e-41f, INFINITY};
    rng r;
    rng_seed(&r, 5);
    for (size_t i = 0; i < 2000000; i++) {
        uint32_t bits = (uint32_t)(rng_next(&r) >> 32);
        float x = i < sizeof k_special / sizeof k_special[0] ? k_special[i] : half_bits_to_f32(bits);
        if (i % 3 == 1 && i > 100) x = half_bits_to_f32((bits & 0x8fffffffu) | 0x30000000u); /* where f16 has its values */
        if (i % 3 == 2 && i > 100) x = half_bits_to_f32((bits & 0x8ffff000u) | 0x38000000u); /* exact ties among them */
        if (isnan(x)) {
            assert_true(isnan(half_from_f16(half_to_f16(x))) && isnan(half_from_bf16(half_to_bf16(x))));
            continue;
        }
        if (!is_nearest(x, half_to_f16(x), 10)) fail_msg("f16 of %a is %#x", (double)x, half_to_f16(x));
        if (!is_nearest(x, half_to_bf16(x), 7)) fail_msg("bf16 of %a is %#x", (double)x, half_to_bf16(x));
        assert_int_equal(half_to_f16(-x) ^ 0x8000u, half_to_f16(x));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(widens_every_pattern), cmocka_unit_test(narrows_to_the_nearest)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
