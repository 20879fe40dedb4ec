/* tokenizer_merges.h: the merges of a tokenizer as a list, for writing it.
 *
 * Of a merge only the hash of its two texts is kept (tokenizer.c), so the merges are found again from their results: of every
 * piece every split is looked up. What that leaves out, merges to or from texts that are no pieces, encoding never uses. Where
 * scores decide instead (SentencePiece), every split of a piece into pieces is a merge, the best score first. */
#ifndef PALI_INPUT_TOKENIZER_MERGES_H
#define PALI_INPUT_TOKENIZER_MERGES_H

#include "input/tokenizer_tables.h"

typedef struct merge {
    double cost;       /* rank, or minus the score */
    uint32_t id, left; /* the resulting piece, length of its left half */
} merge;

typedef struct merge_list {
    merge *items; /* [n] in order of cost */
    size_t n, cap;
} merge_list;

/* *list is all zeros; mem_free its items, also after a failure. */
pali_status tokenizer_merges_find(merge_list *list, const tokenizer *t);

#endif
