#include "kernels/kernels.h"

void kernels_fill_avx512bf16(kernels *k) {
    (void)k;
}
