#include "gradient.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define SAMPLES 60u
#define STEP 1e-3

/* Of fourth order: off by STEP^4 / 30 of the fifth derivative, 3e-14 of it, and by 2^-53 |loss| / STEP. */
static double difference(double *x, gradient_loss loss, const void *context) {
    double at = *x, value[4];
    for (int i = 0; i < 4; i++) {
        *x = at + STEP * (double)(i < 2 ? i - 2 : i - 1);
        value[i] = loss(context);
    }
    *x = at;
    return (value[0] - 8 * value[1] + 8 * value[2] - value[3]) / (12 * STEP);
}

void gradient_check(const char *what, const float *g, double *x, size_t n, gradient_loss loss, const void *context, double tolerance) {
    size_t step = n / SAMPLES + 1;
    double error = 0, size = 0;
    for (size_t i = 0; i < n; i += step) {
        double numeric = difference(&x[i], loss, context);
        error += pow((double)g[i] - numeric, 2);
        size += numeric * numeric;
    }
    if (!(size > 0) || !(sqrt(error / size) <= tolerance)) fail_msg("%s: relative error %.3g of a gradient of size %g", what, sqrt(error / size), sqrt(size));
}

double *gradient_doubles(const float *x, size_t n) {
    double *d = malloc((n ? n : 1) * sizeof *d);
    assert_non_null(d);
    for (size_t i = 0; i < n; i++) d[i] = (double)x[i];
    return d;
}
