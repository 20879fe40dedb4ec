#include "question.h"

#include <stdio.h>

const char *const question_names[QUESTION_LEFT + 1] = {"leftmost", "rightmost", "what", "colour", "shape", "objects", "count", "present", "neighbour", "order", "word", "order"};

thing scene_absent(const scene *s, const scene_rules *rules, rng *r) {
    thing t;
    do {
        t = (thing){.class = rng_chance(r, 0.08) ? THING_WORD : rng_chance(r, 0.3) ? THING_SHAPE : THING_EMOJI};
        const thing *seen = &s->object[rng_below(r, s->n)].what;
        if (t.class == THING_EMOJI)
            t.kind = rules->first_kind + rng_below(r, rules->n_kinds);
        else if (t.class == THING_SHAPE)
            t.kind = seen->class == THING_SHAPE && rng_chance(r, 0.7) ? seen->kind : rng_below(r, NAMES_SHAPES);
        if (t.class == THING_SHAPE) t.colour = rng_below(r, NAMES_COLOURS);
    } while (scene_count(s, &t, NULL));
    return t;
}

/* One of the objects that are no words and whose name no other object has; its index, or s->n. */
static unsigned unique_choose(const scene *s, rng *r) {
    unsigned found[SCENE_OBJECTS], n = 0;
    for (unsigned i = 0; i < s->n; i++)
        if (s->object[i].what.class != THING_WORD && scene_count(s, &s->object[i].what, NULL) == 1) found[n++] = i;
    return n ? found[rng_below(r, n)] : s->n;
}

/* Of a word that is asked for by its place, the answer is the word. */
static void answer_thing(question *q, const thing *t) {
    if (t->class == THING_WORD)
        (void)snprintf(q->answer, NAMES_TEXT, "%s", t->word);
    else
        thing_name(q->answer, t);
}

static void answer_set(question *q, const char *answer) {
    (void)snprintf(q->answer, NAMES_TEXT, "%s", answer);
}

/* The colour of the only star, or the shape of the only red one. */
static bool ask_shape(question *q, question_kind kind, const scene *s, rng *r) {
    unsigned found[SCENE_OBJECTS], n = 0;
    for (unsigned i = 0; i < s->n; i++) {
        const thing *t = &s->object[i].what;
        unsigned same = 0;
        if (t->class != THING_SHAPE) continue;
        for (unsigned j = 0; j < s->n; j++) {
            const thing *u = &s->object[j].what;
            same += u->class == THING_SHAPE && (kind == QUESTION_COLOUR ? u->kind == t->kind : u->colour == t->colour);
        }
        if (same == 1) found[n++] = i;
    }
    if (n == 0) return false;
    const thing *t = &s->object[found[rng_below(r, n)]].what;
    const char *shape = names_shapes[t->kind].name[NAMES_EN], *colour = names_colours[t->colour].name[NAMES_EN];
    (void)snprintf(q->text, QUESTION_TEXT, kind == QUESTION_COLOUR ? "what colour is the %s?" : "what shape is %s?", kind == QUESTION_COLOUR ? shape : colour);
    answer_set(q, kind == QUESTION_COLOUR ? colour : shape);
    return true;
}

static void ask_count(question *q, const scene *s, const scene_rules *rules, rng *r) {
    const thing t = rng_chance(r, 0.12) ? scene_absent(s, rules, r) : s->object[rng_below(r, s->n)].what;
    char plural[NAMES_TEXT];
    thing_plural(plural, &t);
    (void)snprintf(q->text, QUESTION_TEXT, "how many %s are there?", plural);
    (void)snprintf(q->answer, NAMES_TEXT, "%u", scene_count(s, &t, NULL));
}

static void ask_present(question *q, const scene *s, const scene_rules *rules, rng *r) {
    const bool yes = rng_chance(r, 0.5);
    const thing t = yes ? s->object[rng_below(r, s->n)].what : scene_absent(s, rules, r);
    char name[NAMES_TEXT];
    thing_name(name, &t);
    (void)snprintf(q->text, QUESTION_TEXT, "is there %s %s?", names_article(name), name);
    answer_set(q, yes ? "yes" : "no");
}

/* Only where exactly one object lies on that side. */
static bool ask_neighbour(question *q, const scene *s, rng *r) {
    const bool left = rng_chance(r, 0.5);
    if (s->n < 2) return false;
    const unsigned from = left ? 1 : s->n - 2, at = left ? 0 : s->n - 1;
    const thing *t = &s->object[from].what;
    char name[NAMES_TEXT];
    if (t->class == THING_WORD || scene_count(s, t, NULL) != 1) return false;
    thing_name(name, t);
    (void)snprintf(q->text, QUESTION_TEXT, "what is %s of the %s?", left ? "left" : "right", name);
    answer_thing(q, &s->object[at].what);
    return true;
}

static bool ask_order(question *q, const scene *s, bool always_left, rng *r) {
    const unsigned i = unique_choose(s, r), j = unique_choose(s, r);
    if (i == j) return false; /* also where there is none */
    const bool left = rng_chance(r, 0.5) || always_left;
    char a[NAMES_TEXT], b[NAMES_TEXT];
    thing_name(a, &s->object[i].what);
    thing_name(b, &s->object[j].what);
    (void)snprintf(q->text, QUESTION_TEXT, "is the %s %s of the %s?", a, left ? "left" : "right", b);
    answer_set(q, left == (i < j) ? "yes" : "no");
    return true;
}

static bool ask_word(question *q, const scene *s) {
    const thing word = {.class = THING_WORD};
    unsigned at = 0;
    if (scene_count(s, &word, &at) != 1) return false;
    (void)snprintf(q->text, QUESTION_TEXT, "what word is written?");
    answer_set(q, s->object[at].what.word);
    return true;
}

static bool ask_end(question *q, question_kind kind, const scene *s) {
    if ((kind == QUESTION_WHAT) != (s->n == 1)) return false;
    (void)snprintf(q->text, QUESTION_TEXT, "what is %s?", kind == QUESTION_WHAT ? "in the picture" : kind == QUESTION_LEFTMOST ? "on the left" : "on the right");
    answer_thing(q, &s->object[kind == QUESTION_RIGHTMOST ? s->n - 1 : 0].what);
    return true;
}

bool question_make(question *q, question_kind kind, const scene *s, const scene_rules *rules, rng *r) {
    switch (kind) {
    case QUESTION_LEFTMOST:
    case QUESTION_RIGHTMOST:
    case QUESTION_WHAT: return ask_end(q, kind, s);
    case QUESTION_COLOUR:
    case QUESTION_SHAPE: return ask_shape(q, kind, s, r);
    case QUESTION_OBJECTS:
        (void)snprintf(q->text, QUESTION_TEXT, "how many objects are there?");
        (void)snprintf(q->answer, NAMES_TEXT, "%u", s->n);
        return true;
    case QUESTION_COUNT: ask_count(q, s, rules, r); return true;
    case QUESTION_PRESENT: ask_present(q, s, rules, r); return true;
    case QUESTION_NEIGHBOUR: return ask_neighbour(q, s, r);
    case QUESTION_ORDER:
    case QUESTION_LEFT: return ask_order(q, s, kind == QUESTION_LEFT, r);
    default: return ask_word(q, s);
    }
}
