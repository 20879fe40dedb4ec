#include "kernels/kernels.h"

void kernels_fill_dotprod(kernels *k) {
    (void)k;
}
