/* limits.h: what this machine can do at best, measured on the spot, to compare the model's times with. */
#ifndef PALI_CLI_LIMITS_H
#define PALI_CLI_LIMITS_H

#include <stddef.h>

/* Threads this process may run on. */
size_t limits_n_threads(void);
/* Gigabytes (10^9) a second that n threads read from memory together; 0: could not be measured. */
double limits_read_gb_s(size_t n_threads);
/* Multiply-adds of n threads together, counted as two operations, in 10^9 a second; 0: could not be measured, or this
 * processor (or this program, for it) has none of the kind. */
double limits_fp32_gop_s(size_t n_threads);
double limits_fp16_gop_s(size_t n_threads);
double limits_int8_gop_s(size_t n_threads); /* 8-bit factors, 32-bit sums */

#endif
