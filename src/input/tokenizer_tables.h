/* tokenizer_tables.h: the tokenizer's inside, shared by tokenizer.c (building, decoding) and bpe.c (encoding). */
#ifndef PALI_INPUT_TOKENIZER_TABLES_H
#define PALI_INPUT_TOKENIZER_TABLES_H

#include "input/tokenizer.h"
#include "io/tokenizer_file.h"

#define TOKENIZER_NO_ID UINT32_MAX

typedef struct piece {
    uint32_t offset, length; /* in text; length 0: no such id */
    float score;
    uint8_t kind;            /* piece_kind */
    int16_t byte;            /* value of a byte piece <0xHH>, else -1 */
} piece;

struct pali_tokenizer {
    tokenizer_traits traits;
    char *text;              /* all pieces, each NUL-terminated */
    size_t n_text, text_cap;
    piece *pieces;           /* [n_ids] */
    size_t n_ids, ids_cap;
    uint32_t *ids;           /* open addressing: text -> id; ids_mask + 1 slots */
    size_t ids_mask;
    uint64_t *merge_keys;    /* open addressing: hash of a pair of pieces -> rank; 0 is empty */
    uint32_t *merge_ranks;
    size_t n_merges, merges_mask;
    uint32_t byte_ids[256];  /* TOKENIZER_NO_ID: no byte piece */
    uint32_t unk_id;
    uint8_t added_first[256];/* whether an added or special piece begins with this byte */
    uint8_t added_lengths[TOKENIZER_MAX_ADDED_PIECE]; /* whether one has this length */
    size_t added_longest;
};

/* Id of a piece by text, or TOKENIZER_NO_ID. */
uint32_t tokenizer_lookup(const tokenizer *t, const char *text, size_t n);
/* Hash of a text, and of a pair of them. 64 bits: with 600,000 merges a false match has a chance of 2^-44 per pair asked. */
uint64_t tokenizer_hash(const char *text, size_t n);
uint64_t tokenizer_hash_pair(uint64_t left, uint64_t right);
/* Rank of a merge, or UINT32_MAX. */
uint32_t tokenizer_merge_rank(const tokenizer *t, uint64_t pair_hash);
/* Bytes of the UTF-8 character at the start of text, 0 if there is none or it is malformed. */
size_t tokenizer_utf8_length(const char *text, size_t n);

#endif
