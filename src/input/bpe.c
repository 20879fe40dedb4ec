/* bpe.c: text -> ids (spec inference 4.2, 4.3).
 *
 *   text -> spaces become U+2581 -> cut at added pieces (leftmost, longest) -> each stretch by BPE:
 *   characters -> merge the best adjacent pair, again and again -> what is no piece becomes bytes
 *
 * Nothing but added pieces cuts the text, so a stretch can be a megabyte: pairs wait in a heap, symbols in a linked list,
 * n log n. tokenizer.json ranks pairs by their place in the list of merges, tokenizer.model by the score of the result;
 * ties go to the leftmost. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "input/tokenizer_tables.h"

#define BPE_MAX_BYTES ((size_t)1 << 30)

typedef struct symbol {
    uint32_t begin, length; /* in the text; length 0: merged away */
    uint32_t id;            /* TOKENIZER_NO_ID: no piece (yet) */
    uint32_t prev, next;    /* UINT32_MAX: none */
} symbol;

typedef struct candidate {
    double cost; /* rank, or minus the score: the least comes first */
    uint32_t left, length, id; /* symbol, length of the merged text, id of the merged piece */
} candidate;

typedef struct encoder {
    const tokenizer *t;
    const char *text;    /* the stretch being encoded */
    symbol *symbols;
    candidate *heap;
    size_t n_heap, heap_cap;
    uint32_t *splits;    /* [ids] length of the left half an UNUSED piece was last made of; NULL: none yet */
    int32_t *ids;        /* the answer */
    size_t n_ids, ids_cap;
} encoder;

static pali_status emit(encoder *e, uint32_t id) {
    if (e->n_ids == e->ids_cap) {
        size_t cap = e->ids_cap ? 2 * e->ids_cap : 64;
        int32_t *grown = mem_grow(e->ids, e->n_ids, cap, sizeof *grown);
        if (!grown) return status_no_memory(cap * sizeof *grown);
        e->ids = grown;
        e->ids_cap = cap;
    }
    e->ids[e->n_ids++] = (int32_t)id;
    return PALI_OK;
}

/* ---- The heap ---- */

static bool before(const candidate *a, const candidate *b) {
    return a->cost < b->cost || (a->cost <= b->cost && a->left < b->left);
}

static pali_status heap_push(encoder *e, candidate c) {
    if (e->n_heap == e->heap_cap) {
        size_t cap = e->heap_cap ? 2 * e->heap_cap : 64;
        candidate *grown = mem_grow(e->heap, e->n_heap, cap, sizeof *grown);
        if (!grown) return status_no_memory(cap * sizeof *grown);
        e->heap = grown;
        e->heap_cap = cap;
    }
    size_t at = e->n_heap++;
    for (; at > 0 && before(&c, &e->heap[(at - 1) / 2]); at = (at - 1) / 2) e->heap[at] = e->heap[(at - 1) / 2];
    e->heap[at] = c;
    return PALI_OK;
}

static candidate heap_pop(encoder *e) {
    candidate top = e->heap[0], last = e->heap[--e->n_heap];
    size_t at = 0;
    for (size_t child; (child = 2 * at + 1) < e->n_heap; at = child) {
        if (child + 1 < e->n_heap && before(&e->heap[child + 1], &e->heap[child])) child++;
        if (!before(&e->heap[child], &last)) break;
        e->heap[at] = e->heap[child];
    }
    if (e->n_heap) e->heap[at] = last;
    return top;
}

/* ---- One stretch ---- */

/* Only symbols with a piece merge; characters that fall back to bytes become them after all merging is done. */
static uint64_t symbol_hash(const encoder *e, const symbol *s) {
    const piece *p = &e->t->pieces[s->id];
    return tokenizer_hash(e->t->text + p->offset, p->length);
}

static uint32_t pair_rank(const encoder *e, const symbol *a, const symbol *b) {
    if (a->id == TOKENIZER_NO_ID || b->id == TOKENIZER_NO_ID) return UINT32_MAX;
    return tokenizer_merge_rank(e->t, tokenizer_hash_pair(symbol_hash(e, a), symbol_hash(e, b)));
}

