#define _GNU_SOURCE
#include "base/cpu.h"

#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

static const char *const k_names[] = {"ref", "neon", "avx2", "avx512", "avx512bf16"};

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

/* Clang 14's list lacks f16c (leaf 1, ecx). */
static bool has_f16c(void) {
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}

/* libgcc's list lacks avx512bf16 in older compilers, so its bit (leaf 7.1, eax 5) is read here. */
static bool has_avx512_bf16(void) {
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 5 & 1u);
}
#endif

cpu_level cpu_level_detect(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") || !has_f16c()) return CPU_REF;
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") || !__builtin_cpu_supports("avx512vl") ||
        !__builtin_cpu_supports("avx512dq"))
        return CPU_AVX2;
    return has_avx512_bf16() ? CPU_AVX512_BF16 : CPU_AVX512;
#elif defined(__aarch64__)
    return CPU_NEON;
#else
    return CPU_REF;
#endif
}

pali_status cpu_level_chosen(cpu_level *out) {
    cpu_level have = cpu_level_detect();
    const char *cap = getenv("PALI_CPU");
    *out = have;
#if defined(__x86_64__)
    if (have == CPU_AVX512_BF16 && !bf16_dot_is_fast()) *out = CPU_AVX512;
#endif
    if (!cap || !*cap || strcmp(cap, "max") == 0) return PALI_OK;
    for (size_t i = 0; i < sizeof k_names / sizeof k_names[0]; i++) {
        if (strcmp(cap, k_names[i]) == 0) {
            *out = (cpu_level)i < have ? (cpu_level)i : have; /* naming a level also asks for it where it is not the default */
            return PALI_OK;
        }
    }
    return status_fail(PALI_ERR_ARGUMENT, "PALI_CPU=%s: expected ref, avx2, avx512, avx512bf16, neon or max", cap);
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
