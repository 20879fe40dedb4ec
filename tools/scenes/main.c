/* main.c: scenes: pictures with known content, for training and for judging. See README.md.
 *
 *   options -> atlas -> threads: number -> stream -> scene -> file and lines of text -> lines written in order
 *
 * A picture depends on (split, seed, number) and the options only, so the number of threads changes nothing. */
#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/encode.h"
#include "rows.h"
#include "truth.h"

#define BLOCK 512u /* pictures made before their lines are written */
#define THREADS_MAX 64u
#define LEVELS_MAX 16u
#define FOLDER 1000u /* pictures a folder */
#define IMAGE_NAME 48u
#define PATH_SIZE 4096u
#define DIR_MAX 4000u /* so that the names below it fit */

typedef enum split { SPLIT_TRAIN, SPLIT_HELDOUT, SPLIT_NOVEL, SPLIT_NOVEL_HELDOUT, SPLITS } split;

static const char *const k_splits[SPLITS] = {"train", "heldout", "novel", "novel-heldout"};

typedef struct options {
    const char *dir, *codec;
    uint32_t n, seed, first;
    unsigned n_threads;
    unsigned levels[LEVELS_MAX], n_levels; /* picture i has level i modulo n_levels */
    split split;
    bool png;
    scene_rules scene;
    rows_rules rows;
} options;

/* ---- Options ---- */

static const char k_usage[] = "usage: scenes -o DIR [--n N] [--first N] [--seed S] [--split train|heldout|novel|novel-heldout] [--level 1..4,...] [--size PX] [--words SHARE]\n"
                              "              [--tasks caption=2,detect=2,answer=2,segment=1,ocr=1,order=0] [--langs en,es,fr] [--codec FILE] [--png] [-t THREADS]\n"
                              "writes pictures, truth.jsonl and, for training, data.jsonl, or for a held-out split a file a task\n";

static bool number(uint32_t *out, const char *text, uint32_t least, uint32_t most, const char *what, fault *f) {
    char *end;
    errno = 0;
    const unsigned long long v = strtoull(text, &end, 10);
    if (errno || *end || end == text || *text == '-' || v < least || v > most) return fault_set(f, "%s: %s: a number from %u to %u expected", what, text, least, most);
    *out = (uint32_t)v;
    return true;
}

static bool share(double *out, const char *text, const char *what, fault *f) {
    char *end;
    *out = strtod(text, &end);
    return (!*end && end != text && *out >= 0 && *out <= 1) || fault_set(f, "%s: %s: a number from 0 to 1 expected", what, text);
}

static bool which(unsigned *out, const char *text, const char *const *names, unsigned n, const char *what, fault *f) {
    for (unsigned i = 0; i < n; i++)
        if (!strcmp(text, names[i])) return *out = i, true;
    return fault_set(f, "%s: unknown \"%s\"", what, text);
}

/* "caption=2,ocr=0.5": what is not named has no rows. Changes the text. */
static bool tasks_read(rows_rules *rules, char *text, fault *f) {
    memset(rules->expected, 0, sizeof rules->expected);
    for (char *save, *item = strtok_r(text, ",", &save); item; item = strtok_r(NULL, ",", &save)) {
        char *equals = strchr(item, '='), *end;
        unsigned task = 0;
        if (!equals) return fault_set(f, "--tasks: %s: TASK=NUMBER expected", item);
        *equals = 0;
        if (!which(&task, item, rows_task_names, ROWS_TASKS, "--tasks", f)) return false;
        const double v = strtod(equals + 1, &end);
        if (*end || end == equals + 1 || !(v >= 0 && v <= 16)) return fault_set(f, "--tasks: %s: a number from 0 to 16 expected", equals + 1);
        rules->expected[task] = v;
    }
    return true;
}

