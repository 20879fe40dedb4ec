/* cmd_run.c: paligemma run. */
#include <stdlib.h>
#include <string.h>

#include "answer.h"

/* Every sequence of the result, one after the other, each with a newline. */
static int print_texts(cli *c, const pali_result *result) {
    int code = CLI_OK;
    for (size_t i = 0; i < pali_result_count(result) && !code; i++) {
        pali_sequence s = {.struct_size = sizeof s};
        pali_status status = pali_result_get(result, i, &s);
        if (status != PALI_OK) return cli_fail_library(c, status, c->command->name);
        code = cli_write_text(c, s.text, s.n_text_bytes);
        if (!code) code = cli_write(c, "\n", 1);
    }
    return code;
}

static void note_times(cli *c, const answering *a, const pali_result *result) {
    pali_stats t = {.struct_size = sizeof t};
    if (!c->args.verbose || pali_result_get_stats(result, &t) != PALI_OK) return;
    cli_note(c, "%zu image, %zu prompt, %zu generated tokens; load %.0f, preprocess %.0f, vision %.0f, prefill %.0f, decode %.0f ms",
             t.image_tokens, t.prompt_tokens, t.generated_tokens, a->load_ms, t.preprocess_ms, t.vision_ms, t.prefill_ms, t.decode_ms);
}

/* Finds the objects, writes what is made of them, and prints them as the options say, if they say so. */
static int finish_objects(answering *a, const pictures *images, const pali_result *result, bool table, double images_ms, double start_ms) {
    cli *c = a->c;
    const char *name = c->args.images.items[0];
    found objects;
    fault f;
    if (!answer_objects(a, images, result, 0, name, &objects, &f)) return cli_fail_fault(c, &f);
    int code = CLI_OK;
    if (a->export) {
        json_t *answer = answer_json(a, images, result, &objects, images_ms, images_ms + cli_clock_ms() - start_ms);
        if (!export_add(a->export, name, answer, &f)) code = cli_fail_fault(c, &f);
        json_decref(answer);
        if (!code) code = export_write(c, a->export);
    } else if (c->args.json) {
        code = report_print(c, answer_json(a, images, result, &objects, images_ms, images_ms + cli_clock_ms() - start_ms));
    } else if (table) {
        code = found_print(c, &objects);
    }
    if (!code && table && !objects.n) cli_note(c, "nothing found (--raw prints the model's answer)");
    if (!code && c->args.verbose) {
        cli_note(c, "%zu objects, %zu tokens of the answer in none", objects.n, pali_objects_stray_count(objects.objects));
    }
    found_free(&objects);
    return code;
}

static int run_once(answering *a, const pictures *images, const char *prompt, double images_ms) {
    cli *c = a->c;
    const args *given = &c->args;
    bool table = command_lists_objects(c->command) && !given->raw && !given->json && !given->format;
    bool text = !given->json && !given->format && !table, stream = text && given->n_beams == 1;
    bool find = !text || given->draw || given->masks;
    a->options.no_logprobs = !find && given->n_beams == 1; /* the text alone: nobody sees a score */
    pali_result *result = NULL;
    int code;
    double start_ms = cli_clock_ms();
    pali_status status = answer_generate(a, images, prompt, stream, &result, &code);
    if (status != PALI_OK) return code ? code : cli_fail_library(c, status, c->command->name);
    code = report_is_finite(result) ? CLI_OK : cli_fail(c, "%s: %s", c->command->name, REPORT_NOT_FINITE);
    if (!code && text) code = stream ? cli_write(c, "\n", 1) : print_texts(c, result);
    if (!code && find) code = finish_objects(a, images, result, table, images_ms, start_ms);
    if (!code) note_times(c, a, result);
    pali_result_free(result);
    return code;
}

/* -q promises that a failure leaves nothing on stdout, so everything that can be wrong is looked at in this order:
 * usage, prompt, pictures, model. */
static int check_usage(cli *c) {
    const args *a = &c->args;
    int code = input_check_stdin(c);
    if (code) return code;
    if (a->batch && (a->images.n || a->prompt))
        return cli_usage(c, "run: --batch: pictures and prompts come from its lines: no -i or -p expected");
    if (!a->batch && a->batch_size) return cli_usage(c, "run: --batch-size: only with --batch");
    if (!a->batch && !a->images.n) return cli_usage(c, "%s: no picture: -i FILE expected", c->command->name);
    if (!a->batch && !a->prompt) return cli_usage(c, "run: no prompt: -p TEXT expected, for instance -p \"caption en\"");
    if (a->n_beams > 1 && a->temperature > 0)
        return cli_usage(c, "%s: --num-beams: beam search does not sample: no --temp expected", c->command->name);
    if (a->n_return > a->n_beams)
        return cli_usage(c, "%s: --num-return: at most --num-beams (%llu) expected", c->command->name, (unsigned long long)a->n_beams);
    if (a->ignore_eos && strcmp(a->constrain, "none"))
        return cli_usage(c, "%s: --constrain: ends at the end token: no --ignore-eos expected", c->command->name);
    return outputs_check(c);
}

int cmd_run(cli *c) {
    const args *a = &c->args;
    int code = check_usage(c);
    if (code) return code;
    char *prompt = NULL;
    pictures images = {0};
    double start_ms = cli_clock_ms();
    if (!a->batch) {
        code = input_prompt_string(c, &prompt, a->prompt);
        start_ms = cli_clock_ms();
        if (!code) code = input_pictures(c, &images, a->images.items, a->images.n);
    }
    double images_ms = cli_clock_ms() - start_ms;
    pali_model *model = NULL;
    pali_session *session = NULL;
    start_ms = cli_clock_ms();
    if (!code) code = cli_open(c, &model, &session);
    if (!code) {
        answering answers;
        code = answering_init(&answers, c, model, session, cli_clock_ms() - start_ms);
        if (!code) code = a->batch ? batch_run(&answers, a->batch) : run_once(&answers, &images, prompt, images_ms);
        answering_free(&answers);
    }
    cli_watch(NULL);
    pali_session_free(session);
    pali_model_free(model);
    pictures_free(&images);
    free(prompt);
    return code;
}
