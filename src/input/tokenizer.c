/* tokenizer.c: building the tables, looking up, decoding. Encoding is bpe.c.
 *
 * Loading is all about memory touched: pieces go into one block of text, and merges are kept as hashes of their two texts
 * only, so that reading the file's 580,000 pairs needs no lookups at all. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "input/tokenizer_tables.h"

#define MARK "\xe2\x96\x81" /* U+2581, a space inside pieces */
#define REPLACEMENT "\xef\xbf\xbd"

uint64_t tokenizer_hash(const char *text, size_t n) {
    uint64_t h = 0x9e3779b97f4a7c15u ^ n, word;
    for (; n >= 8; n -= 8, text += 8) {
        memcpy(&word, text, 8);
        h = (h ^ word) * 0xff51afd7ed558ccdu;
        h ^= h >> 32;
    }
    word = 0;
    memcpy(&word, text, n);
    h = (h ^ word) * 0xc4ceb9fe1a85ec53u;
    h ^= h >> 29;
    h *= 0xff51afd7ed558ccdu;
    return h ^ h >> 32;
}

uint64_t tokenizer_hash_pair(uint64_t left, uint64_t right) {
    uint64_t h = left * 0x9e3779b97f4a7c15u + (right ^ right << 21);
    h ^= h >> 31;
    h *= 0xbf58476d1ce4e5b9u;
    h ^= h >> 29;
    return h ? h : 1;
}

uint32_t tokenizer_lookup(const tokenizer *t, const char *text, size_t n) {
    for (size_t slot = tokenizer_hash(text, n) & t->ids_mask;; slot = (slot + 1) & t->ids_mask) {
        uint32_t id = t->ids[slot];
        if (id == TOKENIZER_NO_ID) return id;
        const piece *p = &t->pieces[id];
        if (p->length == n && memcmp(t->text + p->offset, text, n) == 0) return id;
    }
}

uint32_t tokenizer_merge_rank(const tokenizer *t, uint64_t pair_hash) {
    if (!t->merge_keys) return UINT32_MAX;
    for (size_t slot = pair_hash & t->merges_mask;; slot = (slot + 1) & t->merges_mask) {
        if (t->merge_keys[slot] == pair_hash) return t->merge_ranks[slot];
        if (t->merge_keys[slot] == 0) return UINT32_MAX;
    }
}

/* ---- Building ---- */

static pali_status sink_piece(void *user, size_t id, const char *text, size_t n, float score, piece_kind kind) {
    tokenizer *t = user;
    if (n == 0) return PALI_OK; /* an empty piece can never be produced */
    if (id >= t->ids_cap) {
        size_t cap = t->ids_cap ? t->ids_cap : 4096;
        while (cap <= id) cap *= 2;
        piece *grown = mem_grow(t->pieces, t->ids_cap, cap, sizeof *grown);
        if (!grown) return status_no_memory(cap * sizeof *grown);
        memset(grown + t->ids_cap, 0, (cap - t->ids_cap) * sizeof *grown);
        t->pieces = grown;
        t->ids_cap = cap;
    }
    if (t->n_text + n + 1 > t->text_cap) {
        size_t cap = t->text_cap ? 2 * t->text_cap : 1 << 16;
        if (cap < t->n_text + n + 1) cap = t->n_text + n + 1;
        if (cap > UINT32_MAX) return status_fail(PALI_ERR_LIMIT, "tokenizer: more than 4 GiB of pieces");
        char *grown = mem_grow(t->text, t->n_text, cap, 1);
        if (!grown) return status_no_memory(cap);
        t->text = grown;
        t->text_cap = cap;
    }
    t->pieces[id] = (piece){.offset = (uint32_t)t->n_text, .length = (uint32_t)n, .score = score, .kind = (uint8_t)kind, .byte = -1};
    memcpy(t->text + t->n_text, text, n);
    t->text[t->n_text + n] = 0;
    t->n_text += n + 1;
    if (id >= t->n_ids) t->n_ids = id + 1;
    return PALI_OK;
}

/* Makes a table of at least `slots` (a power of two) and moves the old entries over. */
static pali_status merges_grow(tokenizer *t, size_t slots) {
    uint64_t *keys = mem_calloc(slots, sizeof *keys), *old_keys = t->merge_keys;
    uint32_t *ranks = mem_alloc(slots, sizeof *ranks), *old_ranks = t->merge_ranks;
    size_t old = old_keys ? t->merges_mask + 1 : 0;
    if (!keys || !ranks) {
        mem_free(keys);
        mem_free(ranks);
        return status_no_memory(slots * sizeof *keys);
    }
    for (size_t i = 0; i < old; i++) {
        if (!old_keys[i]) continue;
        size_t slot = old_keys[i] & (slots - 1);
        while (keys[slot]) slot = (slot + 1) & (slots - 1);
        keys[slot] = old_keys[i];
        ranks[slot] = old_ranks[i];
    }
    mem_free(old_keys);
    mem_free(old_ranks);
    t->merge_keys = keys;
    t->merge_ranks = ranks;
    t->merges_mask = slots - 1;
    return PALI_OK;
}

