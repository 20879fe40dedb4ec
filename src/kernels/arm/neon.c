/* neon.c: the loops in words of 4 lanes. */
#include "kernels/arm/neon_words.h"

#include "kernels/tmpl/loops.h"

void kernels_fill_neon(kernels *k) {
    loops_fill(k);
}
