/* grammar.h: which tokens may come next in an answer that is to name objects and nothing else (spec inference 6.1).
 *
 *   answer  = end | object { separator object } end
 *   object  = y0 x0 y1 x1 label               detect;  y1 > y0 and x1 > x0, so that no box is without an area
 *           | y0 x0 y1 x1 16 codes [label]    segment; the referring task has no labels
 *   label   = text and spaces, not spaces alone
 *
 * Every token of the vocabulary has a mark: what it is to the grammar and, of a location, which one. What may follow is then a
 * set of marks, a sampler_filter. It also knows how many tokens are left: an object that could not be ended within them is
 * not begun, so that no answer stops half-way through one. */
#ifndef PALI_INFER_GRAMMAR_H
#define PALI_INFER_GRAMMAR_H

#include "infer/sampler.h"
#include "input/tokenizer.h"

typedef struct grammar {
    uint16_t *marks; /* [V]: a bit for what it is, the location's index above; 0: never part of an answer */
    size_t vocab;
    size_t first, n; /* the ids of all locations and codes lie in [first, first + n) */
} grammar;

/* Marks of a vocabulary. A tokenizer that lacks what answers are made of is an error. */
pali_status grammar_init(grammar *g, const tokenizer *t, size_t vocab);
void grammar_free(grammar *g);

/* Where an answer stands; zeros: at its beginning. */
typedef struct grammar_state {
    uint8_t place, n;   /* n: locations or codes of this object so far */
    uint16_t corner[2]; /* y0, x0 of the box at hand */
} grammar_state;

/* The tokens that may follow while n_left >= 1 can, such that an answer is complete when none is left. Not empty if n_left was
 * at least grammar_object_tokens at the beginning. */
sampler_filter grammar_filter(const grammar *g, pali_constraint c, const grammar_state *s, size_t n_left);
/* Whether the set is one of locations or of codes: most tokens of an answer are. */
bool grammar_is_codes(const sampler_filter *f);
/* Takes a token of that set; false, and no change, for one outside (of whatever number). */
bool grammar_take(const grammar *g, pali_constraint c, grammar_state *s, int32_t token);
/* Whether the tokens so far are a whole answer, but perhaps for its end token. */
bool grammar_complete(pali_constraint c, const grammar_state *s);
/* Tokens of the shortest object. */
size_t grammar_object_tokens(pali_constraint c);

#endif
