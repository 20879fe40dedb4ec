#include "kernels/kernels.h"

void kernels_fill_avx512fp16(kernels *k) {
    (void)k;
}
