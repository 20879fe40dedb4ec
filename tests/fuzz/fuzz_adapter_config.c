/* fuzz_adapter_config.c: any bytes as adapter_config.json, and as a regular expression by themselves: what is accepted must give
 * every module a rank and a scale, within the time that the limits allow. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "model/adapter_config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void pattern_try(const uint8_t *data, size_t size) {
    char text[256];
    pattern *p;
    if (size >= sizeof text) return;
    memcpy(text, data, size);
    text[size] = 0;
    if (pattern_new(&p, text, "fuzz") != PALI_OK) return;
    size_t work = 1000000, used;
    bool matches = pattern_matches(p, text, &work);
    used = 1000000 - work;
    if (work && used > (strlen(text) + 1) * 2 * pattern_n_states(p)) abort();
    work = 1000000;
    if (pattern_matches(p, text, &work) != matches || 1000000 - work != used) abort();
    pattern_free(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *const k_modules[] = {"model.language_model.layers.11.self_attn.q_proj", "model.vision_tower.encoder.layers.0.mlp.fc1", "lm_head", ""};
    adapter_config c;
    pattern_try(data, size);
    if (adapter_config_parse(&c, (const char *)data, size, "fuzz") != PALI_OK) return 0;
    c.work = 1000000; /* so that a slow input shows as one that hangs */
    for (size_t i = 0; i < sizeof k_modules / sizeof *k_modules; i++) {
        size_t rank;
        double alpha;
        if (adapter_config_module(&c, k_modules[i], &rank, &alpha, "fuzz") != PALI_OK) continue;
        if (rank < 1 || rank > ADAPTER_MAX_RANK || !isfinite(adapter_config_scale(&c, rank, alpha))) abort();
        (void)adapter_config_saves(&c, k_modules[i]);
    }
    adapter_config_free(&c);
    return 0;
}
