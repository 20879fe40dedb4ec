/* cmd_objects.c: paligemma objects: what detect and segment do with an answer, for an answer that is there already. */
#include <stdlib.h>
#include <string.h>

#include "answer.h"

/* The answer: the one word of the command line, or standard input. */
static int read_answer(cli *c, input_text *out) {
    const text_list *words = &c->args.words;
    if (words->n != 1) return cli_usage(c, "objects: %s answer: one expected, or - for standard input", words->n ? "more than one" : "no");
    if (strcmp(words->items[0], "-")) {
        *out = (input_text){strdup(words->items[0]), strlen(words->items[0])};
        return out->bytes ? CLI_OK : cli_fail(c, "objects: out of memory");
    }
    if (!strcmp(c->args.images.items[0], "-")) return cli_usage(c, "objects: -: only one input can be standard input");
    return input_read(c, out, "-", INPUT_MAX_TEXT_BYTES);
}

static json_t *objects_report(const pictures *images, const input_text *text, const found *objects) {
    return json_pack("{s:i, s:o, s:o, s:o}", "schema", REPORT_SCHEMA, "text", report_text(text->bytes, text->n_bytes), "images",
                     images_json(images), "objects", found_json(objects));
}

static int print_objects(cli *c, const pictures *images, const input_text *text, const found *objects) {
    const args *a = &c->args;
    if (!a->format && a->json) return report_print(c, objects_report(images, text, objects));
    if (!a->format) {
        if (!objects->n) cli_note(c, "nothing found");
        return found_print(c, objects);
    }
    fault f;
    export_set *x = export_new(a->format);
    json_t *answer = objects_report(images, text, objects);
    int code = !x || !answer                                    ? cli_fail(c, "objects: out of memory")
               : export_add(x, a->images.items[0], answer, &f) ? export_write(c, x)
                                                               : cli_fail_fault(c, &f);
    json_decref(answer);
    export_free(x);
    return code;
}

int cmd_objects(cli *c) {
    const args *a = &c->args;
    input_text text = {0};
    pictures images = {0};
    opened_tokenizer opened = {0};
    outputs out = {0};
    int32_t *ids = NULL;
    found objects = {0};
    pali_sequence s = {.struct_size = sizeof s};
    fault f;
    if (a->images.n != 1) return cli_usage(c, "objects: -i: one picture expected");
    int code = outputs_check(c);
    if (!code) code = read_answer(c, &text);
    if (!code) code = input_pictures(c, &images, a->images.items, 1);
    if (!code) code = cli_open_tokenizer(c, false, &opened);
    if (!code) code = outputs_open(&out, c, opened.tokenizer);
    if (!code) {
        pali_status status = pali_tokenizer_encode(opened.tokenizer, text.bytes, text.n_bytes, 0, &ids, &s.n_tokens);
        if (status != PALI_OK) code = cli_fail_library(c, status, "objects");
    }
    s.tokens = ids;
    if (!code && !outputs_find(&out, images.items[0], &s, 0, a->images.items[0], &objects, &f)) code = cli_fail_fault(c, &f);
    if (!code) code = print_objects(c, &images, &text, &objects);
    found_free(&objects);
    pali_free(ids);
    outputs_close(&out);
    opened_tokenizer_free(&opened);
    pictures_free(&images);
    free(text.bytes);
    return code;
}
