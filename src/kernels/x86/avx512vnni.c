#include "kernels/kernels.h"

void kernels_fill_avx512vnni(kernels *k) {
    (void)k;
}
