/* fuzz_image_gif.c: any bytes as a GIF file. */
#include "input/image_codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const image_source src = {data, size, "fuzz"};
    image img = {0};
    int orientation = 1;
    (void)image_gif_decode(&img, &orientation, &src);
    image_free(&img);
    return 0;
}
