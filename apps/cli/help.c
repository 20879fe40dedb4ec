#include "help.h"

#include <string.h>

#include "paligemma.h"

#define TEXT_COLUMNS 88
#define HELP_COLUMN 30

static const char about[] =
    "PaliGemma reads pictures and a prompt and writes text: captions, answers, boxes, masks. This is its inference in C.";
static const char status_text[] = "0 success, 1 failure (one line on standard error), 2 wrong usage, 130 interrupted.";
static const char environment_text[] =
    "caps the instruction set: ref (plain C), avx2, avxvnni, avx512, avx512vnni, avx512bf16, avx512fp16, neon, dotprod or max (the default).";

/* Prints text wrapped at TEXT_COLUMNS, later lines indented; `column` is where the cursor stands. A blank line of the
 * text stays. */
static void print_wrapped(FILE *out, const char *text, size_t indent, size_t column) {
    while (*text) {
        size_t n = strcspn(text, " \n");
        if (column > indent && column + 1 + n > TEXT_COLUMNS) {
            fprintf(out, "\n%*s", (int)indent, "");
            column = indent;
        } else if (column > indent) {
            fputc(' ', out);
            column++;
        }
        (void)fwrite(text, 1, n, out);
        column += n;
        text += n;
        if (*text == '\n') {
            while (*text == '\n') {
                fputc('\n', out);
                text++;
            }
            fprintf(out, "%*s", (int)indent, "");
            column = indent;
        }
        while (*text == ' ') text++;
    }
    fputc('\n', out);
}

/* Prints `text` with each of its lines after `indent` blanks. */
static void print_lines(FILE *out, const char *text, const char *indent) {
    while (*text) {
        size_t n = strcspn(text, "\n");
        fprintf(out, "%s%.*s\n", indent, (int)n, text);
        text += n + (text[n] == '\n');
    }
}

void help_overview(FILE *out) {
    fprintf(out, "usage: paligemma COMMAND [options]\n\n");
    print_wrapped(out, about, 0, 0);
    fprintf(out, "\nCommands:\n");
    for (size_t i = 0; i < command_count; i++) fprintf(out, "  %-12s %s\n", command_table[i].name, command_table[i].summary);
    fprintf(out, "\n\"paligemma COMMAND --help\" lists a command's options; \"paligemma --version\" prints %s.\n\nExit status: ",
            pali_version());
    print_wrapped(out, status_text, 13, 13);
    fprintf(out, "Environment: PALI_CPU");
    print_wrapped(out, environment_text, 13, 21);
}

static size_t print_option_name(FILE *out, const option *o) {
    int n = o->letter ? fprintf(out, "  -%c, --%s", o->letter, o->name) : fprintf(out, "      --%s", o->name);
    int m = o->meta ? fprintf(out, " %s", o->meta) : 0;
    return n < 0 || m < 0 ? 0 : (size_t)n + (size_t)m;
}

void help_command(FILE *out, const command *cmd) {
    fprintf(out, "usage: paligemma %s %s\n\n%s: %s.\n\n", cmd->name, cmd->usage, cmd->name, cmd->summary);
    print_wrapped(out, cmd->detail, 0, 0);
    fprintf(out, "\nOptions:\n");
    for (size_t i = 0; i < option_count; i++) {
        const option *o = &option_table[i];
        if (!(o->commands & cmd->bits)) continue;
        size_t column = print_option_name(out, o);
        if (column + 2 > HELP_COLUMN) {
            fputc('\n', out);
            column = 0;
        }
        fprintf(out, "%*s", (int)(HELP_COLUMN - column), "");
        print_wrapped(out, o->help, HELP_COLUMN, HELP_COLUMN);
    }
    fprintf(out, "\nExamples:\n");
    print_lines(out, cmd->example, "  ");
}

/* Text with roff's special characters escaped; a line must not begin with a control character. */
static void man_text(FILE *out, const char *text) {
    bool line_start = true;
    for (; *text; text++) {
        if (line_start && (*text == '.' || *text == '\'')) fputs("\\&", out);
        line_start = *text == '\n';
        if (*text == '\\') {
            fputs("\\e", out);
        } else if (*text == '-') {
            fputs("\\-", out);
        } else if (*text == '\n' && text[1] == '\n') {
            fputs("\n.PP", out);
        } else {
            fputc(*text, out);
        }
    }
}

