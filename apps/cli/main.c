/* main.c: the program paligemma. Finds the command, parses its options, runs it, and turns the outcome into an exit
 * code; also what cli.h promises about errors, output and Ctrl-C.
 *
 * SIGINT and SIGTERM set a flag and cancel the running session, so that no half-written file stays behind; a second one
 * ends the program at once. SIGPIPE and SIGXFSZ are ignored: a reader that goes away, or a file that grows too large, shows up
 * as a failed write. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"
#include "help.h"
#include "memory.h"

static volatile sig_atomic_t g_interrupted;
static _Atomic(pali_session *) g_session; /* read by the signal handler; lock-free on every platform we build for */

static void on_interrupt(int signal_number) {
    (void)signal_number;
    g_interrupted = 1;
    pali_session *session = atomic_load(&g_session);
    if (session) pali_session_cancel(session);
}

bool cli_interrupted(void) {
    return g_interrupted != 0;
}

void cli_watch(pali_session *session) {
    atomic_store(&g_session, session);
    if (session && g_interrupted) pali_session_cancel(session);
}

double cli_clock_ms(void) {
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* Bytes of the control character at text: C0 but tab and newline, DEL, and C1, which UTF-8 writes as c2 80 to c2 9f. 0: none. */
static size_t control_length(const unsigned char *text, size_t n) {
    if (text[0] == 0x7f || (text[0] < 0x20 && text[0] != '\n' && text[0] != '\t')) return 1;
    return n >= 2 && text[0] == 0xc2 && text[1] >= 0x80 && text[1] <= 0x9f ? 2 : 0;
}

/* One line on stderr; whatever control characters a file name or message brings are replaced. */
CLI_PRINTF(2, 0) static void print_error(cli *c, const char *format, va_list list) {
    char text[2048];
    (void)vsnprintf(text, sizeof text, format, list);
    const size_t n = strlen(text);
    for (size_t i = 0, n_control; i < n; i += n_control ? n_control : 1) {
        n_control = control_length((unsigned char *)text + i, n - i);
        if (n_control || text[i] == '\n' || text[i] == '\t') memset(text + i, '?', n_control ? n_control : 1);
    }
    cli_progress_clear(c);
    (void)fprintf(stderr, "paligemma: %s\n", text);
}

int cli_fail(cli *c, const char *format, ...) {
    va_list list;
    va_start(list, format);
    print_error(c, format, list);
    va_end(list);
    return CLI_FAILURE;
}

int cli_usage(cli *c, const char *format, ...) {
    va_list list;
    va_start(list, format);
    print_error(c, format, list);
    va_end(list);
    return CLI_USAGE;
}

int cli_fail_library(cli *c, pali_status status, const char *what) {
    if (g_interrupted) {
        cli_progress_clear(c);
        return CLI_INTERRUPTED;
    }
    const char *message = pali_last_error();
    return cli_fail(c, "%s: %s", what, *message ? message : pali_status_name(status));
}

int cli_fail_fault(cli *c, const fault *f) {
    if (!g_interrupted) return cli_fail(c, "%s", f->text);
    cli_progress_clear(c);
    return CLI_INTERRUPTED;
}

void cli_note(cli *c, const char *format, ...) {
    if (c->args.quiet) return;
    va_list list;
    va_start(list, format);
    print_error(c, format, list);
    va_end(list);
}

int cli_progress(void *user, const char *what, uint64_t done, uint64_t total) {
    cli *c = user;
    if (c->stderr_is_terminal && !c->args.quiet && total) {
        (void)fprintf(stderr, "\r\033[K%s %d %%", what, (int)((double)done / (double)total * 100));
        (void)fflush(stderr);
        c->progress_shown = true;
    }
    return g_interrupted;
}

void cli_progress_clear(cli *c) {
    if (c->progress_shown) (void)fputs("\r\033[K", stderr);
    c->progress_shown = false;
}

static int write_failed(cli *c) {
    return errno == EPIPE ? CLI_FAILURE : cli_fail(c, "standard output: %s", strerror(errno));
}

int cli_write(cli *c, const void *bytes, size_t n_bytes) {
    return fwrite(bytes, 1, n_bytes, c->out) == n_bytes ? CLI_OK : write_failed(c);
}

int cli_write_text(cli *c, const char *text, size_t n_bytes) {
    const unsigned char *at = (const unsigned char *)text;
    if (!c->stdout_is_terminal) return cli_write(c, text, n_bytes);
    int code = CLI_OK;
    for (size_t i = 0, plain = 0; i < n_bytes && !code; i += plain) {
        size_t n_control = 0;
        for (plain = 0; i + plain < n_bytes && !(n_control = control_length(at + i + plain, n_bytes - i - plain));) plain++;
        code = cli_write(c, at + i, plain);
        if (!n_control || code) continue;
        char escaped[8];
        int n = snprintf(escaped, sizeof escaped, "\\u%04x", (unsigned)at[i + plain + n_control - 1]);
        code = cli_write(c, escaped, (size_t)n);
        plain += n_control;
    }
    return code;
}

int cli_flush(cli *c) {
    cli_progress_clear(c);
    return !ferror(c->out) && fflush(c->out) == 0 ? CLI_OK : write_failed(c);
}

/* A file opened later must not land on a standard descriptor that the caller closed. */
static bool occupy_standard_descriptors(void) {
    for (int fd = 0; fd < 3; fd++) {
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY) != fd) return false;
    }
    return true;
}

