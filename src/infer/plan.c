#include "infer/plan.h"

#include "base/memory.h"
#include "infer/features.h"
#include "infer/sampler.h"
#include "infer/session.h"
#include "input/tokenizer.h"

static uint64_t max_of(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

/* A cache that grew to hold n positions: the last growth has the old one and the new. */
static uint64_t grown_bytes(const gemma_config *c, size_t n) {
    size_t cap = 0, before = 0;
    for (size_t i = 1; i <= n; i++) {
        size_t next = kv_capacity(cap, i);
        if (next != cap) before = cap;
        cap = next;
    }
    return kv_bytes(c, cap) + kv_bytes(c, before);
}

pali_status plan_make(pali_memory_plan *out, const model *m, const weights_memory *memory, const plan_request *q) {
    const gemma_config *c = &m->cfg.text;
    const vit_config *v = &m->cfg.vit;
    size_t n_prefix = q->n_images * v->n_patches + q->n_text_tokens, n_rows = q->n_beams > q->n_sequences ? q->n_beams : q->n_sequences;
    size_t n_pushed = q->max_tokens - 1, n_features = features_slots(v->n_patches * c->width), n_seen = q->n_images * q->n_sequences;
    exec e;
    exec_need need = {0};
    if (n_prefix + q->max_tokens > SESSION_MAX_POSITIONS)
        return status_fail(PALI_ERR_LIMIT, "%zu positions are over the limit of %u", n_prefix + q->max_tokens, SESSION_MAX_POSITIONS);
    STATUS_TRY(exec_init(&e, q->n_threads));
    vit_need(&need, &e, &m->vit);
    gemma_need(&need, &e, &m->text, 1, n_prefix, n_prefix);
    gemma_need(&need, &e, &m->text, n_rows, 1, n_prefix + n_pushed);
    size_t n_workers = e.n_workers;
    exec_free(&e);

    /* A batch is at its peak when all slots are full, or all but one, whose prefix is being run. */
    uint64_t rows = (uint64_t)n_prefix * c->width * sizeof(float), prefix = kv_bytes(c, n_prefix), own = grown_bytes(c, n_pushed);
    uint64_t held = kv_bytes(c, kv_capacity(1, n_pushed)), n_prefixes = q->n_beams > 1 ? 1 : n_rows;
    *out = (pali_memory_plan){
        .weights_mapped = memory->mapped,
        .weights = memory->vectors + memory->block,
        .tokenizer = q->tokenizer ? (uint64_t)TOKENIZER_BYTES_PER_ID * c->vocab_size : 0,
        .pictures = q->picture_bytes,
        .features = ((uint64_t)(n_seen < n_features ? n_seen : n_features) * v->n_patches * c->width +
                     3 * (uint64_t)v->image_size * v->image_size + (uint64_t)v->n_patches * v->width) * sizeof(float),
        .activations = need.acts + need.shared + (uint64_t)n_workers * need.worker,
        .kv_cache = n_prefixes * prefix + (n_rows - 1) * held + max_of(rows, own),
        .logits = n_rows * ((uint64_t)c->vocab_size + c->width) * sizeof(float) +
                  q->n_sequences * (uint64_t)c->vocab_size * (sizeof(sampler_candidate) + sizeof(bool)),
        .program = MEMORY_PROGRAM_BYTES,
    };
    uint64_t running = out->pictures + out->features + out->activations + out->kv_cache + out->logits;
    out->loading = memory->unpacked > running ? memory->unpacked - running : 0;
    out->total = out->weights_mapped + out->weights + out->tokenizer + running + out->loading + out->program;
    return PALI_OK;
}
