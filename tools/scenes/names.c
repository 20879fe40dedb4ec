#include "names.h"

#include <stdio.h>
#include <string.h>

const names_kind names_kinds[NAMES_KINDS + NAMES_NOVEL_KINDS] = {
    {0x1f408, "cats", {"cat", "gato", "chat"}},
    {0x1f415, "dogs", {"dog", "perro", "chien"}},
    {0x1f40e, "horses", {"horse", "caballo", "cheval"}},
    {0x1f416, "pigs", {"pig", "cerdo", "cochon"}},
    {0x1f418, "elephants", {"elephant", "elefante", "éléphant"}},
    {0x1f422, "turtles", {"turtle", "tortuga", "tortue"}},
    {0x1f41f, "fish", {"fish", "pez", "poisson"}},
    {0x1f427, "penguins", {"penguin", "pingüino", "pingouin"}},
    {0x1f989, "owls", {"owl", "búho", "chouette"}},
    {0x1f98b, "butterflies", {"butterfly", "mariposa", "papillon"}},
    {0x1f40c, "snails", {"snail", "caracol", "escargot"}},
    {0x1f419, "octopuses", {"octopus", "pulpo", "pieuvre"}},
    {0x1f40d, "snakes", {"snake", "serpiente", "serpent"}},
    {0x1f438, "frogs", {"frog", "rana", "grenouille"}},
    {0x1f980, "crabs", {"crab", "cangrejo", "crabe"}},
    {0x1f992, "giraffes", {"giraffe", "jirafa", "girafe"}},
    {0x1f413, "roosters", {"rooster", "gallo", "coq"}},
    {0x1f43c, "pandas", {"panda", "panda", "panda"}},
    {0x1f34c, "bananas", {"banana", "plátano", "banane"}},
    {0x1f34d, "pineapples", {"pineapple", "piña", "ananas"}},
    {0x1f353, "strawberries", {"strawberry", "fresa", "fraise"}},
    {0x1f34b, "lemons", {"lemon", "limón", "citron"}},
    {0x1f349, "watermelons", {"watermelon", "sandía", "pastèque"}},
    {0x1f955, "carrots", {"carrot", "zanahoria", "carotte"}},
    {0x1f344, "mushrooms", {"mushroom", "champiñón", "champignon"}},
    {0x1f355, "pizzas", {"pizza", "pizza", "pizza"}},
    {0x1f354, "hamburgers", {"hamburger", "hamburguesa", "hamburger"}},
    {0x1f369, "doughnuts", {"doughnut", "dónut", "doughnut"}},
    {0x1f3b8, "guitars", {"guitar", "guitarra", "guitare"}},
    {0x1f3ba, "trumpets", {"trumpet", "trompeta", "trompette"}},
    {0x1f511, "keys", {"key", "llave", "clé"}},
    {0x1f514, "bells", {"bell", "campana", "cloche"}},
    {0x1f451, "crowns", {"crown", "corona", "couronne"}},
    {0x1f56f, "candles", {"candle", "vela", "bougie"}},
    {0x1f916, "robots", {"robot", "robot", "robot"}},
    {0x1f47b, "ghosts", {"ghost", "fantasma", "fantôme"}},
    {0x1f3e0, "houses", {"house", "casa", "maison"}},
    {0x1f3c6, "trophies", {"trophy", "trofeo", "trophée"}},
    {0x2693, "anchors", {"anchor", "ancla", "ancre"}},
    {0x1fa91, "chairs", {"chair", "silla", "chaise"}},
    {0x1f697, "automobiles", {"automobile", "coche", "voiture"}},
    {0x1f6b2, "bicycles", {"bicycle", "bicicleta", "vélo"}},
    {0x1f680, "rockets", {"rocket", "cohete", "fusée"}},
    {0x2708, "airplanes", {"airplane", "avión", "avion"}},
    {0x26f5, "sailboats", {"sailboat", "velero", "voilier"}},
    {0x1f68c, "buses", {"bus", "autobús", "bus"}},
    {0x1f69c, "tractors", {"tractor", "tractor", "tracteur"}},
    {0x1f335, "cactuses", {"cactus", "cactus", "cactus"}},
    {0x1f33b, "sunflowers", {"sunflower", "girasol", "tournesol"}},
    {0x1f337, "tulips", {"tulip", "tulipán", "tulipe"}},
    /* novel */
    {0x1f407, "rabbits", {"rabbit", "conejo", "lapin"}},
    {0x1f986, "ducks", {"duck", "pato", "canard"}},
    {0x1f98a, "foxes", {"fox", "zorro", "renard"}},
    {0x1f42c, "dolphins", {"dolphin", "delfín", "dauphin"}},
    {0x1f350, "pears", {"pear", "pera", "poire"}},
    {0x1f950, "croissants", {"croissant", "cruasán", "croissant"}},
    {0x1f3bb, "violins", {"violin", "violín", "violon"}},
    {0x1f3cd, "motorcycles", {"motorcycle", "moto", "moto"}},
    {0x1f577, "spiders", {"spider", "araña", "araignée"}},
    {0x1f30b, "volcanoes", {"volcano", "volcán", "volcan"}},
};

