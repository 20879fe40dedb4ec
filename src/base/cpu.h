/* cpu.h: which instruction sets the kernels may use.
 *
 * The levels of one architecture form a ladder; PALI_CPU=NAME caps it, so that every path can be run and compared on one
 * machine. A processor may lack a rung below its highest (few have both AVX-VNNI and AVX-512). */
#ifndef PALI_BASE_CPU_H
#define PALI_BASE_CPU_H

#include <stdbool.h>

#include "base/status.h"

typedef enum cpu_level {
    CPU_REF,         /* plain C, complete, the truth the others are checked against */
    CPU_NEON,        /* aarch64 */
    CPU_DOTPROD,     /* + 8-bit dot products */
    CPU_AVX2,        /* AVX2 + FMA + F16C */
    CPU_AVXVNNI,     /* + 8-bit dot products in 256 bits */
    CPU_AVX512,      /* AVX-512 F, BW, VL, DQ */
    CPU_AVX512_VNNI, /* + 8-bit dot products */
    CPU_AVX512_BF16, /* + bf16 dot products; by default only where they outrun fp32 FMA */
    CPU_AVX512_FP16, /* AVX512_VNNI + half-precision FMA */
    CPU_N_LEVELS
} cpu_level;

/* Whether this machine can run a level. */
bool cpu_level_runs(cpu_level level);
/* The level to use: the highest that runs and pays, or the highest up to the one that PALI_CPU names; an unknown name is an
 * error. */
pali_status cpu_level_chosen(cpu_level *out);
const char *cpu_level_name(cpu_level level);
int cpu_n_physical_cores(void);

#endif
