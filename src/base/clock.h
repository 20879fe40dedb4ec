/* clock.h: a monotonic clock. */
#ifndef PALI_BASE_CLOCK_H
#define PALI_BASE_CLOCK_H

double clock_ms(void); /* milliseconds since an arbitrary start */

#endif