static pali_status sink_merge(void *user, const char *left, size_t n_left, const char *right, size_t n_right) {
    tokenizer *t = user;
    if (t->n_merges == TOKENIZER_MAX_MERGES) return status_fail(PALI_ERR_LIMIT, "tokenizer: more than %zu merges", TOKENIZER_MAX_MERGES);
    /* A quarter of a million pieces go with half a million merges: starting near the final size saves rehashing. */
    if (!t->merge_keys) {
        size_t slots = 1024;
        while (slots < 4 * t->n_ids) slots *= 2;
        STATUS_TRY(merges_grow(t, slots));
    }
    if (4 * t->n_merges >= 3 * t->merges_mask) STATUS_TRY(merges_grow(t, 2 * (t->merges_mask + 1)));
    uint64_t key = tokenizer_hash_pair(tokenizer_hash(left, n_left), tokenizer_hash(right, n_right));
    size_t slot = key & t->merges_mask;
    while (t->merge_keys[slot] && t->merge_keys[slot] != key) slot = (slot + 1) & t->merges_mask;
    t->merge_keys[slot] = key; /* a pair given twice has its last rank, as in the reference */
    t->merge_ranks[slot] = (uint32_t)t->n_merges++;
    return PALI_OK;
}

/* Value of a piece of the form <0xHH>, or -1. */
static int16_t byte_value(const char *text, size_t n) {
    if (n != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>') return -1;
    int value = 0;
    for (int i = 3; i < 5; i++) {
        char c = text[i];
        int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
        if (digit < 0) return -1;
        value = value * 16 + digit;
    }
    return (int16_t)value;
}

/* The text -> id table, byte pieces, and what the matcher of added pieces needs. */
static pali_status finish(tokenizer *t) {
    size_t slots = 1024;
    while (slots < 2 * t->n_ids) slots *= 2;
    t->ids = mem_alloc(slots, sizeof *t->ids);
    if (!t->ids) return status_no_memory(slots * sizeof *t->ids);
    memset(t->ids, 0xff, slots * sizeof *t->ids);
    memset(t->byte_ids, 0xff, sizeof t->byte_ids);
    t->ids_mask = slots - 1;
    for (size_t id = 0; id < t->n_ids; id++) {
        piece *p = &t->pieces[id];
        const char *text = t->text + p->offset;
        if (!p->length) continue;
        size_t slot = tokenizer_hash(text, p->length) & t->ids_mask;
        for (uint32_t other; (other = t->ids[slot]) != TOKENIZER_NO_ID; slot = (slot + 1) & t->ids_mask)
            if (t->pieces[other].length == p->length && memcmp(t->text + t->pieces[other].offset, text, p->length) == 0) break;
        t->ids[slot] = (uint32_t)id;
        p->byte = byte_value(text, p->length);
        if (p->byte >= 0) t->byte_ids[p->byte] = (uint32_t)id;
        if ((p->kind == PIECE_ADDED || p->kind == PIECE_SPECIAL) && p->length < TOKENIZER_MAX_ADDED_PIECE) {
            t->added_first[(unsigned char)text[0]] = 1;
            t->added_lengths[p->length] = 1;
            if (p->length > t->added_longest) t->added_longest = p->length;
        }
    }
    t->unk_id = tokenizer_lookup(t, t->traits.unk_piece, strlen(t->traits.unk_piece));
    return PALI_OK;
}

/* Number in a piece that is exactly prefix, so many digits, '>'; else -1. */
static int32_t number_in(const tokenizer *t, const piece *p, const char *prefix, size_t digits) {
    const char *text = t->text + p->offset;
    if (p->length != 4 + digits + 1 || memcmp(text, prefix, 4) != 0 || text[4 + digits] != '>' || strspn(text + 4, "0123456789") != digits) return -1;
    int32_t number = 0;
    for (size_t i = 0; i < digits; i++) number = 10 * number + (text[4 + i] - '0');
    return number;
}

static int32_t loc_number(const tokenizer *t, const piece *p) {
    return number_in(t, p, "<loc", 4);
}

static int32_t seg_number(const tokenizer *t, const piece *p) {
    return number_in(t, p, "<seg", 3);
}

/* loc and seg pieces are tokens whatever the file says of them: early files listed them as ordinary vocabulary (spec 4.3). */
static void mark_loc_seg(tokenizer *t) {
    for (size_t id = 0; id < t->n_ids; id++) {
        piece *p = &t->pieces[id];
        if (loc_number(t, p) >= 0 || seg_number(t, p) >= 0) p->kind = PIECE_ADDED;
    }
}

/* A SentencePiece model begins with field 1, byte 0x0a, which is also a newline: only JSON goes on with a brace. */
static tokenizer_kind kind_of(const uint8_t *bytes, size_t n_bytes) {
    size_t at = 0;
    while (at < n_bytes && (bytes[at] == ' ' || bytes[at] == '\n' || bytes[at] == '\r' || bytes[at] == '\t')) at++;
    if (at < n_bytes && bytes[at] == '{') return TOKENIZER_JSON;
    return gguf_is(bytes, n_bytes) ? TOKENIZER_GGUF : TOKENIZER_SPM;
}

pali_status tokenizer_file_kind(tokenizer_kind *out, const char *path) {
    file_map map;
    STATUS_TRY(file_map_open(&map, path));
    *out = kind_of(map.data, map.n_bytes);
    file_map_close(&map);
    return PALI_OK;
}

pali_status tokenizer_parse(tokenizer **out, const uint8_t *bytes, size_t n_bytes, const char *name) {
    tokenizer *t = mem_calloc(1, sizeof *t);
    *out = NULL;
    if (!t) return status_no_memory(sizeof *t);
    tokenizer_sink sink = {t, sink_piece, sink_merge};
    pali_status s = PALI_OK;
    switch (kind_of(bytes, n_bytes)) {
    case TOKENIZER_JSON: s = tokenizer_json_parse(&t->traits, &sink, bytes, n_bytes, name); break;
    case TOKENIZER_SPM: s = tokenizer_spm_parse(&t->traits, &sink, bytes, n_bytes, name); break;
    case TOKENIZER_GGUF: s = tokenizer_gguf_parse(&t->traits, &sink, bytes, n_bytes, name); break;
    }
    if (s == PALI_OK && t->n_ids == 0) s = status_fail(PALI_ERR_FORMAT, "%s: no pieces", name);
    if (s == PALI_OK) {
        mark_loc_seg(t);
        s = finish(t);
    }
    if (s != PALI_OK) {
        tokenizer_free(t);
        return s;
    }
    *out = t;
    return PALI_OK;
}

pali_status tokenizer_load(tokenizer **out, const char *path) {
    file_map map;
    *out = NULL;
    STATUS_TRY(file_map_open(&map, path));
    pali_status s = tokenizer_parse(out, map.data, map.n_bytes, path);
    file_map_close(&map);
    return s;
}

void tokenizer_free(tokenizer *t) {
    if (!t) return;
    mem_free(t->text);
    mem_free(t->pieces);
    mem_free(t->ids);
    mem_free(t->merge_keys);
    mem_free(t->merge_ranks);
    mem_free(t);
}

/* ---- Looking up ---- */

static const piece *piece_of(const tokenizer *t, int32_t id) {
    return id >= 0 && (size_t)id < t->n_ids && t->pieces[id].length ? &t->pieces[id] : NULL;
}

const char *tokenizer_piece(const tokenizer *t, int32_t id) {
    const piece *p = piece_of(t, id);
    return p ? t->text + p->offset : NULL;
}

size_t tokenizer_n_ids(const tokenizer *t) {
    return t->n_ids;
}

int32_t tokenizer_find(const tokenizer *t, const char *text) {
    uint32_t id = tokenizer_lookup(t, text, strlen(text));
    return id == TOKENIZER_NO_ID ? -1 : (int32_t)id;
}

bool tokenizer_is_special(const tokenizer *t, int32_t id) {
    const piece *p = piece_of(t, id);
    return p && p->kind == PIECE_SPECIAL;
}

int32_t tokenizer_loc_index(const tokenizer *t, int32_t id) {
    const piece *p = piece_of(t, id);
    int32_t index = p ? loc_number(t, p) : -1;
    return index < TOKENIZER_LOCS ? index : -1;
}

int32_t tokenizer_seg_code(const tokenizer *t, int32_t id) {
    const piece *p = piece_of(t, id);
    int32_t code = p ? seg_number(t, p) : -1;
    return code < TOKENIZER_SEGS ? code : -1;
}

int tokenizer_byte(const tokenizer *t, int32_t id) {
    const piece *p = piece_of(t, id);
    return p ? p->byte : -1;
}

/* ---- Decoding ---- */

void token_stream_init(token_stream *s, const tokenizer *t) {
    *s = (token_stream){.t = t};
}

void token_stream_free(token_stream *s) {
    mem_free(s->run);
    mem_free(s->text);
    *s = (token_stream){0};
}

static pali_status reserve(char **block, size_t *cap, size_t used, size_t need) {
    if (need <= *cap) return PALI_OK;
    size_t grown_cap = need + need / 2 + 64;
    char *grown = mem_grow(*block, used, grown_cap, 1);
    if (!grown) return status_no_memory(grown_cap);
    *block = grown;
    *cap = grown_cap;
    return PALI_OK;
}

size_t tokenizer_utf8_length(const char *text, size_t n) {
    const unsigned char *p = (const unsigned char *)text;
    if (n == 0) return 0;
    if (p[0] < 0x80) return 1;
    size_t need = p[0] >= 0xc2 && p[0] <= 0xdf ? 2 : p[0] >= 0xe0 && p[0] <= 0xef ? 3 : p[0] >= 0xf0 && p[0] <= 0xf4 ? 4 : 0;
    if (!need || n < need) return 0;
    for (size_t i = 1; i < need; i++)
        if ((p[i] & 0xc0) != 0x80) return 0;
    /* Overlong forms, surrogates, beyond U+10FFFF. */
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f)) return 0;
    return need;
}