/* "1,3,3": a picture in three is easy. Changes the text. */
static bool levels_read(options *o, char *text, fault *f) {
    o->n_levels = 0;
    for (char *save, *item = strtok_r(text, ",", &save); item; item = strtok_r(NULL, ",", &save)) {
        uint32_t level;
        if (o->n_levels == LEVELS_MAX) return fault_set(f, "--level: more than %u", LEVELS_MAX);
        if (!number(&level, item, 1, SCENE_LEVELS, "--level", f)) return false;
        o->levels[o->n_levels++] = level;
    }
    return o->n_levels > 0 || fault_set(f, "--level: a number from 1 to %u expected", SCENE_LEVELS);
}

static bool languages_read(rows_rules *rules, char *text, fault *f) {
    memset(rules->language, 0, sizeof rules->language);
    for (char *save, *item = strtok_r(text, ",", &save); item; item = strtok_r(NULL, ",", &save)) {
        unsigned i = 0;
        if (!which(&i, item, names_code, NAMES_LANGUAGES, "--langs", f)) return false;
        rules->language[i] = true;
    }
    return true;
}

static bool option_read(options *o, int c, char *value, fault *f) {
    unsigned i = 0;
    switch (c) {
    case 'o': o->dir = value; return true;
    case 'n': return number(&o->n, value, 1, 100000000, "--n", f);
    case 'f': return number(&o->first, value, 0, 100000000, "--first", f);
    case 's': return number(&o->seed, value, 0, RNG_SEED_LIMIT - 1, "--seed", f);
    case 'S': return number(&o->scene.side, value, SCENE_SIDE_MIN, SCENE_SIDE_MAX, "--size", f);
    case 'l': return levels_read(o, value, f);
    case 't': return number(&o->n_threads, value, 1, THREADS_MAX, "-t", f);
    case 'w': return share(&o->scene.words, value, "--words", f);
    case 'x': return which(&i, value, k_splits, SPLITS, "--split", f) && (o->split = (split)i, true);
    case 'T': return tasks_read(&o->rows, value, f);
    case 'L': return languages_read(&o->rows, value, f);
    case 'c': o->codec = value; return true;
    case 'p': o->png = true; return true;
    default: return fault_set(f, "%s", "unknown option");
    }
}

static bool options_read(options *o, int argc, char **argv, fault *f) {
    static const struct option k_long[] = {{"n", 1, NULL, 'n'},     {"first", 1, NULL, 'f'}, {"seed", 1, NULL, 's'},  {"size", 1, NULL, 'S'},  {"level", 1, NULL, 'l'}, {"words", 1, NULL, 'w'}, {"threads", 1, NULL, 't'},
                                           {"split", 1, NULL, 'x'}, {"tasks", 1, NULL, 'T'}, {"langs", 1, NULL, 'L'}, {"codec", 1, NULL, 'c'}, {"png", 0, NULL, 'p'},   {NULL, 0, NULL, 0}};
    *o = (options){.n = 1000, .seed = 1, .n_threads = 1, .levels = {SCENE_LEVELS}, .n_levels = 1, .scene = {.side = 128, .words = -1}};
    o->rows = (rows_rules){.expected = {2, 2, 2, 1, 1}, .language = {true, true, true}};
    for (int c; (c = getopt_long(argc, argv, "o:n:t:", k_long, NULL)) != -1;)
        if (!option_read(o, c, optarg, f)) return false;
    if (optind < argc) return fault_set(f, "%s: not an option", argv[optind]);
    if (!o->dir || strlen(o->dir) > DIR_MAX) return fault_set(f, "-o DIR expected, of at most %u bytes", DIR_MAX);
    const bool novel = o->split == SPLIT_NOVEL || o->split == SPLIT_NOVEL_HELDOUT;
    o->scene.first_kind = novel ? NAMES_KINDS : 0;
    o->scene.n_kinds = novel ? NAMES_NOVEL_KINDS : NAMES_KINDS;
    return true;
}

/* ---- Pictures ---- */

/* The text that a picture adds to each file of a run: for training data.jsonl, for judging a file a task, and truth.jsonl. */
#define FILES (ROWS_SHEETS + 1u)

typedef struct lines {
    char *text[FILES];
    size_t n_bytes[FILES];
} lines;

static bool judging(const options *o) {
    return o->split == SPLIT_HELDOUT || o->split == SPLIT_NOVEL_HELDOUT;
}

