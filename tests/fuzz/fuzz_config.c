/* fuzz_config.c: any bytes as config.json and as the image processor's config; what is accepted must be usable. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#include "model/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    config c;
    char name[64];
    if (config_parse(&c, (const char *)data, size, "fuzz") == PALI_OK) {
        const gemma_config *t = &c.text;
        config_name(&c, name, sizeof name);
        if (!config_n_parameters(&c) || c.vit.width % c.vit.n_heads || !c.vit.n_patches || t->n_heads % t->n_kv_heads ||
            t->head_dim % 2 || t->n_layers > CONFIG_MAX_LAYERS || c.vit.n_layers > CONFIG_MAX_LAYERS ||
            !isfinite(t->attn_scale) || c.eos_token < 0)
            abort();
    }
    if (config_named(&c, "3b-224") != PALI_OK) abort();
    (void)config_parse_preprocessor(&c, (const char *)data, size, "fuzz");
    if (c.resample < 0 || c.resample > 5) abort();
    return 0;
}
