/* cpu.h: which instruction sets the kernels may use.
 *
 * The levels form a ladder; PALI_CPU=ref|avx2|avx512|avx512bf16|neon|max caps it, so that every path can be run and
 * compared on one machine. */
#ifndef PALI_BASE_CPU_H
#define PALI_BASE_CPU_H

#include "base/status.h"

typedef enum cpu_level {
    CPU_REF = 0,        /* plain C, complete, the truth the others are checked against */
    CPU_NEON = 1,       /* aarch64 */
    CPU_AVX2 = 2,       /* AVX2 + FMA + F16C */
    CPU_AVX512 = 3,     /* AVX-512 F, BW, VL, DQ */
    CPU_AVX512_BF16 = 4 /* + AVX512_BF16, and only where its dot product outruns fp32 FMA */
} cpu_level;

/* Highest level this machine can run, without any cap. */
cpu_level cpu_level_detect(void);
/* cpu_level_detect capped by PALI_CPU; an unknown name is an error. */
pali_status cpu_level_chosen(cpu_level *out);
const char *cpu_level_name(cpu_level level);
int cpu_n_physical_cores(void);

#endif
