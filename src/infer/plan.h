/* plan.h: the memory that a session will need, before any of it is taken: the sizes that weights, caches and kernels ask for,
 * from the functions that ask. */
#ifndef PALI_INFER_PLAN_H
#define PALI_INFER_PLAN_H

#include "model/model.h"

typedef struct plan_request {
    int n_threads;
    size_t n_images, n_text_tokens, max_tokens, n_beams, n_sequences;
    uint64_t picture_bytes;
    bool tokenizer;
} plan_request;

/* m and memory from model_outline. All fields but available, installed and fits. */
pali_status plan_make(pali_memory_plan *out, const model *m, const weights_memory *memory, const plan_request *q);

#endif
