/* cli.h: what the commands share: one run of the program, its errors, its output, and Ctrl-C.
 *
 * Results go to cli.out and nothing else does. With -q that is a buffer which reaches stdout only if the command
 * succeeds, so that a failure leaves nothing there. Errors are one line on stderr:
 * "paligemma: what failed: which: what was expected". */
#ifndef PALI_CLI_H
#define PALI_CLI_H

#include <stdbool.h>
#include <stdio.h>

#include "common/fault.h"
#include "options.h"
#include "paligemma.h"

#define CLI_OK 0
#define CLI_FAILURE 1
#define CLI_USAGE 2
#define CLI_INTERRUPTED 130

#if defined(__GNUC__)
#define CLI_PRINTF(format_at, first_at) __attribute__((format(printf, format_at, first_at)))
#else
#define CLI_PRINTF(format_at, first_at)
#endif

/* The adapters of --lora. */
typedef struct lora_list {
    char **paths;           /* [n] owned */
    pali_adapter_use *uses; /* [n] their scales, and the adapters once they are loaded */
    size_t n;
} lora_list;

/* The options of --config as arguments. */
typedef struct recipe {
    char **items; /* [n] owned */
    size_t n;
} recipe;

typedef struct cli {
    args args;
    lora_list loras;
    const command *command;
    FILE *out;
    bool stderr_is_terminal, stdout_is_terminal;
    recipe recipe;
    bool progress_shown; /* a progress line is on the terminal and must be wiped before anything else is printed */
} cli;

/* Both print the line and return the exit code. */
int cli_fail(cli *c, const char *format, ...) CLI_PRINTF(2, 3);
int cli_usage(cli *c, const char *format, ...) CLI_PRINTF(2, 3);
/* "paligemma: what: <the library's last error>"; an interrupted call prints nothing and returns 130. */
int cli_fail_library(cli *c, pali_status status, const char *what);
/* The line of what the programs share; after Ctrl-C none, and 130. */
int cli_fail_fault(cli *c, const fault *f);
/* A line on stderr unless -q. */
void cli_note(cli *c, const char *format, ...) CLI_PRINTF(2, 3);

bool cli_interrupted(void);
/* The session that Ctrl-C cancels; NULL: none. */
void cli_watch(pali_session *session);

double cli_clock_ms(void);

/* A pali_progress_fn whose user is the cli: shows a line on a terminal and stops the work after Ctrl-C. */
int cli_progress(void *user, const char *what, uint64_t done, uint64_t total);
void cli_progress_clear(cli *c);

/* 0 or the exit code; a reader that went away is a failure without a message. */
int cli_write(cli *c, const void *bytes, size_t n_bytes);
/* Text that a model or a user made, of whole characters. On a terminal control characters but tab and newline become \u001b
 * and the like, so that a text cannot move the cursor, clear the screen or forge what is there; anywhere else nothing changes,
 * because a program that reads it wants the text. */
int cli_write_text(cli *c, const char *text, size_t n_bytes);
int cli_flush(cli *c);

#define CLI_BENCH_TOKENS 32 /* --max-tokens of bench */

/* Opens the model of -m (an exit code, 0 on success) unless it cannot fit into memory. The caller frees both. */
int cli_open(cli *c, pali_model **model, pali_session **session);
/* The same without --dtype: in the types that it is stored in. */
int cli_open_as_stored(cli *c, pali_model **model, pali_session **session);
/* As it is stored, its weights still on disk: to look at it or write another. */
int cli_open_stored(cli *c, pali_model **model);
/* What its files say of it, whole or not. */
int cli_open_contents(cli *c, pali_contents **contents);
/* Its path, or what stands for the one of the model inside the program. */
const char *cli_model_name(const cli *c);
/* Whether it is that one: there is one, and the options name no other. */
bool cli_model_is_builtin(const cli *c);
/* What the options say of it; checks that there is one. */
int cli_model_options(cli *c, pali_model_options *options);
/* "PATH:NUMBER" or "PATH" of an option, the number then staying as it is; *path is to be freed, also after a failure. */
int cli_scaled_read(cli *c, const char *name, const char *text, double low, double high, char **path, double *number);
/* Reads what --lora says, an exit code; the files stay closed. */
int cli_loras_read(cli *c);
/* Opens them for a model; cli_loras_close or cli_loras_free in either case. */
int cli_loras_open(cli *c, pali_model *model);
void cli_loras_close(cli *c);
void cli_loras_free(cli *c);
/* The model of -m, its options completed by cli_model_options or the caller; an exit code. */
int cli_open_model(cli *c, pali_model **model, const pali_model_options *options);
/* Reads --config and parses again, its options first and those of argv after them; an exit code. */
int cli_recipe_read(cli *c, int argc, char **argv);
void cli_recipe_free(cli *c);
/* "q8": PALI_DTYPE_Q8_0; NULL: AUTO. */
pali_dtype cli_dtype(const char *name);

/* The tokenizer of --tokenizer or -m; the weights are opened only where there is no other way, or with_model. An exit code;
 * opened_tokenizer_free in either case. */
typedef struct opened_tokenizer {
    pali_model *model;               /* NULL unless opened */
    pali_tokenizer *own;             /* NULL: the model's */
    const pali_tokenizer *tokenizer;
} opened_tokenizer;
int cli_open_tokenizer(cli *c, bool with_model, opened_tokenizer *t);
void opened_tokenizer_free(opened_tokenizer *t);

int cmd_run(cli *c);
/* detect, segment, caption, ask, ocr */
int cmd_task(cli *c);
int cmd_objects(cli *c);
int cmd_score(cli *c);
int cmd_embed(cli *c);
int cmd_tokenize(cli *c);
int cmd_inspect(cli *c);
int cmd_bench(cli *c);
int cmd_quantize(cli *c);
int cmd_convert(cli *c);
int cmd_merge(cli *c);
int cmd_data(cli *c);
int cmd_finetune(cli *c);

#endif
