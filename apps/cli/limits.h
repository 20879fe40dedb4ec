/* limits.h: what this machine can do at best, measured on the spot, to compare the model's times with. */
#ifndef PALI_CLI_LIMITS_H
#define PALI_CLI_LIMITS_H

#include <stddef.h>

/* Threads this process may run on. */
size_t limits_n_threads(void);
/* Gigabytes (10^9) a second that n threads read from memory together; 0: could not be measured. */
double limits_read_gb_s(size_t n_threads);
/* fp32 multiply-adds of n threads together, counted as two operations, in 10^9 a second; 0: could not be measured. */
double limits_fp32_gflop_s(size_t n_threads);

#endif
