#include "infer/grammar.h"

#include "base/mem.h"
#include "infer/token_class.h"

/* Marks: one of these bits, and above them the index of a location. */
enum { LOC = 1, SEG = 2, END = 4, SEPARATOR = 8, SPACE = 16, TEXT = 32, N_SYMBOLS = 6, INDEX_SHIFT = 6 };
enum { N_LOCS = 4, N_CODES = 16 };

typedef enum place {
    BEGIN,
    BOX,       /* n locations, 1 to 3 */
    CODES,     /* n codes, 0 to 15 */
    BOXED,     /* all of an object but its label */
    LABEL,
    SEPARATED, /* behind a separator */
    SPACED,    /* and a space */
    ENDED,
    NOWHERE
} place;

/* What a symbol leads to; BOX and CODES last for several. A separator may have spaces in its own token, before it (the label's)
 * and one after it: " ; " is "_;" "_" in Gemma's vocabulary. */
static const uint8_t k_next[][N_SYMBOLS] = {
    /*               location  code     end      separator  space    text  */
    [BEGIN] =       {BOX,      NOWHERE, ENDED,   NOWHERE,   NOWHERE, NOWHERE},
    [BOX] =         {BOX,      NOWHERE, NOWHERE, NOWHERE,   NOWHERE, NOWHERE},
    [CODES] =       {NOWHERE,  CODES,   NOWHERE, NOWHERE,   NOWHERE, NOWHERE},
    [BOXED] =       {NOWHERE,  NOWHERE, ENDED,   SEPARATED, BOXED,   LABEL},
    [LABEL] =       {NOWHERE,  NOWHERE, ENDED,   SEPARATED, LABEL,   LABEL},
    [SEPARATED] =   {BOX,      NOWHERE, NOWHERE, NOWHERE,   SPACED,  NOWHERE},
    [SPACED] =      {BOX,      NOWHERE, NOWHERE, NOWHERE,   NOWHERE, NOWHERE},
    [ENDED] =       {NOWHERE,  NOWHERE, NOWHERE, NOWHERE,   NOWHERE, NOWHERE},
};

/* ---- Marks ---- */

/* A token with text is one symbol or none: what holds a control character, such as a newline, or text beside a ";" is none. */
static uint16_t mark_of(const tokenizer *t, int32_t id) {
    unsigned class = token_class(t, id);
    if (class & TOKEN_LOC) return (uint16_t)(LOC | tokenizer_loc_index(t, id) << INDEX_SHIFT);
    if (class & TOKEN_SEG) return SEG;
    if (class & TOKEN_END) return END;
    if (class & (TOKEN_CONTROL | TOKEN_TAIL)) return 0;
    if (class & TOKEN_SEMICOLON) return class & TOKEN_TEXT ? 0 : SEPARATOR;
    return class & TOKEN_TEXT ? TEXT : class & TOKEN_BLANK ? SPACE : 0;
}

pali_status grammar_init(grammar *g, const tokenizer *t, size_t vocab) {
    *g = (grammar){.marks = mem_alloc(vocab, sizeof *g->marks), .vocab = vocab, .first = vocab};
    if (!g->marks) return status_no_memory(vocab * sizeof *g->marks);
    const uint16_t first = LOC, last = LOC | (TOKENIZER_LOCS - 1) << INDEX_SHIFT;
    unsigned found = 0;
    bool has_first = false, has_last = false;
    for (size_t id = 0; id < vocab; id++) {
        uint16_t mark = g->marks[id] = mark_of(t, (int32_t)id);
        found |= mark;
        if (mark & (LOC | SEG)) {
            if (g->first == vocab) g->first = id;
            g->n = id + 1 - g->first;
        }
        has_first |= mark == first;
        has_last |= mark == last;
    }
    const unsigned wanted = SEG | END | SEPARATOR | TEXT;
    if (has_first && has_last && (found & wanted) == wanted) return PALI_OK; /* with these no place is a dead end */
    grammar_free(g);
    return status_fail(PALI_ERR_UNSUPPORTED, "constrain: the tokenizer lacks location, segmentation, end or separator tokens");
}