/* Queues the pair (left, its successor) if it can be merged. */
static pali_status consider(encoder *e, uint32_t left) {
    const tokenizer *t = e->t;
    if (left == UINT32_MAX || e->symbols[left].next == UINT32_MAX) return PALI_OK;
    const symbol *a = &e->symbols[left], *b = &e->symbols[a->next];
    candidate c = {.left = left, .length = a->length + b->length};
    if (c.length > TOKENIZER_MAX_PIECE) return PALI_OK;
    if (t->traits.has_merges) {
        uint32_t rank = pair_rank(e, a, b);
        if (rank == UINT32_MAX) return PALI_OK;
        c.cost = rank;
        c.id = tokenizer_lookup(t, e->text + a->begin, c.length);
        if (c.id == TOKENIZER_NO_ID) return PALI_OK;
    } else {
        c.id = tokenizer_lookup(t, e->text + a->begin, c.length);
        if (c.id == TOKENIZER_NO_ID || t->pieces[c.id].kind == PIECE_SPECIAL || t->pieces[c.id].byte >= 0) return PALI_OK;
        c.cost = -(double)t->pieces[c.id].score;
        if (t->pieces[c.id].kind == PIECE_UNUSED) {
            if (!e->splits && !(e->splits = mem_calloc(t->n_ids, sizeof *e->splits))) return status_no_memory(t->n_ids * sizeof *e->splits);
            e->splits[c.id] = a->length;
        }
    }
    return heap_push(e, c);
}

/* A character as a symbol: its piece, else later its bytes. Only ordinary pieces come from text. */
static uint32_t character_id(const tokenizer *t, const char *text, size_t n) {
    uint32_t id = tokenizer_lookup(t, text, n);
    if (id == TOKENIZER_NO_ID || t->pieces[id].kind == PIECE_SPECIAL || t->pieces[id].byte >= 0) return TOKENIZER_NO_ID;
    return id;
}

/* A symbol without a piece: its bytes where all have pieces, else unknown; unknowns in a row are one. */
static pali_status emit_fallback(encoder *e, const char *text, size_t n, bool *after_unk) {
    const tokenizer *t = e->t;
    bool bytes = t->traits.byte_fallback;
    for (size_t i = 0; i < n && bytes; i++) bytes = t->byte_ids[(unsigned char)text[i]] != TOKENIZER_NO_ID;
    if (bytes) {
        *after_unk = false;
        for (size_t i = 0; i < n; i++) STATUS_TRY(emit(e, t->byte_ids[(unsigned char)text[i]]));
        return PALI_OK;
    }
    if (!*after_unk && t->unk_id != TOKENIZER_NO_ID) STATUS_TRY(emit(e, t->unk_id));
    *after_unk = true;
    return PALI_OK;
}

/* A piece of type UNUSED served as a step of merging only: it is split where it was last put together. Each half is shorter,
 * so the recursion ends, at the latest after TOKENIZER_MAX_PIECE steps. */
static pali_status emit_symbol(encoder *e, const char *text, size_t n, uint32_t id, bool *after_unk) {
    if (id == TOKENIZER_NO_ID) return emit_fallback(e, text, n, after_unk);
    uint32_t left = e->splits ? e->splits[id] : 0;
    if (e->t->pieces[id].kind == PIECE_UNUSED && left > 0 && left < n) {
        STATUS_TRY(emit_symbol(e, text, left, tokenizer_lookup(e->t, text, left), after_unk));
        return emit_symbol(e, text + left, n - left, tokenizer_lookup(e->t, text + left, n - left), after_unk);
    }
    *after_unk = false;
    return emit(e, id);
}

static pali_status stretch_encode(encoder *e, const char *text, size_t n) {
    size_t n_symbols = 0;
    e->text = text;
    e->n_heap = 0;
    if (n == 0) return PALI_OK;
    for (size_t i = 0, step; i < n; i += step, n_symbols++) {
        step = tokenizer_utf8_length(text + i, n - i);
        e->symbols[n_symbols] = (symbol){.begin = (uint32_t)i, .length = (uint32_t)step, .id = character_id(e->t, text + i, step),
                                         .prev = n_symbols ? (uint32_t)n_symbols - 1 : UINT32_MAX, .next = (uint32_t)n_symbols + 1};
    }
    e->symbols[n_symbols - 1].next = UINT32_MAX;
    for (size_t i = 0; i + 1 < n_symbols; i++) STATUS_TRY(consider(e, (uint32_t)i));
    while (e->n_heap) {
        candidate c = heap_pop(e);
        symbol *a = &e->symbols[c.left];
        /* Stale if either half was merged meanwhile: then the lengths do not add up, or there is no such pair. */
        if (a->length == 0 || a->next == UINT32_MAX || a->length + e->symbols[a->next].length != c.length) continue;
        symbol *b = &e->symbols[a->next];
        if (e->t->traits.has_merges && pair_rank(e, a, b) == UINT32_MAX) continue;
        a->length = c.length;
        a->id = c.id;
        a->next = b->next;
        b->length = 0;
        if (a->next != UINT32_MAX) e->symbols[a->next].prev = c.left;
        STATUS_TRY(consider(e, a->prev));
        STATUS_TRY(consider(e, c.left));
    }
    bool after_unk = false;
    for (uint32_t i = 0; i != UINT32_MAX; i = e->symbols[i].next) {
        const symbol *s = &e->symbols[i];
        STATUS_TRY(emit_symbol(e, text + s->begin, s->length, s->id, &after_unk));
    }
    return PALI_OK;
}

