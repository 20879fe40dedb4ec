/* tokenizer_file.h: the three file formats of the Gemma tokenizer, each read once, front to back, into a sink (spec inference
 * 4.2, 4.3, 8.4). The sink keeps what it wants; texts are valid during the call only. */
#ifndef PALI_IO_TOKENIZER_FILE_H
#define PALI_IO_TOKENIZER_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "io/gguf.h"

#define TOKENIZER_MAX_IDS ((size_t)1 << 21)
#define TOKENIZER_MAX_MERGES ((size_t)1 << 23)
#define TOKENIZER_MAX_PIECE 4096u /* bytes */
#define TOKENIZER_MAX_ADDED_PIECE 256u

typedef enum piece_kind {
    PIECE_NORMAL,
    PIECE_SPECIAL, /* control, unknown: never from text unless asked, never in decoded text */
    PIECE_ADDED,   /* matched whole in the text before anything else: loc and seg, whitespace runs of SentencePiece */
    PIECE_UNUSED   /* SentencePiece: may appear while merging, is split again */
} piece_kind;

typedef struct tokenizer_sink {
    void *user;
    /* A piece of the vocabulary; an id may come twice (vocabulary and added_tokens): the later kind wins. */
    pali_status (*piece)(void *user, size_t id, const char *text, size_t n, float score, piece_kind kind);
    /* The next merge in order of rank; not of tokenizer.model. */
    pali_status (*merge)(void *user, const char *left, size_t n_left, const char *right, size_t n_right);
} tokenizer_sink;

/* SentencePiece's types of a piece, which GGUF has too. */
enum { SPM_NORMAL = 1, SPM_UNKNOWN, SPM_CONTROL, SPM_USER_DEFINED, SPM_UNUSED, SPM_BYTE };
/* What a piece of this type is to us; false: there is no such type. */
bool tokenizer_spm_kind(piece_kind *out, uint64_t type);

/* Keys of GGUF files that only ours have: traits that are true where the key is missing. */
#define TOKENIZER_GGUF_ESCAPES_SPACES "paligemma.tokenizer.escapes_spaces"
#define TOKENIZER_GGUF_BYTE_FALLBACK "paligemma.tokenizer.byte_fallback"

/* What the rest of the file says. */
typedef struct tokenizer_traits {
    bool has_merges;     /* ranks decide; else scores of the merged piece do */
    bool escapes_spaces; /* " " becomes U+2581 */
    bool byte_fallback;
    char unk_piece[TOKENIZER_MAX_ADDED_PIECE]; /* "": none */
} tokenizer_traits;

pali_status tokenizer_json_parse(tokenizer_traits *out, const tokenizer_sink *sink, const uint8_t *bytes, size_t n_bytes, const char *name);
pali_status tokenizer_spm_parse(tokenizer_traits *out, const tokenizer_sink *sink, const uint8_t *bytes, size_t n_bytes, const char *name);
/* The values of a .gguf file; gguf_is must be true of it. */
pali_status tokenizer_gguf_parse(tokenizer_traits *out, const tokenizer_sink *sink, const uint8_t *bytes, size_t n_bytes, const char *name);

#endif
