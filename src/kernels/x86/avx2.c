/* avx2.c: the loops in words of 8 lanes. */
#include "kernels/x86/avx2_words.h"

#include "kernels/tmpl/loops.h"

void kernels_fill_avx2(kernels *k) {
    loops_fill(k);
}
