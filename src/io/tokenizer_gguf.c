/* tokenizer_gguf.c: the tokenizer among the values of a GGUF file. Its pieces, scores and types are those of SentencePiece; a
 * list of merges, which our own files have where the tokenizer came from tokenizer.json, decides instead of the scores. */
#include <stdlib.h>
#include <string.h>

#include "io/tokenizer_file.h"

typedef struct tables {
    const gguf_value *tokens, *scores, *types, *merges;
    size_t unk; /* tokens->n: none */
} tables;

static pali_status bad(const gguf *g, const char *key, size_t i, const char *what) {
    return status_fail(PALI_ERR_FORMAT, "%s: %s: %zu: %s", g->path, key, i, what);
}

/* One value for each token. */
static pali_status table_get(const gguf *g, const char *key, gguf_kind kind, const gguf_value *tokens, bool optional, const gguf_value **out) {
    STATUS_TRY(gguf_get_array(g, key, kind, out));
    if (!*out && !optional) return status_fail(PALI_ERR_FORMAT, "%s: %s: missing", g->path, key);
    if (*out && tokens && (*out)->n != tokens->n)
        return status_fail(PALI_ERR_FORMAT, "%s: %s: %zu values, but there are %zu tokens", g->path, key, (*out)->n, tokens->n);
    return PALI_OK;
}

static pali_status is_false(const gguf *g, const char *key) {
    bool x = false;
    STATUS_TRY(gguf_get_bool(g, key, &x));
    return x ? status_fail(PALI_ERR_UNSUPPORTED, "%s: %s: true is not supported", g->path, key) : PALI_OK;
}

/* The kind of tokenizer, and settings that would change the text. */
static pali_status settings_read(tokenizer_traits *out, const gguf *g) {
    const char *model = NULL;
    const gguf_value *charsmap = gguf_find(g, "tokenizer.ggml.precompiled_charsmap");
    size_t n = 0;
    STATUS_TRY(gguf_get_string(g, "tokenizer.ggml.model", &model, &n));
    if (!model) return status_fail(PALI_ERR_FORMAT, "%s: tokenizer.ggml.model: missing", g->path);
    if (n != 5 || memcmp(model, "llama", 5) != 0)
        return status_fail(PALI_ERR_UNSUPPORTED, "%s: tokenizer.ggml.model: '%.*s' is not supported, only llama", g->path, (int)(n < 64 ? n : 64), model);
    if (charsmap && charsmap->n) return status_fail(PALI_ERR_UNSUPPORTED, "%s: tokenizer.ggml.precompiled_charsmap: not supported", g->path);
    STATUS_TRY(is_false(g, "tokenizer.ggml.add_space_prefix"));
    STATUS_TRY(is_false(g, "tokenizer.ggml.remove_extra_whitespaces"));
    out->escapes_spaces = out->byte_fallback = true;
    STATUS_TRY(gguf_get_bool(g, TOKENIZER_GGUF_ESCAPES_SPACES, &out->escapes_spaces));
    return gguf_get_bool(g, TOKENIZER_GGUF_BYTE_FALLBACK, &out->byte_fallback);
}

static pali_status tables_get(tables *t, const gguf *g) {
    STATUS_TRY(table_get(g, "tokenizer.ggml.tokens", GGUF_STRING, NULL, false, &t->tokens));
    if (t->tokens->n == 0 || t->tokens->n > TOKENIZER_MAX_IDS)
        return status_fail(PALI_ERR_LIMIT, "%s: tokenizer.ggml.tokens: %zu, expected 1 to %zu", g->path, t->tokens->n, TOKENIZER_MAX_IDS);
    STATUS_TRY(gguf_get_array(g, "tokenizer.ggml.merges", GGUF_STRING, &t->merges));
    STATUS_TRY(table_get(g, "tokenizer.ggml.scores", GGUF_F32, t->tokens, t->merges != NULL, &t->scores));
    STATUS_TRY(table_get(g, "tokenizer.ggml.token_type", GGUF_I32, t->tokens, false, &t->types));
    t->unk = t->tokens->n;
    return gguf_get_size(g, "tokenizer.ggml.unknown_token_id", &t->unk, 0, t->tokens->n - 1);
}

/* Ids without a piece have an empty text. */
static pali_status piece_read(tokenizer_traits *out, const tokenizer_sink *sink, const gguf *g, const tables *t, size_t id, const char *text, size_t n) {
    int32_t type = gguf_array_i32(t->types, id);
    float score = t->scores ? gguf_array_f32(t->scores, id) : 0;
    piece_kind kind;
    if (type < 0 || !tokenizer_spm_kind(&kind, (uint64_t)type)) return bad(g, "tokenizer.ggml.token_type", id, "expected 1 to 6");
    if (score != score) return bad(g, "tokenizer.ggml.scores", id, "not a number");
    if (n > TOKENIZER_MAX_PIECE || (kind == PIECE_ADDED && n >= TOKENIZER_MAX_ADDED_PIECE)) return bad(g, "tokenizer.ggml.tokens", id, "too long");
    if (id == t->unk || (type == SPM_UNKNOWN && t->unk == t->tokens->n)) {
        if (n >= sizeof out->unk_piece) return bad(g, "tokenizer.ggml.tokens", id, "the unknown token is too long");
        memcpy(out->unk_piece, text, n);
        out->unk_piece[n] = 0;
    }
    return sink->piece(sink->user, id, text, n, score, kind);
}

/* "left right"; the right half never has a space. */
static pali_status merge_read(const tokenizer_sink *sink, const gguf *g, size_t i, const char *text, size_t n) {
    size_t gap = n;
    while (gap > 0 && text[gap - 1] != ' ') gap--;
    if (gap < 2 || gap == n || n > 2 * TOKENIZER_MAX_PIECE) return bad(g, "tokenizer.ggml.merges", i, "expected two pieces");
    return sink->merge(sink->user, text, gap - 1, text + gap, n - gap);
}

static pali_status values_read(tokenizer_traits *out, const tokenizer_sink *sink, const gguf *g) {
    tables t;
    const char *text;
    size_t n;
    STATUS_TRY(settings_read(out, g));
    STATUS_TRY(tables_get(&t, g));
    const uint8_t *at = t.tokens->data;
    for (size_t id = 0; id < t.tokens->n; id++) {
        text = gguf_string_next(&at, &n);
        STATUS_TRY(piece_read(out, sink, g, &t, id, text, n));
    }
    out->has_merges = t.merges != NULL;
    at = t.merges ? t.merges->data : NULL;
    for (size_t i = 0; t.merges && i < t.merges->n; i++) {
        text = gguf_string_next(&at, &n);
        STATUS_TRY(merge_read(sink, g, i, text, n));
    }
    return PALI_OK;
}

pali_status tokenizer_gguf_parse(tokenizer_traits *out, const tokenizer_sink *sink, const uint8_t *bytes, size_t n_bytes, const char *name) {
    gguf g;
    *out = (tokenizer_traits){0};
    STATUS_TRY(gguf_parse(&g, bytes, n_bytes, name));
    pali_status s = values_read(out, sink, &g);
    gguf_close(&g);
    return s;
}
