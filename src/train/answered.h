/* answered.h: a row of the data and what the model, as it is at some step, answers to it: to be read beside the loss.
 *
 * Decoding is the affair of infer/, which this folder does not know: whoever starts a run brings it. An answer changes nothing in the
 * run; its picture is read anew, and as it is, without crops and flips. */
#ifndef PALI_TRAIN_ANSWERED_H
#define PALI_TRAIN_ANSWERED_H

#include "model/model.h"
#include "train/loader.h"

/* The greedy answer, at most max_tokens, to ids that begin with those of the pictures; *out is of mem_alloc. */
typedef pali_status (*answer_fn)(void *user, char **out, const model *m, const image *const *pictures, size_t n_pictures, const int32_t *ids, size_t n_ids,
                                 size_t max_tokens);

/* Beyond what is wanted an answer may have as many tokens before it is cut off. */
#define ANSWERED_MORE_TOKENS 16u

typedef struct answered {
    size_t line; /* of the file; 0: the row could not be loaded or is too long to be answered, and there is no `got` */
    char *prefix, *want, *got;
} answered;

/* Row `row` of rows->data. The options' order, cache and augmentation count for nothing. answered_free it, also after a failure. */
pali_status answered_make(answered *out, const loader_options *rows, size_t row, const model *m, answer_fn answer, void *user);
void answered_free(answered *a);

#endif