/* The truth is the last. */
static unsigned files_count(const options *o) {
    return judging(o) ? FILES : 2;
}

static const char *file_name(const options *o, unsigned i) {
    return i + 1 == files_count(o) ? "truth" : judging(o) ? rows_sheet_names[i] : "data";
}

typedef struct work {
    const options *o;
    lines *lines;       /* [BLOCK] */
    uint32_t from, to;  /* numbers of this block */
    atomic_uint next;
    atomic_bool failed;
    fault why;          /* of the first that failed */
} work;

static void image_name(char out[IMAGE_NAME], const options *o, uint32_t i) {
    (void)snprintf(out, IMAGE_NAME, "images/%03u/%06u.%s", i / FOLDER, i, o->png ? "png" : "jpg");
}

static bool file_write(const char *path, const encoded *e, fault *f) {
    FILE *out = fopen(path, "wb");
    if (!out) return fault_set(f, "%s: %s", path, strerror(errno));
    const bool fine = fwrite(e->data, 1, e->n_bytes, out) == e->n_bytes;
    return (fclose(out) == 0 && fine) || fault_set(f, "%s: cannot write: %s", path, strerror(errno));
}

static bool image_write(const options *o, const char *name, const scene *s, rng *r, fault *f) {
    const pixels p = {s->rgb, (int32_t)s->side, (int32_t)s->side, 3 * (size_t)s->side, PIXEL_RGB24};
    const int quality = 70 + (int)rng_below(r, 26);
    char path[PATH_SIZE];
    encoded e = {0};
    (void)snprintf(path, sizeof path, "%s/%s", o->dir, name);
    const bool fine = (o->png ? encode_png(&e, &p, f) : encode_jpeg(&e, &p, quality, f)) && file_write(path, &e, f);
    free(e.data);
    return fine;
}

static bool lines_make(lines *out, const options *o, const char *name, const scene *s, rng *r) {
    FILE *files[FILES] = {NULL};
    bool fine = true;
    for (unsigned i = 0; i < files_count(o) && fine; i++) fine = (files[i] = open_memstream(&out->text[i], &out->n_bytes[i])) != NULL;
    if (fine) fine = judging(o) ? rows_judge(files, name, s, &o->rows, r) : rows_train(files[0], name, s, &o->rows, r);
    fine = fine && truth_write(files[files_count(o) - 1], name, s);
    for (unsigned i = 0; i < FILES; i++)
        if (files[i]) fine = fclose(files[i]) == 0 && fine;
    return fine;
}

static void lines_free(lines *l) {
    for (unsigned i = 0; i < FILES; i++) free(l->text[i]);
    *l = (lines){0};
}

/* What a picture shows, what it looks like as a file and what is asked about it come from streams of their own, so that other
 * tasks or a codec leave the pictures as they are. */
static bool picture_make(lines *out, const options *o, uint32_t i, fault *f) {
    rng r = rng_start(rng_key((unsigned)o->split, o->seed, i)), asked = rng_start(~rng_next(&r));
    char name[IMAGE_NAME];
    scene s;
    scene_rules rules = o->scene;
    rules.level = o->levels[i % o->n_levels];
    image_name(name, o, i);
    bool fine = scene_make(&s, &rules, &r) || fault_set(f, "out of memory");
    fine = fine && image_write(o, name, &s, &r, f);
    fine = fine && (lines_make(out, o, name, &s, &asked) || fault_set(f, "%s: no rows: %s", name, o->codec ? pali_last_error() : "out of memory"));
    scene_free(&s);
    return fine;
}

static void *worker(void *context) {
    work *w = context;
    fault f;
    for (uint32_t i; (i = atomic_fetch_add(&w->next, 1)) < w->to && !atomic_load(&w->failed);)
        if (!picture_make(&w->lines[i - w->from], w->o, i, &f) && !atomic_exchange(&w->failed, true)) w->why = f;
    return NULL;
}

