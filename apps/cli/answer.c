#include "answer.h"

#include <string.h>

int answering_init(answering *a, cli *c, const pali_model *model, pali_session *session, double load_ms) {
    const args *given = &c->args;
    *a = (answering){.c = c, .session = session, .load_ms = load_ms};
    pali_generate_options *o = &a->options;
    pali_generate_options_init(o);
    if (given->max_tokens) o->max_tokens = (int32_t)given->max_tokens;
    o->temperature = (float)given->temperature;
    o->top_k = (int32_t)given->top_k;
    o->top_p = (float)given->top_p;
    o->min_p = (float)given->min_p;
    o->seed = given->seed;
    o->repetition_penalty = (float)given->repeat_penalty;
    o->num_beams = (int32_t)given->n_beams;
    o->num_return = (int32_t)given->n_return;
    o->length_penalty = (float)given->length_penalty;
    o->early_stopping = !strcmp(given->early_stopping, "true")    ? PALI_EARLY_STOPPING_TRUE
                        : !strcmp(given->early_stopping, "never") ? PALI_EARLY_STOPPING_NEVER
                                                                  : PALI_EARLY_STOPPING_FALSE;
    o->ignore_eos = given->ignore_eos;
    o->constrain = !strcmp(given->constrain, "detect")    ? PALI_CONSTRAIN_DETECT
                   : !strcmp(given->constrain, "segment") ? PALI_CONSTRAIN_SEGMENT
                                                          : PALI_CONSTRAIN_NONE;
    if (given->format && !(a->export = export_new(given->format))) return cli_fail(c, "%s: out of memory", c->command->name);
    return outputs_open(&a->outputs, c, pali_model_tokenizer(model));
}

void answering_free(answering *a) {
    export_free(a->export);
    a->export = NULL;
    outputs_close(&a->outputs);
}

typedef struct streaming {
    cli *c;
    int code;
} streaming;

static int on_token(void *user, int32_t token, float logprob, const char *text, size_t n_bytes) {
    (void)token;
    (void)logprob;
    streaming *s = user;
    if (n_bytes) {
        cli_progress_clear(s->c);
        s->code = cli_write_text(s->c, text, n_bytes);
        if (!s->code) s->code = cli_flush(s->c);
    }
    return s->code || cli_interrupted();
}

static int on_progress(void *user, const char *what, uint64_t done, uint64_t total) {
    return cli_progress(((streaming *)user)->c, what, done, total);
}

pali_status answer_generate(answering *a, const pictures *images, const char *prompt, bool stream, pali_result **result, int *code) {
    streaming state = {a->c, CLI_OK};
    pali_generate_options options = a->options;
    options.on_token = stream ? on_token : NULL;
    options.progress = on_progress;
    options.user = &state;
    pali_status status = pali_generate(a->session, (const pali_image *const *)images->items, images->n, prompt, &options, result);
    cli_progress_clear(a->c);
    *code = state.code;
    return status;
}

bool answer_objects(answering *a, const pictures *images, const pali_result *result, size_t line, const char *name, found *out, fault *f) {
    pali_sequence s = {.struct_size = sizeof s};
    if (pali_result_get(result, 0, &s) != PALI_OK) return fault_set(f, "%s", pali_last_error());
    return outputs_find(&a->outputs, images->items[0], &s, line, name, out, f);
}

/* {"text", "tokens", "logprobs", "probability"} of one sequence. */
static json_t *sequence_json(const pali_sequence *s) {
    return json_pack("{s:o, s:o, s:o, s:f}", "text", report_text(s->text, s->n_text_bytes), "tokens", report_ids(s->tokens, s->n_tokens),
                     "logprobs", report_floats(s->logprobs, s->n_tokens), "probability", s->probability);
}

json_t *images_json(const pictures *images) {
    json_t *array = json_array();
    for (size_t i = 0; i < images->n && array; i++) {
        json_t *size = json_pack("{s:i, s:i}", "width", (int)pali_image_width(images->items[i]), "height",
                                 (int)pali_image_height(images->items[i]));
        if (json_array_append_new(array, size) != 0) {
            json_decref(array);
            return NULL;
        }
    }
    return array;
}

static json_t *alternatives_json(const pali_result *result) {
    json_t *array = json_array();
    for (size_t i = 0; i < pali_result_count(result) && array; i++) {
        pali_sequence s = {.struct_size = sizeof s};
        json_t *object = pali_result_get(result, i, &s) == PALI_OK ? sequence_json(&s) : NULL;
        if (!object || json_object_set_new(object, "score", json_real(s.score)) != 0 || json_array_append(array, object) != 0) {
            json_decref(array);
            array = NULL;
        }
        json_decref(object);
    }
    return array;
}

json_t *answer_json(const answering *a, const pictures *images, const pali_result *result, const found *objects, double images_ms,
                    double total_ms) {
    pali_sequence s = {.struct_size = sizeof s};
    pali_stats t = {.struct_size = sizeof t};
    if (pali_result_get(result, 0, &s) != PALI_OK || pali_result_get_stats(result, &t) != PALI_OK) return NULL;
    json_t *object = json_pack("{s:i}", "schema", REPORT_SCHEMA), *sequence = sequence_json(&s);
    json_t *rest = json_pack(
        "{s:s, s:o, s:o, s:{s:I, s:I, s:I}, s:{s:o, s:o, s:o, s:o, s:o, s:o}}", "finish",
        s.finish == PALI_FINISH_STOP ? "stop" : "length", "images", images_json(images), "objects", found_json(objects), "usage", "image_tokens",
        (json_int_t)t.image_tokens, "prompt_tokens", (json_int_t)t.prompt_tokens, "generated_tokens", (json_int_t)t.generated_tokens,
        "timing_ms", "load", report_ms(a->load_ms), "preprocess", report_ms(images_ms + t.preprocess_ms), "vision",
        report_ms(t.vision_ms), "prefill", report_ms(t.prefill_ms), "decode", report_ms(t.decode_ms), "total",
        report_ms(a->load_ms + total_ms));
    bool ok = object && sequence && rest && json_object_update(object, sequence) == 0 && json_object_update(object, rest) == 0;
    if (ok && pali_result_count(result) > 1) ok = json_object_set_new(object, "alternatives", alternatives_json(result)) == 0;
    json_decref(sequence);
    json_decref(rest);
    if (ok) return object;
    json_decref(object);
    return NULL;
}
