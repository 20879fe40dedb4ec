/* input.h: text, lines and pictures from options, files and standard input. All functions return an exit code, 0 on
 * success, and have printed the error otherwise. */
#ifndef PALI_CLI_INPUT_H
#define PALI_CLI_INPUT_H

#include "cli.h"

#define INPUT_MAX_TEXT_BYTES ((size_t)64 << 20)     /* a text file, standard input as text */
#define INPUT_MAX_PICTURE_BYTES ((size_t)1 << 30)   /* a picture on standard input; the library limits files itself */
#define INPUT_MAX_LINE_BYTES ((size_t)4 << 20)      /* one line of --batch, --lines, --answers */

typedef struct input_text {
    char *bytes; /* [n_bytes], then a NUL; free() it */
    size_t n_bytes;
} input_text;

/* Everything of a file, or of standard input if path is "-". */
int input_read(cli *c, input_text *out, const char *path, size_t max_bytes);
/* A prompt as given by -p: TEXT, @FILE or "-". The last two lose one trailing newline. */
int input_prompt(cli *c, input_text *out, const char *prompt);
/* input_prompt for calls that take a C string: a NUL inside is an error. */
int input_prompt_string(cli *c, char **out, const char *prompt);
/* At most one of the inputs may be standard input. */
int input_check_stdin(cli *c);

typedef struct pictures {
    pali_image **items; /* [n] */
    size_t n;
} pictures;

int input_pictures(cli *c, pictures *out, const char *const *paths, size_t n);
void pictures_free(pictures *p);

/* A picture file or "-"; the library's status, its message for pali_last_error. */
int input_picture(cli *c, pali_image **out, const char *path);

/* LINE_LATER: the rest of the line is not there yet; LINE_FAILED: a read error, errno. */
typedef enum line_state { LINE_OK, LINE_TOO_LONG, LINE_END, LINE_LATER, LINE_FAILED } line_state;

/* Lines of a file or of standard input, which can be asked without waiting for whoever writes them. */
typedef struct line_source {
    int fd;
    input_text line; /* without its newline, at most INPUT_MAX_LINE_BYTES; the rest of a longer one is skipped */
    size_t capacity;
    line_state state; /* of the line being read */
    bool complete;
    char buffer[16384];
    size_t begin, end;
} line_source;

/* false: errno says why. */
bool input_lines_open(line_source *s, const char *path);
void input_lines_close(line_source *s);
/* Reads the next line into s->line. */
line_state input_line(line_source *s, bool wait);

#endif