/* ---- The whole text ---- */

/* The longest added piece at the start of text, or TOKENIZER_NO_ID. */
static uint32_t added_match(const tokenizer *t, const char *text, size_t n, uint32_t flags) {
    if (!t->added_first[(unsigned char)text[0]]) return TOKENIZER_NO_ID;
    for (size_t length = n < t->added_longest ? n : t->added_longest; length > 0; length--) {
        if (!t->added_lengths[length]) continue;
        uint32_t id = tokenizer_lookup(t, text, length);
        if (id == TOKENIZER_NO_ID) continue;
        if (t->pieces[id].kind == PIECE_ADDED || (t->pieces[id].kind == PIECE_SPECIAL && (flags & TOKENIZER_SPECIAL))) return id;
    }
    return TOKENIZER_NO_ID;
}

static pali_status pieces_encode(encoder *e, const char *text, size_t n, uint32_t flags) {
    size_t begin = 0;
    for (size_t i = 0; i < n;) {
        uint32_t id = added_match(e->t, text + i, n - i, flags);
        if (id == TOKENIZER_NO_ID) {
            i += tokenizer_utf8_length(text + i, n - i);
            continue;
        }
        STATUS_TRY(stretch_encode(e, text + begin, i - begin));
        STATUS_TRY(emit(e, id));
        i += e->t->pieces[id].length;
        begin = i;
    }
    return stretch_encode(e, text + begin, n - begin);
}

/* A copy with spaces escaped, checked to be UTF-8. */
static pali_status normalize(const tokenizer *t, char **out, size_t *out_n, const char *text, size_t n) {
    size_t spaces = 0, at = 0;
    *out = NULL;
    if (n > BPE_MAX_BYTES) return status_fail(PALI_ERR_LIMIT, "text: %zu bytes, more than the limit of %zu", n, BPE_MAX_BYTES);
    for (size_t i = 0, step; i < n; i += step) {
        step = tokenizer_utf8_length(text + i, n - i);
        if (!step) return status_fail(PALI_ERR_FORMAT, "text: byte %zu: not UTF-8", i);
        spaces += text[i] == ' ';
    }
    char *copy = mem_alloc(n + 2 * spaces + 1, 1);
    if (!copy) return status_no_memory(n + 2 * spaces + 1);
    for (size_t i = 0; i < n; i++) {
        if (text[i] == ' ' && t->traits.escapes_spaces) {
            memcpy(copy + at, "\xe2\x96\x81", 3);
            at += 3;
        } else {
            copy[at++] = text[i];
        }
    }
    *out = copy;
    *out_n = at;
    return PALI_OK;
}

pali_status tokenizer_encode(const tokenizer *t, const char *text, size_t n_bytes, uint32_t flags, int32_t **out_ids, size_t *out_n) {
    encoder e = {.t = t};
    char *copy;
    size_t n = 0;
    *out_ids = NULL;
    *out_n = 0;
    STATUS_TRY(normalize(t, &copy, &n, text, n_bytes));
    e.symbols = mem_alloc(n + 1, sizeof *e.symbols);
    pali_status s = e.symbols ? PALI_OK : status_no_memory(n * sizeof *e.symbols);
    if (s == PALI_OK) s = pieces_encode(&e, copy, n, flags);
    if (s == PALI_OK && !e.ids && !(e.ids = mem_alloc(1, sizeof *e.ids))) s = status_no_memory(sizeof *e.ids);
    mem_free(copy);
    mem_free(e.symbols);
    mem_free(e.splits);
    mem_free(e.heap);
    if (s != PALI_OK) {
        mem_free(e.ids);
        return s;
    }
    *out_ids = e.ids;
    *out_n = e.n_ids;
    return PALI_OK;
}
