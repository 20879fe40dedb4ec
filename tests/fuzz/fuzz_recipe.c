/* fuzz_recipe.c: any bytes as a file of --config: options within their limits, or one line that says what is wrong. Of the program
 * only the table of options and the reader are here; commands and messages are stand-ins. */
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"

static char g_file[] = "/tmp/pali-fuzz-XXXXXX";
static size_t g_messages;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define STAND_IN(name) \
    int name(cli *c) { \
        (void)c;       \
        return 0;      \
    }
STAND_IN(cmd_run)
STAND_IN(cmd_task)
STAND_IN(cmd_objects)
STAND_IN(cmd_score)
STAND_IN(cmd_embed)
STAND_IN(cmd_tokenize)
STAND_IN(cmd_inspect)
STAND_IN(cmd_bench)
STAND_IN(cmd_quantize)
STAND_IN(cmd_convert)
STAND_IN(cmd_merge)
STAND_IN(cmd_data)
STAND_IN(cmd_finetune)

int cli_fail(cli *c, const char *format, ...) {
    (void)c;
    (void)format;
    g_messages++;
    return CLI_FAILURE;
}

int cli_usage(cli *c, const char *format, ...) {
    (void)c;
    (void)format;
    g_messages++;
    return CLI_USAGE;
}

static void remove_file(void) {
    unlink(g_file);
}

static void write_file(const uint8_t *data, size_t size) {
    (void)unlink(g_file);
    const int fd = open(g_file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size || close(fd) != 0) abort();
}

static void check(const args *a) {
    if (!(a->lr >= 0 && a->lr <= 1e30) || !(a->label_smoothing >= 0 && a->label_smoothing < 1) || !isfinite(a->epochs)) abort();
    if (a->train_batch < 1 || a->train_batch > 65536 || a->text_len > 32768) abort();
    if (strcmp(a->method, "full") != 0 && strcmp(a->method, "lora") != 0 && strcmp(a->method, "qlora") != 0) abort();
    if (a->train_data.n != 1 || strcmp(a->train_data.items[0], "mine.jsonl") != 0) abort(); /* the command line's */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static char name[] = "finetune", rows[] = "--data=mine.jsonl", config[64];
    char *argv[] = {name, rows, config, NULL}, message[512];
    cli c = {.command = command_find("finetune")};
    if (strstr(g_file, "XXXXXX")) {
        const int fd = mkstemp(g_file);
        if (fd < 0 || close(fd) != 0) abort();
        (void)snprintf(config, sizeof config, "--config=%s", g_file);
        (void)atexit(remove_file);
    }
    write_file(data, size);
    g_messages = 0;
    args_init(&c.args);
    if (!args_parse(&c.args, c.command, 3, argv, message, sizeof message)) abort();
    const int code = cli_recipe_read(&c, 3, argv);
    if (g_messages != (code != CLI_OK)) abort();
    if (code == CLI_OK) check(&c.args);
    cli_recipe_free(&c);
    args_free(&c.args);
    return 0;
}
