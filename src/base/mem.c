#include "base/mem.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define HUGE_PAGE ((size_t)2 << 20)

static _Thread_local size_t g_fail_after; /* test seam, see mem_fail_after */

void mem_fail_after(size_t k) {
    g_fail_after = k;
}

void *mem_alloc(size_t n, size_t size) {
    size_t bytes;
    void *block;
    if (g_fail_after && --g_fail_after == 0) return NULL;
    if (!mem_mul(&bytes, n, size) || bytes > PTRDIFF_MAX - MEM_ALIGN) return NULL;
    /* Not aligned_alloc: it takes whole multiples of MEM_ALIGN only, and a sanitizer would not see what goes past the end by less. */
    return posix_memalign(&block, MEM_ALIGN, bytes ? bytes : 1) == 0 ? block : NULL;
}

void *mem_calloc(size_t n, size_t size) {
    void *block = mem_alloc(n, size);
    if (block) memset(block, 0, n * size);
    return block;
}

void *mem_grow(void *block, size_t old_n, size_t n, size_t size) {
    void *grown = mem_alloc(n, size);
    if (!grown) return NULL;
    if (block) memcpy(grown, block, (old_n < n ? old_n : n) * size);
    free(block);
    return grown;
}

char *mem_copy_string(const char *s) {
    size_t n = s ? strlen(s) + 1 : 0;
    char *copy = s ? mem_alloc(n, 1) : NULL;
    if (copy) memcpy(copy, s, n);
    return copy;
}

void mem_free(void *block) {
    free(block);
}

/* Over-allocates by one huge page, so that the block can start on a boundary, and gives the rest back. Without
 * MAP_NORESERVE a size the machine can never have fails here, not as a kill on first touch. */
void *mem_huge_alloc(size_t n_bytes) {
    size_t n, padded;
    if (g_fail_after && --g_fail_after == 0) return NULL;
    if (!mem_add(&n, n_bytes, HUGE_PAGE - 1)) return NULL;
    n &= ~(HUGE_PAGE - 1);
    if (!mem_add(&padded, n, HUGE_PAGE)) return NULL;
    char *map = mmap(NULL, padded, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED) return NULL;
    size_t before = (HUGE_PAGE - (uintptr_t)map % HUGE_PAGE) % HUGE_PAGE;
    if (before) munmap(map, before);
    munmap(map + before + n, HUGE_PAGE - before);
    (void)madvise(map + before, n, MADV_HUGEPAGE); /* a wish: without it the block works, slower */
    return map + before;
}

void mem_huge_free(void *block, size_t n_bytes) {
    if (block) munmap(block, (n_bytes + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1));
}

void *mem_scratch_get(mem_scratch *scratch, size_t n, size_t size) {
    size_t bytes;
    if (!mem_mul(&bytes, n, size)) return NULL;
    if (bytes > scratch->n_bytes || !scratch->data) {
        free(scratch->data);
        scratch->n_bytes = 0;
        scratch->data = mem_alloc(bytes, 1);
        if (scratch->data) scratch->n_bytes = bytes;
    }
    return scratch->data;
}

void mem_scratch_free(mem_scratch *scratch) {
    free(scratch->data);
    *scratch = (mem_scratch){0};
}
