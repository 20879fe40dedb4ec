#include "memory.h"

#include <inttypes.h>
#include <string.h>

#include "answer.h"

#define BATCH_PICTURE_BYTES 6000000u /* of a line of --batch: 2 megapixels */
#define BENCH_PICTURE_BYTES 2000000u /* of its own small picture, and a copy */

const char *memory_text(char text[32], uint64_t n_bytes) {
    double mib = (double)n_bytes / (1024.0 * 1024.0);
    if (mib < 1024) {
        (void)snprintf(text, 32, "%.1f MiB", mib);
    } else {
        (void)snprintf(text, 32, "%.2f GiB", mib / 1024);
    }
    return text;
}

/* A token is at least a byte of the prompt; bos and newline come on top. A prompt that is still in a file counts as short. */
static int32_t prompt_tokens(const cli *c) {
    const args *a = &c->args;
    if (c->command->run == cmd_bench) return (int32_t)a->prompt_tokens + 1;
    if (!a->prompt || a->prompt[0] == '@' || !strcmp(a->prompt, "-")) return 0;
    size_t n = strlen(a->prompt) + 2;
    return n < 1024 ? (int32_t)n : 1024;
}

pali_status memory_plan(cli *c, pali_memory_plan *plan, const pali_model_options *model) {
    const args *a = &c->args;
    pali_memory_request r;
    pali_memory_request_init(&r);
    r.model = model;
    r.n_threads = (int32_t)a->n_threads;
    r.n_images = (int32_t)a->images.n;
    r.prompt_tokens = prompt_tokens(c);
    r.max_tokens = a->max_tokens ? (int32_t)a->max_tokens : c->command->run == cmd_bench ? CLI_BENCH_TOKENS : 0;
    r.num_beams = (int32_t)a->n_beams;
    if (c->command->run == cmd_bench && !a->images.n) r.picture_bytes = BENCH_PICTURE_BYTES;
    if (a->batch) {
        r.max_sequences = a->batch_size ? (int32_t)a->batch_size : 8;
        r.picture_bytes = BATCH_PICTURE_BYTES * BATCH_AHEAD * (uint64_t)r.max_sequences;
    }
    r.adapters = (const char *const *)c->loras.paths;
    r.n_adapters = c->loras.n;
    *plan = (pali_memory_plan){.struct_size = sizeof *plan};
    return a->random ? pali_memory_plan_random(plan, a->random, &r) : pali_memory_plan_load(plan, cli_model_name(c), &r);
}

/* "; as q4 it would need 2.3 GiB", the first of the smaller types that fits, or "". */
static void advise(cli *c, char text[64], const pali_model_options *model) {
    static const pali_dtype k_dtypes[] = {PALI_DTYPE_Q8_0, PALI_DTYPE_Q4_K};
    static const char *const k_names[] = {"q8", "q4"};
    text[0] = 0;
    for (size_t i = 0; i < 2 && !text[0]; i++) {
        pali_model_options smaller = *model;
        pali_memory_plan plan;
        char size[32];
        smaller.dtype = k_dtypes[i];
        if (memory_plan(c, &plan, &smaller) != PALI_OK || !plan.fits) continue;
        (void)snprintf(text, 64, "; --dtype %s would need %s", k_names[i], memory_text(size, plan.total));
    }
}

int memory_check(cli *c, const pali_model_options *model) {
    pali_memory_plan p;
    char needed[32], there[32], advice[64];
    if (memory_plan(c, &p, model) != PALI_OK) return cli_fail_library(c, PALI_ERR_MEMORY, "model");
    if (p.fits) {
        if (p.total > p.available)
            cli_note(c, "memory: %s needed, %s available: weights will be read from their file again and again", memory_text(needed, p.total),
                     memory_text(there, p.available));
        return CLI_OK;
    }
    if (c->args.force) return CLI_OK;
    advise(c, advice, model);
    if (p.total > p.installed)
        return cli_fail(c, "memory: %s needed, %s is all there is%s (--plan tells more, --force runs all the same)", memory_text(needed, p.total),
                        memory_text(there, p.installed), advice);
    return cli_fail(c, "memory: %s needed%s, %s available%s (--plan tells more, --force runs all the same)",
                    memory_text(needed, p.total - p.weights_mapped), p.weights_mapped ? " beside the model's files" : "",
                    memory_text(there, p.available), advice);
}

int memory_print(cli *c) {
    pali_model_options options;
    pali_memory_plan p;
    char size[32];
    int code = cli_model_options(c, &options);
    if (code) return code;
    if (memory_plan(c, &p, &options) != PALI_OK) return cli_fail_library(c, PALI_ERR_MEMORY, "model");
    const struct {
        const char *name, *key;
        uint64_t n_bytes;
    } lines[] = {{"weights in files", "weights_mapped", p.weights_mapped}, {"weights", "weights", p.weights}, {"tokenizer", "tokenizer", p.tokenizer},
                 {"pictures", "pictures", p.pictures}, {"features", "features", p.features}, {"activations", "activations", p.activations},
                 {"keys and values", "kv_cache", p.kv_cache}, {"logits", "logits", p.logits}, {"loading", "loading", p.loading}, {"program", "program", p.program},
                 {"total", "total", p.total}, {"available", "available", p.available}, {"installed", "installed", p.installed}};
    json_t *object = c->args.json ? json_pack("{s:i, s:{s:b}}", "schema", REPORT_SCHEMA, "memory_bytes", "fits", p.fits) : NULL;
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        if (c->args.json)
            (void)json_object_set_new(json_object_get(object, "memory_bytes"), lines[i].key,
                                      lines[i].n_bytes > INT64_MAX ? json_null() : json_integer((json_int_t)lines[i].n_bytes));
        else
            fprintf(c->out, "%-16s %s\n", lines[i].name, lines[i].n_bytes == UINT64_MAX ? "unknown" : memory_text(size, lines[i].n_bytes));
    }
    if (c->args.json) return report_print(c, object);
    fprintf(c->out, "%-16s %s\n", "fits", p.fits ? "yes" : "no");
    return CLI_OK;
}