static bool block_make(work *w, fault *f) {
    pthread_t threads[THREADS_MAX];
    unsigned n = 0;
    while (n + 1 < w->o->n_threads && pthread_create(&threads[n], NULL, worker, w) == 0) n++;
    (void)worker(w);
    for (unsigned i = 0; i < n; i++) pthread_join(threads[i], NULL);
    if (w->failed) *f = w->why;
    return !w->failed;
}

static bool block_write(const work *w, FILE *const files[FILES], fault *f) {
    for (uint32_t i = 0; i < w->to - w->from; i++) {
        const lines *l = &w->lines[i];
        for (unsigned k = 0; k < files_count(w->o); k++)
            if (fwrite(l->text[k], 1, l->n_bytes[k], files[k]) != l->n_bytes[k]) return fault_set(f, "%s: cannot write: %s", w->o->dir, strerror(errno));
    }
    return true;
}

static bool folders_make(const options *o, uint32_t from, uint32_t to, fault *f) {
    char path[PATH_SIZE];
    for (uint32_t i = from / FOLDER; i <= (to - 1) / FOLDER; i++) {
        (void)snprintf(path, sizeof path, "%s/images/%03u", o->dir, i);
        if (mkdir(path, 0777) != 0 && errno != EEXIST) return fault_set(f, "%s: %s", path, strerror(errno));
    }
    return true;
}

static bool all_make(const options *o, FILE *const files[FILES], fault *f) {
    static lines k_lines[BLOCK];
    const uint32_t end = o->first + o->n;
    bool fine = true;
    for (uint32_t from = o->first; from < end && fine; from += BLOCK) {
        work w = {.o = o, .lines = k_lines, .from = from, .to = end - from < BLOCK ? end : from + BLOCK, .next = from};
        fine = folders_make(o, w.from, w.to, f) && block_make(&w, f) && block_write(&w, files, f);
        for (unsigned i = 0; i < BLOCK; i++) lines_free(&k_lines[i]);
    }
    return fine;
}

/* ---- Files ---- */

static bool directory_make(const char *path, fault *f) {
    return mkdir(path, 0777) == 0 || errno == EEXIST || fault_set(f, "%s: %s", path, strerror(errno));
}

static bool files_open(FILE *files[FILES], const options *o, fault *f) {
    char path[PATH_SIZE];
    for (unsigned i = 0; i < files_count(o); i++) {
        (void)snprintf(path, sizeof path, "%s/%s.jsonl", o->dir, file_name(o, i));
        files[i] = fopen(path, "w");
        if (!files[i]) return fault_set(f, "%s: %s", path, strerror(errno));
    }
    return true;
}

/* The last bytes may find the disk full. */
static bool files_close(FILE *files[FILES], const options *o, fault *f) {
    bool fine = true;
    for (unsigned i = 0; i < FILES; i++)
        if (files[i] && fclose(files[i]) != 0 && fine) fine = fault_set(f, "%s/%s.jsonl: %s", o->dir, file_name(o, i), strerror(errno));
    return fine;
}

static bool run(options *o, fault *f) {
    atlas a = {0};
    pali_mask_codec *codec = NULL;
    FILE *files[FILES] = {NULL};
    fault at_end;
    char images[PATH_SIZE];
    (void)snprintf(images, sizeof images, "%s/images", o->dir);
    if (o->codec && pali_mask_codec_load(&codec, o->codec) != PALI_OK) return fault_set(f, "%s", pali_last_error());
    o->rows.codec = codec;
    o->rows.scene = &o->scene;
    o->scene.atlas = &a;
    bool fine = directory_make(o->dir, f) && directory_make(images, f) && atlas_make(&a, f) && files_open(files, o, f) && all_make(o, files, f);
    if (!files_close(files, o, &at_end) && fine) {
        *f = at_end;
        fine = false;
    }
    atlas_free(&a);
    pali_mask_codec_free(codec);
    return fine;
}

int main(int argc, char **argv) {
    options o;
    fault f;
    if (!options_read(&o, argc, argv, &f)) {
        (void)fprintf(stderr, "scenes: %s\n%s", f.text, k_usage);
        return 2;
    }
    if (run(&o, &f)) return 0;
    (void)fprintf(stderr, "scenes: %s\n", f.text);
    return 1;
}
