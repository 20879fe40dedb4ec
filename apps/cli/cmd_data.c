/* cmd_data.c: paligemma data: training data from other forms. */
#include <errno.h>
#include <glib.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cocorows.h"
#include "common/outfile.h"
#include "input.h"
#include "report.h"

#define MAX_COCO_BYTES ((size_t)4 << 30) /* instances_train2017.json has 450 MB */

/* The directory part of a file's name, resolved; NULL: it is not there, or no memory. */
static char *real_directory_of(const char *path) {
    char *directory = g_path_get_dirname(path), *real = realpath(directory, NULL);
    g_free(directory);
    return real;
}

/* The directory of the pictures as the rows name it: from the output's directory on where it lies below that, so that both can be
 * moved together; otherwise from the root. free() it. */
static char *pictures_directory(const char *images, const char *output) {
    char *real = realpath(images, NULL), *below = strcmp(output, "-") ? real_directory_of(output) : NULL, *name = real;
    const size_t n = below && strcmp(below, "/") ? strlen(below) : 0;
    if (real && below && !strncmp(real, below, n) && (real[n] == '/' || !real[n])) {
        name = strdup(real[n] ? real + n + 1 : "");
        free(real);
    }
    free(below);
    return name;
}

static bool is_picture(const char *directory, const char *file_name) {
    char *path = g_build_filename(directory, file_name, NULL);
    struct stat info;
    const bool fine = stat(path, &info) == 0 && S_ISREG(info.st_mode);
    g_free(path);
    return fine;
}

/* In lower case, as detect and segment ask. */
static bool labels_lower(coco_set *s) {
    for (size_t i = 0; i < s->n_categories; i++) {
        char *lower = g_utf8_strdown(s->categories[i].name, -1), *own = strdup(lower);
        g_free(lower);
        if (!own) return false;
        free(s->categories[i].name);
        s->categories[i].name = own;
    }
    return true;
}

typedef struct missing {
    size_t n;
    const char *first;
} missing;

static int rows_make(cli *c, cocorows *r, const char *directory, missing *m) {
    const coco_set *s = r->set;
    fault f;
    for (size_t i = 0; i < s->n_pictures; i++) {
        const char *file_name = s->pictures[i].file_name;
        if (cli_progress(c, "pictures", i, s->n_pictures)) return CLI_INTERRUPTED;
        if (!is_picture(c->args.image_dir, file_name)) {
            if (!m->n++) m->first = file_name;
            continue;
        }
        char *path = g_build_filename(directory, file_name, NULL);
        const bool fine = cocorows_add(r, i, path, &f);
        g_free(path);
        if (!fine) return cli_fail_fault(c, &f);
    }
    cli_progress_clear(c);
    if (r->n_rows) return CLI_OK;
    return m->n ? cli_fail(c, "data: %s: %s: no such picture, nor any other", c->args.image_dir, m->first) : cli_fail(c, "data: %s: no rows", c->args.coco);
}

static int rows_write(cli *c, const char *text, size_t n) {
    const outfile_piece piece = {text, n};
    fault f;
    if (!strcmp(c->args.output, "-")) return cli_write(c, text, n);
    return outfile_write(c->args.output, &piece, 1, &f) ? CLI_OK : cli_fail_fault(c, &f);
}

static int summary(cli *c, const cocorows *r, const missing *m) {
    const size_t n_strays = r->set->n_strays;
    cli_note(c, "%zu rows with %zu objects", r->n_rows, r->n_objects);
    if (m->n) cli_note(c, "left out: %zu pictures that are not there; the first: %s", m->n, m->first);
    if (r->n_crowds) cli_note(c, "left out: %zu objects that are crowds", r->n_crowds);
    if (r->n_bad) cli_note(c, "left out: %zu objects; the first: %s", r->n_bad, r->first_bad.text);
    if (n_strays) cli_note(c, "left out: %zu objects of pictures that are not in the list", n_strays);
    if (!c->args.json) return CLI_OK;
    return report_print(c, json_pack("{s:i, s:o, s:I, s:I, s:{s:I, s:I, s:I, s:I}}", "schema", REPORT_SCHEMA, "output",
                                     report_text(c->args.output, strlen(c->args.output)), "rows", (json_int_t)r->n_rows, "objects",
                                     (json_int_t)r->n_objects, "left_out", "pictures", (json_int_t)m->n, "crowds", (json_int_t)r->n_crowds, "bad",
                                     (json_int_t)r->n_bad, "strays", (json_int_t)n_strays));
}

static int convert(cli *c, coco_set *s, const pali_mask_codec *codec) {
    const char *ask = c->args.classes;
    char *text = NULL, *directory = pictures_directory(c->args.image_dir, c->args.output);
    size_t n_text = 0;
    if (!directory) return cli_fail(c, "data: %s: %s", c->args.image_dir, strerror(errno));
    missing m = {0};
    cocorows r = {.set = s,
                  .codec = codec,
                  .ask = !strcmp(ask, "all") ? COCOROWS_ALL : !strcmp(ask, "present") ? COCOROWS_PRESENT : COCOROWS_EACH,
                  .by_1024 = !strcmp(c->args.loc_scale, "1024"),
                  .crowds = c->args.crowds,
                  .out = open_memstream(&text, &n_text)};
    int code = r.out && labels_lower(s) ? rows_make(c, &r, directory, &m) : cli_fail(c, "data: out of memory");
    if (r.out && fclose(r.out) != 0 && !code) code = cli_fail(c, "data: out of memory");
    if (!code) code = rows_write(c, text, n_text);
    if (!code) code = summary(c, &r, &m);
    cocorows_free(&r);
    free(directory);
    free(text);
    return code;
}

static int codec_open(cli *c, pali_mask_codec **out) {
    pali_mask_codec_info info = {.struct_size = sizeof info};
    pali_status status = pali_mask_codec_load(out, c->args.vae);
    if (status == PALI_OK) status = pali_mask_codec_get_info(*out, &info);
    if (status != PALI_OK) return cli_fail_library(c, status, "data");
    return info.has_encoder ? CLI_OK : cli_fail(c, "data: %s: a mask codec with an encoder expected", c->args.vae);
}

int cmd_data(cli *c) {
    const args *a = &c->args;
    const bool segment = !strcmp(a->data_task, "segment");
    input_text text = {0};
    coco_set set = {0};
    pali_mask_codec *codec = NULL;
    fault f;
    if (a->words.n != 1 || strcmp(a->words.items[0], "coco-to-jsonl")) return cli_usage(c, "data: what to do: coco-to-jsonl expected");
    if (!a->coco) return cli_usage(c, "data: no annotations: --coco FILE.json expected");
    if (!a->image_dir) return cli_usage(c, "data: no pictures: --images DIR expected");
    if (!a->output) return cli_usage(c, "data: no output: -o OUT.jsonl expected");
    if (a->json && !strcmp(a->output, "-")) return cli_usage(c, "data: --json: a file expected as -o");
    if (segment && !a->vae) return cli_usage(c, "data: --task segment: the mask codec expected: --vae FILE");
    if (strcmp(a->output, "-") && !outfile_check(a->output, &f)) return cli_fail_fault(c, &f);
    int code = segment ? codec_open(c, &codec) : CLI_OK;
    if (!code) code = input_read(c, &text, a->coco, MAX_COCO_BYTES);
    if (!code && !coco_parse(&set, text.bytes, text.n_bytes, a->coco, &f)) code = cli_fail_fault(c, &f);
    if (!code) code = convert(c, &set, codec);
    coco_free(&set);
    free(text.bytes);
    pali_mask_codec_free(codec);
    return code;
}
