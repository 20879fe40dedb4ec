/* kernels.c: the override ladder. */
#include "kernels/kernels.h"

#include <pthread.h>

static kernels g_tables[CPU_N_LEVELS]; /* written once under g_once, constant ever after */
static pthread_once_t g_once = PTHREAD_ONCE_INIT;

/* Each level and what it is built upon. */
static const struct {
    cpu_level base;
    void (*fill)(kernels *k);
} k_rungs[CPU_N_LEVELS] = {
    [CPU_REF] = {CPU_REF, kernels_fill_ref},
#if defined(__x86_64__)
    [CPU_AVX2] = {CPU_REF, kernels_fill_avx2},
    [CPU_AVXVNNI] = {CPU_AVX2, kernels_fill_avxvnni},
    [CPU_AVX512] = {CPU_AVX2, kernels_fill_avx512},
    [CPU_AVX512_VNNI] = {CPU_AVX512, kernels_fill_avx512vnni},
    [CPU_AVX512_BF16] = {CPU_AVX512_VNNI, kernels_fill_avx512bf16},
    [CPU_AVX512_FP16] = {CPU_AVX512_VNNI, kernels_fill_avx512fp16},
#elif defined(__aarch64__)
    [CPU_NEON] = {CPU_REF, kernels_fill_neon},
    [CPU_DOTPROD] = {CPU_NEON, kernels_fill_dotprod},
#endif
};

static void fill(kernels *k, cpu_level level) {
    if (level != CPU_REF) fill(k, k_rungs[level].base);
    k_rungs[level].fill(k);
}

/* Only levels that this machine can run: the functions that fill are themselves compiled for their instruction set. */
static void fill_all(void) {
    for (int level = 0; level < CPU_N_LEVELS; level++) {
        if (!cpu_level_runs((cpu_level)level)) continue;
        fill(&g_tables[level], (cpu_level)level);
        g_tables[level].level = (cpu_level)level;
    }
}

const kernels *kernels_get(cpu_level level) {
    if (!cpu_level_runs(level)) return NULL;
    pthread_once(&g_once, fill_all);
    return &g_tables[level];
}
