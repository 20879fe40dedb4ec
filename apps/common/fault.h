/* fault.h: why something failed, as one line "which: what: what was expected". */
#ifndef PALI_COMMON_FAULT_H
#define PALI_COMMON_FAULT_H

#include <stdbool.h>

#if defined(__GNUC__)
#define FAULT_PRINTF __attribute__((format(printf, 2, 3)))
#else
#define FAULT_PRINTF
#endif

typedef struct fault {
    char text[1024];
} fault;

/* Writes the line; always false, so that a caller can return it. */
bool fault_set(fault *f, const char *format, ...) FAULT_PRINTF;

#endif
