/* question.h: what can be asked about a scene, with one right answer of one or two words. */
#ifndef SCENES_QUESTION_H
#define SCENES_QUESTION_H

#include "scene.h"

typedef enum question_kind {
    QUESTION_LEFTMOST,   /* what is on the left? */
    QUESTION_RIGHTMOST,  /* what is on the right? */
    QUESTION_WHAT,       /* what is in the picture? (one object) */
    QUESTION_COLOUR,     /* what colour is the star? */
    QUESTION_SHAPE,      /* what shape is red? */
    QUESTION_OBJECTS,    /* how many objects are there? */
    QUESTION_COUNT,      /* how many cats are there? */
    QUESTION_PRESENT,    /* is there a cat? */
    QUESTION_NEIGHBOUR,  /* what is left of the cat? */
    QUESTION_ORDER,      /* is the cat left of the dog? */
    QUESTION_WORD,       /* what word is written? */
    QUESTION_KINDS,
    QUESTION_LEFT = QUESTION_KINDS /* is the cat left of the dog?, never right: not a kind of its own, for training alone */
} question_kind;

extern const char *const question_names[QUESTION_LEFT + 1];

#define QUESTION_TEXT 160u

typedef struct question {
    char text[QUESTION_TEXT], answer[NAMES_TEXT];
} question;

/* False: nothing unambiguous of that kind can be asked about this scene. */
bool question_make(question *q, question_kind kind, const scene *s, const scene_rules *rules, rng *r);

/* Something that is not in the scene: often the shape of one that is, in another colour. */
thing scene_absent(const scene *s, const scene_rules *rules, rng *r);

#endif
