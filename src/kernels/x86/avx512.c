/* avx512.c: the loops in words of 16 lanes (AVX-512 F, BW, VL, DQ). */
#include <immintrin.h>

#include "kernels/x86/avx512_words.h"

#include "kernels/tmpl/loops.h"

#include "kernels/x86/avx512_codes.h"

#include "kernels/tmpl/codes_rows.h"

void kernels_fill_avx512(kernels *k) {
    loops_fill(k);
    codes_fill(k);
}