const names_shape names_shapes[NAMES_SHAPES] = {
    {"circles", {"circle", "círculo", "cercle"}, {false, false, false}},
    {"squares", {"square", "cuadrado", "carré"}, {false, false, false}},
    {"triangles", {"triangle", "triángulo", "triangle"}, {false, false, false}},
    {"stars", {"star", "estrella", "étoile"}, {false, true, true}},
    {"hearts", {"heart", "corazón", "cœur"}, {false, false, false}},
    {"crosses", {"cross", "cruz", "croix"}, {false, true, true}},
};

const names_colour names_colours[NAMES_COLOURS] = {
    {{218, 28, 36}, {"red", "rojo", "rouge"}, {"red", "roja", "rouge"}},
    {{247, 134, 20}, {"orange", "naranja", "orange"}, {"orange", "naranja", "orange"}},
    {{250, 222, 30}, {"yellow", "amarillo", "jaune"}, {"yellow", "amarilla", "jaune"}},
    {{36, 158, 60}, {"green", "verde", "vert"}, {"green", "verde", "verte"}},
    {{30, 80, 220}, {"blue", "azul", "bleu"}, {"blue", "azul", "bleue"}},
    {{126, 40, 166}, {"purple", "morado", "violet"}, {"purple", "morada", "violette"}},
    {{252, 140, 196}, {"pink", "rosa", "rose"}, {"pink", "rosa", "rose"}},
    {{112, 64, 30}, {"brown", "marrón", "marron"}, {"brown", "marrón", "marron"}},
};

const char *const names_words[] = {
    "GO", "UP", "ON", "NO", "HI", "OK", "IN", "WE", "ME", "MY", "CAT", "DOG", "HAT", "SUN", "BUS", "CAR", "BOX", "CUP", "PEN", "MAP",
    "BED", "SKY", "SEA", "TEA", "ICE", "RED", "BIG", "NEW", "OLD", "HOT", "YES", "ONE", "TWO", "SIX", "TEN", "ZOO", "KEY", "JAM", "EGG", "FLY",
    "BOOK", "FISH", "BIRD", "TREE", "MOON", "STAR", "HOME", "DOOR", "ROAD", "SHOP", "CAFE", "OPEN", "STOP", "EXIT", "PARK", "TAXI", "BANK", "FOOD", "MILK", "CAKE",
    "RICE", "SALT", "BLUE", "PINK", "GOLD", "FAST", "SLOW", "LEFT", "GOOD", "NICE", "LOVE", "HELP", "WORK", "PLAY", "GAME", "BALL", "KING", "QUIZ", "JAZZ", "VASE",
    "HOUSE", "WATER", "BREAD", "APPLE", "GRAPE", "LEMON", "MELON", "TABLE", "CHAIR", "CLOCK", "PHONE", "MUSIC", "PIANO", "RADIO", "PHOTO", "PAPER", "TRAIN", "PLANE", "TRUCK", "HOTEL",
    "SHELF", "BEACH", "RIVER", "CLOUD", "STORM", "NIGHT", "LIGHT", "GREEN", "WHITE", "BLACK", "BROWN", "SMILE", "HAPPY", "HELLO", "WORLD", "EARTH", "PIZZA", "SUGAR", "HONEY", "ZEBRA",
};
const size_t names_n_words = sizeof names_words / sizeof *names_words;

