#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define STATUS_MAX 1024u

static _Thread_local char g_message[STATUS_MAX]; /* the one piece of per-thread state: the last failure's line */

/* Replaces control characters (C0, DEL, and the C1 range as encoded in UTF-8), so that the line stays one line. */
static void sanitize(char *s) {
    for (unsigned char *p = (unsigned char *)s; *p; p++) {
        if (*p < 0x20 || *p == 0x7f) {
            *p = '?';
        } else if (*p == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0) {
            p[0] = p[1] = '?';
        }
    }
}

pali_status status_fail(pali_status code, const char *format, ...) {
    char text[STATUS_MAX]; /* the arguments may point into the old message */
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    sanitize(text);
    memcpy(g_message, text, sizeof text);
    return code;
}

pali_status status_prefix(pali_status code, const char *format, ...) {
    if (code == PALI_OK) return code;
    char text[STATUS_MAX];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    sanitize(text);
    size_t used = strlen(text), room = sizeof text - 1 - used, rest = strlen(g_message);
    if (room > 2) { /* the far end is cut, as the outer context matters more */
        memcpy(text + used, ": ", 2);
        memcpy(text + used + 2, g_message, rest < room - 2 ? rest : room - 2);
        text[used + 2 + (rest < room - 2 ? rest : room - 2)] = 0;
    }
    memcpy(g_message, text, sizeof text);
    return code;
}

pali_status status_no_memory(size_t n_bytes) {
    return status_fail(PALI_ERR_MEMORY, "out of memory: %zu bytes", n_bytes);
}

const char *status_message(void) {
    return g_message;
}
