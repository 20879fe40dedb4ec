/* score.c: scene-score: prints how good answers about held-out scenes are, as a table or as JSON. See README.md. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "judge.h"

static const char *const k_classes[THING_CLASSES] = {"emoji", "shapes", "words"};

static double share_of(judge_share s) {
    return s.n ? (double)s.right / (double)s.n : 0;
}

/* ---- The table ---- */

static void share_print(const char *task, const char *what, judge_share s) {
    if (s.n) (void)printf("%-12s %-30s %6.1f %%   %zu of %zu\n", task, what, 100 * share_of(s), s.right, s.n);
}

static void table_print(const judge *j) {
    for (unsigned i = 0; i < NAMES_LANGUAGES; i++) {
        if (!j->has[SHEET_CAPTION_EN + i]) continue;
        char task[16];
        (void)snprintf(task, sizeof task, "caption %s", names_code[i]);
        share_print(task, "exact", j->caption[i]);
        share_print("", "where no word is printed", j->wordless[i]);
    }
    share_print("answer en", "exact", judge_answers(j));
    for (unsigned i = 0; i < QUESTION_KINDS; i++) share_print("", question_names[i], j->answer[i]);
    if (j->has[SHEET_DETECT]) {
        const detection_figures *d = &j->detect;
        (void)printf("%-12s %-30s %6.3f     mean of %zu classes\n", "detect", "AP50", d->ap50, d->n_classes);
        for (unsigned c = 0; c < THING_CLASSES; c++)
            if (j->detect_of[c].n_classes) (void)printf("%-12s %-30s %6.3f     mean of %zu classes\n", "", k_classes[c], j->detect_of[c].ap50, j->detect_of[c].n_classes);
        (void)printf("%-12s %-30s %6.3f     %zu of %zu objects, %zu boxes\n", "", "mean IoU of matched boxes", d->mean_iou, d->n_matched, d->n_objects, d->n_answers);
    }
    share_print("", "answers to what is absent", j->present[SHEET_DETECT]);
    if (j->n_segments) (void)printf("%-12s %-30s %6.3f     %zu pictures\n", "segment", "mean IoU", j->segment_iou, j->n_segments);
    share_print("", "answers to what is absent", j->present[SHEET_SEGMENT]);
    share_print("ocr", "exact", j->ocr);
    share_print("", "answers where no word is", j->present[SHEET_OCR]);
    if (j->n_errors) (void)printf("%zu requests failed and count as wrong\n", j->n_errors);
}

/* ---- JSON ---- */

static json_t *share_json(judge_share s) {
    return json_pack("{s:f, s:I, s:I}", "share", share_of(s), "right", (json_int_t)s.right, "n", (json_int_t)s.n);
}

static json_t *captions_json(const judge *j) {
    json_t *all = json_object();
    for (unsigned i = 0; i < NAMES_LANGUAGES; i++)
        if (j->has[SHEET_CAPTION_EN + i])
            (void)json_object_set_new(all, names_code[i], json_pack("{s:o, s:o}", "exact", share_json(j->caption[i]), "exact_without_word", share_json(j->wordless[i])));
    return all;
}

static json_t *answers_json(const judge *j) {
    json_t *kinds = json_object();
    for (unsigned i = 0; i < QUESTION_KINDS; i++)
        if (j->answer[i].n) (void)json_object_set_new(kinds, question_names[i], share_json(j->answer[i]));
    return json_pack("{s:o, s:o}", "exact", share_json(judge_answers(j)), "kinds", kinds);
}

static json_t *detect_json(const judge *j) {
    const detection_figures *d = &j->detect;
    json_t *of = json_object();
    for (unsigned c = 0; c < THING_CLASSES; c++)
        if (j->detect_of[c].n_classes) (void)json_object_set_new(of, k_classes[c], json_real(j->detect_of[c].ap50));
    return json_pack("{s:f, s:o, s:f, s:I, s:I, s:I, s:I, s:o}", "ap50", d->ap50, "ap50_of", of, "mean_iou", d->mean_iou, "matched", (json_int_t)d->n_matched, "objects", (json_int_t)d->n_objects, "boxes",
                     (json_int_t)d->n_answers, "classes", (json_int_t)d->n_classes, "false_positives", share_json(j->present[SHEET_DETECT]));
}

static json_t *all_json(const judge *j) {
    json_t *all = json_pack("{s:i, s:I, s:o}", "schema", 1, "errors", (json_int_t)j->n_errors, "caption", captions_json(j));
    if (j->has[SHEET_ANSWER]) (void)json_object_set_new(all, "answer", answers_json(j));
    if (j->has[SHEET_DETECT]) (void)json_object_set_new(all, "detect", detect_json(j));
    if (j->has[SHEET_SEGMENT])
        (void)json_object_set_new(all, "segment", json_pack("{s:f, s:I, s:o}", "mean_iou", j->segment_iou, "n", (json_int_t)j->n_segments, "false_positives", share_json(j->present[SHEET_SEGMENT])));
    if (j->has[SHEET_OCR]) (void)json_object_set_new(all, "ocr", json_pack("{s:o, s:o}", "exact", share_json(j->ocr), "false_positives", share_json(j->present[SHEET_OCR])));
    return all;
}

static bool json_print(const judge *j) {
    json_t *all = all_json(j);
    const bool fine = all && json_dumpf(all, stdout, JSON_COMPACT | JSON_REAL_PRECISION(6)) == 0 && putchar('\n') != EOF;
    json_decref(all);
    return fine;
}

int main(int argc, char **argv) {
    const bool json = argc > 1 && !strcmp(argv[1], "--json");
    judge j;
    fault f;
    if (argc != 3 + json) {
        (void)fputs("usage: scene-score [--json] DIR ANSWERS\n"
                    "DIR: what scenes --split heldout wrote; ANSWERS: a folder with the output of paligemma run --batch SHEET.jsonl --json under each sheet's name\n",
                    stderr);
        return 2;
    }
    if (!judge_run(&j, argv[1 + json], argv[2 + json], &f)) {
        (void)fprintf(stderr, "scene-score: %s\n", f.text);
        return 1;
    }
    if (!json) table_print(&j);
    if ((!json || json_print(&j)) && fflush(stdout) == 0) return 0;
    (void)fputs("scene-score: cannot write\n", stderr);
    return 1;
}
