/* mem.h: checked sizes and aligned memory. Every size that a file or a caller can influence goes through these. */
#ifndef PALI_BASE_MEM_H
#define PALI_BASE_MEM_H

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"

#define MEM_ALIGN 64u

/* Product or sum into *out; false (and *out untouched) on overflow. */
static inline bool mem_mul(size_t *out, size_t a, size_t b) {
    return !__builtin_mul_overflow(a, b, out);
}
static inline bool mem_add(size_t *out, size_t a, size_t b) {
    return !__builtin_add_overflow(a, b, out);
}

/* n * size bytes, 64-byte aligned, not cleared; NULL on overflow or lack of memory. n * size == 0 gives a valid pointer. */
void *mem_alloc(size_t n, size_t size);
/* The same, cleared. */
void *mem_calloc(size_t n, size_t size);
/* Grows a block of mem_alloc from old_n to n elements; the old block stays valid on failure (NULL). */
void *mem_grow(void *block, size_t old_n, size_t n, size_t size);
/* A copy of a string; NULL: no memory, or s is NULL. */
char *mem_copy_string(const char *s);
void mem_free(void *block);
/* Memory for gigabytes: 2 MiB pages where the system grants them (first touch is several times faster), zero, returned to
 * the system by mem_huge_free. NULL: no memory. */
void *mem_huge_alloc(size_t n_bytes);
void mem_huge_free(void *block, size_t n_bytes);
/* Test seam: the k-th allocation from now (1-based) fails on this thread; 0 turns it off. */
void mem_fail_after(size_t k);

/* A grow-only scratch block: mem_scratch_get returns at least n floats, contents undefined, valid until the next get. */
typedef struct mem_scratch {
    void *data;
    size_t n_bytes;
} mem_scratch;
void *mem_scratch_get(mem_scratch *scratch, size_t n, size_t size); /* NULL: no memory */
void mem_scratch_free(mem_scratch *scratch);

#endif