static void watch_signals(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_interrupt;
    action.sa_flags = (int)SA_RESETHAND; /* no SA_RESTART: a read of standard input ends as well */
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
    action.sa_handler = SIG_IGN;
    action.sa_flags = 0;
    (void)sigaction(SIGPIPE, &action, NULL);
    (void)sigaction(SIGXFSZ, &action, NULL);
}

/* Runs the command with its output buffered if -q. */
static int run_command(cli *c) {
    char *buffer = NULL;
    size_t n_buffer = 0;
    bool buffered = c->args.quiet && !c->args.batch;
    c->out = buffered ? open_memstream(&buffer, &n_buffer) : stdout;
    if (!c->out) return cli_fail(c, "%s: out of memory", c->command->name);
    int code = cli_loras_read(c);
    if (!code) code = c->args.plan ? memory_print(c) : c->command->run(c);
    cli_loras_free(c);
    cli_progress_clear(c);
    if (buffered) {
        bool complete = !ferror(c->out);
        complete = fclose(c->out) == 0 && complete;
        c->out = stdout;
        if (code == CLI_OK) {
            code = complete ? cli_write(c, buffer, n_buffer) : cli_fail(c, "%s: out of memory", c->command->name);
        }
        free(buffer);
    }
    if (code == CLI_OK) code = cli_flush(c);
    if (g_interrupted) code = CLI_INTERRUPTED;
    return code;
}

/* --help, --version and what the build uses: --man [COMMAND] and --completion. */
static int run_global(cli *c, int argc, char **argv) {
    const char *what = argv[1], *name = argc > 2 ? argv[2] : NULL;
    const command *cmd = name ? command_find(name) : NULL;
    if (name && !cmd) return cli_usage(c, "%s: unknown command: \"paligemma --help\" lists them", name);
    c->out = stdout;
    if (!strcmp(what, "--version")) {
        (void)fprintf(c->out, "paligemma %s\n", pali_version());
    } else if (!strcmp(what, "--man")) {
        help_man(c->out, cmd);
    } else if (!strcmp(what, "--completion")) {
        help_completion(c->out);
    } else if (cmd) {
        help_command(c->out, cmd);
    } else {
        help_overview(c->out);
    }
    return cli_flush(c);
}

static bool is_global(const char *arg) {
    static const char *const names[] = {"--help", "-h", "help", "--version", "--man", "--completion"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (!strcmp(arg, names[i])) return true;
    }
    return false;
}

int main(int argc, char **argv) {
    cli c = {.stderr_is_terminal = isatty(STDERR_FILENO) == 1, .stdout_is_terminal = isatty(STDOUT_FILENO) == 1};
    if (!occupy_standard_descriptors()) return CLI_FAILURE;
    watch_signals();
    if (argc < 2) return cli_usage(&c, "no command given: \"paligemma --help\" lists them");
    if (is_global(argv[1])) return run_global(&c, argc, argv);
    c.command = command_find(argv[1]);
    if (!c.command) {
        const char *nearest = command_nearest(argv[1]);
        if (command_is_planned(argv[1])) return cli_usage(&c, "%s: not available in this version", argv[1]);
        if (nearest) return cli_usage(&c, "%s: unknown command: did you mean %s?", argv[1], nearest);
        return cli_usage(&c, "%s: unknown command: \"paligemma --help\" lists them", argv[1]);
    }
    char message[512];
    int code;
    args_init(&c.args);
    if (!args_parse(&c.args, c.command, argc - 1, argv + 1, message, sizeof message)) {
        code = cli_usage(&c, "%s", message);
    } else if (c.args.help) {
        c.out = stdout;
        help_command(c.out, c.command);
        code = cli_flush(&c);
    } else {
        code = c.args.recipe ? cli_recipe_read(&c, argc - 1, argv + 1) : CLI_OK;
        if (!code) code = run_command(&c);
    }
    args_free(&c.args);
    cli_recipe_free(&c);
    return code;
}
