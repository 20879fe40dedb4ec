/* tiny.h: the tiny model of spec training 12, whose weights are a formula, for tests of training. Failures fail the running cmocka test. */
#ifndef PALI_TESTS_TINY_H
#define PALI_TESTS_TINY_H

#include "train/backprop.h"
#include "train/lora.h"

enum { TINY_R = 28, TINY_PIXELS = 3 * TINY_R * TINY_R };

extern const config k_tiny_config;
extern const sample k_tiny_first, k_tiny_second;
extern const backprop_options k_tiny_plain;

/* u(k, i) in [-1, 1). */
double tiny_u(uint64_t k, uint64_t i);

typedef struct tiny {
    model *base, *m; /* m: with the parameters as weights */
    params p;        /* all there are */
} tiny;

void tiny_open(tiny *t);
/* Of other sizes. */
void tiny_open_of(tiny *t, const config *c);
void tiny_close(tiny *t);
/* The formula's values for adapters. */
void tiny_adapters_fill(const params *p);

/* The spec's two samples, with two pictures: the spec's, and that one flipped. */
typedef struct tiny_batch {
    float pixels[2][TINY_PIXELS];
    backprop_picture pictures[2];
    backprop_item items[2];
} tiny_batch;

/* The weights of either sample's targets. */
void tiny_batch_make(tiny_batch *b, double first, double second);
/* The loss of the first n samples, by a walk of its own; gradients += . */
double tiny_run(const model *m, const params *p, const tiny_batch *in, size_t n, const backprop_options *o, int threads, double *row_loss);

/* The one parameter with this in its name. */
const param *tiny_param(const params *p, const char *part);
double tiny_norm(const float *x, size_t n);
double tiny_total_norm(const params *p); /* of gradients */

bool tiny_contains(const char *s, const char *part);
void assert_near(const char *what, double got, double want, double tolerance);

#endif
