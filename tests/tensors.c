#include "tensors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/halffloat.h"
#include "base/rng.h"

float *random_floats(size_t n, uint64_t seed, float scale) {
    rng r;
    float *x = malloc((n ? n : 1) * sizeof *x);
    assert_non_null(x);
    rng_seed(&r, seed);
    for (size_t i = 0; i < n; i++) x[i] = scale * rng_normal(&r);
    return x;
}

operand random_operand(size_t rows, size_t cols, pali_dtype dtype, uint64_t seed) {
    size_t n = rows * cols, size = dtype_bytes(dtype, 1), row_bytes = dtype_bytes(dtype, cols);
    operand w = {.values = random_floats(n, seed, 0.5f), .block = malloc(rows * row_bytes + 1)};
    assert_non_null(w.block);
    for (size_t r = 0; r < rows && dtype_is_blocks(dtype); r++) {
        const kernels *ref = kernels_get(CPU_REF);
        ref->from_f32[dtype](w.block + 1 + r * row_bytes, w.values + r * cols, cols);
        ref->to_f32[dtype](w.values + r * cols, w.block + 1 + r * row_bytes, cols);
    }
    for (size_t i = 0; i < n && !dtype_is_blocks(dtype); i++) {
        uint16_t h = dtype == PALI_DTYPE_BF16 ? half_to_bf16(w.values[i]) : half_to_f16(w.values[i]);
        if (dtype == PALI_DTYPE_F32) {
            memcpy(w.block + 1 + i * size, &w.values[i], size);
        } else {
            memcpy(w.block + 1 + i * size, &h, size);
            w.values[i] = dtype == PALI_DTYPE_BF16 ? half_from_bf16(h) : half_from_f16(h);
        }
    }
    w.m = (mat){.dtype = dtype, .rows = rows, .cols = cols, .data = w.block + 1};
    return w;
}

void operand_free(operand *w) {
    free(w->block);
    free(w->values);
}

adapters *adapters_new(size_t n, size_t k, uint64_t seed) {
    const size_t ranks[] = {3, 70};
    adapters *d = malloc(sizeof *d);
    assert_non_null(d);
    for (size_t i = 0; i < 2; i++) {
        d->a[i] = random_floats(ranks[i] * k, seed + i, 0.3f);
        d->b[i] = random_floats(n * ranks[i], seed + 10 + i, 0.3f);
    }
    d->bias = random_floats(n, seed + 20, 1);
    d->second = (lora){.a = mat_f32(ranks[1], k, d->a[1]), .b = mat_f32(n, ranks[1], d->b[1]), .bias = d->bias, .scale = -0.25f};
    d->first = (lora){.next = &d->second, .a = mat_f32(ranks[0], k, d->a[0]), .b = mat_f32(n, ranks[0], d->b[0]), .scale = 2};
    return d;
}

void adapters_free(adapters *d) {
    for (size_t i = 0; i < 2; i++) {
        free(d->a[i]);
        free(d->b[i]);
    }
    free(d->bias);
    free(d);
}

void each_level(void (*check)(exec *e)) {
    for (cpu_level level = CPU_REF; level < CPU_N_LEVELS; level++) {
        exec e;
        setenv("PALI_CPU", cpu_level_name(level), 1);
        assert_int_equal(exec_init(&e, 2), PALI_OK);
        if (e.k->level == level) check(&e); /* or this machine has a lower one, done already */
        exec_free(&e);
    }
    unsetenv("PALI_CPU");
}