static bool utf8_valid(const char *text, size_t n) {
    for (size_t i = 0, step; i < n; i += step)
        if ((step = tokenizer_utf8_length(text + i, n - i)) == 0) return false;
    return true;
}

/* Ends the run of byte tokens: its text if it is UTF-8, else one U+FFFD per byte. */
static pali_status run_flush(token_stream *s, size_t *n_text) {
    bool valid = utf8_valid(s->run, s->n_run);
    size_t n = valid ? s->n_run : 3 * s->n_run;
    STATUS_TRY(reserve(&s->text, &s->text_cap, *n_text, *n_text + n + 1));
    if (valid)
        memcpy(s->text + *n_text, s->run, n);
    else
        for (size_t i = 0; i < s->n_run; i++) memcpy(s->text + *n_text + 3 * i, REPLACEMENT, 3);
    *n_text += n;
    s->n_run = 0;
    return PALI_OK;
}

pali_status token_stream_push(token_stream *s, int32_t id, const char **out, size_t *out_n) {
    const piece *p = piece_of(s->t, id);
    size_t n = 0;
    *out = "";
    *out_n = 0;
    if (!p || p->kind == PIECE_SPECIAL) return PALI_OK;
    if (p->byte >= 0) {
        STATUS_TRY(reserve(&s->run, &s->run_cap, s->n_run, s->n_run + 1));
        s->run[s->n_run++] = (char)p->byte;
        return PALI_OK;
    }
    if (s->n_run) STATUS_TRY(run_flush(s, &n));
    STATUS_TRY(reserve(&s->text, &s->text_cap, n, n + p->length + 1));
    const char *text = s->t->text + p->offset;
    for (size_t i = 0; i < p->length;) {
        if (p->length - i >= 3 && memcmp(text + i, MARK, 3) == 0) {
            s->text[n++] = ' ';
            i += 3;
        } else {
            s->text[n++] = text[i++];
        }
    }
    s->text[n] = 0;
    *out = s->text;
    *out_n = n;
    return PALI_OK;
}

