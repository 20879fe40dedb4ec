/* check.h: what the parts of the kernel checker share: verdicts, and memory that notices who reads or writes beyond it. */
#ifndef PALI_TESTS_KERNELS_CHECK_H
#define PALI_TESTS_KERNELS_CHECK_H

#include "base/rng.h"
#include "kernels/kernels.h"

extern const kernels *g_k; /* the level under test */
extern rng g_rng;

void verdict(int good, const char *what, size_t a, size_t b, size_t c);
/* n normal floats between canaries. */
float *floats(size_t n, float scale);
int intact(const float *x, size_t n);
void done(float *x);
/* Memory that ends `slack` bytes before a page without access. */
void *guarded_new(size_t n_bytes, size_t slack);
void guarded_free(void *p, size_t n_bytes, size_t slack);
/* n normal floats that end at a page without access. */
float *inputs(size_t n, float scale);
void inputs_done(float *x, size_t n);
/* n weights of a type (f32, bf16, f16) at an odd address, at the end of what can be read, and their values. */
typedef struct typed_weights {
    unsigned char *data;
    float *values;
    size_t n_bytes;
} typed_weights;
typed_weights weights_new(size_t n, int dtype);
void weights_set(typed_weights *w, size_t i, int dtype, float value);
void weights_done(typed_weights *w);
/* Best of five runs. */
double seconds_of(void (*work)(void *), void *context);

/* check_pairs.c */
void check_pairs(void);
void check_pairs_error(bool print);

/* check_blocks.c */
void check_blocks(void);
void bench_blocks(void);

/* check_codes.c */
void check_codes(void);
void bench_codes(void);
/* check_backward.c */
void check_backward(void);

#endif
