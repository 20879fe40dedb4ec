/* fuzz_trainer_state.c: any bytes as trainer_state.json; what is accepted can be logged to. */
#include <stdint.h>
#include <stdlib.h>

#include "train/trainer_state.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    trainer_state s;
    if (trainer_state_parse(&s, (const char *)data, size, "fuzz") != PALI_OK) {
        if (s.log) abort();
        return 0;
    }
    size_t n = json_array_size(s.log);
    if (!(s.epoch >= 0) || !(s.total_flos >= 0)) abort();
    const trainer_value loss = {"loss", s.epoch};
    if (trainer_state_log(&s, &loss, 1) == PALI_OK && json_array_size(s.log) != n + 1) abort();
    trainer_state_free(&s);
    return 0;
}
