#include "kernels/kernels.h"

void kernels_fill_avxvnni(kernels *k) {
    (void)k;
}
