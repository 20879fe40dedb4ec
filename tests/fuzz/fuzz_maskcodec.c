/* fuzz_maskcodec.c: any bytes as a mask codec's file, npz or safetensors; what is accepted must run. */
#include <stdint.h>

#include "model/maskcodec.h"

#define MAX_RUN_BYTES 65536u /* of a file whose codec is run: wide ones take long */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    maskcodec *m;
    float mask[MASKCODEC_SIDE * MASKCODEC_SIDE];
    int32_t codes[MASKCODEC_N_CODES] = {0, 127, 1, 2};
    if (maskcodec_parse(&m, data, size, "fuzz") != PALI_OK) return 0;
    if (maskcodec_parameters(m) * sizeof(float) <= MAX_RUN_BYTES) {
        (void)maskcodec_decode(m, mask, codes);
        (void)maskcodec_encode(m, codes, NULL, mask);
    }
    maskcodec_free(m);
    return 0;
}
