#include "common/fault.h"

#include <stdarg.h>
#include <stdio.h>

bool fault_set(fault *f, const char *format, ...) {
    va_list list;
    va_start(list, format);
    (void)vsnprintf(f->text, sizeof f->text, format, list);
    va_end(list);
    return false;
}
