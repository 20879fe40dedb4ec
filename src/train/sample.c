#include "train/sample.h"

#include <string.h>

#include "base/mem.h"
#include "input/prompt.h"

/* The suffix is a text of its own: nothing merges across its begin, and no blank is put before it. */
static pali_status suffix_add(sample *s, const sample_rules *rules, const char *suffix, size_t n_bytes) {
    int32_t *ids;
    size_t n;
    if (n_bytes > PROMPT_MAX_BYTES) return status_fail(PALI_ERR_LIMIT, "suffix: %zu bytes, more than the limit of %zu", n_bytes, PROMPT_MAX_BYTES);
    STATUS_TRY(status_prefix(tokenizer_encode(rules->tokenizer, suffix, n_bytes, 0, &ids, &n), "suffix"));
    int32_t *grown = mem_grow(s->ids, s->n, s->n + n + 1, sizeof *grown);
    if (grown) {
        s->ids = grown;
        memcpy(s->ids + s->n, ids, n * sizeof *ids);
        s->ids[s->n + n] = rules->eos_token;
        s->n += rules->max_suffix_tokens && n + 1 > rules->max_suffix_tokens ? rules->max_suffix_tokens : n + 1;
    }
    mem_free(ids);
    return grown ? PALI_OK : status_no_memory((s->n + n + 1) * sizeof *grown);
}

pali_status sample_make(sample *out, const sample_rules *rules, size_t n_images, const char *prefix, size_t n_prefix_bytes, const char *suffix,
                        size_t n_suffix_bytes) {
    size_t n_image_ids;
    *out = (sample){0};
    if (!mem_mul(&n_image_ids, n_images, rules->n_image_ids) || n_image_ids > INT32_MAX) return status_fail(PALI_ERR_LIMIT, "%zu images: too many", n_images);
    STATUS_TRY(prompt_compose(&out->ids, &out->n, rules->tokenizer, rules->image_token, rules->bos_token, n_image_ids, prefix, n_prefix_bytes));
    out->n_prefix = out->n;
    STATUS_TRY(suffix_add(out, rules, suffix, n_suffix_bytes));
    if (rules->text_len && out->n - n_image_ids > rules->text_len + 1) out->n = n_image_ids + rules->text_len + 1;
    if (out->n_prefix > out->n) out->n_prefix = out->n; /* nothing is left to learn */
    if (!rules->max_tokens || out->n <= rules->max_tokens) return PALI_OK;
    return status_fail(PALI_ERR_LIMIT, "%zu tokens, more than the limit of %zu", out->n, rules->max_tokens);
}

void sample_free(sample *s) {
    mem_free(s->ids);
    *s = (sample){0};
}

/* Nothing to take a mean of weighs nothing. */
static double inverse(size_t n) {
    return n ? 1.0 / (double)n : 0;
}

double sample_weight(sample_mean mean, size_t n_targets, size_t micro_targets) {
    return mean == SAMPLE_TOKEN_MEAN_WINDOW ? 1 : inverse(mean == SAMPLE_TOKEN_MEAN_MICRO ? micro_targets : n_targets);
}

double sample_scale(sample_mean mean, const sample_counts *window) {
    return inverse(mean == SAMPLE_TOKEN_MEAN_WINDOW ? window->n_targets : mean == SAMPLE_TOKEN_MEAN_MICRO ? window->n_micro : window->n_samples);
}
