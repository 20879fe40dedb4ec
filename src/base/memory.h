/* memory.h: how much memory this process may still use, as the system, its control group and its limits say. */
#ifndef PALI_BASE_MEMORY_H
#define PALI_BASE_MEMORY_H

#include <stddef.h>
#include <stdint.h>

typedef struct memory_free {
    uint64_t available; /* bytes that can be used without swapping or being killed; file pages that can be dropped count as free */
    uint64_t total;     /* bytes there would be if nothing else ran: what pages of mapped files can fill at best */
    uint64_t address;   /* bytes of address space left (RLIMIT_AS), maps included */
} memory_free;

/* Of a process that has loaded a model of a few bytes; measured, not computed. */
#define MEMORY_PROGRAM_BYTES 6000000u

/* UINT64_MAX where nothing says. `root` is "" but for tests: the folder in which proc/ and sys/ lie. */
void memory_free_get(memory_free *out, const char *root);

#endif
