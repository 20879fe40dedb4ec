/* fuzz_train_state.c: any bytes as train_state.json of a checkpoint: what is accepted is of this step and these settings. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#include "train/checkpoint.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    trainer_state state = {.global_step = 3};
    checkpoint_sums sums = {0};
    json_t *settings = json_pack("{s:i, s:[[i, f]], s:b}", "batch_size", 2, "rows", 7, 1.5, "shuffle", 1);
    if (!settings) abort();
    const checkpoint c = {.state = &state, .sums = &sums, .settings = settings};
    if (checkpoint_state_parse(&c, (const char *)data, size, "fuzz") == PALI_OK) {
        if (!isfinite(sums.loss) || sums.n_updates > SIZE_MAX / 2 || sums.n_tokens > SIZE_MAX / 2) abort();
    } else if (!*status_message()) {
        abort();
    }
    json_decref(settings);
    return 0;
}