const char *const names_and[NAMES_LANGUAGES] = {"and", "y", "et"};
const char *const names_code[NAMES_LANGUAGES] = {"en", "es", "fr"};
static const char *const k_the_word[NAMES_LANGUAGES] = {"the word", "la palabra", "le mot"};

bool thing_same(const thing *a, const thing *b) {
    return a->class == b->class && a->kind == b->kind && a->colour == b->colour;
}

void thing_name(char out[NAMES_TEXT], const thing *t) {
    if (t->class == THING_WORD)
        (void)snprintf(out, NAMES_TEXT, "word");
    else
        thing_caption(out, t, NAMES_EN);
}

void thing_caption(char out[NAMES_TEXT], const thing *t, names_language language) {
    if (t->class == THING_WORD) {
        (void)snprintf(out, NAMES_TEXT, "%s %s", k_the_word[language], t->word);
    } else if (t->class == THING_EMOJI) {
        (void)snprintf(out, NAMES_TEXT, "%s", names_kinds[t->kind].name[language]);
    } else {
        const names_shape *shape = &names_shapes[t->kind];
        const names_colour *c = &names_colours[t->colour];
        const char *colour = shape->feminine[language] ? c->feminine[language] : c->name[language];
        const bool first = language == NAMES_EN; /* English puts the colour before, the others behind */
        (void)snprintf(out, NAMES_TEXT, "%s %s", first ? colour : shape->name[language], first ? shape->name[language] : colour);
    }
}

void thing_plural(char out[NAMES_TEXT], const thing *t) {
    if (t->class == THING_WORD)
        (void)snprintf(out, NAMES_TEXT, "words");
    else if (t->class == THING_EMOJI)
        (void)snprintf(out, NAMES_TEXT, "%s", names_kinds[t->kind].plural);
    else
        (void)snprintf(out, NAMES_TEXT, "%s %s", names_colours[t->colour].name[NAMES_EN], names_shapes[t->kind].plural);
}

unsigned thing_first(thing_class c) {
    static const unsigned k_first[] = {[THING_EMOJI] = 0, [THING_SHAPE] = NAMES_KINDS + NAMES_NOVEL_KINDS, [THING_WORD] = THING_NUMBERS - 1, [THING_CLASSES] = THING_NUMBERS};
    return k_first[c];
}

unsigned thing_number(const thing *t) {
    return thing_first(t->class) + (t->class == THING_EMOJI ? t->kind : t->class == THING_SHAPE ? t->kind * NAMES_COLOURS + t->colour : 0);
}

static thing thing_of(unsigned number) {
    const unsigned n_emoji = NAMES_KINDS + NAMES_NOVEL_KINDS;
    if (number < n_emoji) return (thing){.class = THING_EMOJI, .kind = number};
    number -= n_emoji;
    return number == NAMES_SHAPES * NAMES_COLOURS ? (thing){.class = THING_WORD} : (thing){THING_SHAPE, number / NAMES_COLOURS, number % NAMES_COLOURS, ""};
}

bool thing_parse(thing *t, const char *name) {
    for (unsigned i = 0; i < THING_NUMBERS; i++) {
        char other[NAMES_TEXT];
        *t = thing_of(i);
        thing_name(other, t);
        if (!strcmp(name, other)) return true;
    }
    return false;
}

const char *names_article(const char *name) {
    return strchr("aeio", name[0]) ? "an" : "a"; /* no name begins with a u */
}