pali_status token_stream_finish(token_stream *s, const char **out, size_t *out_n) {
    *out = "";
    *out_n = 0;
    if (!s->n_run) return PALI_OK;
    STATUS_TRY(run_flush(s, out_n));
    s->text[*out_n] = 0;
    *out = s->text;
    return PALI_OK;
}

/* The same as streaming, collected. */
pali_status tokenizer_decode(const tokenizer *t, const int32_t *ids, size_t n, char **out_text, size_t *out_n_bytes) {
    token_stream s;
    char *text = NULL;
    size_t cap = 0, used = 0;
    pali_status status = reserve(&text, &cap, 0, 1);
    token_stream_init(&s, t);
    for (size_t i = 0; i <= n && status == PALI_OK; i++) {
        const char *part;
        size_t m;
        status = i < n ? token_stream_push(&s, ids[i], &part, &m) : token_stream_finish(&s, &part, &m);
        if (status == PALI_OK) status = reserve(&text, &cap, used, used + m + 1);
        if (status == PALI_OK && m) memcpy(text + used, part, m);
        if (status == PALI_OK) used += m;
    }
    token_stream_free(&s);
    if (status != PALI_OK) {
        mem_free(text);
        text = NULL;
    } else {
        text[used] = 0;
    }
    *out_text = text;
    *out_n_bytes = used;
    return status;
}
