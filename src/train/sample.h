/* sample.h: a row as the model sees it, and what its tokens weigh in the loss (spec training 1.1, 1.5).
 *
 *   ids      <image> x P x pictures | <bos> | prefix + "\n" | suffix | <eos>
 *            <------------- n_prefix: see each other -------> <--- targets --->
 *
 * Each target is predicted by the row before it: rows n_prefix - 1 to n - 2. Samples have different lengths and run side by
 * side as they are; there is no padding. */
#ifndef PALI_TRAIN_SAMPLE_H
#define PALI_TRAIN_SAMPLE_H

#include "input/tokenizer.h"

typedef struct sample_rules {
    const tokenizer *tokenizer;
    int32_t image_token, bos_token, eos_token;
    size_t n_image_ids;       /* of a picture */
    size_t max_suffix_tokens; /* eos included; what is longer is cut and has no eos, as in the reference. 0: any number */
    size_t text_len;          /* big_vision's: prompt and answer, without image ids, are cut after text_len + 1 ids, of which the first
                               * text_len are read and the last text_len can be targets; 0: never */
    size_t max_tokens;        /* a longer sample is an error; 0: any number */
} sample_rules;

typedef struct sample {
    int32_t *ids; /* [n] */
    size_t n, n_prefix;
} sample;

/* Free with sample_free, also after a failure. */
pali_status sample_make(sample *out, const sample_rules *rules, size_t n_images, const char *prefix, size_t n_prefix_bytes, const char *suffix,
                        size_t n_suffix_bytes);
void sample_free(sample *s);

static inline size_t sample_n_targets(const sample *s) {
    return s->n - s->n_prefix;
}

typedef enum sample_mean {
    SAMPLE_TOKEN_MEAN_WINDOW, /* over the targets of the whole window: Transformers' Trainer */
    SAMPLE_TOKEN_MEAN_MICRO,  /* over those of each micro-batch, then over micro-batches: Transformers of 2024 */
    SAMPLE_EXAMPLE_MEAN       /* over those of each sample, then over samples: big_vision */
} sample_mean;

/* What a window has had so far. Micro-batches and samples that were left out do not count. */
typedef struct sample_counts {
    size_t n_targets, n_micro, n_samples;
} sample_counts;

/* The loss is the sum of weight * -log p(target) over the window, where weight = sample_weight * sample_scale. The first is
 * known when the micro-batch is; the second when the window ends, so it goes to the summed gradients, once. micro_targets: of
 * the sample's micro-batch. */
double sample_weight(sample_mean mean, size_t n_targets, size_t micro_targets);
double sample_scale(sample_mean mean, const sample_counts *window);

#endif
