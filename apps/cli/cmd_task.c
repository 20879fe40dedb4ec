/* cmd_task.c: detect, segment, caption, ask and ocr: the prompts that the model was trained on (spec inference 10), for people
 * who would rather not know them. Everything else is run's. */
#include <stdlib.h>
#include <string.h>

#include <glib.h>

#include "cli.h"

/* The words in lower case, joined by `joint`, without blanks around each. Lower case is what detect and segment were trained
 * with; a question stays as it is. NULL: an empty word or foreign bytes, and *bad is the word. */
static GString *join_words(const text_list *words, const char *joint, bool lower, const char **bad) {
    GString *joined = g_string_new(NULL);
    for (size_t i = 0; i < words->n; i++) {
        *bad = words->items[i];
        char *word = g_utf8_validate(*bad, -1, NULL) ? lower ? g_utf8_strdown(*bad, -1) : g_strdup(*bad) : g_strdup("");
        g_strstrip(word);
        bool empty = !*word;
        g_string_append_printf(joined, "%s%s", i ? joint : "", word);
        g_free(word);
        if (!empty) continue;
        (void)g_string_free(joined, TRUE);
        return NULL;
    }
    return joined;
}

static int run_with(cli *c, const char *task, const char *words) {
    char *prompt = g_strconcat(task, *words ? " " : "", words, NULL);
    c->args.prompt = prompt;
    int code = cmd_run(c);
    c->args.prompt = NULL;
    g_free(prompt);
    return code;
}

static bool is_language(const char *code) {
    size_t n = strlen(code);
    for (const char *p = LANGUAGES; n; p += *p == ' ') {
        size_t n_word = strcspn(p, " ");
        if (!n_word) return false;
        if (n_word == n && !strncmp(p, code, n)) return true;
        p += n_word;
    }
    return false;
}

int cmd_task(cli *c) {
    const char *name = c->command->name, *bad = "";
    if (!is_language(c->args.lang)) return cli_usage(c, "%s: --lang: \"%s\": one of %s expected", name, c->args.lang, LANGUAGES);
    if (!strcmp(name, "ocr")) return run_with(c, "ocr", "");
    if (!strcmp(name, "caption")) return run_with(c, "caption", c->args.lang);
    bool is_question = !strcmp(name, "ask");
    if (!c->args.words.n) {
        return is_question ? cli_usage(c, "ask: no question: expected as in: paligemma ask -i cat.jpg \"what is the cat doing?\"")
                           : cli_usage(c, "%s: nothing to look for: names expected as in: paligemma %s -i cat.jpg cat dog", name, name);
    }
    GString *words = join_words(&c->args.words, is_question ? " " : " ; ", !is_question, &bad);
    if (!words) return cli_usage(c, "%s: \"%s\": words in UTF-8 expected", name, bad);
    char task[32];
    (void)snprintf(task, sizeof task, "%s%s%s", is_question ? "answer" : name, is_question ? " " : "", is_question ? c->args.lang : "");
    int code = run_with(c, task, words->str);
    (void)g_string_free(words, TRUE);
    return code;
}
