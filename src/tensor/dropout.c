#include "tensor/dropout.h"

typedef struct job {
    float *y;
    const float *x;
    size_t cols;
    uint64_t seed;
    uint32_t limit; /* of 32 bits: below it, an element is dropped */
    float scale;
    bool accumulate;
} job;

/* The finalizer of splitmix64. */
static uint64_t mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* Two elements of a row share a hash. */
static void rows_apply(const exec *e, void *context, size_t begin, size_t end) {
    const job *j = context;
    (void)e;
    for (size_t r = begin; r < end; r++) {
        const float *x = j->x + r * j->cols;
        float *y = j->y + r * j->cols;
        for (size_t c = 0; c < j->cols; c++) {
            uint64_t bits = mix(j->seed + ((uint64_t)r << 32) + c / 2) >> 32 * (c % 2);
            float kept = (uint32_t)bits < j->limit ? 0 : x[c] * j->scale;
            y[c] = j->accumulate ? y[c] + kept : kept;
        }
    }
}

void dropout_apply(exec *e, float *y, const float *x, size_t rows, size_t cols, const dropout *d, size_t site, bool accumulate) {
    job j = {y, x, cols, mix(d->key + mix(site + 1)), (uint32_t)((double)d->p * 0x1p32), 1 / (1 - d->p), accumulate};
    exec_rows(e, rows, 4 * cols, rows_apply, &j);
}
