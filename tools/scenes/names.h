/* names.h: what a scene can show, and what it is called.
 *
 * Names of the emoji are those of the Unicode CLDR (annotations/en.xml, es.xml, fr.xml, type="tts", release 41 as in Debian's
 * unicode-cldr-core), in lower case; kinds were chosen whose names are short in all three languages. English plurals, and the
 * words for shapes and colours, are ours: CLDR has no word for most of these pairs. */
#ifndef SCENES_NAMES_H
#define SCENES_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum names_language { NAMES_EN, NAMES_ES, NAMES_FR, NAMES_LANGUAGES } names_language;

#define NAMES_KINDS 50u       /* emoji of the training and held-out splits */
#define NAMES_NOVEL_KINDS 10u /* behind them: emoji kept for learning something new */
#define NAMES_SHAPES 6u
#define NAMES_COLOURS 8u
#define NAMES_WORD_LETTERS 5u
#define NAMES_TEXT 48u /* bytes that hold any name */

typedef struct names_kind {
    uint32_t code_point;
    const char *plural, *name[NAMES_LANGUAGES];
} names_kind;

typedef struct names_shape {
    const char *plural, *name[NAMES_LANGUAGES];
    bool feminine[NAMES_LANGUAGES];
} names_shape;

typedef struct names_colour {
    uint8_t rgb[3];
    const char *name[NAMES_LANGUAGES], *feminine[NAMES_LANGUAGES];
} names_colour;

extern const names_kind names_kinds[NAMES_KINDS + NAMES_NOVEL_KINDS];
extern const names_shape names_shapes[NAMES_SHAPES];
extern const names_colour names_colours[NAMES_COLOURS];
extern const char *const names_words[];
extern const size_t names_n_words;

typedef enum thing_class { THING_EMOJI, THING_SHAPE, THING_WORD, THING_CLASSES } thing_class;

/* What an object is, wherever it lies. */
typedef struct thing {
    thing_class class;
    unsigned kind, colour; /* of names_kinds, or of names_shapes and names_colours; 0 otherwise */
    char word[NAMES_WORD_LETTERS + 1];
} thing;

/* The same name in a "detect" prompt: words are all called "word" there. */
bool thing_same(const thing *a, const thing *b);
/* "cat", "red circle", "word" */
void thing_name(char out[NAMES_TEXT], const thing *t);
/* As a caption says it: "chat", "cercle rouge", "le mot HAT". */
void thing_caption(char out[NAMES_TEXT], const thing *t, names_language language);
/* "cats", "red circles", "words" */
void thing_plural(char out[NAMES_TEXT], const thing *t);
/* What is called so in English; false: nothing is. */
bool thing_parse(thing *t, const char *name);
/* A number below THING_NUMBERS for each name; those of a class are side by side, from thing_first of it to that of the next. */
unsigned thing_number(const thing *t);
unsigned thing_first(thing_class c);
#define THING_NUMBERS (NAMES_KINDS + NAMES_NOVEL_KINDS + NAMES_SHAPES * NAMES_COLOURS + 1)
/* "a", "an" */
const char *names_article(const char *name);

extern const char *const names_and[NAMES_LANGUAGES];
extern const char *const names_code[NAMES_LANGUAGES];

#endif
