#include "base/mem.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static _Thread_local size_t g_fail_after; /* test seam, see mem_fail_after */

void mem_fail_after(size_t k) {
    g_fail_after = k;
}

void *mem_alloc(size_t n, size_t size) {
    size_t bytes;
    if (g_fail_after && --g_fail_after == 0) return NULL;
    if (!mem_mul(&bytes, n, size) || bytes > PTRDIFF_MAX - MEM_ALIGN) return NULL;
    bytes = (bytes + MEM_ALIGN - 1) & ~(size_t)(MEM_ALIGN - 1);
    return aligned_alloc(MEM_ALIGN, bytes ? bytes : MEM_ALIGN);
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

void mem_free(void *block) {
    free(block);
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
