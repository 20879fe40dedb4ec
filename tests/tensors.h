/* tensors.h: operands of tests of tensor operations, and running them at every level. */
#ifndef PALI_TESTS_TENSORS_H
#define PALI_TESTS_TENSORS_H

#include <stdint.h>

#include "tensor/exec.h"
#include "tensor/mat.h"

/* n normal floats times scale; the same for the same seed. */
float *random_floats(size_t n, uint64_t seed, float scale);

/* A random matrix of a dtype, one byte off alignment as a file may have it, and its exact values. */
typedef struct operand {
    mat m;
    unsigned char *block;
    float *values;
} operand;

operand random_operand(size_t rows, size_t cols, pali_dtype dtype, uint64_t seed);
void operand_free(operand *w);

/* Two adapters of a matrix [n, k], of ranks that take one and several vectors; the second has a bias. */
typedef struct adapters {
    lora first, second;
    float *a[2], *b[2], *bias;
} adapters;

adapters *adapters_new(size_t n, size_t k, uint64_t seed);
void adapters_free(adapters *d);

/* Runs a check with two threads at each instruction set this machine has. */
void each_level(void (*check)(exec *e));

#endif
