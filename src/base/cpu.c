#define _GNU_SOURCE
#include "base/cpu.h"

#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#endif

static const char *const k_names[] = {"ref",    "neon",       "dotprod",    "avx2",      "avxvnni",
                                      "avx512", "avx512vnni", "avx512bf16", "avx512fp16"};

const char *cpu_level_name(cpu_level level) {
    return k_names[level];
}

#if defined(__x86_64__)
/* vdpbf16ps runs at twice the fp32 FMA rate on AMD (Zen 4 and later) but at half of it on Intel cores without AMX use
 * (measured, SPEED.md), so the vendor decides whether the level is worth taking by default. */
static bool bf16_dot_is_fast(void) {
    unsigned a, b, c, d;
    return __get_cpuid(0, &a, &b, &c, &d) && b == signature_AMD_ebx;
}

/* One bit of cpuid's leaf (7, subleaf): newer than the compilers' own lists. */
static bool has_bit(unsigned subleaf, char reg, unsigned bit) {
    unsigned a, b, c, d;
    if (!__get_cpuid_count(7, subleaf, &a, &b, &c, &d)) return false;
    return (reg == 'a' ? a : reg == 'c' ? c : d) >> bit & 1u;
}

/* Clang 14's list lacks f16c (leaf 1, ecx). */
static bool has_f16c(void) {
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}

bool cpu_level_runs(cpu_level level) {
    __builtin_cpu_init(); /* its answers include whether the system saves the registers */
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
    bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
    bool vnni = avx512 && has_bit(0, 'c', 11);
    switch (level) {
    case CPU_REF: return true;
    case CPU_AVX2: return avx2;
    case CPU_AVXVNNI: return avx2 && has_bit(1, 'a', 4);
    case CPU_AVX512: return avx512;
    case CPU_AVX512_VNNI: return vnni;
    case CPU_AVX512_BF16: return vnni && has_bit(1, 'a', 5);
    case CPU_AVX512_FP16: return vnni && has_bit(0, 'd', 23);
    default: return false;
    }
}
#elif defined(__aarch64__)
bool cpu_level_runs(cpu_level level) {
    return level == CPU_REF || level == CPU_NEON || (level == CPU_DOTPROD && (getauxval(AT_HWCAP) & HWCAP_ASIMDDP));
}
#else
bool cpu_level_runs(cpu_level level) {
    return level == CPU_REF;
}
#endif

static bool is_default(cpu_level level) {
#if defined(__x86_64__)
    if (level == CPU_AVX512_BF16 && !bf16_dot_is_fast()) return false;
    if (level == CPU_AVX512_FP16 && bf16_dot_is_fast()) return false; /* as fast, and x is rounded as the reference does */
#endif
    return cpu_level_runs(level);
}

pali_status cpu_level_chosen(cpu_level *out) {
    const char *cap = getenv("PALI_CPU");
    bool capped = cap && *cap && strcmp(cap, "max") != 0; /* naming a level also asks for it where it is not the default */
    int level = CPU_N_LEVELS - 1;
    if (capped) {
        while (level >= 0 && strcmp(cap, k_names[level]) != 0) level--;
        if (level < 0)
            return status_fail(PALI_ERR_ARGUMENT, "PALI_CPU=%s: expected ref, avx2, avxvnni, avx512, avx512vnni, avx512bf16, "
                                                  "avx512fp16, neon, dotprod or max", cap);
    }
    while (!(capped ? cpu_level_runs((cpu_level)level) : is_default((cpu_level)level))) level--; /* ref always runs */
    *out = (cpu_level)level;
    return PALI_OK;
}

/* Distinct (package, core) pairs among the CPUs this process may use; hyper-threads share a pair. */
int cpu_n_physical_cores(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
    struct core {
        int package, id;
    } seen[CPU_SETSIZE];
    int n = 0;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET((size_t)cpu, &set)) continue;
        struct core c = {-1, cpu};
        const char *const files[] = {"physical_package_id", "core_id"};
        int *const fields[] = {&c.package, &c.id};
        for (int i = 0; i < 2; i++) {
            char path[96];
            (void)snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/%s", cpu, files[i]);
            FILE *f = fopen(path, "re");
            if (!f) continue;
            if (fscanf(f, "%d", fields[i]) != 1) *fields[i] = i ? cpu : -1;
            fclose(f);
        }
        int k = 0;
        while (k < n && (seen[k].package != c.package || seen[k].id != c.id)) k++;
        if (k == n) seen[n++] = c;
    }
    return n > 0 ? n : 1;
}
