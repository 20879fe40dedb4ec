/* tokenizer.h: text <-> ids (spec inference 4.1 - 4.4). BPE over the whole text between added tokens, heap-based so that
 * a megabyte of text costs n log n; byte fallback; the same struct filled from tokenizer.json, tokenizer.model or a .gguf file. */
#ifndef PALI_INPUT_TOKENIZER_H
#define PALI_INPUT_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct pali_tokenizer tokenizer;

/* Memory of one; measured: the published one's 257,216 pieces from tokenizer.json, whose 17 MB are mapped meanwhile, take 36 MB. */
#define TOKENIZER_BYTES_PER_ID 140u

pali_status tokenizer_load(tokenizer **out, const char *path);
pali_status tokenizer_parse(tokenizer **out, const uint8_t *bytes, size_t n_bytes, const char *name);
void tokenizer_free(tokenizer *t);
/* Which of the formats a file has, by its content; SPM where it is none of the others. */
typedef enum tokenizer_kind { TOKENIZER_JSON, TOKENIZER_SPM, TOKENIZER_GGUF } tokenizer_kind;
pali_status tokenizer_file_kind(tokenizer_kind *out, const char *path);

#define TOKENIZER_SPECIAL 1u /* special tokens written in the text become ids (PALI_ENCODE_SPECIAL) */
/* *out_ids from mem_alloc, mem_free it. Text may hold NUL; invalid UTF-8 is an error that gives the offset. */
pali_status tokenizer_encode(const tokenizer *t, const char *text, size_t n_bytes, uint32_t flags, int32_t **out_ids, size_t *out_n);
/* Text without special tokens; mem_free it. */
pali_status tokenizer_decode(const tokenizer *t, const int32_t *ids, size_t n, char **out_text, size_t *out_n_bytes);
/* Piece as stored, NUL-terminated, or NULL. */
const char *tokenizer_piece(const tokenizer *t, int32_t id);
size_t tokenizer_n_ids(const tokenizer *t);
/* Id of an exact piece ("<image>", "<loc0000>", "<eos>"), or -1: ids are found by content, never by number. */
int32_t tokenizer_find(const tokenizer *t, const char *piece);
bool tokenizer_is_special(const tokenizer *t, int32_t id);
/* What a token means by its piece, or -1: 0..1023 of <loc0000>.., 0..127 of <seg000>.., the value of a byte piece <0x00>... */
#define TOKENIZER_LOCS 1024
#define TOKENIZER_SEGS 128
int32_t tokenizer_loc_index(const tokenizer *t, int32_t id);
int32_t tokenizer_seg_code(const tokenizer *t, int32_t id);
int tokenizer_byte(const tokenizer *t, int32_t id);

/* Streaming decode: push ids one by one, get the text that became certain; the concatenation equals tokenizer_decode. Bytes
 * of a run of byte tokens are held until the run ends, because one bad byte turns the whole run into U+FFFD. */
typedef struct token_stream {
    const tokenizer *t;
    char *run, *text; /* bytes held back; the last text returned */
    size_t n_run, run_cap, text_cap;
} token_stream;
void token_stream_init(token_stream *s, const tokenizer *t);
/* *out is valid until the next call. */
pali_status token_stream_push(token_stream *s, int32_t id, const char **out, size_t *out_n);
pali_status token_stream_finish(token_stream *s, const char **out, size_t *out_n);
void token_stream_free(token_stream *s);

#endif