static void man_section(FILE *out, const char *title, const char *text) {
    fprintf(out, ".SH %s\n", title);
    man_text(out, text);
    fputc('\n', out);
}

static void man_environment(FILE *out) {
    fprintf(out, ".SH ENVIRONMENT\n.TP\n.B PALI_CPU\n");
    man_text(out, environment_text);
    fputc('\n', out);
}

static void man_overview(FILE *out) {
    fprintf(out, ".TH PALIGEMMA 1 \"\" \"paligemma %s\" \"User Commands\"\n", pali_version());
    man_section(out, "NAME", "paligemma - pictures and a prompt in, text, boxes and masks out");
    fprintf(out, ".SH SYNOPSIS\n.B paligemma\n.I command\n.RI [ options ]\n");
    man_section(out, "DESCRIPTION", about);
    fprintf(out, ".SH COMMANDS\n");
    for (size_t i = 0; i < command_count; i++) {
        fprintf(out, ".TP\n.BR paligemma\\-%s (1)\n", command_table[i].name);
        man_text(out, command_table[i].summary);
        fputc('\n', out);
    }
    man_section(out, "EXIT STATUS", status_text);
    man_environment(out);
}

void help_man(FILE *out, const command *cmd) {
    if (!cmd) {
        man_overview(out);
        return;
    }
    char upper[32] = {0};
    for (size_t i = 0; cmd->name[i] && i + 1 < sizeof upper; i++) {
        upper[i] = cmd->name[i] >= 'a' && cmd->name[i] <= 'z' ? (char)(cmd->name[i] - 'a' + 'A') : cmd->name[i];
    }
    fprintf(out, ".TH PALIGEMMA\\-%s 1 \"\" \"paligemma %s\" \"User Commands\"\n", upper, pali_version());
    fprintf(out, ".SH NAME\npaligemma\\-%s \\- ", cmd->name);
    man_text(out, cmd->summary);
    fprintf(out, "\n.SH SYNOPSIS\n.B paligemma %s\n", cmd->name);
    man_text(out, cmd->usage);
    fputc('\n', out);
    man_section(out, "DESCRIPTION", cmd->detail);
    fprintf(out, ".SH OPTIONS\n");
    for (size_t i = 0; i < option_count; i++) {
        const option *o = &option_table[i];
        if (!(o->commands & cmd->bits)) continue;
        fprintf(out, ".TP\n\\fB");
        if (o->letter) fprintf(out, "\\-%c\\fR, \\fB", o->letter);
        fputs("\\-\\-", out);
        man_text(out, o->name);
        fputs("\\fR", out);
        if (o->meta) fprintf(out, " \\fI%s\\fR", o->meta);
        fputc('\n', out);
        man_text(out, o->help);
        fputc('\n', out);
    }
    fprintf(out, ".SH EXAMPLES\n.nf\n");
    man_text(out, cmd->example);
    fprintf(out, "\n.fi\n");
    man_section(out, "EXIT STATUS", status_text);
    man_environment(out);
    fprintf(out, ".SH SEE ALSO\n.BR paligemma (1)\n");
}

void help_completion(FILE *out) {
    fprintf(out, "# bash completion of paligemma; made from its option table by \"paligemma --completion\"\n"
                 "_paligemma() {\n    local words\n    case \"${COMP_WORDS[1]}\" in\n");
    for (size_t i = 0; i < command_count; i++) {
        fprintf(out, "    %s) words=\"", command_table[i].name);
        for (size_t j = 0; j < option_count; j++) {
            if (option_table[j].commands & command_table[i].bits) fprintf(out, "--%s ", option_table[j].name);
        }
        fprintf(out, "\" ;;\n");
    }
    fprintf(out, "    *) words=\"");
    for (size_t i = 0; i < command_count; i++) fprintf(out, "%s ", command_table[i].name);
    fprintf(out, "--help --version\" ;;\n    esac\n"
                 "    mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$2\")\n"
                 "    [ ${#COMPREPLY[@]} -gt 0 ] || mapfile -t COMPREPLY < <(compgen -f -- \"$2\")\n"
                 "}\ncomplete -o filenames -F _paligemma paligemma\n");
}
