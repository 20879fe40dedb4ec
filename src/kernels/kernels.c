/* kernels.c: the override ladder. */
#include "kernels/kernels.h"

#include <pthread.h>

static kernels g_tables[CPU_AVX512_BF16 + 1]; /* written once under g_once, constant ever after */
static pthread_once_t g_once = PTHREAD_ONCE_INIT;

/* Only what this machine has: the functions that fill are themselves compiled for their instruction set. */
static void fill_all(void) {
    cpu_level have = cpu_level_detect();
    for (int level = CPU_REF; level <= (int)have; level++) {
        kernels *k = &g_tables[level];
        kernels_fill_ref(k);
#if defined(__x86_64__)
        if (level >= CPU_AVX2) kernels_fill_avx2(k);
        if (level >= CPU_AVX512) kernels_fill_avx512(k);
        if (level >= CPU_AVX512_BF16) kernels_fill_avx512bf16(k);
#elif defined(__aarch64__)
        if (level >= CPU_NEON) kernels_fill_neon(k);
#endif
        k->level = (cpu_level)level;
    }
}

const kernels *kernels_get(cpu_level level) {
    cpu_level have = cpu_level_detect();
    if (level > have || (level == CPU_NEON && have != CPU_NEON)) return NULL;
    pthread_once(&g_once, fill_all);
    return &g_tables[level];
}
