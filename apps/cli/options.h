/* options.h: the one table of commands and options. Parsing, --help, the man pages and the shell completion all come
 * from it. Long options take "=value" or the next argument, "--" ends the options, the last of a repeated option wins
 * unless it is a list. */
#ifndef PALI_CLI_OPTIONS_H
#define PALI_CLI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Of the prompts that the model was trained or evaluated with. */
#define LANGUAGES "ar bn cs da de el en es fa fi fil fr he hi hr hu id it ja ko mi nl no pl pt quz ro ru sv sw te th tr uk vi zh"

typedef struct text_list {
    const char **items; /* [n], room for every argument of the command line */
    size_t n;
} text_list;

typedef struct args {
    const char *model, *mmproj, *tokenizer, *prompt, *dtype, *vision_dtype, *embed_dtype, *what, *output, *batch, *answers_file, *random,
        *early_stopping, *box_scale, *constrain, *lang, *draw, *masks, *vae, *format,
        *calibrate, *coco, *image_dir, *data_task, *classes, *loc_scale,
        *recipe, *val_data, *method, *train, *freeze, *lora_targets, *lora_scope, *lora_init, *optim, *schedule, *loss, *resume, *tensorboard, *feature_cache, *augment, *resize;
    text_list images, answers, loras, train_data;
    text_list words; /* what is no option */
    uint64_t n_threads, max_tokens, top_k, seed, n_beams, n_return, n_runs, prompt_tokens, batch_size, calibrate_rows;
    uint64_t lora_rank, max_steps, train_batch, grad_accum, train_seed, eval_steps, train_samples, text_len, save_steps, save_limit, logging_steps;
    uint64_t shard_size, memory; /* bytes */
    double temperature, top_p, min_p, length_penalty, repeat_penalty, nms, min_score;
    double lora_alpha, lora_dropout, lr, weight_decay, beta1, beta2, eps, momentum, warmup_steps, epochs, max_grad_norm, label_smoothing, dropout;
    bool json, raw, quiet, verbose, help, ignore_eos, tensors, prompt_template, decode, lines, no_sliding_window, no_final_softcap, plan, force,
        crowds, lora_rslora, no_shuffle, pure_bf16, stochastic;
} args;

typedef struct cli cli;

typedef struct command {
    const char *name;
    unsigned bits;       /* which options it has: those with one of them */
    int (*run)(cli *c);
    const char *summary; /* one line, no full stop */
    const char *usage;
    const char *detail;  /* paragraphs separated by "\n\n" */
    const char *example; /* commands, one a line */
} command;

/* MAYBE: a text that may be left out, then "": the next argument is taken if it does not begin with '-'. SIZE: bytes, such as 2GB. */
typedef enum option_kind { OPTION_FLAG, OPTION_TEXT, OPTION_MAYBE, OPTION_LIST, OPTION_CHOICE, OPTION_NATURAL, OPTION_SIZE, OPTION_REAL } option_kind;

typedef struct option {
    const char *name;
    char letter; /* 0: none */
    option_kind kind;
    size_t offset; /* of the field of args */
    const char *meta; /* what stands for the value in help; for OPTION_CHOICE the words, separated by '|' */
    double low, high; /* inclusive, of OPTION_NATURAL and OPTION_REAL */
    unsigned commands;
    const char *help;
} option;

extern const command command_table[];
extern const size_t command_count;
extern const option option_table[];
extern const size_t option_count;

const command *command_find(const char *name);
/* The nearest name within two edits or with that beginning, or NULL. */
const char *command_nearest(const char *name);
/* detect and segment: what they print is a table of objects. */
bool command_lists_objects(const command *cmd);
/* Commands and options of the contract that this version does not have yet. */
bool command_is_planned(const char *name);

void args_init(args *a);
void args_free(args *a);
/* argv[0] is the command's name. On failure writes a line without the program's name to message. */
bool args_parse(args *a, const command *cmd, int argc, char **argv, char *message, size_t n_message);
/* The values of an option that may be repeated; NULL: there is no such option, or it may not. */
const text_list *args_list(const args *a, const command *cmd, const char *name);

#endif