void grammar_free(grammar *g) {
    mem_free(g->marks);
    *g = (grammar){0};
}

/* ---- The automaton ---- */

static place boxed(pali_constraint c) {
    return c == PALI_CONSTRAIN_SEGMENT ? CODES : BOXED;
}

/* The place behind a symbol. */
static place next_place(pali_constraint c, const grammar_state *s, unsigned symbol) {
    place next = k_next[s->place][__builtin_ctz(symbol)];
    if (s->place == BOX && next == BOX && s->n + 1 == N_LOCS) return boxed(c);
    if (s->place == CODES && next == CODES && s->n + 1 == N_CODES) return BOXED;
    if (s->place == BOXED && c == PALI_CONSTRAIN_DETECT && (next == ENDED || next == SEPARATED)) return NOWHERE; /* no label yet */
    return next;
}

static grammar_state advance(pali_constraint c, const grammar_state *s, uint16_t mark) {
    unsigned symbol = mark & ((1u << N_SYMBOLS) - 1), n = s->place == BOX || s->place == CODES ? s->n + 1u : 1; /* with this one */
    grammar_state to = *s;
    to.place = (uint8_t)next_place(c, s, symbol);
    to.n = to.place == BOX || (to.place == CODES && s->place == CODES) ? (uint8_t)n : 0;
    if (symbol == LOC && n <= 2) to.corner[n - 1] = (uint16_t)(mark >> INDEX_SHIFT);
    return to;
}

/* Tokens to the nearest whole answer. */
static size_t distance(pali_constraint c, const grammar_state *s) {
    size_t label = c == PALI_CONSTRAIN_DETECT, codes = c == PALI_CONSTRAIN_SEGMENT ? N_CODES : 0;
    switch ((place)s->place) {
    case BOX: return N_LOCS - s->n + codes + label;
    case CODES: return (size_t)(N_CODES - s->n) + label;
    case BOXED: return label;
    case SEPARATED:
    case SPACED: return N_LOCS + codes + label;
    default: return 0;
    }
}

size_t grammar_object_tokens(pali_constraint c) {
    return distance(c, &(grammar_state){.place = SEPARATED});
}

bool grammar_complete(pali_constraint c, const grammar_state *s) {
    return distance(c, s) == 0;
}

sampler_filter grammar_filter(const grammar *g, pali_constraint c, const grammar_state *s, size_t n_left) {
    sampler_filter f = {.marks = g->marks, .high = UINT16_MAX};
    for (unsigned symbol = 1; symbol < 1u << N_SYMBOLS; symbol <<= 1) {
        grammar_state to = advance(c, s, (uint16_t)symbol);
        if (to.place != NOWHERE && n_left > distance(c, &to)) f.bits |= (uint16_t)symbol;
    }
    size_t n = s->place == BOX ? s->n : 0; /* locations before this one */
    if (f.bits & LOC && n < 2) f.high = (uint16_t)((TOKENIZER_LOCS - 1) << INDEX_SHIFT); /* leaves room for the other corner */
    if (f.bits & LOC && n >= 2) f.low = (uint16_t)((s->corner[n - 2] + 1) << INDEX_SHIFT);
    return f;
}

bool grammar_is_codes(const sampler_filter *f) {
    return f->bits && !(f->bits & ~(LOC | SEG));
}

bool grammar_take(const grammar *g, pali_constraint c, grammar_state *s, int32_t token) {
    sampler_filter f = grammar_filter(g, c, s, SIZE_MAX);
    if (token < 0 || (size_t)token >= g->vocab || !sampler_passes(&f, (size_t)token)) return false;
    *s = advance(c, s, g->marks[token]);
    return true;
}
