/* schedule.c: learning rate factors and step counts. */
#include "train/schedule.h"

#include <math.h>
#include <string.h>

#define PI 3.14159265358979323846

pali_status schedule_kind_named(schedule_kind *out, const char *name) {
    static const struct {
        const char *name;
        schedule_kind kind;
    } k_names[] = {{"linear", SCHEDULE_LINEAR},
                   {"cosine", SCHEDULE_COSINE},
                   {"constant", SCHEDULE_CONSTANT},
                   {"constant_with_warmup", SCHEDULE_CONSTANT},
                   {"cosine_big_vision", SCHEDULE_COSINE_BV}};
    for (size_t i = 0; i < sizeof k_names / sizeof k_names[0]; i++) {
        if (strcmp(k_names[i].name, name) != 0) continue;
        *out = k_names[i].kind;
        return PALI_OK;
    }
    return status_fail(PALI_ERR_ARGUMENT, "schedule: \"%.64s\" is none of linear, cosine, constant, cosine_big_vision", name);
}

double schedule_factor(const schedule *s, uint64_t update) {
    double at = (double)update, warmup = (double)s->warmup, total = (double)s->total;
    double length = s->total > s->warmup ? total - warmup : 1, progress = (at - warmup) / length;
    if (s->kind == SCHEDULE_COSINE_BV) {
        double within = progress < 0 ? 0 : progress > 1 ? 1 : progress;
        return 0.5 * (1 + cos(PI * within)) * (update < s->warmup ? at / warmup : 1);
    }
    if (update < s->warmup) return at / warmup;
    switch (s->kind) {
    case SCHEDULE_LINEAR: return fmax(0, (total - at) / length);
    case SCHEDULE_COSINE: return fmax(0, 0.5 * (1 + cos(PI * progress)));
    default: return 1;
    }
}

uint64_t schedule_warmup(double steps, uint64_t total) {
    return (uint64_t)(steps < 1 ? ceil((double)total * steps) : steps);
}

uint64_t schedule_warmup_bv(double fraction, uint64_t total) {
    double steps = nearbyint(fraction * (double)total);
    return steps < 1 ? 1 : (uint64_t)steps;
}

static uint64_t ceil_div(uint64_t a, uint64_t b) {
    return a / b + (a % b != 0);
}

pali_status schedule_count_of(schedule_count *out, uint64_t n_samples, uint64_t batch, uint64_t accumulate, double n_epochs, uint64_t max_steps) {
    *out = (schedule_count){0};
    if (n_samples == 0) return status_fail(PALI_ERR_ARGUMENT, "data: no samples to train on");
    if (batch == 0) return status_fail(PALI_ERR_ARGUMENT, "batch size: at least 1 expected");
    if (accumulate == 0) return status_fail(PALI_ERR_ARGUMENT, "accumulation: at least 1 expected");
    if (max_steps == 0 && !(n_epochs > 0)) return status_fail(PALI_ERR_ARGUMENT, "epochs: %g; more than 0 expected", n_epochs);
    out->micro_batches = ceil_div(n_samples, batch);
    out->updates = ceil_div(out->micro_batches, accumulate);
    double total = ceil(n_epochs * (double)out->updates);
    if (max_steps == 0 && !(total < 0x1p53)) return status_fail(PALI_ERR_ARGUMENT, "epochs: %g are too many", n_epochs);
    out->total = max_steps ? max_steps : (uint64_t)total;
    return PALI_OK;
}
