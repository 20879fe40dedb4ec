/* status.h: how every function of the library reports failure.
 *
 * A function that can fail returns a pali_status; the thread-local message holds one line saying what failed, where
 * (file, tensor, field) and what was expected. Messages are formatted at the place that knows most; callers add
 * context with status_prefix and pass the code through. */
#ifndef PALI_BASE_STATUS_H
#define PALI_BASE_STATUS_H

#include "paligemma.h"

/* Sets this thread's message and returns `code`. Control characters in the text are replaced, so that a hostile file
 * name or tensor name cannot forge lines or terminal escapes. */
pali_status status_fail(pali_status code, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Puts "text: " before the current message and returns `code`; does nothing for PALI_OK. */
pali_status status_prefix(pali_status code, const char *format, ...) __attribute__((format(printf, 2, 3)));
pali_status status_no_memory(size_t n_bytes);
const char *status_message(void);

#define STATUS_TRY(call)                        \
    do {                                        \
        pali_status status_try_ = (call);       \
        if (status_try_ != PALI_OK) return status_try_; \
    } while (0)

#endif
